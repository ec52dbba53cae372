/**
 * Whether the store still has a pack, asked before the copy here goes: a bucket may have been emptied, or brought back from
 * an older copy, since it was seen to have it. A store that does not answer is not waited for: then what was seen counts.
 */
import type { RemotePacks } from "../chunkstore/pack-shelf.ts";
import { TcfsError, type TcfsErrorCode, isTcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { Clock } from "../platform/clock.ts";
import { within } from "./within.ts";

/** What was seen so lately needs no question. */
const SEEN_MS = 10 * 60_000;
const ANSWER_MS = 2000;
/** A store that did not answer is asked again after so long. */
const SILENCE_MS = 30_000;
/** Failures that are no answer. */
const SILENT: ReadonlySet<TcfsErrorCode> = new Set([
  "TCFS_REMOTE_UNAVAILABLE",
  "TCFS_REMOTE_THROTTLED",
  "TCFS_CANCELLED",
]);

/** Something of a pack that is here. */
export interface Witnessed {
  readonly pack: PackId;
  /** By the clock, when the store was seen to have it. */
  seenAtMs: number;
}

/** `unclear`: the store answers, but not to this, as with other credentials than it knows. */
export type Testimony = "there" | "lost" | "silent" | "unclear";

export interface WitnessOptions {
  readonly remote: Pick<RemotePacks, "lengthOf">;
  readonly clock: Clock;
  /** Somebody who has to know waits so long at most. */
  readonly waitMs: number;
}

export class StoreWitness {
  readonly #options: WitnessOptions;
  #silentUntilMs = Number.NEGATIVE_INFINITY;
  /** Whoever can do without asks no more until then, whatever the failure was. */
  #spareUntilMs = Number.NEGATIVE_INFINITY;

  constructor(options: WitnessOptions) {
    this.#options = options;
  }

  /** Somebody has to know: what the store did not answer before is asked again. */
  listenAgain(): void {
    this.#silentUntilMs = Number.NEGATIVE_INFINITY;
  }

  /**
   * @param lengthBytes - That the store's must have.
   * @param isSure - Whether to ask for what was seen a moment ago, too, and to wait for the answer.
   */
  async ask(copy: Witnessed, lengthBytes: number, isSure: boolean): Promise<Testimony> {
    const { clock, waitMs } = this.#options;
    if (!isSure && clock.monotonicMs() - copy.seenAtMs < SEEN_MS) return "there";
    try {
      if ((await this.#lengthOf(copy.pack, isSure ? waitMs : ANSWER_MS)) !== lengthBytes) return "lost";
      copy.seenAtMs = clock.monotonicMs();
      return "there";
    } catch (error) {
      if (!isTcfsError(error)) throw error;
      return SILENT.has(error.code) ? "silent" : "unclear";
    }
  }

  /**
   * For whoever can do without: a store that is away, or refuses, takes little of his time, and none for a while after that.
   * @returns How long the store says the pack is; undefined where it has none. @throws TcfsError what the store throws
   */
  async lengthOf(pack: PackId): Promise<number | undefined> {
    const { clock } = this.#options;
    if (clock.monotonicMs() < this.#spareUntilMs) throw didNotAnswer();
    try {
      return await this.#lengthOf(pack, ANSWER_MS);
    } catch (error) {
      if (!isTcfsError(error, "TCFS_CORRUPT")) this.#spareUntilMs = clock.monotonicMs() + SILENCE_MS; // else it is of this pack
      throw error;
    }
  }

  async #lengthOf(pack: PackId, answerMs: number): Promise<number | undefined> {
    const { clock, remote } = this.#options;
    if (clock.monotonicMs() < this.#silentUntilMs) throw didNotAnswer();
    try {
      return await within(clock, answerMs, remote.lengthOf(pack));
    } catch (error) {
      if (isTcfsError(error) && SILENT.has(error.code)) this.#silentUntilMs = clock.monotonicMs() + SILENCE_MS;
      throw error;
    }
  }
}

function didNotAnswer(): TcfsError {
  return new TcfsError("TCFS_REMOTE_UNAVAILABLE", "the store did not answer a moment ago");
}
