/** Waiting that a signal to the caller can end (FUSE_INTERRUPT). */
import { TcfsError } from "../errors.ts";
import type { Caller } from "./operations.ts";

/** Wait for `promise`, or until the kernel interrupts the request: then `TCFS_INTERRUPTED`. The work itself goes on. */
export function untilInterrupted<T>(promise: Promise<T>, caller: Caller): Promise<T> {
  return new Promise((resolve, reject) => {
    caller.onInterrupt(() => {
      reject(new TcfsError("TCFS_INTERRUPTED", "interrupted"));
    });
    promise.then(resolve, reject);
  });
}
