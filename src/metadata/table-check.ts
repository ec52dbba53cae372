/**
 * One of LevelDB's tables, checked block by block (FORMAT.md §7.13). LevelDB by itself does not: a bit flipped in a key
 * makes a record sort elsewhere, so that it is missing, or an older one stands in for it. Only reads.
 */
import { open, type FileHandle } from "node:fs/promises";
import { isErrno } from "../errors.ts";
import { readSalvaged } from "../platform/salvage.ts";
import { maskedCrc32c } from "./stored-checksum.ts";

export const FOOTER_BYTES = 48;
export const TABLE_MAGIC = 0xdb4775248b80fb57n;
/** Behind each block: type u8, masked CRC-32C u32 of block and type. */
export const TRAILER_BYTES = 5;
export const RAW = 0;
/** Sequence number and type, behind the record's key in every key of a table. */
const KEY_SUFFIX_BYTES = 8;
/** Reads end with the block that reaches it. */
const READ_BYTES = 1024 * 1024;

/** A block of a file, without its trailer. */
export interface BlockHandle {
  readonly offset: number;
  readonly lengthBytes: number;
}

interface IndexedBlock extends BlockHandle {
  /** At or behind the last key of the block, before the first of the next. */
  readonly lastKey: Uint8Array;
}

/** Keys that a damaged block may concern: behind `after`, up to and with `upTo`; without a bound from or to the end. */
export interface DamagedKeys {
  readonly after: Uint8Array | undefined;
  readonly upTo: Uint8Array | undefined;
  /** The damaged block; undefined where it is not one of data. */
  readonly block?: BlockHandle;
}

const ALL_KEYS: DamagedKeys = { after: undefined, upTo: undefined };

/**
 * @returns What is damaged, what the device cannot read included; nothing if the file has gone.
 * @param signal - Ends the check early.
 * @throws What opening or reading throws, but for ENOENT and EIO: then nothing is known.
 */
export async function checkTable(path: string, signal: AbortSignal): Promise<DamagedKeys[]> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, "r");
    return await checkBlocks(file, (await file.stat()).size, signal);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  } finally {
    await file?.close();
  }
}

async function checkBlocks(file: FileHandle, sizeBytes: number, signal: AbortSignal): Promise<DamagedKeys[]> {
  const footerAt = sizeBytes - FOOTER_BYTES;
  if (footerAt < 0) return [ALL_KEYS];
  const tail = readTail(await readSalvaged(file, footerAt, sizeBytes), footerAt);
  if (tail === undefined) return [ALL_KEYS];
  const { list, index } = tail;
  const bytes = await readSalvaged(file, list.offset, footerAt);
  if (!verifies(bytes, list, list.offset) || !verifies(bytes, index, list.offset)) return [ALL_KEYS];
  const filters = entriesOf(bytes, list, list.offset);
  const blocks = entriesOf(bytes, index, list.offset);
  if ([...filters, ...blocks].some((block) => !(endOf(block) <= list.offset))) return [ALL_KEYS];
  for (const filter of filters) {
    const start = filter.offset;
    if (!verifies(await readSalvaged(file, start, endOf(filter)), filter, start)) return [ALL_KEYS];
  }
  return checkData(file, blocks, signal);
}

async function checkData(file: FileHandle, blocks: IndexedBlock[], signal: AbortSignal): Promise<DamagedKeys[]> {
  const damaged: DamagedKeys[] = [];
  let start = 0;
  let bytes: Uint8Array = new Uint8Array(0);
  for (const [position, block] of blocks.entries()) {
    if (signal.aborted) break;
    if (endOf(block) > start + bytes.length) {
      start = block.offset;
      let last = position;
      while (last + 1 < blocks.length && endOf(blocks[last] as BlockHandle) < start + READ_BYTES) last++;
      bytes = await readSalvaged(file, start, endOf(blocks[last] as BlockHandle));
    }
    if (verifies(bytes, block, start)) continue;
    damaged.push({ after: recordKey(blocks[position - 1]), upTo: recordKey(block), block });
  }
  return damaged;
}

function recordKey(block: IndexedBlock | undefined): Uint8Array | undefined {
  return block?.lastKey.slice(0, -KEY_SUFFIX_BYTES);
}

function endOf(block: BlockHandle): number {
  return block.offset + block.lengthBytes + TRAILER_BYTES;
}

/** @returns Where the list of filters and the index are: the last two blocks, with nothing between. */
function readTail(footer: Uint8Array, footerAt: number): { list: BlockHandle; index: BlockHandle } | undefined {
  if (footer.length < FOOTER_BYTES || viewOf(footer).getBigUint64(FOOTER_BYTES - 8, true) !== TABLE_MAGIC)
    return undefined;
  const reader = new VarintReader(footer, 0);
  const list = { offset: reader.next(), lengthBytes: reader.next() };
  const index = { offset: reader.next(), lengthBytes: reader.next() };
  return endOf(list) === index.offset && endOf(index) === footerAt ? { list, index } : undefined;
}

/** @param start - Where in the file `bytes` begin. */
function verifies(bytes: Uint8Array, block: BlockHandle, start: number): boolean {
  const from = block.offset - start;
  const end = from + block.lengthBytes + 1;
  if (from < 0 || end + 4 > bytes.length) return false;
  return maskedCrc32c(bytes.subarray(from, end)) === viewOf(bytes).getUint32(end, true);
}

/** @returns The blocks that a verified block names; none if it is compressed, as no table of ours is. */
function entriesOf(bytes: Uint8Array, block: BlockHandle, start: number): IndexedBlock[] {
  const from = block.offset - start;
  const end = from + block.lengthBytes;
  if (bytes[end] !== RAW) return [];
  const restartCount = viewOf(bytes).getUint32(end - 4, true);
  const reader = new VarintReader(bytes, from);
  const entries: IndexedBlock[] = [];
  let key: Uint8Array = new Uint8Array(0);
  while (reader.at < end - 4 - 4 * restartCount) {
    const shared = reader.next();
    const unshared = reader.next();
    const valueEnd = reader.next() + unshared + reader.at;
    key = Buffer.concat([key.subarray(0, shared), bytes.subarray(reader.at, reader.at + unshared)]);
    reader.at += unshared;
    entries.push({ lastKey: key, offset: reader.next(), lengthBytes: reader.next() });
    reader.at = valueEnd;
  }
  return entries;
}

/** LEB128 as LevelDB writes it; NaN where the bytes end, which fits nowhere. */
export class VarintReader {
  at: number;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array, at: number) {
    this.#bytes = bytes;
    this.at = at;
  }

  next(): number {
    for (let value = 0, scale = 1; ; scale *= 128) {
      const byte = this.#bytes[this.at++] ?? Number.NaN;
      value += (byte % 128) * scale;
      if (!(byte > 127)) return value;
    }
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
