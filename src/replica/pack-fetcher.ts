/** Ranges of packs out of the store, verified by whoever opens them. Tries again, up to a time, while the store is away. */
import type { PackStart, RemotePacks } from "../chunkstore/pack-shelf.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import { type ByteRange, type ObjectStore, requireLength } from "../remote/object-store.ts";
import { setTimeout as sleep } from "node:timers/promises";
import { MAX_PACK_OBJECT_BYTES, packObject } from "./object-names.ts";
import { type PackRooms, usableLength, usableStart } from "./remote-epoch.ts";

/** Requests under way; each holds its range in memory. What is brought before it is read takes at most eight of them. */
const REQUESTS_AT_ONCE = 12;
const FIRST_PAUSE_MS = 100;
const LAST_PAUSE_MS = 2000;
/** What a line is thought to carry at least: a long range may take longer. */
const SLOWEST_BYTES_PER_MS = 16;

export class PackFetcher implements RemotePacks {
  readonly #openStore: () => Promise<ObjectStore>;
  readonly #rooms: PackRooms;
  readonly #waitMs: number;
  readonly #closing = new AbortController();
  readonly #running = new Set<Promise<unknown>>();
  readonly #queue: (() => void)[] = [];
  #slots = REQUESTS_AT_ONCE;

  /** @param waitMs - A store that is away is waited for so long. */
  constructor(openStore: () => Promise<ObjectStore>, rooms: PackRooms, waitMs: number) {
    this.#openStore = openStore;
    this.#rooms = rooms;
    this.#waitMs = waitMs;
  }

  /** @throws TcfsError `TCFS_CORRUPT` for one that is longer than any pack: what a store says makes no memory be taken. */
  async lengthOf(pack: PackId): Promise<number | undefined> {
    const lengthBytes = await this.#ask(this.#waitMs, (store, signal) =>
      usableLength(store, pack, this.#rooms, signal),
    );
    if (lengthBytes !== undefined) requireLength(packObject(pack), lengthBytes, MAX_PACK_OBJECT_BYTES);
    return lengthBytes;
  }

  /** @throws as {@link lengthOf} */
  async readStart(pack: PackId, lengthBytes: number): Promise<PackStart | undefined> {
    const start = await this.#read(lengthBytes, (store, signal) =>
      usableStart(store, { pack, lengthBytes }, this.#rooms, signal),
    );
    if (start === undefined) return undefined;
    requireLength(packObject(pack), start.objectBytes, MAX_PACK_OBJECT_BYTES);
    return { content: start.content, packBytes: start.objectBytes };
  }

  async readPart(pack: PackId, range: ByteRange): Promise<Uint8Array | undefined> {
    const part = await this.#read(range.lengthBytes, (store, signal) => store.getPart(packObject(pack), range, signal));
    return part?.content;
  }

  readRange(pack: PackId, offset: number, lengthBytes: number): Promise<Uint8Array | undefined> {
    return this.#read(lengthBytes, (store, signal) =>
      store.getRange(packObject(pack), { offset, lengthBytes }, signal),
    );
  }

  /** Whatever is under way is given up. Idempotent. */
  async close(): Promise<void> {
    this.#closing.abort();
    for (const go of this.#queue.splice(0)) go();
    await Promise.allSettled(this.#running);
  }

  #read<T>(lengthBytes: number, call: (store: ObjectStore, signal: AbortSignal) => Promise<T>): Promise<T> {
    return this.#ask(this.#waitMs + lengthBytes / SLOWEST_BYTES_PER_MS, async (store, signal) => {
      await this.#acquire();
      try {
        return await call(store, signal);
      } finally {
        this.#slots += 1;
        this.#queue.shift()?.();
      }
    });
  }

  #ask<T>(timeoutMs: number, call: (store: ObjectStore, signal: AbortSignal) => Promise<T>): Promise<T> {
    const asking = this.#insist(timeoutMs, call);
    this.#running.add(asking);
    const forget = (): void => {
      this.#running.delete(asking);
    };
    asking.then(forget, forget);
    return asking;
  }

  /** @throws TcfsError `TCFS_REMOTE_UNAVAILABLE` when time is up; at once what another try would not mend. */
  async #insist<T>(timeoutMs: number, call: (store: ObjectStore, signal: AbortSignal) => Promise<T>): Promise<T> {
    const timeout = AbortSignal.timeout(Math.ceil(timeoutMs));
    const signal = AbortSignal.any([this.#closing.signal, timeout]);
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(LAST_PAUSE_MS, pauseMs * 2)) {
      try {
        if (signal.aborted) throw new TcfsError("TCFS_CANCELLED", "a request to the store was given up");
        return await call(await this.#openStore(), signal);
      } catch (error) {
        if (timeout.aborted && !this.#closing.signal.aborted) {
          throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", "the store took too long", { cause: error });
        }
        const isPassing = isTcfsError(error, "TCFS_REMOTE_UNAVAILABLE") || isTcfsError(error, "TCFS_REMOTE_THROTTLED");
        if (!isPassing || signal.aborted) throw error;
        // Cut short by the end of the time, which the next turn tells.
        await sleep(pauseMs * (0.5 + Math.random()), undefined, { signal, ref: false }).catch(() => undefined);
      }
    }
  }

  async #acquire(): Promise<void> {
    while (this.#slots === 0 && !this.#closing.signal.aborted) {
      await new Promise<void>((resolve) => this.#queue.push(resolve));
    }
    this.#slots -= 1;
  }
}
