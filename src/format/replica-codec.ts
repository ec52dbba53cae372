/** Manifests and the root of a store: bytes ⇄ fields (FORMAT.md §11.2, §11.4), and the framing that seals go around (§11.1). Pure. */
import { ByteReader, ByteWriter, toHex } from "../bytes.ts";
import type { ChunkId, PackId } from "../ids.ts";
import type { Timestamp } from "../platform/clock.ts";
import { readTimestamp, writeTimestamp } from "./inode-codec.ts";
import { CHUNK_ID_BYTES, PACK_ID_BYTES } from "./record-keys.ts";

/** A stream this short rides in its manifest. */
export const MAX_INLINE_STREAM_BYTES = 64 * 1024;
/** The steps between a checkpoint and the root. */
export const MAX_STEPS = 1024;
/** More are not kept at a time: whoever replaces a root once more deletes one first. */
export const MAX_KEPT_ROOTS = 16;
/** Of the SHA-256 of a root, in the name under which it is kept. */
export const KEPT_HASH_BYTES = 8;
/** 4 TiB of packs. */
export const MAX_LOST_PACKS = 2 ** 18;
/** Added to the kind of a manifest's stream, where a list of lost packs comes before it. */
const LOST_FLAG = 2;
const HASH_BYTES = 32;
const DEVICE_ID_BYTES = 16;
const FRAME_BYTES = 64 * 1024;
const MAX_CHUNK_BYTES = 4 * 1024 * 1024;
const PACK_HEADER_BYTES = 256;
const MAX_CHUNK_FRAMES = 2 ** 31;

export type ManifestKind = "commit" | "checkpoint";

/** A piece of a record stream, in a pack of the store. */
export interface StreamChunk {
  readonly id: ChunkId;
  readonly pack: PackId;
  readonly packOffset: number;
  readonly firstFrame: number;
  readonly lengthBytes: number;
  readonly storedFrameBytes: Uint32Array;
}

export type RecordStream =
  | { readonly kind: "inline"; readonly content: Uint8Array }
  | { readonly kind: "chunks"; readonly chunks: readonly StreamChunk[] };

/** `missing`: the store does not have the pack; `damaged`: it has, and not all of its chunks open. */
export type LostKind = "missing" | "damaged";

/** A pack that the state names and that neither the store nor whoever wrote the step has, or has whole. */
export interface LostPack {
  readonly pack: PackId;
  readonly kind: LostKind;
}

export interface Manifest {
  readonly number: number;
  readonly deviceId: Uint8Array;
  readonly previousHash: Uint8Array;
  readonly time: Timestamp;
  /** The vault's commit whose state this is. */
  readonly commit: number;
  /** All that the state lacks. */
  readonly lost: readonly LostPack[];
  readonly stream: RecordStream;
}

export interface Root {
  readonly number: number;
  readonly headKind: ManifestKind;
  readonly headHash: Uint8Array;
  readonly checkpoint: number;
  readonly deviceId: Uint8Array;
  readonly time: Timestamp;
  readonly commit: number;
  readonly headerRevision: number;
  readonly devicesRevision: number;
  /** Roots that were replaced on purpose, and what they lead to. */
  readonly kept: readonly KeptRoot[];
}

/** A root under a name of its own (FORMAT.md §11.4, Accepting). */
export interface KeptRoot {
  readonly number: number;
  /** The first 16 hexadecimal digits of the SHA-256 of the object. */
  readonly hash: string;
}

/** @returns Fresh memory. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const writer = new ByteWriter();
  writer.u64(manifest.number);
  writer.bytes(manifest.deviceId);
  writer.bytes(manifest.previousHash);
  writeTimestamp(writer, manifest.time);
  writer.u64(manifest.commit);
  const { stream, lost } = manifest;
  writer.u8((stream.kind === "inline" ? 0 : 1) + (lost.length > 0 ? LOST_FLAG : 0));
  if (lost.length > 0) writeLost(writer, lost);
  if (stream.kind === "inline") writer.bytes(stream.content);
  else for (const chunk of stream.chunks) writeChunk(writer, chunk);
  return writer.take();
}

/** @returns Fresh fields. @throws TcfsError `TCFS_CORRUPT` */
export function decodeManifest(bytes: Uint8Array): Manifest {
  const reader = new ByteReader(bytes, "manifest");
  const number = reader.u64();
  if (number === 0) throw reader.fail("step 0");
  const deviceId = reader.bytes(DEVICE_ID_BYTES);
  const previousHash = reader.bytes(HASH_BYTES);
  const time = readTimestamp(reader);
  const commit = reader.u64();
  const kind = reader.u8();
  if (kind > LOST_FLAG + 1) throw reader.fail("an unknown kind of stream");
  const lost = kind < LOST_FLAG ? [] : readLost(reader);
  const stream = kind % LOST_FLAG === 0 ? readInline(reader) : readChunks(reader);
  return { number, deviceId, previousHash, time, commit, lost, stream };
}

export function encodeRoot(root: Root): Uint8Array {
  const writer = new ByteWriter();
  writer.u64(root.number);
  writer.u8(root.headKind === "commit" ? 0 : 1);
  writer.bytes(root.headHash);
  writer.u64(root.checkpoint);
  writer.bytes(root.deviceId);
  writeTimestamp(writer, root.time);
  writer.u64(root.commit);
  writer.u32(root.headerRevision);
  writer.u32(root.devicesRevision);
  writer.u8(root.kept.length);
  for (const { number, hash } of root.kept) {
    writer.u64(number);
    writer.bytes(Buffer.from(hash, "hex"));
  }
  return writer.take();
}

