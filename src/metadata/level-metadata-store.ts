/**
 * The metadata store over LevelDB (FORMAT.md §7). A read looks in the caches first: every change goes through them, so
 * what they hold is the newest; then in the live layer, the frozen layer and the database, which together hold
 * everything that a cache may have dropped.
 */
import { ByteWriter } from "../bytes.ts";
import type { PlainRecord, RecordCipher, SealingEngine } from "../crypto/engine.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import { ALL_EXTENT_PAGES, liveKeyOf } from "../format/history-keys.ts";
import {
  RECORD_KIND,
  allOfKind,
  chunkIdKey,
  commitOfKey,
  cookieOfPrf,
  inodeOfKey,
  packKey,
  type RecordKind,
} from "../format/record-keys.ts";
import type {
  ChunkRecord,
  ChunkTotals,
  DentryRecord,
  DirectoryEntryRecord,
  ExtentPage,
  InlineList,
  InodeRecord,
  LoggedWrites,
  PackRecord,
  VolumeRecord,
} from "../format/records.ts";
import type { ChainLink } from "../format/version-codec.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import type { ChunkId, ChunkIdKey, InodeNumber, Name, PackId } from "../ids.ts";
import type { Clock } from "../platform/clock.ts";
import type { Disk } from "../platform/disk.ts";
import { openLevel, type OpenLevel, type StoredEntry } from "./database.ts";
import { CHUNK_RECORD_BYTES, weighExtents, weighInode, weighXattrs, pageKey } from "./cache-weights.ts";
import { CachedDentry, DirectoryCache, NO_COOKIE } from "./directory-cache.ts";
import { LevelFrozenBatch, type BatchOwner } from "./frozen-batch.ts";
import { GenerationCache } from "./generation-cache.ts";
import { JournaledDatabase } from "./journaled-database.ts";
import { Layer, type Xattrs } from "./layer.ts";
import { LevelSnapshots } from "./level-snapshots.ts";
import { LevelVersions, loadChains } from "./level-versions.ts";
import type { FrozenBatch, MetadataStore } from "./metadata-store.ts";
import { NameHasher } from "./name-hasher.ts";
import { RecordReader } from "./record-reader.ts";
import { SnapshotTable } from "./snapshot-table.ts";
import { openVolume } from "./volume.ts";
import {
  DirectoryWalks,
  ExtentWalks,
  listOrphans,
  plainRecords,
  requireChecked,
  visitIntact,
  type WalkContext,
} from "./walks.ts";

export interface LevelMetadataStoreOptions {
  /** Absolute path of the LevelDB directory. */
  readonly directory: string;
  /** Absolute path of the journal's directory. */
  readonly journalDirectory: string;
  /** Carries the journal; LevelDB uses the machine's. */
  readonly disk: Disk;
  /** Borrowed: closed by its owner, after the store. */
  readonly engine: Pick<SealingEngine, "records" | "namePrf">;
  readonly clock: Clock;
  /** Nothing is committed, and LevelDB is not brought up to the journal. */
  readonly isReadOnly?: boolean;
  /** Without it a missing or empty database is `TCFS_CORRUPT`. */
  readonly createIfMissing: boolean;
  /** Bound of all caches of decoded records together. */
  readonly cacheBytes: number;
  /**
   * Told of each damaged table, and of each record that a listing leaves out because it does not verify; the exact read
   * throws. May be called before the store is there.
   */
  readonly onDamage?: (error: TcfsError) => void;
  /** Told, in a sentence, of a log that ends in a batch that was cut short, as a power cut leaves it. */
  readonly onTornLog?: (sentence: string) => void;
  /** Commits with more changed bytes go past the journal; by default what is worth a batch of its own. */
  readonly journaledBytes?: number;
  /** Told each time LevelDB could not be brought up to the journal, and with no error when it is there again. */
  readonly onLag?: (error: unknown) => void;
  /** Told of each durable commit, in order. Changes are lent for the call. */
  readonly onCommitted?: ((commit: number, changes: readonly RecordChange[]) => void) | undefined;
  /** Stands in for the package `level`: fault injection. */
  readonly openLevel?: OpenLevel;
  /** Stands in for {@link STEP_RECORDS}: many steps with few records. */
  readonly stepRecords?: number;
}

