/** Records of the chunk store (chunks, packs, totals, inline lists) ⇄ bytes (FORMAT.md §7.8–§7.11). Pure. */
import { ByteReader, type ByteWriter } from "../bytes.ts";
import type { ChunkId, Epoch, PackId } from "../ids.ts";
import { MAX_CHUNK_REACH_BYTES } from "./extent-codec.ts";
import { readEpoch } from "./inode-codec.ts";
import { CHUNK_ID_BYTES, PACK_ID_BYTES } from "./record-keys.ts";
import type { ChunkRecord, ChunkTotals, InlineList, PackRecord } from "./records.ts";

const INLINE = 0;
const PACKED = 1;
const IS_FINISHED = 1;

/** Plaintext bytes of a frame (FORMAT.md §4). */
const FRAME_PLAINTEXT_BYTES = 64 * 1024;
/** Header, tag and 1 to 64 KiB of payload (FORMAT.md §4.3). */
const MIN_STORED_FRAME_BYTES = 21;
const MAX_STORED_FRAME_BYTES = FRAME_PLAINTEXT_BYTES + 20;

/** @throws RangeError on a record that FORMAT.md cannot hold. */
export function encodeChunk(writer: ByteWriter, epoch: Epoch, record: ChunkRecord): void {
  writer.u32(epoch);
  if (record.kind === "inline") {
    requireChunkLength(record.content.length);
    writer.u8(INLINE);
    writer.bytes(record.content);
    return;
  }
  requireChunkLength(record.lengthBytes);
  const frames = record.storedFrameBytes;
  if (record.pack.length !== PACK_ID_BYTES) throw new RangeError("a pack id of another length");
  if (frames.length !== frameCount(record.lengthBytes)) throw new RangeError("a frame count that does not fit");
  if (!frames.every(isStoredFrameLength)) throw new RangeError("a frame of impossible length");
  writer.u8(PACKED);
  writer.bytes(record.pack);
  writer.u64(record.packOffset);
  writer.u32(record.firstFrame);
  writer.u24(record.lengthBytes);
  for (const frame of frames) writer.u24(frame);
}

/** @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodeChunk} does not write. */
export function decodeChunk(bytes: Uint8Array): ChunkRecord {
  const reader = new ByteReader(bytes, "chunk record");
  readEpoch(reader);
  const kind = reader.u8();
  if (kind === INLINE) {
    if (!isChunkLength(reader.remaining)) throw reader.fail("a chunk of impossible length");
    return { kind: "inline", content: reader.bytes(reader.remaining) };
  }
  if (kind !== PACKED) throw reader.fail("an unknown kind");
  const pack = reader.bytes(PACK_ID_BYTES) as PackId;
  const packOffset = reader.u64();
  const firstFrame = reader.u32();
  const lengthBytes = reader.u24();
  if (!isChunkLength(lengthBytes)) throw reader.fail("a chunk of impossible length");
  const storedFrameBytes = new Uint32Array(frameCount(lengthBytes));
  for (let index = 0; index < storedFrameBytes.length; index++) {
    const frame = reader.u24();
    if (!isStoredFrameLength(frame)) throw reader.fail("a frame of impossible length");
    storedFrameBytes[index] = frame;
  }
  reader.end();
  return { kind: "packed", pack, packOffset, firstFrame, lengthBytes, storedFrameBytes };
}

/** @throws RangeError on a record that FORMAT.md cannot hold. */
export function encodePack(writer: ByteWriter, epoch: Epoch, record: PackRecord): void {
  writer.u32(epoch);
  writer.u8(record.isFinished ? IS_FINISHED : 0);
  writer.u64(record.lengthBytes);
  writer.u64(record.contentBytes);
}

/** @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodePack} does not write. */
export function decodePack(pack: PackId, bytes: Uint8Array): PackRecord {
  const reader = new ByteReader(bytes, "pack record");
  readEpoch(reader);
  const flags = reader.u8();
  if ((flags & ~IS_FINISHED) !== 0) throw reader.fail("unknown flags");
  const record = { pack, lengthBytes: reader.u64(), contentBytes: reader.u64(), isFinished: flags === IS_FINISHED };
  reader.end();
  return record;
}

/** @throws RangeError on counters that FORMAT.md cannot hold. */
export function encodeChunkTotals(writer: ByteWriter, epoch: Epoch, totals: ChunkTotals): void {
  writer.u32(epoch);
  writer.u64(totals.packCount);
  writer.u64(totals.packBytes);
  writer.u64(totals.inlineBytes);
  writer.u64(totals.uniqueBytes);
}

/** @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodeChunkTotals} does not write. */
export function decodeChunkTotals(bytes: Uint8Array): ChunkTotals {
  const reader = new ByteReader(bytes, "chunk totals record");
  readEpoch(reader);
  const totals = {
    packCount: reader.u64(),
    packBytes: reader.u64(),
    inlineBytes: reader.u64(),
    uniqueBytes: reader.u64(),
  };
  reader.end();
  return totals;
}

/** @throws RangeError on a list that is empty or holds something else than chunk ids. */
export function encodeInlineList(writer: ByteWriter, epoch: Epoch, list: InlineList): void {
  if (list.chunks.length === 0) throw new RangeError("an empty inline list");
  writer.u32(epoch);
  for (const chunk of list.chunks) {
    if (chunk.length !== CHUNK_ID_BYTES) throw new RangeError("a chunk id of another length");
    writer.bytes(chunk);
  }
}

/** @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodeInlineList} does not write. */
export function decodeInlineList(list: number, bytes: Uint8Array): InlineList {
  const reader = new ByteReader(bytes, `inline list record ${String(list)}`);
  readEpoch(reader);
  const chunks: ChunkId[] = [];
  do chunks.push(reader.bytes(CHUNK_ID_BYTES) as ChunkId);
  while (reader.remaining > 0);
  return { list, chunks };
}

function frameCount(lengthBytes: number): number {
  return Math.ceil(lengthBytes / FRAME_PLAINTEXT_BYTES);
}

function isChunkLength(lengthBytes: number): boolean {
  return lengthBytes > 0 && lengthBytes <= MAX_CHUNK_REACH_BYTES;
}

function requireChunkLength(lengthBytes: number): void {
  if (!isChunkLength(lengthBytes)) throw new RangeError("a chunk of impossible length");
}

function isStoredFrameLength(lengthBytes: number): boolean {
  return lengthBytes >= MIN_STORED_FRAME_BYTES && lengthBytes <= MAX_STORED_FRAME_BYTES;
}
