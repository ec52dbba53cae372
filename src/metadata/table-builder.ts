/**
 * Makes LevelDB's tables (FORMAT.md §7.13) out of records in ascending order, as LevelDB's own table_builder.cc does: for a
 * database that is filled at once, where LevelDB would write each record twice and look for its place. Does no I/O.
 */
import type { ChangeCursor } from "../format/journal-codec.ts";
import { maskedCrc32c } from "./stored-checksum.ts";
import { type BlockHandle, FOOTER_BYTES, RAW, TABLE_MAGIC, TRAILER_BYTES } from "./table-check.ts";
import { FILTER_NAME, TableFilter } from "./table-filter.ts";

const BLOCK_BYTES = 4096;
/** Every so many records of a block one has its whole key: where a search may begin. */
const RESTART_INTERVAL = 16;
/** Behind the record's key: sequence number 1 and type 1, a value. */
const KEY_SUFFIX = Uint8Array.of(1, 1, 0, 0, 0, 0, 0, 0);
/** The one that all records of made tables have. */
export const TABLE_SEQUENCE = 1;
/** At most: of numbers below 2^35. */
export const VARINT_BYTES = 5;
const FIRST_ROOM_BYTES = 9 * 1024 * 1024;
/** Up to so many bytes a loop copies faster than the runtime's own call. */
const SMALL_BYTES = 64;

/** Keys with LevelDB's suffix. */
export interface BuiltTable {
  /** Memory of the builder, which does not touch it before {@link TableBuilder.reset}. */
  readonly bytes: Uint8Array;
  readonly smallest: Uint8Array;
  readonly largest: Uint8Array;
}

export class TableBuilder {
  #bytes = new Uint8Array(FIRST_ROOM_BYTES);
  /** Written so far. */
  lengthBytes = 0;
  #blockAt = 0;
  #restarts: number[] = [];
  #sinceRestart = 0;
  #index: { readonly lastKey: Uint8Array; readonly handle: BlockHandle }[] = [];
  #smallest: Uint8Array | undefined;
  readonly #filter = new TableFilter();

  /** Begin another table. */
  reset(): void {
    this.lengthBytes = 0;
    this.#blockAt = 0;
    this.#index = [];
    this.#smallest = undefined;
  }

  get isEmpty(): boolean {
    return this.#smallest === undefined;
  }

