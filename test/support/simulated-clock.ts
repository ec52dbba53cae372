/** Two clocks that a test moves: the wall's, which may be set to anything, and the monotonic one, which sleep stops. */
import type { Clock, Timer, Timestamp } from "../../src/platform/clock.ts";

interface Pending {
  readonly atMs: number;
  readonly action: () => void;
}

export class SimulatedClock implements Clock {
  #monotonicMs = 0;
  /** Wall clock minus monotonic clock. */
  #offsetMs: number;
  readonly #timers = new Set<Pending>();

  constructor(start: string) {
    this.#offsetMs = Date.parse(start);
  }

  get wallMs(): number {
    return this.#monotonicMs + this.#offsetMs;
  }

  now(): Timestamp {
    const seconds = Math.floor(this.wallMs / 1000);
    return { seconds, nanoseconds: Math.round((this.wallMs - seconds * 1000) * 1e6) % 1e9 };
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  after(delayMs: number, action: () => void): Timer {
    const timer = { atMs: this.#monotonicMs + Math.ceil(delayMs), action };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  get timerCount(): number {
    return this.#timers.size;
  }

  /** Time passes, the machine awake. @param settle - Awaited after each timer that fires. */
  async pass(ms: number, settle: () => Promise<unknown>): Promise<void> {
    const endMs = this.#monotonicMs + ms;
    for (;;) {
      const due = [...this.#timers].filter(({ atMs }) => atMs <= endMs);
      const next = due.sort((left, right) => left.atMs - right.atMs)[0];
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#monotonicMs = Math.max(this.#monotonicMs, next.atMs);
      next.action();
      await settle();
    }
    this.#monotonicMs = endMs;
  }

  /** The machine sleeps, or somebody sets the wall clock: a program cannot tell these apart. */
  jump(ms: number): void {
    this.#offsetMs += ms;
  }

  setWall(time: string): void {
    this.#offsetMs = Date.parse(time) - this.#monotonicMs;
  }

  /** The process is gone, and its timers with it. */
  forgetTimers(): void {
    this.#timers.clear();
  }
}
