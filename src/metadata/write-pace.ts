/**
 * Decides where durable writes run. A quick device (one with a protected write cache) flushes in less time than a hop to
 * the thread pool takes; a slow one would hold up every request meanwhile.
 */
import type { Clock } from "../platform/clock.ts";
import type { DurableFile } from "../platform/disk.ts";

/** Up to this a write on the calling thread is worth it. */
const QUICK_MS = 0.5;
/** So many slow writes in a row are the device's pace and no accident. */
const SLOW_IN_A_ROW = 8;
/** Writes on the pool between two trials on the calling thread. */
const TRIAL_INTERVAL = 64;

export class WritePace {
  readonly #clock: Pick<Clock, "monotonicMs">;
  #slowInARow = 0;
  #untilTrial = 0;

  constructor(clock: Pick<Clock, "monotonicMs">) {
    this.#clock = clock;
  }

  /**
   * @param bytes - Lent until settled.
   * @returns Undefined where it is done.
   * @throws TcfsError from the file, at once or by the promise.
   */
  write(file: DurableFile, bytes: Uint8Array, offset: number): Promise<void> | undefined {
    if (this.#untilTrial > 0) {
      this.#untilTrial -= 1;
      return file.write([bytes], offset);
    }
    const startedMs = this.#clock.monotonicMs();
    file.writeSync(bytes, offset);
    const isSlow = this.#clock.monotonicMs() - startedMs > QUICK_MS;
    this.#slowInARow = isSlow ? this.#slowInARow + 1 : 0;
    if (this.#slowInARow >= SLOW_IN_A_ROW) this.#untilTrial = TRIAL_INTERVAL;
    return undefined;
  }
}