/** Holds nearly every batch; a larger one grows it. */
const BATCH_ARENA_BYTES = 64 * 1024;
const JOURNALED_BYTES = 256 * 1024;

/** Records that one batch of a rollback, or one step of clearing a snapshot away, handles. */
const STEP_RECORDS = 8192;
/** Extent pages that one step of clearing versions away handles: some milliseconds. */
const STEP_PAGES = 1024;

/* How the caches share cacheBytes. */
const INODE_SHARE = 0.45;
const DIRECTORY_SHARE = 0.3;
const EXTENT_SHARE = 0.15;
const CHUNK_SHARE = 0.05;
const XATTR_SHARE = 0.05;

const NO_XATTRS: Xattrs = new Map();
const NO_EXTENTS: ExtentPage = [];

export class LevelMetadataStore implements MetadataStore, BatchOwner, AsyncDisposable {
  readonly volume: VolumeRecord;
  readonly snapshots: LevelSnapshots;
  readonly versions: LevelVersions;
  /** For the batch alone. */
  readonly database: JournaledDatabase;
  readonly #clock: Clock;
  readonly #reader: RecordReader;
  readonly #hasher: NameHasher;
  readonly #records: RecordCipher;

  /** Of the batch that is frozen: the next one writes over it. */
  readonly writer = new ByteWriter(BATCH_ARENA_BYTES);
  #live = new Layer();
  #frozen: LevelFrozenBatch | undefined;
  #isClosed = false;
  /** Every inode number above it is new: numbers ascend and are never used again. */
  #highestInode: number;

  readonly #inodes: GenerationCache<InodeNumber, InodeRecord | null>;
  readonly #directories: DirectoryCache;
  readonly #xattrs: GenerationCache<InodeNumber, Xattrs>;
  readonly #extents: GenerationCache<number | string, ExtentPage>;
  readonly #chunks: GenerationCache<ChunkIdKey, ChunkRecord>;

  readonly #walkContext: WalkContext;
  readonly #directoryWalks: DirectoryWalks;
  readonly #extentWalks: ExtentWalks;

