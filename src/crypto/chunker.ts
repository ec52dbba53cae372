/** Where a run of bytes is cut: FastCDC with normalized chunking (FORMAT.md §4), for the portable engine. Pure. */
import type { ChunkingParameters } from "./engine.ts";
import type { PieceCursor } from "./piece-cursor.ts";

/** 256 entries of u64. */
export const GEAR_TABLE_BYTES = 256 * 8;
/** How many bits more, before the average, and fewer, after it, must be zero: FastCDC's normalization level 2. */
const NORMALIZATION_BITS = 2;

/** The rolling hash: u64 in two halves, since a bigint per byte would be a hundred times slower. */
interface RollingHash {
  high: number;
  low: number;
}

export class Chunker {
  readonly #chunking: ChunkingParameters;
  readonly #gearHigh = new Uint32Array(256);
  readonly #gearLow = new Uint32Array(256);
  readonly #strictBelow: number;
  readonly #looseBelow: number;

  /** @param gearTable - {@link GEAR_TABLE_BYTES}: u64 little-endian each; copied. */
  constructor(gearTable: Uint8Array, chunking: ChunkingParameters) {
    const view = new DataView(gearTable.buffer, gearTable.byteOffset, GEAR_TABLE_BYTES);
    for (let i = 0; i < 256; i++) {
      this.#gearLow[i] = view.getUint32(8 * i, true);
      this.#gearHigh[i] = view.getUint32(8 * i + 4, true);
    }
    const bits = Math.log2(chunking.averageBytes);
    this.#chunking = chunking;
    this.#strictBelow = 2 ** (32 - bits - NORMALIZATION_BITS);
    this.#looseBelow = 2 ** (32 - bits + NORMALIZATION_BITS);
  }

  /** @returns Length of the chunk that starts at the cursor, which moves; 0 where no cut is known and none is forced. */
  nextCut(cursor: PieceCursor, isFinal: boolean): number {
    const { minBytes, averageBytes, maxBytes } = this.#chunking;
    let length = 0;
    for (const view of cursor.take(minBytes)) length += view.length;
    const strictEnd = averageBytes - 1;
    const hash = { high: 0, low: 0 };
    while (length < maxBytes) {
      const isStrict = length < strictEnd;
      const view = cursor.next((isStrict ? strictEnd : maxBytes) - length);
      if (view === undefined) return isFinal ? length : 0;
      const found = this.#scan(view, isStrict ? this.#strictBelow : this.#looseBelow, hash);
      if (found !== 0) return length + found;
      length += view.length;
    }
    return length;
  }

  wipe(): void {
    this.#gearHigh.fill(0);
    this.#gearLow.fill(0);
  }

  /** @returns How many bytes up to and with the first that brings the hash's upper half below, or 0. */
  #scan(bytes: Uint8Array, below: number, hash: RollingHash): number {
    const gearHigh = this.#gearHigh;
    const gearLow = this.#gearLow;
    let high = hash.high;
    let low = hash.low;
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i]!;
      const sum = ((low << 1) >>> 0) + gearLow[byte]!;
      const carry = sum > 0xffffffff ? 1 : 0;
      high = (((high << 1) | (low >>> 31)) + gearHigh[byte]! + carry) >>> 0;
      low = sum >>> 0;
      if (high < below) return i + 1;
    }
    hash.high = high;
    hash.low = low;
    return 0;
  }
}
