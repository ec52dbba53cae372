/**
 * A compact set of chunk ids for collection: 8 bytes of each id in an open-addressing table, 16 MiB for a million.
 * Two ids that share the 8 bytes are one to it, so it may say yes wrongly (one in 2^43 for a million), never no:
 * whoever marks what to keep errs towards keeping.
 */
import type { ChunkId } from "../ids.ts";

const INITIAL_SLOTS = 1024;

export class IdSet {
  /** Two words per slot; both zero is free. */
  #slots = new Uint32Array(INITIAL_SLOTS * 2);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** @returns Whether it was not in the set before. */
  add(id: ChunkId): boolean {
    if (this.#count * 2 >= this.#slots.length / 2) this.#grow();
    const isNew = insert(this.#slots, lowWord(id), highWord(id));
    if (isNew) this.#count += 1;
    return isNew;
  }

  has(id: ChunkId): boolean {
    const slot = find(this.#slots, lowWord(id), highWord(id));
    return this.#slots[slot] !== 0 || this.#slots[slot + 1] !== 0;
  }

  #grow(): void {
    const previous = this.#slots;
    this.#slots = new Uint32Array(previous.length * 2);
    for (let slot = 0; slot < previous.length; slot += 2) {
      const low = previous[slot] ?? 0;
      const high = previous[slot + 1] ?? 0;
      if (low !== 0 || high !== 0) insert(this.#slots, low, high);
    }
  }
}

/** Ids are keyed hashes: any 8 of their bytes are as good as random. Zero marks a free slot, so it stands as one. */
function lowWord(id: ChunkId): number {
  return ((id[0] ?? 0) | ((id[1] ?? 0) << 8) | ((id[2] ?? 0) << 16) | ((id[3] ?? 0) << 24)) >>> 0 || 1;
}

function highWord(id: ChunkId): number {
  return ((id[4] ?? 0) | ((id[5] ?? 0) << 8) | ((id[6] ?? 0) << 16) | ((id[7] ?? 0) << 24)) >>> 0;
}

/** @returns Where the pair is, or the free slot where it would go. */
function find(slots: Uint32Array, low: number, high: number): number {
  const mask = slots.length - 1;
  let slot = (low * 2) & mask;
  while ((slots[slot] !== 0 || slots[slot + 1] !== 0) && (slots[slot] !== low || slots[slot + 1] !== high)) {
    slot = (slot + 2) & mask;
  }
  return slot;
}

function insert(slots: Uint32Array, low: number, high: number): boolean {
  const slot = find(slots, low, high);
  if (slots[slot] !== 0 || slots[slot + 1] !== 0) return false;
  slots[slot] = low;
  slots[slot + 1] = high;
  return true;
}
