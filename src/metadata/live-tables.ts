/**
 * Which tables LevelDB has in use, from its MANIFEST. A table that it does not name was being written, or was done away
 * with, when the process ended: it may be cut short anywhere, and LevelDB removes it when it opens. Only reads.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { BLOCK_BYTES, FIRST, FULL, HEADER_BYTES, LAST, readRecord } from "./log-check.ts";
import { VarintReader } from "./table-check.ts";

/* Fields of a version edit (LevelDB's version_edit.cc). */
export const COMPARATOR = 1;
export const LOG_NUMBER = 2;
export const NEXT_FILE_NUMBER = 3;
export const LAST_SEQUENCE = 4;
const COMPACT_POINTER = 5;
const DELETED_FILE = 6;
export const NEW_FILE = 7;
const PREVIOUS_LOG_NUMBER = 9;

/** @returns The tables' numbers; undefined where the MANIFEST is missing or damaged: then any may be in use. */
export async function liveTables(directory: string): Promise<ReadonlySet<number> | undefined> {
  try {
    const current = await readFile(join(directory, "CURRENT"), "latin1");
    const name = /^(MANIFEST-\d+)\n$/u.exec(current)?.[1];
    return name === undefined ? undefined : tablesOf(await readFile(join(directory, name)));
  } catch (error) {
    if (error instanceof Error && "code" in error) return undefined;
    throw error;
  }
}

function tablesOf(manifest: Buffer): ReadonlySet<number> | undefined {
  const tables = new Set<number>();
  let edit: Buffer[] = [];
  for (let start = 0; start < manifest.length; start += BLOCK_BYTES) {
    const block = manifest.subarray(start, start + BLOCK_BYTES);
    for (let at = 0; at + HEADER_BYTES <= block.length;) {
      const record = readRecord(block, at);
      if (record === undefined) return isCutShort(block, at) ? tables : undefined;
      if (record.type === FULL || record.type === FIRST) edit = [];
      edit.push(record.data);
      if ((record.type === FULL || record.type === LAST) && !applyEdit(Buffer.concat(edit), tables)) return undefined;
      at += HEADER_BYTES + record.data.length;
    }
  }
  return tables;
}

/** @returns Whether the file ends within this record, as a power cut leaves it: LevelDB goes on without it. */
function isCutShort(block: Buffer, at: number): boolean {
  return block.length < BLOCK_BYTES && at + HEADER_BYTES + block.readUInt16LE(at + 4) > block.length;
}

/** @returns False for a field that LevelDB does not know, or an edit that ends within one. */
function applyEdit(edit: Buffer, tables: Set<number>): boolean {
  const reader = new VarintReader(edit, 0);
  const skipText = (): void => {
    const lengthBytes = reader.next();
    reader.at += lengthBytes;
  };
  while (reader.at < edit.length) {
    switch (reader.next()) {
      case LOG_NUMBER:
      case NEXT_FILE_NUMBER:
      case LAST_SEQUENCE:
      case PREVIOUS_LOG_NUMBER:
        reader.next();
        break;
      case COMPARATOR:
        skipText();
        break;
      case COMPACT_POINTER:
        reader.next();
        skipText();
        break;
      case DELETED_FILE:
        reader.next();
        tables.delete(reader.next());
        break;
      case NEW_FILE:
        reader.next();
        tables.add(reader.next());
        reader.next();
        skipText();
        skipText();
        break;
      default:
        return false;
    }
  }
  return reader.at === edit.length;
}
