/** Records of the journal: the changes of one commit, framed and found again (FORMAT.md §7.14). Pure. */
import { ByteReader, corrupt, storeU64BigEndian } from "../bytes.ts";

/** One changed record, in plaintext; without a value it is deleted. */
export interface RecordChange {
  readonly key: Uint8Array;
  readonly value: Uint8Array | undefined;
  /** What this replaces, in plaintext, where that is known; null: there was no such record. Not stored. */
  readonly replaced?: Uint8Array | null;
}

/** Records begin at multiples of it: writing one never touches a sector of another. */
export const JOURNAL_BLOCK_BYTES = 4096;
export const JOURNAL_HEADER_BYTES = 16;

const MAGIC = 0x314a4354; // "TCJ1"
const KEY_KIND = 0x4a;
const MAX_KEY_BYTES = 0xff;
/** Beside its key and value: their lengths. */
const CHANGE_OVERHEAD_BYTES = 5;
/** Length of a deleted record's value. */
const DELETED = 0xffff_ffff;

/** What stands before a sealed record. */
export interface JournalHeader {
  /** Sealed bytes that follow the header. */
  readonly lengthBytes: number;
  readonly commit: number;
}

/** The key that binds a journal record to its commit (AAD). */
export function journalKey(commit: number): Uint8Array {
  const key = new Uint8Array(9);
  key[0] = KEY_KIND;
  storeU64BigEndian(key, 1, commit);
  return key;
}

/** Plaintext bytes of {@link encodeChanges}. */
export function changesBytes(changes: readonly RecordChange[]): number {
  let bytes = 0;
  for (const { key, value } of changes) bytes += CHANGE_OVERHEAD_BYTES + key.length + (value?.length ?? 0);
  return bytes;
}

/** Changes in one piece of memory, and the same changes with their values in it. */
export interface EncodedChanges {
  readonly plain: Uint8Array;
  readonly changes: readonly RecordChange[];
}

/**
 * @param lengthBytes - What {@link changesBytes} says.
 * @returns Fresh memory; keys are the caller's objects. @throws RangeError on a key too long.
 */
export function encodeChanges(changes: readonly RecordChange[], lengthBytes: number): EncodedChanges {
  const plain = new Uint8Array(lengthBytes);
  let at = 0;
  const own = changes.map(({ key, value }) => {
    if (key.length > MAX_KEY_BYTES) throw new RangeError("a record key is longer than 255 bytes");
    plain[at] = key.length;
    plain.set(key, at + 1);
    at += 1 + key.length;
    storeU32(plain, at, value?.length ?? DELETED);
    at += 4;
    if (value === undefined) return { key, value };
    plain.set(value, at);
    at += value.length;
    return { key, value: plain.subarray(at - value.length, at) };
  });
  return { plain, changes: own };
}

/** @returns Fresh memory. @throws TcfsError `TCFS_CORRUPT` */
export function decodeChanges(plain: Uint8Array): RecordChange[] {
  const reader = new ByteReader(plain, "journal record");
  const changes: RecordChange[] = [];
  while (reader.remaining > 0) {
    const key = reader.bytes(reader.u8());
    const lengthBytes = reader.u32();
    if (key.length === 0) throw corrupt("journal record", "an empty key");
    changes.push({ key, value: lengthBytes === DELETED ? undefined : reader.bytes(lengthBytes) });
  }
  return changes;
}

/**
 * Walks encoded changes where they lie, without an object for each: streams have millions. `key` and `value` are places in
 * the bytes; the value's is empty for a deleted record.
 */
export class ChangeCursor {
  readonly #bytes: Uint8Array;
  /** Where the next change begins: all before it is whole. */
  end = 0;
  start = 0;
  keyAt = 0;
  keyEnd = 0;
  valueAt = 0;
  isDeleted = false;

  /** @param bytes - Borrowed. May end within a change. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** @returns False where the next change is not whole, or there is none. @throws TcfsError `TCFS_CORRUPT` on an empty key. */
  next(): boolean {
    const bytes = this.#bytes;
    const start = this.end;
    const keyLength = bytes[start];
    if (keyLength === undefined) return false;
    if (keyLength === 0) throw corrupt("journal record", "an empty key");
    const keyEnd = start + 1 + keyLength;
    const valueAt = keyEnd + 4;
    if (valueAt > bytes.length) return false;
    const lengthBytes = loadU32(bytes, keyEnd);
    const isDeleted = lengthBytes === DELETED;
    const end = isDeleted ? valueAt : valueAt + lengthBytes;
    if (end > bytes.length) return false;
    this.start = start;
    this.keyAt = start + 1;
    this.keyEnd = keyEnd;
    this.valueAt = valueAt;
    this.isDeleted = isDeleted;
    this.end = end;
    return true;
  }
}

/** How many encoded changes put a record. @throws TcfsError `TCFS_CORRUPT` if the last one is not whole. */
export function countPuts(changes: Uint8Array): number {
  const cursor = new ChangeCursor(changes);
  let count = 0;
  while (cursor.next()) if (!cursor.isDeleted) count += 1;
  if (cursor.end < changes.length) throw corrupt("journal record", "truncated");
  return count;
}

/** Room that a record with so many sealed bytes takes in the journal. */
export function journalRecordBytes(sealedBytes: number): number {
  return Math.ceil((JOURNAL_HEADER_BYTES + sealedBytes) / JOURNAL_BLOCK_BYTES) * JOURNAL_BLOCK_BYTES;
}

/**
 * Complete a record whose sealed bytes stand in `into` behind the header's place: header, and zeros up to the block's end.
 * @returns Its bytes within `into`.
 */
export function frameJournalRecord(commit: number, sealedBytes: number, into: Uint8Array): Uint8Array {
  const record = into.subarray(0, journalRecordBytes(sealedBytes));
  storeU32(record, 0, MAGIC);
  storeU32(record, 4, sealedBytes);
  storeU32(record, 8, commit % 2 ** 32);
  storeU32(record, 12, Math.floor(commit / 2 ** 32));
  record.fill(0, JOURNAL_HEADER_BYTES + sealedBytes);
  return record;
}

function loadU32(from: Uint8Array, at: number): number {
  const high = (from[at + 3] as number) * 2 ** 24;
  return high + (((from[at + 2] as number) << 16) | ((from[at + 1] as number) << 8) | (from[at] as number));
}

function storeU32(into: Uint8Array, at: number, value: number): void {
  into[at] = value;
  into[at + 1] = value >>> 8;
  into[at + 2] = value >>> 16;
  into[at + 3] = value >>> 24;
}

/** @returns The header at the block's start; undefined where there is none that could be one. */
export function parseJournalHeader(file: Uint8Array, offset: number): JournalHeader | undefined {
  const view = new DataView(file.buffer, file.byteOffset + offset, JOURNAL_HEADER_BYTES);
  if (view.getUint32(0, true) !== MAGIC) return undefined;
  const lengthBytes = view.getUint32(4, true);
  const commit = view.getUint32(8, true) + view.getUint32(12, true) * 2 ** 32;
  const isWithin = offset + JOURNAL_HEADER_BYTES + lengthBytes <= file.length;
  return isWithin && Number.isSafeInteger(commit) ? { lengthBytes, commit } : undefined;
}
