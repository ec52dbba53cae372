/**
 * The bytes of a pack file: header, sealed index, footer (FORMAT.md §5). Pure and keyless: the wrapped key and
 * the index's seal are opened elsewhere. Every length is checked before it is used.
 */
import { toHex } from "../bytes.ts";
import { FRAME_BYTES, MAX_CHUNK_BYTES } from "../crypto/engine.ts";
import { type PackKeyWrap, WRAPPED_PACK_KEY_BYTES } from "../crypto/pack-key.ts";
import { TcfsError } from "../errors.ts";
import type { ChunkRecord } from "../format/records.ts";
import { padme } from "../format/replica-codec.ts";
import type { ChunkId, PackId } from "../ids.ts";
import type { RandomSource } from "../platform/random.ts";

/** Where the first frame begins. */
export const PACK_HEADER_BYTES = 256;
/** Frames of the index carry numbers from here on, so that no frame of a chunk ever opens as one of an index. */
export const INDEX_FIRST_FRAME = 2 ** 31;
/** Bounds of a stored frame: header, payload and tag (FORMAT.md §4.3). */
const MIN_STORED_FRAME_BYTES = 21;
const MAX_STORED_FRAME_BYTES = FRAME_BYTES + 20;

const FORMAT_VERSION = 1;
const HEADER_MAGIC = Buffer.from("TCFSPACK", "latin1");
const FOOTER_MAGIC = Buffer.from("TCFSPEND", "latin1");
const WRAPS_OFFSET = 48;
/** `u32 key epoch || wrapped key`. */
const WRAP_BYTES = 4 + WRAPPED_PACK_KEY_BYTES;
const NO_WRAP = new Uint8Array(WRAP_BYTES);
/** Places for wraps: one is whole while the other is written. */
const WRAP_COUNT = 2;
const CHUNK_ID_BYTES = 32;
const INDEX_ENTRY_FIXED_BYTES = CHUNK_ID_BYTES + 12;
const INDEX_PREFIX_BYTES = 8;
/** indexOffset u64 || indexLengthBytes u32 || magic[8]; the frame lengths stand before it. */
const FOOTER_TAIL_BYTES = 20;
/** A footer is never longer: room for the frame lengths of the largest index. */
export const MAX_FOOTER_BYTES = FOOTER_TAIL_BYTES + 4 * (MAX_CHUNK_BYTES / FRAME_BYTES);

export type PackedChunkRecord = Extract<ChunkRecord, { kind: "packed" }>;

export interface PackHeader {
  /** In which the pack was made. */
  readonly keyEpoch: number;
  readonly vaultId: Uint8Array;
  readonly pack: PackId;
  /** By their place, at most {@link WRAP_COUNT}; undefined: none. */
  readonly wraps: readonly (PackKeyWrap | undefined)[];
}

export interface PackIndexEntry {
  readonly id: ChunkId;
  readonly record: PackedChunkRecord;
}

export interface PackFooter {
  readonly indexOffset: number;
  readonly indexLengthBytes: number;
  /** Stored length of each frame of the index. */
  readonly storedFrameBytes: Uint32Array;
}

/** @returns 32 hexadecimal digits, the name of the pack's file. */
export function formatPackId(pack: PackId): string {
  return toHex(pack);
}

/** @returns Undefined where `name` is no pack's file name. */
export function parsePackId(name: string): PackId | undefined {
  return /^[0-9a-f]{32}$/.test(name) ? (new Uint8Array(Buffer.from(name, "hex")) as PackId) : undefined;
}

export function frameCount(lengthBytes: number): number {
  return Math.ceil(lengthBytes / FRAME_BYTES);
}

/** @returns Stored bytes of a run of frames. */
export function sumBytes(storedFrameBytes: Uint32Array): number {
  let sum = 0;
  for (const length of storedFrameBytes) sum += length;
  return sum;
}

function corrupt(what: string): TcfsError {
  return new TcfsError("TCFS_CORRUPT", `pack ${what}`);
}

