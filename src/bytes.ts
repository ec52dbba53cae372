/** Little-endian reader and writer with bounds (FORMAT.md §1). The reader answers every malformed input with TCFS_CORRUPT. */
import { TcfsError } from "./errors.ts";

const TWO_32 = 2 ** 32;
const FIRST_ARENA_BYTES = 2 * 1024;
const ARENA_BYTES = 64 * 1024;
/** Up to so many bytes a loop copies faster than the runtime's own call. */
const SMALL_BYTES = 64;

/** @returns The `TCFS_CORRUPT` error of a record that breaks FORMAT.md; `what` names the record, never a file name. */
export function corrupt(what: string, why: string, options?: ErrorOptions): TcfsError {
  return new TcfsError("TCFS_CORRUPT", `${what}: ${why}`, options);
}

/** @returns Two lower-case digits a byte. */
export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex");
}

/**
 * Appends fields to one record after another. The records share arenas of up to 64 KiB, so a batch of thousands costs
 * few allocations; a record keeps its arena alive.
 */
export class ByteWriter {
  #bytes: Uint8Array;
  #view: DataView;
  #start = 0;
  #end = 0;

  /** @param arenaBytes - Size of the first arena; the following ones double, since most batches are small. */
  constructor(arenaBytes = FIRST_ARENA_BYTES) {
    this.#bytes = new Uint8Array(arenaBytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** @returns What was written since the last take: memory that the writer does not touch again before {@link reset}. */
  take(): Uint8Array {
    const record = this.#bytes.subarray(this.#start, this.#end);
    this.#start = this.#end;
    return record;
  }

  /** Write from the beginning again: whatever was taken is no longer in use. */
  reset(): void {
    this.#start = 0;
    this.#end = 0;
  }

  /** Forget what was written since the last take. */
  drop(): void {
    this.#end = this.#start;
  }

  u8(value: number): void {
    const at = this.#grow(1);
    this.#bytes[at] = value;
  }

  u16(value: number): void {
    const at = this.#grow(2);
    this.#view.setUint16(at, value, true);
  }

  u24(value: number): void {
    const at = this.#grow(3);
    this.#view.setUint16(at, value & 0xffff, true);
    this.#view.setUint8(at + 2, value >>> 16);
  }

  u32(value: number): void {
    const at = this.#grow(4);
    this.#view.setUint32(at, value, true);
  }

  /** @throws RangeError unless `value` is an integer in [0, 2^53). */
  u64(value: number): void {
    requireCount(value);
    const at = this.#grow(8);
    this.#view.setUint32(at, value % TWO_32, true);
    this.#view.setUint32(at + 4, value / TWO_32, true);
  }

  /** @throws RangeError unless `value` is in [0, 2^63). */
  bigU63(value: bigint): void {
    if (value < 0n || value >> 63n !== 0n) throw new RangeError("not an unsigned 63 bit number");
    const at = this.#grow(8);
    this.#view.setBigUint64(at, value, true);
  }

  /** @throws RangeError unless `value` is a safe integer. */
  i64(value: number): void {
    if (!Number.isSafeInteger(value)) throw new RangeError("not a safe integer");
    const at = this.#grow(8);
    const high = Math.floor(value / TWO_32);
    this.#view.setUint32(at, value - high * TWO_32, true);
    this.#view.setInt32(at + 4, high, true);
  }

  /** LEB128, at most 5 bytes. @throws RangeError unless `value` is a u32. */
  varint(value: number): void {
    if (value !== value >>> 0) throw new RangeError("not an unsigned 32 bit number");
    let rest = value;
    while (rest > 0x7f) {
      this.u8((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.u8(rest);
  }

  bytes(value: Uint8Array): void {
    const at = this.#grow(value.length);
    this.#bytes.set(value, at);
  }

  /** One byte per character. @throws RangeError on a character above U+00FF. */
  latin1(text: string): void {
    const at = this.#grow(text.length);
    for (let index = 0; index < text.length; index++) {
      const code = text.charCodeAt(index);
      if (code > 0xff) throw new RangeError("not a byte string");
      this.#bytes[at + index] = code;
    }
  }

  /** Make room and @returns the offset of it; may replace the arena and its view. */
  #grow(lengthBytes: number): number {
    const at = this.#end;
    if (at + lengthBytes <= this.#bytes.length) {
      this.#end = at + lengthBytes;
      return at;
    }
    const begun = this.#bytes.subarray(this.#start, at);
    const needed = begun.length + lengthBytes;
    const following = Math.min(ARENA_BYTES, this.#bytes.length * 2);
    const arena = new Uint8Array(needed > following / 4 ? needed * 2 : following);
    arena.set(begun);
    this.#bytes = arena;
    this.#view = new DataView(arena.buffer);
    this.#start = 0;
    this.#end = needed;
    return begun.length;
  }
}

/**
 * Reads fields from one record, which stays the caller's; every result is fresh memory. Byte by byte: a DataView over
 * a small typed array makes V8 move it out of its heap first, which costs more than decoding the whole record.
 */
export class ByteReader {
  readonly #what: string;
  readonly #bytes: Uint8Array;
  #at = 0;

  /** @param what - Names the record in errors; never a file name. */
  constructor(bytes: Uint8Array, what: string) {
    this.#what = what;
    this.#bytes = bytes;
  }

  get remaining(): number {
    return this.#bytes.length - this.#at;
  }

  /** Not a field error but one of meaning. */
  fail(why: string): TcfsError {
    return corrupt(this.#what, why);
  }

  u8(): number {
    return this.#byte(this.#take(1));
  }

  u16(): number {
    const at = this.#take(2);
    return this.#byte(at) | (this.#byte(at + 1) << 8);
  }

  u24(): number {
    const at = this.#take(3);
    return this.#byte(at) | (this.#byte(at + 1) << 8) | (this.#byte(at + 2) << 16);
  }

  u32(): number {
    return this.#word(this.#take(4));
  }

  /** As keys have it. */
  u32BigEndian(): number {
    return this.#wordBigEndian(this.#take(4));
  }

  /** A u64 below 2^53. */
  u64(): number {
    const at = this.#take(8);
    return this.#count(this.#word(at + 4), this.#word(at));
  }

  /** A big-endian u64 below 2^53, as keys have it. */
  u64BigEndian(): number {
    const at = this.#take(8);
    return this.#count(this.#wordBigEndian(at), this.#wordBigEndian(at + 4));
  }

  /** A u64 below 2^63. */
  bigU63(): bigint {
    const at = this.#take(8);
    const high = this.#word(at + 4);
    if (high >= 2 ** 31) throw this.fail("a length beyond 2^63");
    if (high < 2 ** 21) return BigInt(high * TWO_32 + this.#word(at));
    return (BigInt(high) << 32n) | BigInt(this.#word(at));
  }

  /** An i64 within ±(2^53 − 1). */
  i64(): number {
    const at = this.#take(8);
    const value = (this.#word(at + 4) | 0) * TWO_32 + this.#word(at);
    if (!Number.isSafeInteger(value)) throw this.fail("a number beyond 2^53");
    return value;
  }

  /** LEB128 in its shortest form, at most 32 bits. */
  varint(): number {
    let value = 0;
    for (let index = 0; index < 5; index++) {
      const byte = this.u8();
      if (index === 4 && byte > 0x0f) throw this.fail("a varint beyond 32 bits");
      value += (byte & 0x7f) * 2 ** (7 * index);
      if (byte > 0x7f) continue;
      if (byte === 0 && index > 0) throw this.fail("a varint not in its shortest form");
      return value;
    }
    throw this.fail("a varint beyond 32 bits");
  }

  bytes(lengthBytes: number): Uint8Array {
    const at = this.#take(lengthBytes);
    const copy = new Uint8Array(lengthBytes);
    if (lengthBytes > SMALL_BYTES) copy.set(this.#bytes.subarray(at, at + lengthBytes));
    else for (let index = 0; index < lengthBytes; index++) copy[index] = this.#byte(at + index);
    return copy;
  }

  latin1(lengthBytes: number): string {
    const at = this.#take(lengthBytes);
    return latin1Of(this.#bytes, at, at + lengthBytes);
  }

  /** The record must end here. */
  end(): void {
    if (this.#at !== this.#bytes.length) throw this.fail("trailing bytes");
  }

  #take(lengthBytes: number): number {
    const at = this.#at;
    if (at + lengthBytes > this.#bytes.length) throw this.fail("truncated");
    this.#at = at + lengthBytes;
    return at;
  }

  /** The offset is within what was taken. */
  #byte(offset: number): number {
    return this.#bytes[offset] as number;
  }

  #word(at: number): number {
    return (this.#byte(at) | (this.#byte(at + 1) << 8) | (this.#byte(at + 2) << 16) | (this.#byte(at + 3) << 24)) >>> 0;
  }

  #wordBigEndian(at: number): number {
    return ((this.#byte(at) << 24) | (this.#byte(at + 1) << 16) | (this.#byte(at + 2) << 8) | this.#byte(at + 3)) >>> 0;
  }

  #count(high: number, low: number): number {
    if (high >= 2 ** 21) throw this.fail("a number beyond 2^53");
    return high * TWO_32 + low;
  }
}

const scratch = Buffer.alloc(256);

/** One character per byte of [start, end). */
export function latin1Of(bytes: Uint8Array, start = 0, end = bytes.length): string {
  if (end - start > scratch.length) return Buffer.from(bytes.subarray(start, end)).toString("latin1");
  for (let index = start; index < end; index++) scratch[index - start] = bytes[index] as number;
  return scratch.toString("latin1", 0, end - start);
}

/** Store a big-endian u64, as keys have it. @throws RangeError unless `value` is an integer in [0, 2^53). */
export function storeU64BigEndian(into: Uint8Array, offset: number, value: number): void {
  requireCount(value);
  const high = Math.floor(value / TWO_32);
  into[offset] = 0;
  into[offset + 1] = high >>> 16;
  into[offset + 2] = high >>> 8;
  into[offset + 3] = high;
  into[offset + 4] = value >>> 24;
  into[offset + 5] = value >>> 16;
  into[offset + 6] = value >>> 8;
  into[offset + 7] = value;
}

function requireCount(value: number): void {
  if (!(Number.isSafeInteger(value) && value >= 0)) throw new RangeError("not an unsigned 53 bit number");
}

/** @returns Fresh memory with the same bytes. `slice()` is no copy where a `Uint8Array` happens to be a `Buffer`. */
export function copyOf(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}
