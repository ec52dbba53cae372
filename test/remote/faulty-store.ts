/**
 * A store around another one that fails as stores do, drawn from a seed: slow, 500, 503, silent, done with its answer lost,
 * a body cut short, a bit flipped, a listing that lies, full.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { TcfsError } from "../../src/errors.ts";
import type {
  ByteRange,
  GetOptions,
  ObjectPart,
  ObjectStore,
  ObjectVersion,
  StoredObject,
} from "../../src/remote/object-store.ts";
import { collect } from "../support/collect.ts";

export type StoreFault = "slow" | "failing" | "throttled" | "lost" | "cut" | "flipped" | "full";

export interface FaultyStoreOptions {
  readonly seed: number;
  /** Chance of each fault at each call, 0…1. */
  readonly chances: Partial<Readonly<Record<StoreFault, number>>>;
  /** Listings leave out every other name, and have one that is not there. */
  readonly liesInListings?: boolean;
}

const MAX_LATENCY_MS = 3;

/** @returns Numbers in [0, 1), the same for the same seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class FaultyStore implements ObjectStore {
  readonly #store: ObjectStore;
  readonly #options: FaultyStoreOptions;
  readonly #random: () => number;
  /** Whether faults happen now. */
  isFaulty = true;
  /** Called before each call that changes something: may throw, as a crash does. */
  beforeChange: (name: string) => void = () => undefined;
  /** Called before each request is carried out: may throw. */
  beforeAnswer: () => void = () => undefined;
  faultCount = 0;

  constructor(store: ObjectStore, options: FaultyStoreOptions) {
    this.#store = store;
    this.#options = options;
    this.#random = seeded(options.seed);
  }

  get place(): string {
    return this.#store.place;
  }

  async get(name: string, options: GetOptions): Promise<StoredObject | undefined> {
    const found = await this.#asking(() => this.#store.get(name, options));
    return found && { ...found, content: this.#perhapsFlipped(found.content) };
  }

  async getRange(name: string, range: ByteRange, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    const found = await this.#asking(() => this.#store.getRange(name, range, signal));
    return found && this.#perhapsFlipped(found);
  }

  async getPart(name: string, range: ByteRange, signal?: AbortSignal): Promise<ObjectPart | undefined> {
    const found = await this.#asking(() => this.#store.getPart(name, range, signal));
    return found && { ...found, content: this.#perhapsFlipped(found.content) };
  }

  head(name: string, signal?: AbortSignal): Promise<number | undefined> {
    return this.#passing(() => this.#store.head(name, signal));
  }

  put(name: string, content: Uint8Array, signal?: AbortSignal): Promise<ObjectVersion> {
    return this.#changing(name, () => this.#store.put(name, content, signal));
  }

  putIfAbsent(name: string, content: Uint8Array, signal?: AbortSignal): Promise<ObjectVersion> {
    return this.#changing(name, () => this.#store.putIfAbsent(name, content, signal));
  }

  putIfMatch(name: string, content: Uint8Array, version: ObjectVersion, signal?: AbortSignal): Promise<ObjectVersion> {
    return this.#changing(name, () => this.#store.putIfMatch(name, content, version, signal));
  }

  delete(name: string, signal?: AbortSignal): Promise<void> {
    return this.#changing(name, () => this.#store.delete(name, signal));
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncGenerator<string> {
    await this.#passing(() => Promise.resolve());
    let isLeftOut = false;
    for await (const name of this.#store.list(prefix, signal)) {
      isLeftOut = !isLeftOut;
      if (this.#options.liesInListings !== true || !isLeftOut) yield name;
    }
    if (this.#options.liesInListings === true) yield `${prefix}gone`;
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  async #asking<T>(call: () => Promise<T>): Promise<T> {
    const found = await this.#passing(call);
    if (found !== undefined && this.#strikes("cut"))
      throw new TcfsError("TCFS_CORRUPT", "made to fail: a body cut short");
    return found;
  }

  async #changing<T>(name: string, call: () => Promise<T>): Promise<T> {
    this.beforeChange(name);
    if (this.#strikes("full")) throw new TcfsError("TCFS_REMOTE_FULL", "made to fail: no room");
    return this.#passing(call);
  }

  async #passing<T>(call: () => Promise<T>): Promise<T> {
    if (this.#strikes("slow")) await sleep(this.#random() * MAX_LATENCY_MS);
    if (this.#strikes("failing")) throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", "made to fail: HTTP 500");
    if (this.#strikes("throttled")) throw new TcfsError("TCFS_REMOTE_THROTTLED", "made to fail: HTTP 503");
    this.beforeAnswer();
    const answer = await call();
    if (this.#strikes("lost")) throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", "made to fail: the answer was lost");
    return answer;
  }

  #perhapsFlipped(content: Uint8Array): Uint8Array {
    if (content.length === 0 || !this.#strikes("flipped")) return content;
    const flipped = content.slice();
    const at = Math.floor(this.#random() * flipped.length);
    flipped[at] = (flipped[at] ?? 0) ^ (1 << Math.floor(this.#random() * 8));
    return flipped;
  }

  #strikes(fault: StoreFault): boolean {
    if (!this.isFaulty || this.#random() >= (this.#options.chances[fault] ?? 0)) return false;
    this.faultCount += 1;
    return true;
  }
}

const INSISTING_TRIES = 60;

/** A caller that does again whatever may be done again: what the interface promises to be safe. */
export function insisting(store: ObjectStore, tries = INSISTING_TRIES): ObjectStore {
  const again = async <T>(call: () => Promise<T>): Promise<T> => {
    for (let attempt = 1; ; attempt++) {
      try {
        return await call();
      } catch (error) {
        const isPassing =
          error instanceof TcfsError &&
          ["TCFS_REMOTE_UNAVAILABLE", "TCFS_REMOTE_THROTTLED", "TCFS_REMOTE_FULL"].includes(error.code);
        if (!isPassing || attempt === tries) throw error;
      }
    }
  };
  return {
    place: store.place,
    get: (...all) => again(() => store.get(...all)),
    getRange: (...all) => again(() => store.getRange(...all)),
    getPart: (...all) => again(() => store.getPart(...all)),
    head: (...all) => again(() => store.head(...all)),
    put: (...all) => again(() => store.put(...all)),
    putIfAbsent: (...all) => again(() => store.putIfAbsent(...all)),
    putIfMatch: (...all) => again(() => store.putIfMatch(...all)),
    delete: (...all) => again(() => store.delete(...all)),
    async *list(...all) {
      yield* await again(() => collect(store.list(...all)));
    },
    close: () => store.close(),
  };
}