/** @returns Fresh header, zero-padded to PACK_HEADER_BYTES. */
export function encodePackHeader(header: PackHeader): Uint8Array {
  const bytes = new Uint8Array(PACK_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(HEADER_MAGIC, 0);
  view.setUint16(8, FORMAT_VERSION, true);
  view.setUint32(12, header.keyEpoch, true);
  bytes.set(header.vaultId, 16);
  bytes.set(header.pack, 32);
  header.wraps.forEach((wrap, place) => {
    bytes.set(encodeWrap(wrap), wrapOffset(place));
  });
  return bytes;
}

/** @returns Where in the header a wrap stands. @throws RangeError on a place that there is not. */
export function wrapOffset(place: number): number {
  if (place < 0 || place >= WRAP_COUNT) throw new RangeError("a pack header has no such place for a wrapped key");
  return WRAPS_OFFSET + place * WRAP_BYTES;
}

/** @returns The bytes of one place; zeros for no wrap. */
export function encodeWrap(wrap: PackKeyWrap | undefined): Uint8Array {
  if (wrap === undefined) return NO_WRAP.slice();
  if (wrap.wrappedKey.length !== WRAPPED_PACK_KEY_BYTES) throw new RangeError("a wrapped pack key has another length");
  const bytes = new Uint8Array(WRAP_BYTES);
  new DataView(bytes.buffer).setUint32(0, wrap.keyEpoch, true);
  bytes.set(wrap.wrappedKey, 4);
  return bytes;
}

/** @returns Those that there are. */
export function wrapsOf({ wraps }: Pick<PackHeader, "wraps">): PackKeyWrap[] {
  return wraps.filter((wrap) => wrap !== undefined);
}

function decodeWrap(bytes: Uint8Array): PackKeyWrap | undefined {
  const keyEpoch = new DataView(bytes.buffer, bytes.byteOffset, WRAP_BYTES).getUint32(0, true);
  return keyEpoch === 0 ? undefined : { keyEpoch, wrappedKey: bytes.slice(4, WRAP_BYTES) };
}

/**
 * @returns Fresh fields; the wraps are not yet authenticated.
 * @throws TcfsError `TCFS_CORRUPT` if truncated or not a pack, `TCFS_UNKNOWN_FORMAT` for another version or flag.
 */
export function decodePackHeader(bytes: Uint8Array): PackHeader {
  if (bytes.length < PACK_HEADER_BYTES) throw corrupt("header is truncated");
  if (!HEADER_MAGIC.equals(bytes.subarray(0, HEADER_MAGIC.length))) throw corrupt("header has another magic");
  const view = new DataView(bytes.buffer, bytes.byteOffset, PACK_HEADER_BYTES);
  const version = view.getUint16(8, true);
  const flags = view.getUint16(10, true);
  if (version !== FORMAT_VERSION || flags !== 0) {
    throw new TcfsError("TCFS_UNKNOWN_FORMAT", `pack has format version ${version}, flags ${flags}`);
  }
  const keyEpoch = view.getUint32(12, true);
  if (keyEpoch === 0) throw corrupt("header has key epoch 0");
  const places = Array.from({ length: WRAP_COUNT }, (_, place) => bytes.subarray(wrapOffset(place)));
  return {
    keyEpoch,
    vaultId: bytes.slice(16, 32),
    pack: bytes.slice(32, 48) as PackId,
    wraps: places.map(decodeWrap),
  };
}

/** @returns Bytes that a chunk of `lengthBytes` adds to its pack's index. */
export function indexEntryBytes(lengthBytes: number): number {
  return INDEX_ENTRY_FIXED_BYTES + 4 * frameCount(lengthBytes);
}

/** @returns Fresh index plaintext, padded, to be sealed from frame INDEX_FIRST_FRAME on. */
export function encodePackIndex(entries: readonly PackIndexEntry[], random: RandomSource): Uint8Array {
  const length = entries.reduce((sum, { record }) => sum + indexEntryBytes(record.lengthBytes), INDEX_PREFIX_BYTES);
  const bytes = new Uint8Array(padme(length));
  bytes.set(random.bytes(bytes.length - length), length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, FORMAT_VERSION, true);
  view.setUint32(4, entries.length, true);
  let at = INDEX_PREFIX_BYTES;
  for (const { id, record } of entries) {
    bytes.set(id, at);
    view.setUint32(at + 32, record.packOffset, true);
    view.setUint32(at + 36, record.firstFrame, true);
    view.setUint32(at + 40, record.lengthBytes, true);
    at += INDEX_ENTRY_FIXED_BYTES;
    for (const stored of record.storedFrameBytes) {
      view.setUint32(at, stored, true);
      at += 4;
    }
  }
  return bytes;
}

/**
 * @param dataEnd - Where the index begins in the file: no chunk reaches beyond it.
 * @throws TcfsError `TCFS_CORRUPT` on any number out of bounds and on bytes left over.
 */
export function decodePackIndex(pack: PackId, bytes: Uint8Array, dataEnd: number): PackIndexEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < INDEX_PREFIX_BYTES) throw corrupt("index is truncated");
  if (view.getUint32(0, true) !== FORMAT_VERSION) throw corrupt("index has an unknown version");
  const count = view.getUint32(4, true);
  const entries: PackIndexEntry[] = [];
  let at = INDEX_PREFIX_BYTES;
  while (entries.length < count) {
    if (bytes.length - at < INDEX_ENTRY_FIXED_BYTES) throw corrupt("index is truncated");
    const lengthBytes = view.getUint32(at + 40, true);
    const framesAt = at + INDEX_ENTRY_FIXED_BYTES;
    if (lengthBytes === 0 || lengthBytes > MAX_CHUNK_BYTES) throw corrupt("index names a chunk of impossible length");
    if (bytes.length - framesAt < 4 * frameCount(lengthBytes)) throw corrupt("index is truncated");
    const record: PackedChunkRecord = {
      kind: "packed",
      pack,
      packOffset: view.getUint32(at + 32, true),
      firstFrame: view.getUint32(at + 36, true),
      lengthBytes,
      storedFrameBytes: decodeFrameLengths(view, framesAt, frameCount(lengthBytes)),
    };
    assertPlace(record, dataEnd);
    entries.push({ id: bytes.slice(at, at + CHUNK_ID_BYTES) as ChunkId, record });
    at = framesAt + 4 * frameCount(lengthBytes);
  }
  if (padme(at) !== bytes.length) throw corrupt("index has bytes left over");
  return entries;
}

