/** Time, behind an interface so that a test can own it. */

export interface Timestamp {
  /** Seconds since 1970-01-01T00:00:00Z; negative before; a safe integer. */
  readonly seconds: number;
  /** 0…999,999,999. */
  readonly nanoseconds: number;
}

export function isLater(a: Timestamp, b: Timestamp): boolean {
  return a.seconds > b.seconds || (a.seconds === b.seconds && a.nanoseconds > b.nanoseconds);
}

/** Whole milliseconds since 1970-01-01T00:00:00Z, as Date.now() counts them. */
export function millisecondsOf({ seconds, nanoseconds }: Timestamp): number {
  return seconds * 1000 + Math.floor(nanoseconds / 1e6);
}

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Wall-clock time. */
  now(): Timestamp;
  /** Milliseconds on a clock that never goes backwards. */
  monotonicMs(): number;
  /** Run `action` once after `delayMs`; does not keep the process alive. */
  after(delayMs: number, action: () => void): Timer;
}

/**
 * The machine's clocks. Date.now() has milliseconds only; calls within one millisecond are told apart by
 * the monotonic clock, so that two changes of a file never carry the same time.
 */
class SystemClock implements Clock {
  #millisecond = 0;
  #startedAtMs = 0;
  #lastNanoseconds = 0;

  now(): Timestamp {
    const millisecond = Date.now();
    const monotonicMs = performance.now();
    if (millisecond !== this.#millisecond) {
      this.#millisecond = millisecond;
      this.#startedAtMs = monotonicMs;
      this.#lastNanoseconds = -1;
    }
    const elapsed = Math.floor((monotonicMs - this.#startedAtMs) * 1e6);
    this.#lastNanoseconds = Math.min(Math.max(elapsed, this.#lastNanoseconds + 1), 999_999);
    const seconds = Math.floor(millisecond / 1000);
    return { seconds, nanoseconds: (millisecond - seconds * 1000) * 1_000_000 + this.#lastNanoseconds };
  }

  monotonicMs(): number {
    return performance.now();
  }

  after(delayMs: number, action: () => void): Timer {
    const timer = setTimeout(action, delayMs);
    timer.unref();
    return {
      cancel: () => {
        clearTimeout(timer);
      },
    };
  }
}

export const systemClock: Clock = new SystemClock();
