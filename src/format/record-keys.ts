/** Keys of the metadata records: one byte for the kind, then big-endian numbers or fixed bytes (FORMAT.md §7.1). */
import { ByteReader, corrupt, latin1Of, storeU64BigEndian } from "../bytes.ts";
import type { ChunkId, ChunkIdKey, InodeNumber, PackId } from "../ids.ts";
import { NUMBER_BYTES, numberAt, numberKey, twoNumbersKey } from "./number-keys.ts";

/** First byte of a key. */
export const RECORD_KIND = {
  volume: 0x56,
  inode: 0x49,
  dentry: 0x44,
  xattrs: 0x58,
  extents: 0x45,
  orphan: 0x4f,
  chunk: 0x43,
  pack: 0x50,
  chunkTotals: 0x54,
  inlineList: 0x4c,
  history: 0x48,
  superseded: 0x53,
  snapshot: 0x4e,
  rollback: 0x52,
  loggedWrites: 0x57,
  policy: 0x41,
  /** Between extents and history, as its pages: {@link ALL_EXTENT_PAGES} of history-keys.ts. */
  version: 0x46,
  versionPage: 0x47,
  versionChain: 0x5a,
  versionPolicy: 0x4b,
} as const;

export type RecordKind = keyof typeof RECORD_KIND;

export const CHUNK_ID_BYTES = 32;
export const PACK_ID_BYTES = 16;
/** Bytes of PRF(name) in a dentry's key. */
const NAME_PRF_BYTES = 16;
/** Cookies below this are "the start", "." and "..". */
const FIRST_COOKIE = 3n;

const DENTRY_PREFIX_BYTES = 1 + NUMBER_BYTES;

/** Which keys a walk visits: from `first` on, before `end`. */
export interface KeyRange {
  readonly first: Uint8Array;
  readonly end: Uint8Array;
}

/** Before and after every key. */
export const EVERYTHING: KeyRange = { first: Uint8Array.of(0), end: Uint8Array.of(0xff) };

/** Key of a record of which there is one. */
export function singleKey(kind: "volume" | "chunkTotals" | "rollback" | "policy" | "versionPolicy"): Uint8Array {
  return Uint8Array.of(RECORD_KIND[kind]);
}

/** @throws RangeError unless `list` is a u32. */
export function inlineListKey(list: number): Uint8Array {
  if (list !== list >>> 0) throw new RangeError("not an unsigned 32 bit number");
  return Uint8Array.of(RECORD_KIND.inlineList, list >>> 24, list >>> 16, list >>> 8, list);
}

/** Key of a record that an inode number alone names. */
export function inodeKey(kind: "inode" | "xattrs" | "orphan", ino: InodeNumber): Uint8Array {
  return numberKey(RECORD_KIND[kind], ino);
}

/** @param prf - PRF(directory, name), 16 bytes. */
export function dentryKey(directory: InodeNumber, prf: Uint8Array): Uint8Array {
  const key = new Uint8Array(DENTRY_PREFIX_BYTES + NAME_PRF_BYTES);
  key[0] = RECORD_KIND.dentry;
  storeU64BigEndian(key, 1, directory);
  key.set(prf, DENTRY_PREFIX_BYTES);
  return key;
}

export function extentsKey(ino: InodeNumber, page: number): Uint8Array {
  return twoNumbersKey(RECORD_KIND.extents, ino, page);
}

export function loggedWritesKey(ino: InodeNumber, commit: number): Uint8Array {
  return twoNumbersKey(RECORD_KIND.loggedWrites, ino, commit);
}

export function chunkKey(id: ChunkId): Uint8Array {
  return idKey(RECORD_KIND.chunk, id);
}

export function packKey(pack: PackId): Uint8Array {
  return idKey(RECORD_KIND.pack, pack);
}

/** All dentries of one directory, in cookie order. */
export function dentriesOf(directory: InodeNumber): KeyRange {
  return { first: numberKey(RECORD_KIND.dentry, directory), end: numberKey(RECORD_KIND.dentry, directory + 1) };
}

/** Extent pages [fromPage, toPage) of one inode. */
export function extentsOf(ino: InodeNumber, fromPage: number, toPage: number): KeyRange {
  return { first: extentsKey(ino, fromPage), end: extentsKey(ino, toPage) };
}

/** All records of one kind. */
export function allOfKind(kind: RecordKind): KeyRange {
  return { first: Uint8Array.of(RECORD_KIND[kind]), end: Uint8Array.of(RECORD_KIND[kind] + 1) };
}

/** @returns The inode number that follows the kind. @throws TcfsError `TCFS_CORRUPT` */
export function inodeOfKey(key: Uint8Array): InodeNumber {
  return numberAt(key, 1) as InodeNumber;
}

/** @returns The page number in an extent page's key. @throws TcfsError `TCFS_CORRUPT` */
export function pageOfKey(key: Uint8Array): number {
  return numberAt(key, 1 + NUMBER_BYTES);
}

/** @returns The commit in the key of logged writes. @throws TcfsError `TCFS_CORRUPT` */
export function commitOfKey(key: Uint8Array): number {
  return numberAt(key, 1 + NUMBER_BYTES);
}

/** @returns The number in an inline list's key. @throws TcfsError `TCFS_CORRUPT` */
export function listOfKey(key: Uint8Array): number {
  const reader = new ByteReader(key.subarray(1), "record key");
  const list = reader.u32BigEndian();
  reader.end();
  return list;
}

/** @returns The id as a string of 32 latin1 characters: the key of maps. */
export function chunkIdKey(id: ChunkId): ChunkIdKey {
  return latin1Of(id) as ChunkIdKey;
}

/** @returns The id in a chunk record's key, fresh. @throws TcfsError `TCFS_CORRUPT` on another length. */
export function chunkIdOfKey(key: Uint8Array): ChunkId {
  return idOfKey(key, CHUNK_ID_BYTES) as ChunkId;
}

/** @returns The id in a pack record's key, fresh. @throws TcfsError `TCFS_CORRUPT` on another length. */
export function packIdOfKey(key: Uint8Array): PackId {
  return idOfKey(key, PACK_ID_BYTES) as PackId;
}

/** A dentry's place in its directory: the first 63 bits of PRF(name), never below 3. */
export function cookieOfPrf(prf: Uint8Array): bigint {
  return cookieAt(prf, 0);
}

/** The same from a dentry's key. @throws TcfsError `TCFS_CORRUPT` on a key of another length. */
export function cookieOfDentryKey(key: Uint8Array): bigint {
  if (key.length !== DENTRY_PREFIX_BYTES + NAME_PRF_BYTES) throw corrupt("dentry key", "another length");
  return cookieAt(key, DENTRY_PREFIX_BYTES);
}

const cookieScratch = new DataView(new ArrayBuffer(8));

function cookieAt(bytes: Uint8Array, offset: number): bigint {
  for (let index = 0; index < 8; index++) cookieScratch.setUint8(index, bytes[offset + index] as number);
  const cookie = cookieScratch.getBigUint64(0) >> 1n;
  return cookie < FIRST_COOKIE ? FIRST_COOKIE : cookie;
}

function idKey(kind: number, id: Uint8Array): Uint8Array {
  const key = new Uint8Array(1 + id.length);
  key[0] = kind;
  key.set(id, 1);
  return key;
}

function idOfKey(key: Uint8Array, lengthBytes: number): Uint8Array {
  if (key.length !== 1 + lengthBytes) throw corrupt("record key", "another length");
  return new Uint8Array(key.subarray(1));
}
