/**
 * Whether the store still has a pack, asked before the copy here goes: a bucket may have been emptied, or brought back from
 * an older copy, since it was seen to have it. A store that does not answer is not waited for: then what was seen counts.
 */
import type { RemotePacks } from "../chunkstore/pack-shelf.ts";
import { type TcfsErrorCode, isTcfsError } from "../errors.ts";
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

export class StoreWitness {
  readonly #remote: Pick<RemotePacks, "lengthOf">;
  readonly #clock: Clock;
  #silentUntilMs = Number.NEGATIVE_INFINITY;

  constructor({ remote, clock }: { readonly remote: Pick<RemotePacks, "lengthOf">; readonly clock: Clock }) {
    this.#remote = remote;
    this.#clock = clock;
  }

  /**
   * @param lengthBytes - That the store's must have.
   * @param isSure - Whether to ask for what was seen a moment ago, too.
   */
  async ask(copy: Witnessed, lengthBytes: number, isSure: boolean): Promise<Testimony> {
    const nowMs = this.#clock.monotonicMs();
    if (!isSure && nowMs - copy.seenAtMs < SEEN_MS) return "there";
    if (nowMs < this.#silentUntilMs) return "silent";
    try {
      const found = await within(this.#clock, ANSWER_MS, this.#remote.lengthOf(copy.pack));
      if (found !== lengthBytes) return "lost";
      copy.seenAtMs = this.#clock.monotonicMs();
      return "there";
    } catch (error) {
      if (!isTcfsError(error)) throw error;
      if (!SILENT.has(error.code)) return "unclear";
      this.#silentUntilMs = this.#clock.monotonicMs() + SILENCE_MS;
      return "silent";
    }
  }
}