function assertPlace(record: PackedChunkRecord, dataEnd: number): void {
  const end = record.packOffset + sumBytes(record.storedFrameBytes);
  if (record.packOffset < PACK_HEADER_BYTES || end > dataEnd) throw corrupt("index names a chunk outside its pack");
  if (record.firstFrame + record.storedFrameBytes.length > INDEX_FIRST_FRAME) {
    throw corrupt("index names an impossible frame");
  }
}

function decodeFrameLengths(view: DataView, offset: number, count: number): Uint32Array {
  const lengths = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    const stored = view.getUint32(offset + 4 * i, true);
    if (stored < MIN_STORED_FRAME_BYTES || stored > MAX_STORED_FRAME_BYTES)
      throw corrupt("has a frame of impossible length");
    lengths[i] = stored;
  }
  return lengths;
}

/** @returns Length of the footer of an index of so many bytes. */
export function packFooterBytes(indexLengthBytes: number): number {
  return 4 * frameCount(indexLengthBytes) + FOOTER_TAIL_BYTES;
}

/** @returns Fresh footer: what stands after the sealed index, at the very end of a finished pack. */
export function encodePackFooter(footer: PackFooter): Uint8Array {
  const framesBytes = 4 * footer.storedFrameBytes.length;
  const bytes = new Uint8Array(packFooterBytes(footer.indexLengthBytes));
  const view = new DataView(bytes.buffer);
  footer.storedFrameBytes.forEach((stored, i) => {
    view.setUint32(4 * i, stored, true);
  });
  view.setBigUint64(framesBytes, BigInt(footer.indexOffset), true);
  view.setUint32(framesBytes + 8, footer.indexLengthBytes, true);
  bytes.set(FOOTER_MAGIC, framesBytes + 12);
  return bytes;
}

/**
 * @param tail - The last bytes of the file, MAX_FOOTER_BYTES of them where it is that long.
 * @param fileBytes - Length of the file.
 * @returns Undefined where the pack was never finished: an unfinished pack is legal.
 * @throws TcfsError `TCFS_CORRUPT` where there is a footer whose numbers cannot be.
 */
export function decodePackFooter(tail: Uint8Array, fileBytes: number): PackFooter | undefined {
  if (tail.length < FOOTER_TAIL_BYTES || !FOOTER_MAGIC.equals(tail.subarray(-FOOTER_MAGIC.length))) return undefined;
  const view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength);
  const fixedAt = tail.length - FOOTER_TAIL_BYTES;
  const indexOffset = view.getBigUint64(fixedAt, true);
  const indexLengthBytes = view.getUint32(fixedAt + 8, true);
  if (indexLengthBytes === 0 || indexLengthBytes > MAX_CHUNK_BYTES) throw corrupt("footer has an impossible length");
  const framesAt = fixedAt - 4 * frameCount(indexLengthBytes);
  if (framesAt < 0) throw corrupt("footer is truncated");
  const storedFrameBytes = decodeFrameLengths(view, framesAt, frameCount(indexLengthBytes));
  const indexEnd = fileBytes - (tail.length - framesAt);
  if (indexOffset < PACK_HEADER_BYTES || indexOffset !== BigInt(indexEnd - sumBytes(storedFrameBytes))) {
    throw corrupt("footer names an index outside its pack");
  }
  return { indexOffset: Number(indexOffset), indexLengthBytes, storedFrameBytes };
}
