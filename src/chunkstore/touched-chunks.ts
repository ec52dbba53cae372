/**
 * Which chunks were lately stored, found again, read or retained: what nothing in the database refers to yet, but
 * something in memory may. Holds the present and the previous commit interval, and all of a running collection.
 */
import type { ChunkId, ChunkIdKey } from "../ids.ts";
import { IdSet } from "./id-set.ts";

export class TouchedChunks {
  #recent = new Set<ChunkIdKey>();
  #previous = new Set<ChunkIdKey>();
  #collection: IdSet | undefined;

  /** About to be referenced from somewhere new. */
  touch(id: ChunkId, key: ChunkIdKey): void {
    this.#recent.add(key);
    this.#collection?.add(id);
  }

  /** Being read: what refers to it may be on its way out, the reader is not. */
  touchForRead(id: ChunkId): void {
    this.#collection?.add(id);
  }

  /** A commit is durable: what was touched before the previous one is referenced by the database, or by nothing. */
  committed(): void {
    this.#previous = this.#recent;
    this.#recent = new Set();
  }

  /** From now on nothing touched is forgotten. */
  beginCollection(): void {
    this.#collection = new IdSet();
    for (const keys of [this.#recent, this.#previous]) {
      for (const key of keys) this.#collection.add(new Uint8Array(Buffer.from(key, "latin1")) as ChunkId);
    }
  }

  /** Whether it was touched since shortly before the collection began. */
  isTouched(id: ChunkId): boolean {
    return this.#collection?.has(id) ?? true;
  }

  endCollection(): void {
    this.#collection = undefined;
  }
}
