/** Extent pages ⇄ bytes (FORMAT.md §7.6): each chunk id once, then runs that point to it. Pure. */
import { ByteReader, latin1Of, type ByteWriter } from "../bytes.ts";
import type { ChunkId, Epoch, InodeNumber } from "../ids.ts";
import { readEpoch } from "./inode-codec.ts";
import { CHUNK_ID_BYTES } from "./record-keys.ts";
import { EXTENT_PAGE_BYTES, type Extent, type ExtentPage } from "./records.ts";

/** Largest chunk that an extent may point into (FORMAT.md §4). */
export const MAX_CHUNK_REACH_BYTES = 4 * 1024 * 1024;

/** @throws RangeError on an empty, unsorted or overlapping page. */
export function encodeExtentPage(writer: ByteWriter, epoch: Epoch, page: ExtentPage): void {
  if (page.length === 0) throw new RangeError("an empty extent page");
  const { chunks, indexOf } = tabulateChunks(page);
  writer.u32(epoch);
  writer.varint(chunks.length);
  for (const chunk of chunks) writer.bytes(chunk);
  let end = 0;
  for (const [index, extent] of page.entries()) {
    if (extent.start < end || !isWithinBounds(extent)) throw new RangeError("an impossible extent");
    writer.varint(extent.start - end);
    writer.varint(extent.lengthBytes);
    writer.varint(indexOf[index] ?? 0);
    writer.varint(extent.chunkOffset);
    end = extent.start + extent.lengthBytes;
  }
}

/** @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodeExtentPage} does not write. */
export function decodeExtentPage(ino: InodeNumber, page: number, bytes: Uint8Array): ExtentPage {
  const reader = new ByteReader(bytes, `extent page ${String(page)} of inode ${String(ino)}`);
  readEpoch(reader);
  const chunks = readChunkTable(reader);
  const extents: Extent[] = [];
  let end = 0;
  let usedChunks = 0;
  do {
    const start = end + reader.varint();
    const lengthBytes = reader.varint();
    const index = reader.varint();
    const chunk = chunks[index];
    if (chunk === undefined || index > usedChunks) throw reader.fail("a chunk index out of order");
    const extent = { start, lengthBytes, chunk, chunkOffset: reader.varint() };
    if (!isWithinBounds(extent)) throw reader.fail("an extent out of bounds");
    if (index === usedChunks) usedChunks++;
    extents.push(extent);
    end = start + lengthBytes;
  } while (reader.remaining > 0);
  if (usedChunks !== chunks.length) throw reader.fail("a chunk that no extent uses");
  return extents;
}

/** Whether two pages say the same of the same bytes. */
export function isSamePage(left: ExtentPage, right: ExtentPage): boolean {
  return left.length === right.length && left.every((extent, index) => isSameExtent(extent, right[index]));
}

function isSameExtent(left: Extent, right: Extent | undefined): boolean {
  return (
    left.start === right?.start &&
    left.lengthBytes === right.lengthBytes &&
    left.chunkOffset === right.chunkOffset &&
    isEqual(right.chunk, left.chunk)
  );
}

/** Distinct chunks in order of first use, and for each extent its chunk's index. */
function tabulateChunks(page: ExtentPage): { chunks: ChunkId[]; indexOf: number[] } {
  const chunks: ChunkId[] = [];
  const indexOf: number[] = [];
  const firstByPrefix = new Map<number, number>();
  for (const { chunk } of page) {
    const prefix = prefixOf(chunk);
    const first = firstByPrefix.get(prefix);
    let index = first ?? chunks.length;
    if (first === undefined) firstByPrefix.set(prefix, index);
    else while (index < chunks.length && !isEqual(chunks[index], chunk)) index++;
    if (index === chunks.length) chunks.push(chunk);
    indexOf.push(index);
  }
  return { chunks, indexOf };
}

/** Ids are keyed hashes: two of a page hardly ever begin alike. */
function prefixOf(chunk: ChunkId): number {
  return ((chunk[0] ?? 0) << 24) | ((chunk[1] ?? 0) << 16) | ((chunk[2] ?? 0) << 8) | (chunk[3] ?? 0);
}

function isEqual(left: ChunkId | undefined, right: ChunkId): boolean {
  return left === right || (left !== undefined && Buffer.compare(left, right) === 0);
}

function isWithinBounds(extent: Extent): boolean {
  return (
    extent.chunk.length === CHUNK_ID_BYTES &&
    extent.lengthBytes > 0 &&
    extent.start + extent.lengthBytes <= EXTENT_PAGE_BYTES &&
    extent.chunkOffset + extent.lengthBytes <= MAX_CHUNK_REACH_BYTES
  );
}

function readChunkTable(reader: ByteReader): ChunkId[] {
  const count = reader.varint();
  if (count === 0 || count * CHUNK_ID_BYTES > reader.remaining) throw reader.fail("a chunk table of impossible length");
  const chunks: ChunkId[] = [];
  const seen = new Set<string>();
  for (let index = 0; index < count; index++) {
    const chunk = reader.bytes(CHUNK_ID_BYTES) as ChunkId;
    chunks.push(chunk);
    seen.add(latin1Of(chunk));
  }
  if (seen.size !== count) throw reader.fail("a chunk id twice in the table");
  return chunks;
}
