/** Those who wait until the store's root has the vault's commit. */
import { TcfsError } from "../errors.ts";

interface Waiter {
  readonly commit: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** @returns What is told to those who wait for what nobody does now. */
export function paused(): TcfsError {
  return new TcfsError("TCFS_REMOTE_UNAVAILABLE", "uploads are paused: tcfs upload resume has them go on");
}

export class Waiters {
  readonly #waiting = new Set<Waiter>();

  get count(): number {
    return this.#waiting.size;
  }

  /** @throws TcfsError `TCFS_CANCELLED`, and what {@link rejectAll} is told. */
  wait(commit: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        this.#waiting.delete(waiter);
        reject(new TcfsError("TCFS_CANCELLED", "the wait was given up"));
      };
      const settled =
        <T extends unknown[]>(settle: (...how: T) => void) =>
        (...how: T): void => {
          signal.removeEventListener("abort", giveUp);
          settle(...how);
        };
      const waiter: Waiter = { commit, resolve: settled(resolve), reject: settled(reject) };
      if (signal.aborted) {
        giveUp();
        return;
      }
      signal.addEventListener("abort", giveUp, { once: true });
      this.#waiting.add(waiter);
    });
  }

  /** The root has everything up to `commit`. */
  settle(commit: number): void {
    for (const waiter of this.#waiting) {
      if (waiter.commit > commit) continue;
      this.#waiting.delete(waiter);
      waiter.resolve();
    }
  }

  rejectAll(error: TcfsError): void {
    for (const waiter of this.#waiting) waiter.reject(error);
    this.#waiting.clear();
  }
}
