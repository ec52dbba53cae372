/**
 * `--tpm-freshness`: before a vault is used, its state is held against what this machine's TPM remembers of it, and the
 * TPM is told of newer ones: at the end of each mount, and every few hours in between.
 */
import type { ObjectSealer } from "../crypto/object-seal.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { AnchoredState, FoundAnchor } from "../keys/tpm/freshness-anchor.ts";
import { advanceAnchor, readAnchor } from "../keys/tpm/freshness-anchor.ts";
import type { TpmOptions } from "../keys/tpm/tpm-tools.ts";
import type { Logger } from "../logger.ts";
import { systemClock } from "../platform/clock.ts";
import type { Timer } from "../platform/clock.ts";

const ADVANCE_INTERVAL_MS = 6 * 60 * 60 * 1000;

export interface FreshnessOptions {
  readonly tpm: TpmOptions;
  readonly vaultId: Uint8Array;
  readonly sealer: ObjectSealer;
  /** Whether the vault says that the TPM remembers it. */
  readonly isAnchored: boolean;
  /** Called once the TPM remembers the vault, where `isAnchored` is false. */
  readonly onAnchored: () => Promise<void>;
  /** A person has said that an older state, or none that the TPM knows, is all right. */
  readonly isOlderAccepted: boolean;
  /** Then nothing is told to the TPM. */
  readonly isReadOnly: boolean;
  readonly logger: Pick<Logger, "info" | "warn">;
}

export class Freshness {
  readonly #options: FreshnessOptions;
  /** Only once the state was found good: a state that was refused must never become what the TPM remembers. */
  #isActive = false;
  #commit: number | undefined;
  #timer: Timer | undefined;

  constructor(options: FreshnessOptions) {
    this.#options = options;
  }

  /**
   * @param state - The vault's, before anything is changed in it.
   * @throws TcfsError `TCFS_STALE_STATE` with what is older, by how much, and what accepts it; `TCFS_NO_TPM`, `TCFS_TPM`.
   */
  async check(state: AnchoredState): Promise<void> {
    const { isOlderAccepted, isReadOnly, isAnchored, onAnchored, logger } = this.#options;
    let found: FoundAnchor;
    try {
      found = await readAnchor(this.#options);
    } catch (error) {
      if (!isTcfsError(error)) throw error;
      const message = `${error.message}; so whether the vault's state is its newest cannot be checked`;
      if (!isOlderAccepted) throw new TcfsError(error.code, `${message}. ${GONE}`, { cause: error });
      logger.warn(message);
      return;
    }
    const objection = objectionTo(found, state, isAnchored);
    if (objection !== undefined && !isOlderAccepted) throw new TcfsError("TCFS_STALE_STATE", `${objection}. ${ACCEPT}`);
    if (objection !== undefined) logger.warn("an older state was accepted", { message: objection });
    this.#commit = typeof found === "object" && objection === undefined ? found.commit : undefined;
    this.#isActive = !isReadOnly;
    if (!this.#isActive) return;
    if (this.#commit === undefined) await this.#advance(state, true);
    if (!isAnchored) await onAnchored();
  }

  /** Tell the TPM every few hours. @param now - The state as it is on the disk when it is called. */
  follow(now: () => AnchoredState): void {
    this.#timer = systemClock.after(ADVANCE_INTERVAL_MS, () => {
      void this.advance(now()).finally(() => {
        this.follow(now);
      });
    });
  }

  /** Never rejects: what the TPM is not told of is only not protected. */
  async advance(state: AnchoredState): Promise<void> {
    if (!this.#isActive || state.commit === this.#commit) return;
    try {
      const isTold = await this.#advance(state, false);
      if (!isTold) this.#options.logger.info("the TPM was not told of the newest state: it was often enough today");
    } catch (error) {
      this.#options.logger.warn("the TPM could not be told of the newest state", { error: String(error) });
    }
  }

  /** Whether the TPM is told of newer states. */
  get isActive(): boolean {
    return this.#isActive;
  }

  /**
   * Before a key epoch ends: what the TPM remembers goes over to the newest, or would be taken for a forgery.
   * @throws TcfsError `TCFS_NO_TPM`, `TCFS_TPM`; the key epoch must not end then.
   */
  async renew(state: AnchoredState): Promise<void> {
    await this.#advance(state, true);
  }

  close(): void {
    this.#isActive = false;
    this.#timer?.cancel();
  }

  async #advance(state: AnchoredState, isForced: boolean): Promise<boolean> {
    const isTold = await advanceAnchor(this.#options, state, { nowMs: Date.now(), isForced });
    if (isTold) this.#commit = state.commit;
    return isTold;
  }
}

/** What to do about a TPM that does not answer. */
export const GONE =
  "Mount the vault on the machine whose TPM remembers it (--accept-older: unchecked); if that TPM is gone for good: tcfs key forget-tpm";
const ACCEPT = "If you know why, --accept-older takes it as it is, and the TPM remembers it from then on";

/** @returns In words, why the state may not be the newest; undefined if it is not older than what the TPM knows. */
function objectionTo(found: FoundAnchor, state: AnchoredState, isAnchored: boolean): string | undefined {
  if (found === "broken") return "what this machine's TPM remembers of the vault was tampered with, or written halfway";
  if (found === undefined) {
    const why = "it was cleared, or the vault comes from another machine";
    return isAnchored ? `this machine's TPM does not remember the vault: ${why}` : undefined;
  }
  const since = new Date(found.timeMs).toISOString();
  const isSetBack = "it was set back, restored from a copy, or lost what came later";
  if (state.commit < found.commit) {
    const missing = `commits ${state.commit + 1} to ${found.commit}`;
    return `this is an older state of the vault: ${missing}, the last known at ${since}, are missing: ${isSetBack}`;
  }
  if (state.root < found.root) {
    const roots = `step ${state.root}, and step ${found.root} was known at ${since}`;
    return `this is an older state of the vault's store: it shows ${roots}: ${isSetBack}`;
  }
  return undefined;
}
