/** Which blocks of a pack are on this disk. Blocks have one size whatever is in them, so that a request tells no chunk's bounds. */

/** What is asked of a store, and kept, at least. */
export const BLOCK_BYTES = 256 * 1024;

/** Blocks [first, end). */
export interface BlockRun {
  readonly first: number;
  readonly end: number;
}

export class BlockMap {
  readonly lengthBytes: number;
  readonly count: number;
  readonly #bits: Uint8Array;
  #heldBytes = 0;
  #heldCount = 0;

  /** @param lengthBytes - The pack's. @param bits - As {@link bits} gave them; those beyond the end do not count. */
  constructor(lengthBytes: number, bits?: Uint8Array) {
    this.lengthBytes = lengthBytes;
    this.count = Math.ceil(lengthBytes / BLOCK_BYTES);
    this.#bits = new Uint8Array(bitmapBytes(lengthBytes));
    for (let block = 0; bits !== undefined && block < this.count; block++) {
      if (((bits[block >> 3] ?? 0) & (1 << (block & 7))) !== 0) this.add(block);
    }
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  get heldCount(): number {
    return this.#heldCount;
  }

  get isComplete(): boolean {
    return this.#heldCount === this.count;
  }

  /** A copy. */
  get bits(): Uint8Array {
    return this.#bits.slice();
  }

  has(block: number): boolean {
    return ((this.#bits[block >> 3] ?? 0) & (1 << (block & 7))) !== 0;
  }

  add(block: number): void {
    if (block < 0 || block >= this.count) throw new RangeError("no such block");
    if (this.has(block)) return;
    this.#bits[block >> 3] = (this.#bits[block >> 3] ?? 0) | (1 << (block & 7));
    this.#heldBytes += bytesOf(this.lengthBytes, block);
    this.#heldCount += 1;
  }

  delete(block: number): void {
    if (!this.has(block)) return;
    this.#bits[block >> 3] = (this.#bits[block >> 3] ?? 0) & ~(1 << (block & 7));
    this.#heldBytes -= bytesOf(this.lengthBytes, block);
    this.#heldCount -= 1;
  }

  /** @returns The blocks that hold a range. */
  covering(offset: number, lengthBytes: number): BlockRun {
    const end = Math.min(this.count, Math.ceil((offset + lengthBytes) / BLOCK_BYTES));
    return { first: Math.min(end, Math.floor(offset / BLOCK_BYTES)), end };
  }

  /** @returns Runs of what is neither held nor `isComing`, each of at most `maxBlocks`. */
  gaps({ first, end }: BlockRun, isComing: (block: number) => boolean, maxBlocks: number): BlockRun[] {
    const runs: BlockRun[] = [];
    let start: number | undefined;
    for (let block = first; block <= end; block++) {
      const isMissing = block < Math.min(end, this.count) && !this.has(block) && !isComing(block);
      if (start !== undefined && (!isMissing || block - start === maxBlocks)) {
        runs.push({ first: start, end: block });
        start = undefined;
      }
      if (isMissing) start ??= block;
    }
    return runs;
  }
}

/** @returns Length of the bitmap of a pack. */
export function bitmapBytes(lengthBytes: number): number {
  return Math.ceil(Math.ceil(lengthBytes / BLOCK_BYTES) / 8);
}

function bytesOf(lengthBytes: number, block: number): number {
  return Math.min(BLOCK_BYTES, lengthBytes - block * BLOCK_BYTES);
}
