/** Work that is done at once where it can be: what costs a microsecond must not cost a turn of the event loop. */

/** A plain value where nothing had to be waited for. */
export type MaybePromise<T> = T | Promise<T>;

export function isPromise<T>(value: MaybePromise<T>): value is Promise<T> {
  return value instanceof Promise;
}

/** Go on with a value, at once where it is there. @throws What `next` throws, where nothing was waited for. */
export function andThen<T, U>(value: MaybePromise<T>, next: (value: T) => MaybePromise<U>): MaybePromise<U> {
  return isPromise(value) ? value.then(next) : next(value);
}

/** Steps one after another; waits only for those that return a promise. The first failure ends it. */
export function inOrder(steps: readonly (() => MaybePromise<void>)[], from = 0): MaybePromise<void> {
  for (let index = from; index < steps.length; index++) {
    const done = steps[index]?.();
    if (done !== undefined && isPromise(done)) return done.then(() => inOrder(steps, index + 1));
  }
}

/** Run work and then `done`; whatever it throws or rejects with goes to `failed`. */
export function settled<T, U>(
  work: () => MaybePromise<T>,
  done: (value: T) => U,
  failed: (error: unknown) => U,
): MaybePromise<U> {
  let value: MaybePromise<T>;
  try {
    value = work();
  } catch (error) {
    return failed(error);
  }
  return isPromise(value) ? value.then(done, failed) : done(value);
}

/** Wait for all, so that nothing lent is in use any more; then report the first failure. */
export async function settleAll(work: readonly Promise<void>[]): Promise<void> {
  const outcomes = await Promise.allSettled(work);
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
}
