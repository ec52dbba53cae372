/**
 * A store that is waited for by somebody who stands before it: one that was just started refuses connections for a while,
 * and then fails until its parts have found each other. What another try would not mend is told at once.
 */
import { TcfsError, isTcfsError } from "../errors.ts";
import type { Clock } from "../platform/clock.ts";
import { type ObjectStore, StoreNotReady } from "./object-store.ts";

/** From the first failure of a request to the last try. */
const PATIENCE_MS = 15_000;
const PAUSE_MS = 500;

export interface Patience {
  readonly clock: Pick<Clock, "monotonicMs">;
  /** Keeps the process alive meanwhile. */
  readonly pause: (ms: number) => Promise<void>;
  /** Called once, when it is clear that it takes longer. */
  readonly onWait: () => void;
}

export function patientStore(store: ObjectStore, { clock, pause, onWait }: Patience): ObjectStore {
  let isTold = false;
  const trying = async <T>(signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T> => {
    for (let sinceMs: number | undefined; ;) {
      try {
        return await call();
      } catch (error) {
        sinceMs ??= clock.monotonicMs();
        if (!isPassing(error) || clock.monotonicMs() - sinceMs >= PATIENCE_MS) throw error;
        if (!isTold) onWait();
        isTold = true;
        await pause(PAUSE_MS * (0.5 + Math.random()));
        if (signal?.aborted === true)
          throw new TcfsError("TCFS_CANCELLED", "a request to the store was given up", { cause: error });
      }
    }
  };
  return {
    place: store.place,
    get: (name, options) => trying(options.signal, () => store.get(name, options)),
    getRange: (name, range, signal) => trying(signal, () => store.getRange(name, range, signal)),
    getPart: (name, range, signal) => trying(signal, () => store.getPart(name, range, signal)),
    head: (name, signal) => trying(signal, () => store.head(name, signal)),
    put: (name, content, signal) => trying(signal, () => store.put(name, content, signal)),
    putIfAbsent: (name, content, signal) => trying(signal, () => store.putIfAbsent(name, content, signal)),
    putIfMatch: (name, content, version, signal) =>
      trying(signal, () => store.putIfMatch(name, content, version, signal)),
    delete: (name, signal) => trying(signal, () => store.delete(name, signal)),
    async *list(prefix, signal) {
      const names = await trying(signal, async () => {
        const iterator = store.list(prefix, signal)[Symbol.asyncIterator]();
        return { iterator, first: await iterator.next() };
      });
      for (let step = names.first; step.done !== true; step = await names.iterator.next()) yield step.value;
    },
    close: () => store.close(),
  };
}

function isPassing(error: unknown): boolean {
  return error instanceof StoreNotReady || isTcfsError(error, "TCFS_REMOTE_THROTTLED");
}
