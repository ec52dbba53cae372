/**
 * Makes room on a filling disk: the oldest versions and deleted files go, then what is of no use to anybody. Whoever is
 * refused room waits for that, within bounds: a restore may hold the turn that it needs, and wait for this very write.
 */
import type { Clock, Timer } from "../platform/clock.ts";

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
  /** Whether enough went out of use since the last collection began to be worth another at once, or one is under way. */
  readonly mayCollect: () => boolean;
  /** Remove what nobody refers to. @returns Bytes given back to the disk. */
  readonly collect: (refusedBytes: number) => Promise<number>;
  readonly onRelief: (count: number) => void;
  readonly onFailure: (error: unknown) => void;
}

export class Relief {
  readonly #options: ReliefOptions;
  /** Resolves to whether there is more room than before. */
  #running: Promise<boolean> | undefined;
  /** Of the largest write that waits. */
  #refusedBytes = 0;
  #pausedUntilMs = -Infinity;
  #hasMore = true;
  #next: Timer | undefined;
  #isClosed = false;

  constructor(options: ReliefOptions) {
    this.#options = options;
  }

  /** A commit left the disk nearly full. */
  consider(): void {
    if (!this.#isPaused && this.#options.lackingBytes() > 0) void this.#start();
  }

  /**
   * A write of so many bytes finds no room.
   * @returns Whether something went, so that it is worth another try. Never rejects.
   */
  async makeRoom(bytes: number): Promise<boolean> {
    const { clock, mayCollect } = this.#options;
    if (this.#isPaused && !this.#hasMore && !mayCollect()) return false;
    this.#refusedBytes = Math.max(this.#refusedBytes, bytes);
    return new Promise((resolve) => {
      const timer = clock.after(WAIT_MS, () => {
        resolve(false);
      });
      void this.#start().then((hasRoom) => {
        timer.cancel();
        resolve(hasRoom);
      });
    });
  }

  /** Nothing is begun any more. What gives up and what collects is stopped by whoever owns it. */
  close(): void {
    this.#isClosed = true;
    this.#next?.cancel();
  }

  get #isPaused(): boolean {
    return this.#options.clock.monotonicMs() < this.#pausedUntilMs;
  }

  /** Who deleted to make room for others may change nothing more: no commit may come that tells of the lack. */
  #goOn(): void {
    this.#next?.cancel();
    if (this.#isClosed) return;
    this.#next = this.#options.clock.after(PAUSE_MS, () => {
      if (this.#options.lackingBytes() > 0) void this.#start(); // a timer may come a moment before the pause ends
    });
  }

  /** @returns The one under way, if there is one. */
  #start(): Promise<boolean> {
    if (this.#isClosed) return Promise.resolve(false);
    this.#running ??= this.#run()
      .catch((error: unknown) => {
        if (!this.#isClosed) this.#options.onFailure(error);
        return false;
      })
      .then((hasRoom) => {
        this.#running = undefined;
        this.#refusedBytes = 0;
        this.#hasMore = hasRoom;
        this.#pausedUntilMs = this.#options.clock.monotonicMs() + PAUSE_MS;
        if (hasRoom) this.#goOn();
        return hasRoom;
      });
    return this.#running;
  }

  async #run(): Promise<boolean> {
    const { lackingBytes, giveUp, mayCollect, collect, onRelief } = this.#options;
    const count = await giveUp(lackingBytes() + this.#refusedBytes);
    if (count > 0) onRelief(count);
    else if (this.#refusedBytes === 0) return false;
    // What was deleted a moment ago gives its room back no sooner. A collection that was under way may have missed it.
    let freedBytes = await collect(this.#refusedBytes);
    if (freedBytes === 0 && mayCollect()) freedBytes = await collect(this.#refusedBytes);
    return freedBytes > 0 || count > 0;
  }
}
