/** Waiting for a store, and no longer than somebody has time. */
import { TcfsError } from "../errors.ts";
import type { Clock, Timer } from "../platform/clock.ts";

/** @throws TcfsError `TCFS_REMOTE_UNAVAILABLE` when it takes too long; the work goes on, and its failure is told to nobody. */
export async function within<T>(clock: Clock, waitMs: number, work: Promise<T>): Promise<T> {
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = clock.after(waitMs, () => {
      reject(new TcfsError("TCFS_REMOTE_UNAVAILABLE", "the store does not answer in time"));
    });
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    timer?.cancel();
  }
}
