/** What decoded records weigh in the caches, in bytes, and under what their pages are found there. */
import type { ExtentPage, InodeRecord } from "../format/records.ts";
import type { ChunkId, InodeNumber } from "../ids.ts";
import type { Xattrs } from "./layer.ts";

/* Estimated bytes of cached objects with their places in the maps (test/metadata measures them). */
const ABSENT_BYTES = 80;
export const INODE_BYTES = 350;
const EXTENT_BYTES = 64;
const DISTINCT_CHUNK_BYTES = 180;
export const CHUNK_RECORD_BYTES = 600;
const XATTR_BYTES = 300;

export function weighInode(inode: InodeRecord | null): number {
  return inode === null ? ABSENT_BYTES : INODE_BYTES + (inode.symlinkTarget?.length ?? 0);
}

export function weighXattrs(xattrs: Xattrs): number {
  let bytes = ABSENT_BYTES;
  for (const value of xattrs.values()) bytes += XATTR_BYTES + value.length;
  return bytes;
}

/** Neighbours that share a chunk share its id. */
export function weighExtents(extents: ExtentPage): number {
  let bytes = ABSENT_BYTES;
  let chunk: ChunkId | undefined;
  for (const extent of extents) {
    bytes += EXTENT_BYTES + (extent.chunk === chunk ? 0 : DISTINCT_CHUNK_BYTES);
    chunk = extent.chunk;
  }
  return bytes;
}

/** An extent page in a cache: a number where both parts fit into 53 bits, which is quicker to make and to look up. */
export function pageKey(ino: InodeNumber, page: number): number | string {
  return ino < 2 ** 31 && page < 2 ** 22 ? ino * 2 ** 22 + page : `${String(ino)}:${String(page)}`;
}
