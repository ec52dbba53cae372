/**
 * A damaged table made harmless (FORMAT.md §7.13). LevelDB reads blocks without looking at their checksums, and ends the
 * process where a key in one is impossible: so it gets a copy in which they are empty. Pure.
 */
import { maskedCrc32c } from "./stored-checksum.ts";
import { FOOTER_BYTES, RAW, TABLE_MAGIC, TRAILER_BYTES, type DamagedKeys } from "./table-check.ts";

/** A block of zeros says that it has no entries: its last four bytes are the number of its restarts. */
const EMPTY_BLOCK_BYTES = 4;
const EMPTY_TABLE_BYTES = 2 * (EMPTY_BLOCK_BYTES + TRAILER_BYTES) + FOOTER_BYTES;

/**
 * @param damage - As found in it; at least one.
 * @returns A table of the same length, fresh, with nothing where `table` is damaged, and with nothing at all where any key
 *   may be concerned.
 */
export function blankTable(table: Uint8Array, damage: readonly DamagedKeys[]): Uint8Array {
  const blanked = new Uint8Array(table);
  for (const { block } of damage) {
    if (block === undefined || block.lengthBytes < EMPTY_BLOCK_BYTES) return emptyTable(table.length);
    putEmptyBlock(blanked, block.offset, block.lengthBytes);
  }
  return blanked;
}

/** LevelDB looks for the footer where the file's length, as it knows it, ends. */
function emptyTable(lengthBytes: number): Uint8Array {
  const table = new Uint8Array(Math.max(lengthBytes, EMPTY_TABLE_BYTES));
  const footerAt = table.length - FOOTER_BYTES;
  const indexAt = footerAt - EMPTY_BLOCK_BYTES - TRAILER_BYTES;
  const listAt = indexAt - EMPTY_BLOCK_BYTES - TRAILER_BYTES;
  putEmptyBlock(table, listAt, EMPTY_BLOCK_BYTES);
  putEmptyBlock(table, indexAt, EMPTY_BLOCK_BYTES);
  const handles = [listAt, EMPTY_BLOCK_BYTES, indexAt, EMPTY_BLOCK_BYTES].flatMap(varint);
  table.set(handles, footerAt);
  viewOf(table).setBigUint64(table.length - 8, TABLE_MAGIC, true);
  return table;
}

function putEmptyBlock(table: Uint8Array, offset: number, lengthBytes: number): void {
  const end = offset + lengthBytes;
  table.fill(0, offset, end);
  table[end] = RAW;
  viewOf(table).setUint32(end + 1, maskedCrc32c(table.subarray(offset, end + 1)), true);
}

function varint(value: number): number[] {
  return value < 128 ? [value] : [128 + (value % 128), ...varint(Math.floor(value / 128))];
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
