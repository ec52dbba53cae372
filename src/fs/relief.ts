/**
 * Makes room on a filling disk: the oldest versions and deleted files go, then what is of no use to anybody. Whoever is
 * refused room waits for that, within bounds: a restore may hold the turn that it needs, and wait for this very write.
 */
import type { Clock } from "../platform/clock.ts";

/** Between two looks at a disk that is nearly full; and after one for which there was nothing to give up. */
const PAUSE_MS = 10_000;
/** A refused write waits no longer. */
const WAIT_MS = 10_000;

export interface ReliefOptions {
  readonly clock: Clock;
  /** Bytes that the disk lacks until there is plenty for writes. */
  readonly lackingBytes: () => number;
  /** Give up kept versions. @returns How many. */
  readonly giveUp: (lackingBytes: number) => Promise<number>;
  /** Remove what nobody refers to. */
  readonly collect: () => Promise<unknown>;
  /** There is nothing to give up; something may be out of use. */
  readonly onNothingKept: () => void;
  readonly onRelief: (count: number) => void;
  readonly onFailure: (error: unknown) => void;
}

export class Relief {
  readonly #options: ReliefOptions;
  /** Resolves to how many versions went. */
  #running: Promise<number> | undefined;
  #pausedUntilMs = -Infinity;
  #hasMore = true;
  #isClosed = false;

  constructor(options: ReliefOptions) {
    this.#options = options;
  }

  /** A commit left the disk nearly full. */
  consider(): void {
    if (!this.#isPaused && this.#options.lackingBytes() > 0) void this.#start(0);
  }

  /**
   * A write of so many bytes finds no room.
   * @returns Whether something was given up for it, so that it is worth another try. Never rejects.
   */
  async makeRoom(bytes: number): Promise<boolean> {
    if (this.#isPaused && !this.#hasMore) return false;
    const { clock } = this.#options;
    return new Promise((resolve) => {
      const timer = clock.after(WAIT_MS, () => {
        resolve(false);
      });
      void this.#start(bytes).then((count) => {
        timer.cancel();
        resolve(count > 0);
      });
    });
  }

  /** Nothing is begun any more. What gives up and what collects is stopped by whoever owns it. */
  close(): void {
    this.#isClosed = true;
  }

  get #isPaused(): boolean {
    return this.#options.clock.monotonicMs() < this.#pausedUntilMs;
  }

  /** @returns The one under way, if there is one. */
  #start(refusedBytes: number): Promise<number> {
    if (this.#isClosed) return Promise.resolve(0);
    this.#running ??= this.#run(refusedBytes)
      .catch((error: unknown) => {
        if (!this.#isClosed) this.#options.onFailure(error);
        return 0;
      })
      .then((count) => {
        this.#running = undefined;
        this.#hasMore = count > 0;
        this.#pausedUntilMs = this.#options.clock.monotonicMs() + PAUSE_MS;
        return count;
      });
    return this.#running;
  }

  async #run(refusedBytes: number): Promise<number> {
    const { lackingBytes, giveUp, collect, onNothingKept, onRelief } = this.#options;
    const count = await giveUp(lackingBytes() + refusedBytes);
    if (count > 0) {
      onRelief(count);
      await collect();
    } else if (refusedBytes > 0) onNothingKept();
    return count;
  }
}