/** @returns Fresh fields. @throws TcfsError `TCFS_CORRUPT` */
export function decodeRoot(bytes: Uint8Array): Root {
  const reader = new ByteReader(bytes, "root");
  const number = reader.u64();
  const kind = reader.u8();
  if (kind > 1) throw reader.fail("an unknown kind of manifest");
  const headKind = kind === 0 ? "commit" : "checkpoint";
  const headHash = reader.bytes(HASH_BYTES);
  const checkpoint = reader.u64();
  const deviceId = reader.bytes(DEVICE_ID_BYTES);
  const time = readTimestamp(reader);
  const commit = reader.u64();
  const headerRevision = reader.u32();
  const devicesRevision = reader.u32();
  const keptCount = reader.u8();
  if (keptCount > MAX_KEPT_ROOTS) throw reader.fail("too many kept roots");
  const kept = Array.from({ length: keptCount }, () => ({
    number: reader.u64(),
    hash: toHex(reader.bytes(KEPT_HASH_BYTES)),
  }));
  reader.end();
  const isCheckpoint = checkpoint === number;
  if (checkpoint === 0 || checkpoint > number || number - checkpoint > MAX_STEPS) throw reader.fail("impossible steps");
  if (isCheckpoint !== (headKind === "checkpoint")) throw reader.fail("another kind than its step's");
  return { number, headKind, headHash, checkpoint, deviceId, time, commit, headerRevision, devicesRevision, kept };
}

/** @returns `lengthBytes` rounded up so that at most 12 % are added and little is told (FORMAT.md §11.1). */
export function padme(lengthBytes: number): number {
  if (lengthBytes < 2) return lengthBytes;
  const exponent = Math.floor(Math.log2(lengthBytes));
  const unit = 2 ** Math.max(0, exponent - Math.floor(Math.log2(exponent)) - 1);
  return Math.ceil(lengthBytes / unit) * unit;
}

/** @returns Fresh: length, content, zeros. */
export function padContent(content: Uint8Array): Uint8Array {
  const padded = new Uint8Array(padme(4 + content.length));
  new DataView(padded.buffer).setUint32(0, content.length, true);
  padded.set(content, 4);
  return padded;
}

/** @returns The content, fresh. @throws TcfsError `TCFS_CORRUPT` */
export function unpadContent(padded: Uint8Array): Uint8Array {
  const reader = new ByteReader(padded, "sealed object");
  const lengthBytes = reader.u32();
  if (padme(4 + lengthBytes) !== padded.length) throw reader.fail("another length than its content's");
  const content = reader.bytes(lengthBytes);
  if (padded.subarray(4 + lengthBytes).some((byte) => byte !== 0)) throw reader.fail("padding that is not zero");
  return content;
}

/** @returns The list as it stands in manifests, fresh. */
export function encodeLost(lost: readonly LostPack[]): Uint8Array {
  const writer = new ByteWriter();
  writeLost(writer, lost);
  return writer.take();
}

/** @throws TcfsError `TCFS_CORRUPT` */
export function decodeLost(bytes: Uint8Array): LostPack[] {
  const reader = new ByteReader(bytes, "list of lost packs");
  const lost = readLost(reader);
  reader.end();
  return lost;
}

function writeLost(writer: ByteWriter, lost: readonly LostPack[]): void {
  writer.u32(lost.length);
  for (const { pack, kind } of lost) {
    writer.bytes(pack);
    writer.u8(kind === "missing" ? 1 : 2);
  }
}

function readLost(reader: ByteReader): LostPack[] {
  const count = reader.u32();
  if (count === 0 || count > MAX_LOST_PACKS) throw reader.fail("an impossible number of lost packs");
  return Array.from({ length: count }, () => {
    const pack = reader.bytes(PACK_ID_BYTES) as PackId;
    const code = reader.u8();
    if (code !== 1 && code !== 2) throw reader.fail("a pack lost in an unknown way");
    return { pack, kind: code === 1 ? "missing" : "damaged" };
  });
}

function writeChunk(writer: ByteWriter, chunk: StreamChunk): void {
  writer.bytes(chunk.id);
  writer.bytes(chunk.pack);
  writer.u32(chunk.packOffset);
  writer.u32(chunk.firstFrame);
  writer.u24(chunk.lengthBytes);
  for (const stored of chunk.storedFrameBytes) writer.u32(stored);
}

function readInline(reader: ByteReader): RecordStream {
  if (reader.remaining > MAX_INLINE_STREAM_BYTES) throw reader.fail("a stream too long to ride in it");
  return { kind: "inline", content: reader.bytes(reader.remaining) };
}

function readChunks(reader: ByteReader): RecordStream {
  const chunks: StreamChunk[] = [];
  do {
    const id = reader.bytes(CHUNK_ID_BYTES) as ChunkId;
    const pack = reader.bytes(PACK_ID_BYTES) as PackId;
    const packOffset = reader.u32();
    const firstFrame = reader.u32();
    const lengthBytes = reader.u24();
    const frameCount = Math.ceil(lengthBytes / FRAME_BYTES);
    if (lengthBytes === 0 || lengthBytes > MAX_CHUNK_BYTES) throw reader.fail("a chunk of impossible length");
    if (packOffset < PACK_HEADER_BYTES || firstFrame + frameCount > MAX_CHUNK_FRAMES)
      throw reader.fail("an impossible place");
    const storedFrameBytes = Uint32Array.from({ length: frameCount }, () => reader.u32());
    if (storedFrameBytes.some((stored) => stored < 21 || stored > FRAME_BYTES + 20))
      throw reader.fail("an impossible frame");
    chunks.push({ id, pack, packOffset, firstFrame, lengthBytes, storedFrameBytes });
  } while (reader.remaining > 0);
  return { kind: "chunks", chunks };
}
