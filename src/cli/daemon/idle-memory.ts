/**
 * Has memory given back once a time of work is over. V8 and malloc keep what they needed most of all for as long as nothing
 * asks for more; the daemon lives for weeks, beside programs that want the memory.
 */
import type { Clock, Timer } from "../../platform/clock.ts";

const LOOK_INTERVAL_MS = 10_000;
/** So much processor time within an interval is work: a hundredth of it is idling, with a timer here and there. */
const WORK_MS = 1000;
const IDLE_MS = 100;
/**
 * At the end of which idle intervals since work: the first, and the one by which whoever keeps memory for more work has let it
 * go. What was garbage is malloc's an interval later.
 */
const COLLECT_AFTER: readonly number[] = [1, 5];
const TRIM_AFTER: readonly number[] = [2, 6];

export interface IdleMemoryOptions {
  readonly clock: Pick<Clock, "after">;
  /** Processor time of the whole process so far. */
  readonly processorMs: () => number;
  /** Both may stop the thread for a moment. */
  readonly collectGarbage: () => void;
  readonly trimFreeMemory: () => void;
}

export class IdleMemory implements Disposable {
  readonly #options: IdleMemoryOptions;
  #timer: Timer | undefined;
  #lastMs = 0;
  #idleIntervals = 0; // opening a vault is work

  constructor(options: IdleMemoryOptions) {
    this.#options = options;
    this.#lookLater();
  }

  #lookLater(): void {
    this.#lastMs = this.#options.processorMs();
    this.#timer = this.#options.clock.after(LOOK_INTERVAL_MS, () => {
      this.#look();
    });
  }

  #look(): void {
    const { processorMs, collectGarbage, trimFreeMemory } = this.#options;
    const spentMs = processorMs() - this.#lastMs;
    if (spentMs >= WORK_MS) this.#idleIntervals = 0;
    else if (spentMs <= IDLE_MS) {
      this.#idleIntervals += 1;
      if (COLLECT_AFTER.includes(this.#idleIntervals)) collectGarbage();
      if (TRIM_AFTER.includes(this.#idleIntervals)) trimFreeMemory();
    }
    this.#lookLater();
  }

  [Symbol.dispose](): void {
    this.#timer?.cancel();
  }
}
