/**
 * Decides where calls to a device run. A quick device (a protected write cache, flash, a RAM disk) answers in less time
 * than a hop to the thread pool takes; a slow one would hold up every request meanwhile.
 */
import type { Clock } from "./clock.ts";

/** Up to this a call on the calling thread is worth it. */
const QUICK_MS = 0.5;
/** So many slow calls in a row are the device's pace and no accident. */
const SLOW_IN_A_ROW = 8;
/** Calls on the pool between two trials on the calling thread. */
const TRIAL_INTERVAL = 64;

export class DevicePace {
  readonly #clock: Pick<Clock, "monotonicMs">;
  #slowInARow = 0;
  #untilTrial = 0;

  constructor(clock: Pick<Clock, "monotonicMs">) {
    this.#clock = clock;
  }

  /** Whether the next call is to be made here, through {@link measure}. Counts the others. */
  admits(): boolean {
    if (this.#untilTrial === 0) return true;
    this.#untilTrial -= 1;
    return false;
  }

  /** Make a call on the calling thread, and learn from the time it takes. @throws What the call throws. */
  measure<T>(call: () => T): T {
    const startedMs = this.#clock.monotonicMs();
    const result = call();
    const isSlow = this.#clock.monotonicMs() - startedMs > QUICK_MS;
    this.#slowInARow = isSlow ? this.#slowInARow + 1 : 0;
    if (this.#slowInARow >= SLOW_IN_A_ROW) this.#untilTrial = TRIAL_INTERVAL;
    return result;
  }
}