  private constructor(options: LevelMetadataStoreOptions, parts: OpenParts) {
    const { cacheBytes, onDamage = () => undefined } = options;
    this.#clock = options.clock;
    this.#records = options.engine.records;
    this.volume = parts.volume;
    this.database = parts.database;
    this.#reader = parts.reader;
    this.#hasher = parts.hasher;
    this.#highestInode = parts.volume.nextInode - 1;
    this.#inodes = new GenerationCache(cacheBytes * INODE_SHARE, weighInode);
    this.#xattrs = new GenerationCache(cacheBytes * XATTR_SHARE, weighXattrs);
    this.#extents = new GenerationCache(cacheBytes * EXTENT_SHARE, weighExtents);
    this.#chunks = new GenerationCache(cacheBytes * CHUNK_SHARE, () => CHUNK_RECORD_BYTES);
    this.#directories = new DirectoryCache(cacheBytes * DIRECTORY_SHARE, (directory, name) =>
      cookieOfPrf(this.#hasher.hash(directory, name)),
    );
    this.#walkContext = {
      database: parts.database,
      reader: parts.reader,
      overlays: () => ({ live: this.#live, frozen: this.#frozen }),
      getInode: (ino) => this.getInode(ino),
      onDamage,
    };
    this.#directoryWalks = new DirectoryWalks(this.#walkContext, this.#directories);
    this.#extentWalks = new ExtentWalks(this.#walkContext);
    const put = (operations: readonly RecordChange[]): void => {
      for (const operation of operations) this.#live.plain.push(operation);
    };
    const stepRecords = options.stepRecords ?? STEP_RECORDS;
    const onPageGone = (ino: InodeNumber, page: number): void => {
      this.extentPageChanged(ino, page, NO_EXTENTS);
    };
    const stepPages = Math.min(stepRecords, STEP_PAGES);
    this.versions = new LevelVersions({ ...parts, onDamage, put, stepPages, onPageGone });
    this.snapshots = new LevelSnapshots({
      ...parts,
      onDamage,
      stepRecords,
      put,
      pauseListings: () => this.#directoryWalks.pause(),
      forgetRead: () => {
        for (const cache of [this.#inodes, this.#directories, this.#xattrs, this.#extents]) cache.clear();
      },
    });
  }

  /**
   * Open, or create where allowed. A new store has no inode, not even the root.
   * @throws TcfsError `TCFS_VAULT_IN_USE`, `TCFS_CORRUPT`, `TCFS_STORE_FULL`, `TCFS_IO`
   */
  static async open(options: LevelMetadataStoreOptions): Promise<LevelMetadataStore> {
    const { directory, engine, clock, createIfMissing } = options;
    const hasher = new NameHasher((ino, name) => engine.namePrf(ino, name));
    const database = await JournaledDatabase.open({
      directory,
      createIfMissing,
      journalDirectory: options.journalDirectory,
      disk: options.disk,
      records: engine.records,
      clock,
      isReadOnly: options.isReadOnly ?? false,
      journaledBytes: options.journaledBytes ?? JOURNALED_BYTES,
      onLag: options.onLag ?? (() => undefined),
      onStored: options.onCommitted,
      openLevel: options.openLevel ?? openLevel,
      onDamage: options.onDamage ?? (() => undefined),
      onTornLog: options.onTornLog ?? (() => undefined),
    });
    try {
      const reader = new RecordReader(database, engine.records, hasher);
      const volume = await openVolume(database, reader, { createIfMissing, clock });
      const onDamage = options.onDamage ?? (() => undefined);
      const table = await SnapshotTable.load(database, reader, onDamage);
      const chains = await loadChains(database, reader, onDamage);
      return new LevelMetadataStore(options, { database, reader, hasher, volume, table, chains });
    } catch (error) {
      await database.close();
      throw error;
    }
  }

  get reopening(): Promise<void> | undefined {
    return this.database.reopening;
  }

  getInode(ino: InodeNumber): InodeRecord | undefined {
    const cached = this.#inodes.get(ino);
    return cached === undefined ? this.#loadInode(ino) : (cached ?? undefined);
  }

  putInode(inode: InodeRecord): void {
    const { ino } = inode;
    inode.epoch = this.volume.epoch;
    this.#live.inodes.set(ino, inode);
    this.#inodes.set(ino, inode);
    if (ino <= this.#highestInode) return;
    this.#highestInode = ino;
    if (inode.parent !== 0 && !this.#hasNames(ino)) this.#directories.addNew(ino);
  }

  /** A restore puts names into a directory before it puts the directory; the cache may have forgotten them by then. */
  #hasNames(directory: InodeNumber): boolean {
    return this.#live.dentries.has(directory) || this.#frozen?.layer.dentries.has(directory) === true;
  }

  deleteInode(ino: InodeNumber): void {
    if (this.#mayHaveXattrs(ino)) this.putXattrs(ino, NO_XATTRS);
    this.#live.inodes.set(ino, null);
    this.#inodes.set(ino, null);
  }

  getDentry(directory: InodeNumber, name: Name): DentryRecord | undefined {
    const cached = this.#directories.find(directory, name);
    return cached === undefined ? this.#loadDentry(directory, name) : (cached ?? undefined);
  }

  putDentry(directory: InodeNumber, dentry: DentryRecord): void {
    const { name } = dentry;
    this.#changeDentry(directory, name, new CachedDentry(name, dentry.ino, dentry.type, NO_COOKIE));
  }

  deleteDentry(directory: InodeNumber, name: Name): void {
    this.#changeDentry(directory, name, null);
  }

  /**
   * As the interface says. What a promise gives is the cached array too: after the await call again where
   * changes made in the microtasks between matter.
   */
  listDirectory(directory: InodeNumber): readonly DirectoryEntryRecord[] | Promise<readonly DirectoryEntryRecord[]> {
    return this.#directories.list(directory) ?? this.#directoryWalks.list(directory);
  }

  getXattrs(ino: InodeNumber): Xattrs {
    let xattrs = this.#xattrs.get(ino);
    if (xattrs !== undefined) return xattrs;
    xattrs = this.#live.xattrs.get(ino) ?? this.#frozen?.layer.xattrs.get(ino);
    if (xattrs === undefined) {
      if (this.getInode(ino)?.hasXattrs !== true) return NO_XATTRS;
      xattrs = this.#reader.xattrs(ino) ?? NO_XATTRS;
    }
    this.#xattrs.set(ino, xattrs);
    return xattrs;
  }

  putXattrs(ino: InodeNumber, xattrs: Xattrs): void {
    this.#live.xattrs.set(ino, xattrs);
    this.#xattrs.set(ino, xattrs);
  }

  getExtentPage(ino: InodeNumber, page: number): ExtentPage {
    const key = pageKey(ino, page);
    let extents = this.#extents.get(key);
    if (extents !== undefined) return extents;
    extents = this.#frozen?.extents.get(ino)?.get(page) ?? this.#reader.extentPage(ino, page) ?? NO_EXTENTS;
    this.#extents.set(key, extents);
    return extents;
  }

  extentPages(ino: InodeNumber, fromPage: number, toPage: number): Promise<number[]> {
    return this.#extentWalks.list(ino, fromPage, toPage);
  }

  addOrphan(ino: InodeNumber): void {
    this.#live.orphans.set(ino, true);
  }

  removeOrphan(ino: InodeNumber): void {
    this.#live.orphans.set(ino, false);
  }

  listOrphans(): Promise<InodeNumber[]> {
    return listOrphans(this.#walkContext);
  }

  getChunk(id: ChunkId): ChunkRecord | undefined {
    const key = chunkIdKey(id);
    const frozen = this.#frozen?.chunks.get(key);
    if (frozen !== undefined) return frozen ?? undefined;
    const cached = this.#chunks.get(key);
    if (cached !== undefined) return cached;
    const record = this.#reader.chunk(id);
    if (record?.kind === "packed") this.#chunks.set(key, record);
    return record;
  }

  async *chunks(): AsyncGenerator<{ readonly id: ChunkId; readonly record: ChunkRecord }> {
    for await (const entries of this.database.walk(allOfKind("chunk"))) {
      for (const entry of entries) yield this.#reader.storedChunk(entry);
    }
    await requireChecked(this.database, allOfKind("chunk"));
  }

  async *allExtentPages(): AsyncGenerator<ExtentPage> {
    for await (const entries of this.database.walk(ALL_EXTENT_PAGES)) {
      for (const entry of entries) {
        if (liveKeyOf(entry[0])[0] === RECORD_KIND.extents) yield this.#reader.storedExtentPage(entry);
        else if (entry[0][0] === RECORD_KIND.versionPage) yield this.#reader.storedVersionPage(entry);
        else if (entry[0][0] === RECORD_KIND.version) yield* this.#reader.storedVersion(entry).pages?.values() ?? [];
      }
    }
    await requireChecked(this.database, ALL_EXTENT_PAGES);
  }

  /** Those of the database. A damaged record is reported by a throw after all the others were given. */
  packs(): AsyncGenerator<PackRecord> {
    return this.#intactFirst("pack", (entry) => this.#reader.storedPack(entry));
  }

  /** As of the last commit. @throws TcfsError `TCFS_CORRUPT`, `TCFS_IO` */
  getPack(pack: PackId): PackRecord | undefined {
    const entry = this.database.find(packKey(pack));
    return entry && this.#reader.storedPack(entry);
  }

  getChunkTotals(): ChunkTotals | undefined {
    return this.#frozen?.chunkTotals ?? this.#reader.chunkTotals();
  }

  /** Those of the database. A damaged record is reported by a throw after all the others were given. */
  inlineLists(): AsyncGenerator<InlineList> {
    return this.#intactFirst("inlineList", (entry) => this.#reader.storedInlineList(entry));
  }

  async loggedWrites(): Promise<LoggedWrites[]> {
    const found: LoggedWrites[] = [];
    try {
      for await (const entries of this.database.walk(allOfKind("loggedWrites"))) {
        for (const entry of entries) found.push(this.#readLoggedWrites(entry));
      }
    } catch (error) {
      if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
      this.#walkContext.onDamage(error); // the files that need what was not found say so
    }
    return found;
  }

  #readLoggedWrites(entry: StoredEntry): LoggedWrites {
    try {
      return this.#reader.storedLoggedWrites(entry);
    } catch (error) {
      if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
      this.#walkContext.onDamage(error);
      return { ino: inodeOfKey(entry[0]), commit: commitOfKey(entry[0]), content: undefined };
    }
  }

  /**
   * Every record in plaintext, in the order of keys, as of this call: the view is taken in the same synchronous step.
   * @throws TcfsError `TCFS_CORRUPT` at the first one that does not verify.
   */
  allRecords(): AsyncGenerator<readonly PlainRecord[]> {
    return plainRecords(this.database, this.#records);
  }

  get dirtyRecordCount(): number {
    return this.#live.recordCount + (this.snapshots.isRequested ? 1 : 0);
  }

  freeze(): FrozenBatch {
    if (this.#isClosed) throw new TcfsError("TCFS_CLOSED", "the metadata store is closed");
    if (this.#frozen !== undefined) throw new RangeError("a batch is frozen already");
    const now = this.#clock.now();
    const { epoch } = this.volume;
    const operations = this.#live.encode(this.writer, epoch, this.#hasher, this.snapshots.hasAny);
    const versions = this.versions.freeze();
    const { history, taken } = this.snapshots.freeze(now);
    operations.push(...taken);
    const volume = { ...this.volume, commit: this.volume.commit + 1, committedAt: now };
    this.#frozen = new LevelFrozenBatch({ layer: this.#live, volume, epoch, operations, history, versions }, this);
    this.#live = new Layer();
    return this.#frozen;
  }

  /** Abandons what was not committed. Idempotent; waits for a commit in flight. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.database.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /* What the batch tells. */

  extentPageChanged(ino: InodeNumber, page: number, extents: ExtentPage): void {
    this.#extents.set(pageKey(ino, page), extents);
    this.#extentWalks.changed(ino, page, extents.length > 0);
  }

  chunkChanged(key: ChunkIdKey): void {
    this.#chunks.delete(key);
  }

  batchCommitted(volume: VolumeRecord | undefined): void {
    this.writer.reset();
    this.#frozen = undefined;
    this.snapshots.committed();
    if (volume === undefined) return;
    this.volume.commit = volume.commit;
    this.volume.committedAt = volume.committedAt;
  }

  async *#intactFirst<T>(kind: RecordKind, decode: (entry: StoredEntry) => T): AsyncGenerator<T> {
    const damaged: TcfsError[] = [];
    for await (const entries of this.database.walk(allOfKind(kind))) {
      const intact: T[] = [];
      visitIntact(entries, (entry) => intact.push(decode(entry)), damaged);
      yield* intact;
    }
    if (damaged[0] !== undefined) throw damaged[0];
    await requireChecked(this.database, allOfKind(kind));
  }

  #changeDentry(directory: InodeNumber, name: Name, dentry: CachedDentry | null): void {
    const before = this.#directories.change(directory, name, dentry);
    this.#live.setDentry(directory, name, dentry, before);
    this.#directoryWalks.changed(directory, name, dentry);
  }

  #loadInode(ino: InodeNumber): InodeRecord | undefined {
    let inode = this.#live.inodes.get(ino);
    if (inode === undefined) inode = this.#frozen?.layer.inodes.get(ino);
    if (inode === undefined) inode = this.#reader.inode(ino) ?? null;
    this.#inodes.set(ino, inode);
    return inode ?? undefined;
  }

  #loadDentry(directory: InodeNumber, name: Name): DentryRecord | undefined {
    let dentry = this.#live.dentry(directory, name);
    if (dentry === undefined) dentry = this.#frozen?.layer.dentry(directory, name);
    if (dentry === undefined) dentry = this.#reader.dentry(directory, name) ?? null;
    this.#directories.learn(directory, name, dentry);
    return dentry ?? undefined;
  }

  /** A damaged inode may have some: deleting it must not leave them. */
  #mayHaveXattrs(ino: InodeNumber): boolean {
    try {
      return this.getInode(ino)?.hasXattrs ?? false;
    } catch (error) {
      if (isTcfsError(error, "TCFS_CORRUPT")) return true;
      throw error;
    }
  }
}

interface OpenParts {
  readonly database: JournaledDatabase;
  readonly reader: RecordReader;
  readonly hasher: NameHasher;
  readonly volume: VolumeRecord;
  readonly table: SnapshotTable;
  readonly chains: Map<InodeNumber, readonly ChainLink[]>;
}