  /**
   * A record: its key behind all others, `source` is where it lies in `changes`.
   * @param sharedBytes - How many bytes its key begins with that the key before begins with, too.
   */
  add(changes: Uint8Array, source: ChangeCursor, sharedBytes: number): void {
    const { keyAt, keyEnd, valueAt, end } = source;
    const keyBytes = keyEnd - keyAt;
    this.#reserve(3 * VARINT_BYTES + keyBytes + KEY_SUFFIX.length + end - valueAt);
    this.#smallest ??= withSuffix(changes.subarray(keyAt, keyEnd));
    let shared = sharedBytes;
    if (this.#restarts.length === 0 || this.#sinceRestart === RESTART_INTERVAL) {
      this.#restarts.push(this.lengthBytes - this.#blockAt);
      this.#sinceRestart = 0;
      shared = 0;
    }
    this.#sinceRestart++;
    const bytes = this.#bytes;
    let at = putVarint(bytes, this.lengthBytes, shared);
    at = putVarint(bytes, at, keyBytes - shared + KEY_SUFFIX.length);
    at = putVarint(bytes, at, end - valueAt);
    at = copy(changes, keyAt + shared, keyEnd, bytes, at);
    at = copy(KEY_SUFFIX, 0, KEY_SUFFIX.length, bytes, at);
    this.lengthBytes = copy(changes, valueAt, end, bytes, at);
    this.#filter.add(changes, keyAt, keyEnd);
    if (this.lengthBytes - this.#blockAt + 4 * this.#restarts.length + 4 < BLOCK_BYTES) return;
    this.#endDataBlock(changes.subarray(keyAt, keyEnd));
  }

  /** @param lastKey - Of the record that was added last. Not called on an empty table. */
  finish(lastKey: Uint8Array): BuiltTable {
    if (this.#restarts.length > 0) this.#endDataBlock(lastKey);
    const filter = this.#putBlock(this.#filter.finish());
    const list = this.#putBlock(blockOf([[Buffer.from(FILTER_NAME, "latin1"), encodeHandle(filter)]]));
    const entries = this.#index.map(({ lastKey: key, handle }) => [key, encodeHandle(handle)] as const);
    const index = this.#putBlock(blockOf(entries));
    const footer = Buffer.alloc(FOOTER_BYTES);
    footer.set(Buffer.concat([encodeHandle(list), encodeHandle(index)]));
    footer.writeBigUInt64LE(TABLE_MAGIC, FOOTER_BYTES - 8);
    this.#reserve(footer.length);
    this.#bytes.set(footer, this.lengthBytes);
    this.lengthBytes += footer.length;
    const largest = withSuffix(lastKey);
    return { bytes: this.#bytes.subarray(0, this.lengthBytes), smallest: this.#smallest ?? largest, largest };
  }

  #endDataBlock(lastKey: Uint8Array): void {
    const restarts = encodeRestarts(this.#restarts);
    this.#reserve(restarts.length + TRAILER_BYTES);
    this.#bytes.set(restarts, this.lengthBytes);
    this.lengthBytes += restarts.length;
    this.#filter.endBlock(this.#blockAt);
    this.#index.push({ lastKey: withSuffix(lastKey), handle: this.#endBlock() });
    this.#restarts = [];
  }

  #putBlock(block: Uint8Array): BlockHandle {
    this.#reserve(block.length + TRAILER_BYTES);
    this.#bytes.set(block, this.lengthBytes);
    this.lengthBytes += block.length;
    return this.#endBlock();
  }

  /** What was written since the last block is one, uncompressed. */
  #endBlock(): BlockHandle {
    const handle = { offset: this.#blockAt, lengthBytes: this.lengthBytes - this.#blockAt };
    const typeAt = this.lengthBytes;
    this.#bytes[typeAt] = RAW;
    const sum = maskedCrc32c(this.#bytes.subarray(this.#blockAt, typeAt + 1));
    for (let index = 0; index < 4; index++) this.#bytes[typeAt + 1 + index] = sum >>> (8 * index);
    this.lengthBytes += TRAILER_BYTES;
    this.#blockAt = this.lengthBytes;
    return handle;
  }

  #reserve(lengthBytes: number): void {
    const needed = this.lengthBytes + lengthBytes;
    if (needed <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
    larger.set(this.#bytes.subarray(0, this.lengthBytes));
    this.#bytes = larger;
  }
}

/** LEB128. @returns Where it ends. */
export function putVarint(into: Uint8Array, at: number, value: number): number {
  let end = at;
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) into[end++] = (rest % 128) | 128;
  into[end++] = rest;
  return end;
}

function copy(from: Uint8Array, start: number, end: number, into: Uint8Array, at: number): number {
  if (end - start > SMALL_BYTES) into.set(from.subarray(start, end), at);
  else for (let index = start; index < end; index++) into[at + index - start] = from[index] as number;
  return at + end - start;
}

function withSuffix(key: Uint8Array): Uint8Array {
  return Buffer.concat([key, KEY_SUFFIX]);
}

function encodeHandle({ offset, lengthBytes }: BlockHandle): Uint8Array {
  const bytes = new Uint8Array(4 * VARINT_BYTES);
  return bytes.subarray(0, putVarint(bytes, putVarint(bytes, 0, offset), lengthBytes));
}

function encodeRestarts(restarts: readonly number[]): Uint8Array {
  const bytes = Buffer.allocUnsafe(4 * restarts.length + 4);
  let at = 0;
  for (const restart of restarts) at = bytes.writeUInt32LE(restart, at);
  bytes.writeUInt32LE(restarts.length, at);
  return bytes;
}

/** A block each of whose entries has its whole key. */
function blockOf(entries: readonly (readonly [key: Uint8Array, value: Uint8Array])[]): Uint8Array {
  const restarts: number[] = [];
  const pieces: Uint8Array[] = [];
  let at = 0;
  for (const [key, value] of entries) {
    const head = new Uint8Array(3 * VARINT_BYTES);
    const headBytes = putVarint(head, putVarint(head, putVarint(head, 0, 0), key.length), value.length);
    restarts.push(at);
    pieces.push(head.subarray(0, headBytes), key, value);
    at += headBytes + key.length + value.length;
  }
  return Buffer.concat([...pieces, encodeRestarts(restarts)]);
}
