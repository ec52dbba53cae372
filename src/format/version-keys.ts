/** Keys of versions and of their pages (FORMAT.md §7.16). Pure. */
import { corrupt, storeU64BigEndian } from "../bytes.ts";
import type { InodeNumber } from "../ids.ts";
import { NUMBER_BYTES, numberAt, numberKey, twoNumbersKey } from "./number-keys.ts";
import { RECORD_KIND, type KeyRange } from "./record-keys.ts";

/** Names a version: an inode number that no inode has. */
export type VersionNumber = number & { readonly __brand: "VersionNumber" };

/** Version numbers are below; the mount tells them from others by the bits above. */
export const VERSION_NUMBER_LIMIT = 2 ** 38;

const PRF_BYTES = 16;
const OF_FILE_BYTES = 1 + 2 * NUMBER_BYTES;
const OF_NAME_BYTES = OF_FILE_BYTES + PRF_BYTES;

/** A version that an inode's contents had. */
export function fileVersionKey(ino: InodeNumber, version: VersionNumber): Uint8Array {
  return versionKey(ino, new Uint8Array(0), version);
}

/** A version that lost its name. @param prf - PRF(directory, name), 16 bytes; copied. */
export function nameVersionKey(directory: InodeNumber, prf: Uint8Array, version: VersionNumber): Uint8Array {
  return versionKey(directory, prf, version);
}

export function versionPageKey(version: VersionNumber, page: number): Uint8Array {
  return twoNumbersKey(RECORD_KIND.versionPage, version, page);
}

export function versionChainKey(ino: InodeNumber): Uint8Array {
  return numberKey(RECORD_KIND.versionChain, ino);
}

/** Versions and removed entries of the inodes [from, to). */
export function versionsOf(from: InodeNumber, to = from + 1): KeyRange {
  return { first: numberKey(RECORD_KIND.version, from), end: numberKey(RECORD_KIND.version, to) };
}

/** Versions of one name. @param prf - PRF(directory, name), 16 bytes; copied. */
export function versionsOfName(directory: InodeNumber, prf: Uint8Array): KeyRange {
  const first = numberKey(RECORD_KIND.version, directory);
  const prefix = new Uint8Array(first.length + PRF_BYTES);
  prefix.set(first);
  prefix.set(prf, first.length);
  const end = new Uint8Array(prefix.length + 1 + NUMBER_BYTES).fill(0xff);
  end.set(prefix);
  return { first: prefix, end };
}

/** Pages [fromPage, toPage) of one version. */
export function versionPagesOf(version: VersionNumber, fromPage: number, toPage: number): KeyRange {
  return { first: versionPageKey(version, fromPage), end: versionPageKey(version, toPage) };
}

/** What a version's key tells. */
export interface VersionPlace {
  /** The inode whose version it is; or the directory, for the version of a name. */
  readonly owner: InodeNumber;
  readonly isOfName: boolean;
  readonly version: VersionNumber;
}

/** @throws TcfsError `TCFS_CORRUPT` on a key of another length. */
export function versionPlaceOf(key: Uint8Array): VersionPlace {
  const isOfName = key.length === OF_NAME_BYTES;
  if (!isOfName && key.length !== OF_FILE_BYTES) throw corrupt("version key", "another length");
  return {
    owner: numberAt(key, 1) as InodeNumber,
    isOfName,
    version: numberAt(key, key.length - NUMBER_BYTES) as VersionNumber,
  };
}

/** @returns Version and page in a page's key. @throws TcfsError `TCFS_CORRUPT` */
export function versionPageOf(key: Uint8Array): { readonly version: VersionNumber; readonly page: number } {
  if (key.length !== OF_FILE_BYTES) throw corrupt("version page key", "another length");
  return { version: numberAt(key, 1) as VersionNumber, page: numberAt(key, 1 + NUMBER_BYTES) };
}

/** @returns The inode in a chain's key. @throws TcfsError `TCFS_CORRUPT` */
export function inodeOfChainKey(key: Uint8Array): InodeNumber {
  if (key.length !== 1 + NUMBER_BYTES) throw corrupt("version chain key", "another length");
  return numberAt(key, 1) as InodeNumber;
}

function versionKey(owner: InodeNumber, prf: Uint8Array, version: VersionNumber): Uint8Array {
  const key = new Uint8Array(OF_FILE_BYTES + prf.length);
  key[0] = RECORD_KIND.version;
  storeU64BigEndian(key, 1, owner);
  key.set(prf, 1 + NUMBER_BYTES);
  storeU64BigEndian(key, key.length - NUMBER_BYTES, version);
  return key;
}
