/** LevelDB's MANIFEST of a database that was made without it: one version edit for all tables (LevelDB's version_edit.cc). */
import { COMPARATOR, LAST_SEQUENCE, LOG_NUMBER, NEW_FILE, NEXT_FILE_NUMBER } from "./live-tables.ts";
import { BLOCK_BYTES, FIRST, FULL, HEADER_BYTES, LAST, MIDDLE } from "./log-check.ts";
import { maskedCrc32c } from "./stored-checksum.ts";
import { TABLE_SEQUENCE, VARINT_BYTES, putVarint } from "./table-builder.ts";

const COMPARATOR_NAME = Buffer.from("leveldb.BytewiseComparator", "latin1");
/** So many bytes LevelDB leaves in level 1; in each one below ten times as many. It moves what is more. */
const LEVEL_BYTES = 10 * 1024 * 1024;
const LOWEST_LEVEL = 6;

export interface ListedTable {
  readonly number: number;
  readonly lengthBytes: number;
  /** Keys as the table has them. */
  readonly smallest: Uint8Array;
  readonly largest: Uint8Array;
}

/** @param tables - No two with keys of the same range, the highest number last. @returns The whole file. */
export function encodeManifest(tables: readonly ListedTable[], logNumber: number): Uint8Array {
  const level = levelFor(tables.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0));
  const numbers = tables.map(({ number }) => number);
  const pieces = [
    varints(COMPARATOR),
    ...counted(COMPARATOR_NAME),
    varints(LOG_NUMBER, logNumber),
    varints(NEXT_FILE_NUMBER, Math.max(logNumber, ...numbers) + 1),
    varints(LAST_SEQUENCE, TABLE_SEQUENCE),
  ];
  for (const { number, lengthBytes, smallest, largest } of tables) {
    pieces.push(varints(NEW_FILE, level, number, lengthBytes), ...counted(smallest), ...counted(largest));
  }
  return inBlocks(Buffer.concat(pieces));
}

/** The highest one that holds so much. */
function levelFor(lengthBytes: number): number {
  let level = 1;
  for (let most = LEVEL_BYTES; most < lengthBytes && level < LOWEST_LEVEL; most *= 10) level++;
  return level;
}

function varints(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * VARINT_BYTES);
  let end = 0;
  for (const value of values) end = putVarint(bytes, end, value);
  return bytes.subarray(0, end);
}

function counted(bytes: Uint8Array): Uint8Array[] {
  return [varints(bytes.length), bytes];
}

/** One record, in fragments where it does not fit into a block (FORMAT.md §7.13): all but the last fill one. */
function inBlocks(record: Buffer): Uint8Array {
  const most = BLOCK_BYTES - HEADER_BYTES;
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < record.length; at += most) {
    const isLast = at + most >= record.length;
    const type = at === 0 ? (isLast ? FULL : FIRST) : isLast ? LAST : MIDDLE;
    pieces.push(fragment(type, record.subarray(at, at + most)));
  }
  return Buffer.concat(pieces);
}

function fragment(type: number, data: Buffer): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + data.length);
  bytes.writeUInt16LE(data.length, 4);
  bytes.writeUInt8(type, 6);
  data.copy(bytes, HEADER_BYTES);
  bytes.writeUInt32LE(maskedCrc32c(bytes.subarray(6)), 0);
  return bytes;
}
