/**
 * The filters of a LevelDB table: for each data block ten bits a key, which tell most keys that are not in it, so that
 * nobody reads the block for them (LevelDB's filter_block.cc, bloom.cc).
 */

/** How the list of filters names this kind. */
export const FILTER_NAME = "filter.leveldb.BuiltinBloomFilter2";
const BITS_PER_KEY = 10;
const PROBES = 6;
const LEAST_BITS = 64;
/** The filter of a block is found by where it begins, divided by 2 to this power. */
const SLOT_LOG2 = 11;
const HASH_SEED = 0xbc9f1d34;
const HASH_FACTOR = 0xc6a4a793;

export class TableFilter {
  #hashes = new Uint32Array(128);
  #hashCount = 0;
  #filters: Uint8Array[] = [];
  #filterBytes = 0;
  /** Where each slot's filter begins. */
  #slots: number[] = [];

  /** A key of the block that is being made: `bytes[start, end)`. */
  add(bytes: Uint8Array, start: number, end: number): void {
    if (this.#hashCount === this.#hashes.length) {
      const more = new Uint32Array(this.#hashes.length * 2);
      more.set(this.#hashes);
      this.#hashes = more;
    }
    this.#hashes[this.#hashCount++] = hashOf(bytes, start, end);
  }

  /** The block is whole. @param offset - Where it begins in the table. */
  endBlock(offset: number): void {
    const slot = offset >>> SLOT_LOG2;
    while (this.#slots.length <= slot) this.#slots.push(this.#filterBytes);
    const filter = makeFilter(this.#hashes, this.#hashCount);
    this.#filters.push(filter);
    this.#filterBytes += filter.length;
    this.#hashCount = 0;
  }

  /** @returns The block of filters. Begins anew. */
  finish(): Uint8Array {
    const block = Buffer.alloc(this.#filterBytes + 4 * this.#slots.length + 5);
    let at = 0;
    for (const filter of this.#filters) {
      block.set(filter, at);
      at += filter.length;
    }
    for (const slot of this.#slots) at = block.writeUInt32LE(slot, at);
    block.writeUInt8(SLOT_LOG2, block.writeUInt32LE(this.#filterBytes, at));
    this.#filters = [];
    this.#filterBytes = 0;
    this.#slots = [];
    return block;
  }
}

function makeFilter(hashes: Uint32Array, count: number): Uint8Array {
  const lengthBytes = Math.ceil(Math.max(count * BITS_PER_KEY, LEAST_BITS) / 8);
  const bits = lengthBytes * 8;
  const filter = new Uint8Array(lengthBytes + 1);
  filter[lengthBytes] = PROBES;
  for (let index = 0; index < count; index++) {
    let hash = hashes[index] as number;
    const step = ((hash >>> 17) | (hash << 15)) >>> 0;
    for (let probe = 0; probe < PROBES; probe++) {
      const bit = hash % bits;
      filter[bit >>> 3] = (filter[bit >>> 3] as number) | (1 << (bit & 7));
      hash = (hash + step) >>> 0;
    }
  }
  return filter;
}

/** LevelDB's hash.cc. */
function hashOf(bytes: Uint8Array, start: number, end: number): number {
  let hash = (HASH_SEED ^ Math.imul(end - start, HASH_FACTOR)) >>> 0;
  let at = start;
  for (; at + 4 <= end; at += 4) {
    const word =
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24);
    hash = Math.imul(hash + word, HASH_FACTOR);
    hash ^= hash >>> 16;
  }
  if (at === end) return hash >>> 0;
  let rest = 0;
  for (let shift = 0; at < end; shift += 8) rest |= (bytes[at++] as number) << shift;
  hash = Math.imul(hash + rest, HASH_FACTOR);
  return (hash ^ (hash >>> 24)) >>> 0;
}
