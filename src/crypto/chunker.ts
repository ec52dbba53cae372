/** Where a run of bytes is cut: FastCDC with normalized chunking (FORMAT.md §4), for the portable engine. Pure. */
import type { ChunkingParameters } from "./engine.ts";
import type { PieceCursor } from "./piece-cursor.ts";

/** 256 entries of u64. */
export const GEAR_TABLE_BYTES = 256 * 8;
/** How many bits more, before the average, and fewer, after it, must be zero: FastCDC's normalization level 2. */
const NORMALIZATION_BITS = 2;

/** The rolling hash: u64 in two halves of 32 bits, since a bigint per byte would be a hundred times slower. */
interface RollingHash {
  high: number;
  low: number;
}

export class Chunker {
  readonly #chunking: ChunkingParameters;
  readonly #gearHigh = new Int32Array(256);
  readonly #gearLow = new Int32Array(256);
  /** A cut is where the hash's upper half is zero from this bit up. */
  readonly #strictBit: number;
  readonly #looseBit: number;

  /** @param gearTable - {@link GEAR_TABLE_BYTES}: u64 little-endian each; copied. */
  constructor(gearTable: Uint8Array, chunking: ChunkingParameters) {
    const view = new DataView(gearTable.buffer, gearTable.byteOffset, GEAR_TABLE_BYTES);
    for (let i = 0; i < 256; i++) {
      this.#gearLow[i] = view.getInt32(8 * i, true);
      this.#gearHigh[i] = view.getInt32(8 * i + 4, true);
    }
    const bits = Math.log2(chunking.averageBytes);
    this.#chunking = chunking;
    this.#strictBit = 32 - bits - NORMALIZATION_BITS;
    this.#looseBit = 32 - bits + NORMALIZATION_BITS;
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
      const found = this.#scan(view, isStrict ? this.#strictBit : this.#looseBit, hash);
      if (found !== 0) return length + found;
      length += view.length;
    }
    return length;
  }

  wipe(): void {
    this.#gearHigh.fill(0);
    this.#gearLow.fill(0);
  }

  /** @returns How many bytes up to and with the first that brings the hash low enough, or 0. */
  #scan(bytes: Uint8Array, bit: number, hash: RollingHash): number {
    const gearHigh = this.#gearHigh;
    const gearLow = this.#gearLow;
    let high = hash.high;
    let low = hash.low;
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i] ?? 0;
      const doubled = low << 1;
      const gear = gearLow[byte] ?? 0;
      const sum = (doubled + gear) | 0;
      // Carry out of bit 31, in 32-bit integers alone: twice as fast as going through doubles.
      const carry = ((doubled & gear) | ((doubled | gear) & ~sum)) >>> 31;
      high = (((high << 1) | (low >>> 31)) + (gearHigh[byte] ?? 0) + carry) | 0;
      low = sum;
      if (high >>> bit === 0) return i + 1;
    }
    hash.high = high;
    hash.low = low;
    return 0;
  }
}
