/** The metadata records as values in memory; their bytes are FORMAT.md §7. Pure data, no behaviour. */
import type { ChunkId, Epoch, InodeNumber, Name, PackId } from "../ids.ts";
import type { Timestamp } from "../platform/clock.ts";

/** An inode. Mutable: the filesystem changes it and hands it to `putInode` in the same synchronous step. */
export interface InodeRecord {
  readonly ino: InodeNumber;
  /** Epoch that wrote this version; set by the metadata store. */
  epoch: Epoch;
  /** st_mode: type and permission bits. */
  mode: number;
  uid: number;
  gid: number;
  /** 0 for an orphan or an O_TMPFILE. */
  linkCount: number;
  deviceNumber: number;
  lengthBytes: bigint;
  /** Bytes that data occupies, holes not counted. */
  allocatedBytes: number;
  accessTime: Timestamp;
  modifyTime: Timestamp;
  changeTime: Timestamp;
  birthTime: Timestamp;
  /** Entries of a directory, "." and ".." not counted. */
  entryCount: number;
  /** A directory's parent, for ".."; the root's is the root. Else where it last got a name, a hint; 0: not known. */
  parent: InodeNumber | 0;
  /** Whether a xattr record exists: spares the look-up where there is none. */
  hasXattrs: boolean;
  /** Commit of the newest logged writes, without which its contents cannot be read; 0: there are none. */
  loggedCommit: number;
  /** Target of a symlink, raw bytes. */
  symlinkTarget: Uint8Array | undefined;
}

export interface DentryRecord {
  readonly name: Name;
  readonly ino: InodeNumber;
  /** DT_*: type bits of st_mode, shifted right by 12. */
  readonly type: number;
}

/** Inodes have numbers below this; above are those of snapshots, in the mount (FORMAT.md §7.12). */
export const INODE_NUMBER_LIMIT = 2 ** 40;

/** A dentry with its place in the directory: the first 63 bits of PRF(name), never below 3. */
export interface DirectoryEntryRecord extends DentryRecord {
  readonly cookie: bigint;
}

/**
 * Bytes of a file that one extent page describes: page p covers [p × 256 KiB, (p + 1) × 256 KiB). Small enough that a
 * page wholly in 4 KiB pieces, which every synced append writes anew, stays below 3 KiB.
 */
export const EXTENT_PAGE_BYTES = 256 * 1024;

/** A run of a file's bytes within one extent page → (chunk, offset within it). Holes have no extent. */
export interface Extent {
  /** Offset within the extent page. */
  readonly start: number;
  readonly lengthBytes: number;
  readonly chunk: ChunkId;
  readonly chunkOffset: number;
}

/** Sorted by start, without overlap, none empty. */
export type ExtentPage = readonly Extent[];

/** Written bytes within one extent page. */
export interface LoggedRun {
  readonly page: number;
  readonly start: number;
  /** At least one, none past the page's end. */
  readonly bytes: Uint8Array;
}

/** Writes to one file that one commit made durable as they are, before they have chunks. */
export interface LoggedWrites {
  readonly ino: InodeNumber;
  readonly commit: number;
  /** undefined: they cannot be read. */
  readonly content: LoggedContent | undefined;
}

/** What a record of logged writes holds. */
export interface LoggedContent {
  /** Commit of the file's logged writes before these, so that none goes missing unseen; 0: these are the first. */
  readonly previousCommit: number;
  /** In the order of writing, one or more. */
  readonly runs: readonly LoggedRun[];
}

/** Where a chunk's sealed frames are. */
export type ChunkRecord =
  | {
      readonly kind: "packed";
      readonly pack: PackId;
      /** Offset of the first frame in the pack file. */
      readonly packOffset: number;
      readonly firstFrame: number;
      readonly lengthBytes: number;
      readonly storedFrameBytes: Uint32Array;
    }
  | {
      /** Little data rides in the metadata commit: the record's own seal protects it. */
      readonly kind: "inline";
      readonly content: Uint8Array;
    };

/** One pack known to the vault. */
export interface PackRecord {
  readonly pack: PackId;
  /** Sealed bytes in it, including the header. */
  readonly lengthBytes: number;
  /** Plaintext bytes of the chunks written into it. */
  readonly contentBytes: number;
  /** Whether its index was written; a pack without one is emptied into others after a restart. */
  readonly isFinished: boolean;
}

/** Counters of the chunk store; one record, put with every batch that changes chunks or packs. */
export interface ChunkTotals {
  readonly packCount: number;
  /** Sum of all pack records' lengthBytes. */
  readonly packBytes: number;
  /** Content bytes of inline chunk records. */
  readonly inlineBytes: number;
  /** Plaintext bytes of all chunk records. */
  readonly uniqueBytes: number;
}

/**
 * Chunks that one commit stored inline: how they are found again, to be moved to packs, without walking all chunk
 * records. An id in it may since have been moved or deleted.
 */
export interface InlineList {
  /** Key of the record; u32. */
  readonly list: number;
  readonly chunks: readonly ChunkId[];
}

/** Counters of the whole volume; one record. */
export interface VolumeRecord {
  nextInode: InodeNumber;
  inodeCount: number;
  /** Sum of all files' lengths as allocated (holes not counted), before deduplication. */
  allocatedBytes: number;
  epoch: Epoch;
  /** Number of the last commit. */
  commit: number;
  /** Time of the last commit. */
  committedAt: Timestamp;
}
