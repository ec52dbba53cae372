/**
 * The metadata store's interface: typed records over sealed LevelDB values, changed in memory at once and
 * made durable in whole batches. Reads are synchronous and see, newest first: the live layer, the frozen layer
 * (being committed), the database.
 */
import type {
  ChunkRecord,
  ChunkTotals,
  DentryRecord,
  DirectoryEntryRecord,
  ExtentPage,
  InlineList,
  InodeRecord,
  LoggedContent,
  LoggedWrites,
  PackRecord,
  VolumeRecord,
} from "../format/records.ts";
import type { ChunkId, InodeNumber, Name, PackId } from "../ids.ts";
import type { MaybePromise } from "../maybe-promise.ts";
import type { SnapshotStore } from "./snapshot-store.ts";
import type { VersionStore } from "./version-store.ts";

/** One batch: everything acknowledged between two freezes. At most one exists at a time. */
export interface FrozenBatch {
  /** Extents are written by the commit alone, never by the live layer. An empty page deletes the record. */
  putExtentPage(ino: InodeNumber, page: number, extents: ExtentPage): void;
  putChunk(id: ChunkId, record: ChunkRecord): void;
  deleteChunk(id: ChunkId): void;
  putPack(record: PackRecord): void;
  deletePack(pack: PackId): void;
  putChunkTotals(totals: ChunkTotals): void;
  /** A list without chunks deletes the record. */
  putInlineList(list: InlineList): void;
  /** Bytes written to a file, as they are. @returns The commit that holds them, to be named when they are deleted. */
  putLoggedWrites(ino: InodeNumber, content: LoggedContent): number;
  deleteLoggedWrites(ino: InodeNumber, commit: number): void;
  /** Records in the batch; 0 means that a commit would write nothing. */
  readonly recordCount: number;
  /** Make everything durable, all or nothing; then the frozen layer is gone. At once where the device is quick. */
  commit(): MaybePromise<void>;
}

export interface MetadataStore {
  /** The live record: a shared object, changed only in the same synchronous step as its `putInode`. */
  getInode(ino: InodeNumber): InodeRecord | undefined;
  putInode(inode: InodeRecord): void;
  deleteInode(ino: InodeNumber): void;

  getDentry(directory: InodeNumber, name: Name): DentryRecord | undefined;
  putDentry(directory: InodeNumber, dentry: DentryRecord): void;
  deleteDentry(directory: InodeNumber, name: Name): void;
  /**
   * A directory's entries in cookie order, live layer included. The array is cached and kept up to date by
   * putDentry and deleteDentry while the cache holds it; borrowed until the next await, never changed by the caller.
   * Plain where cached (or wholly in memory), a promise where LevelDB has to be walked.
   */
  listDirectory(directory: InodeNumber): readonly DirectoryEntryRecord[] | Promise<readonly DirectoryEntryRecord[]>;

  /** All xattrs of an inode; empty where there are none. Not to be changed by the caller. */
  getXattrs(ino: InodeNumber): ReadonlyMap<Name, Uint8Array>;
  /** Replace them all; an empty map deletes the record. The map is kept: hand over a fresh one. */
  putXattrs(ino: InodeNumber, xattrs: ReadonlyMap<Name, Uint8Array>): void;

  getExtentPage(ino: InodeNumber, page: number): ExtentPage;
  /** Numbers of the stored pages in [fromPage, toPage), ascending; frozen layer included. */
  extentPages(ino: InodeNumber, fromPage: number, toPage: number): Promise<number[]>;

  /** Unlinked but still referenced; cleared at mount. */
  addOrphan(ino: InodeNumber): void;
  removeOrphan(ino: InodeNumber): void;
  listOrphans(): Promise<InodeNumber[]>;

  getChunk(id: ChunkId): ChunkRecord | undefined;
  /** Walk all chunk records of the database (a snapshot of it), for collection. */
  chunks(): AsyncIterable<{ readonly id: ChunkId; readonly record: ChunkRecord }>;
  /** Walk all extent pages of all files, epochs and versions (a snapshot of the database), for collection. */
  allExtentPages(): AsyncIterable<ExtentPage>;
  packs(): AsyncIterable<PackRecord>;
  /** Undefined in a vault that never stored a chunk. */
  getChunkTotals(): ChunkTotals | undefined;
  /** All lists of inline chunks of the database; few (they go as the chunks move to packs). */
  inlineLists(): AsyncIterable<InlineList>;

  /** All logged writes found in the database, in the order of inodes, then of commits. */
  loggedWrites(): Promise<LoggedWrites[]>;

  readonly snapshots: SnapshotStore;

  readonly versions: VersionStore;

  /** The live volume record; change it and it is written with the next batch. */
  readonly volume: VolumeRecord;

  /**
   * Set while the database is closed and opened again after a write that failed: what caches and layers hold can be read,
   * any other read throws `TCFS_IO`. Await it before taking new requests. Never rejects.
   */
  readonly reopening: Promise<void> | undefined;

  /** Records changed since the last freeze. */
  readonly dirtyRecordCount: number;
  /** Take everything changed so far as one batch. @throws RangeError while another batch exists. */
  freeze(): FrozenBatch;
  close(): Promise<void>;
}
