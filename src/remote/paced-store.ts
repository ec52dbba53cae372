/** A store that is written to no faster than it is told, on the average of whole objects: bodies are sent in one piece. */
import { TcfsError } from "../errors.ts";
import type { Clock } from "../platform/clock.ts";
import type { ObjectStore } from "./object-store.ts";

/** Looked at again after so long: the limit may have changed. */
const LONGEST_PAUSE_MS = 500;
/** What a request without a body counts as. */
const REQUEST_BYTES = 1024;

export class Pace {
  readonly #clock: Clock;
  #limitBytesPerSecond: number | null = null;
  /** What was sent ahead of the limit, as of `#sinceMs`. */
  #debtBytes = 0;
  #sinceMs = 0;
  #turn: Promise<void> = Promise.resolve();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Null: as fast as it goes. */
  set limitBytesPerSecond(limit: number | null) {
    this.#settle();
    this.#limitBytesPerSecond = limit;
  }

  /** Resolves when so much may be sent, one caller after the other. @throws TcfsError `TCFS_CANCELLED` */
  async take(lengthBytes: number, signal: AbortSignal | undefined): Promise<void> {
    const before = this.#turn;
    const mine = before.then(() => this.#wait(lengthBytes, signal));
    this.#turn = mine.catch(() => undefined);
    await mine;
  }

  async #wait(lengthBytes: number, signal: AbortSignal | undefined): Promise<void> {
    for (;;) {
      if (signal?.aborted === true) throw new TcfsError("TCFS_CANCELLED", "a request to the store was given up");
      const restMs = this.#settle();
      if (restMs <= 0) break;
      await new Promise<void>((resolve) => this.#clock.after(Math.min(restMs, LONGEST_PAUSE_MS), resolve));
    }
    if (this.#limitBytesPerSecond !== null) this.#debtBytes += lengthBytes;
  }

  /** @returns How long it takes until the debt is paid. */
  #settle(): number {
    const nowMs = this.#clock.monotonicMs();
    const limit = this.#limitBytesPerSecond;
    this.#debtBytes = limit === null ? 0 : Math.max(0, this.#debtBytes - ((nowMs - this.#sinceMs) * limit) / 1000);
    this.#sinceMs = nowMs;
    return limit === null ? 0 : (this.#debtBytes * 1000) / limit;
  }
}

/** @param pace - Of everything that is put or deleted; what is read is not held up. */
export function pacedStore(store: ObjectStore, pace: Pace): ObjectStore {
  return {
    place: store.place,
    get: (name, options) => store.get(name, options),
    getRange: (name, range, signal) => store.getRange(name, range, signal),
    getPart: (name, range, signal) => store.getPart(name, range, signal),
    head: (name, signal) => store.head(name, signal),
    put: async (name, content, signal) => {
      await pace.take(content.length, signal);
      return store.put(name, content, signal);
    },
    putIfAbsent: async (name, content, signal) => {
      await pace.take(content.length, signal);
      return store.putIfAbsent(name, content, signal);
    },
    putIfMatch: async (name, content, version, signal) => {
      await pace.take(content.length, signal);
      return store.putIfMatch(name, content, version, signal);
    },
    delete: async (name, signal) => {
      await pace.take(REQUEST_BYTES, signal);
      await store.delete(name, signal);
    },
    list: (prefix, signal) => store.list(prefix, signal),
    close: () => store.close(),
  };
}
