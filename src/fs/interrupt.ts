/** Waiting that a signal to the caller can end (FUSE_INTERRUPT). */
import { TcfsError } from "../errors.ts";
import { type MaybePromise, isPromise } from "../maybe-promise.ts";
import type { Caller } from "./operations.ts";

/**
 * Wait for `work`, or until the kernel interrupts the request: then `TCFS_INTERRUPTED`. The work itself goes on.
 * @param unwanted - Gets what comes after that.
 */
export function untilInterrupted<T>(
  work: MaybePromise<T>,
  caller: Caller,
  unwanted?: (value: T) => void,
): MaybePromise<T> {
  if (!isPromise(work)) return work;
  return new Promise((resolve, reject) => {
    let isInterrupted = false;
    caller.onInterrupt(() => {
      isInterrupted = true;
      reject(new TcfsError("TCFS_INTERRUPTED", "interrupted"));
    });
    work.then((value) => {
      if (isInterrupted) unwanted?.(value);
      else resolve(value);
    }, reject);
  });
}
