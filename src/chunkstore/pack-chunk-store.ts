/**
 * The chunk store over pack files (FORMAT.md §5): names, deduplicates, seals and appends; reads any range back.
 * Crash order: packs are flushed before the batch that names their chunks is filled.
 */
import { join } from "node:path";
import { type ChunkInput, MAX_CHUNK_BYTES, type NamedChunk, type SealingEngine } from "../crypto/engine.ts";
import type { PackKeyWrapper } from "../crypto/pack-key.ts";
import { TcfsError, isTcfsError, unlessCorrupt } from "../errors.ts";
import type { ChunkRecord } from "../format/records.ts";
import type { ChunkId, ChunkIdKey, PackId } from "../ids.ts";
import { type MaybePromise, andThen, isPromise, settleAll, settled } from "../maybe-promise.ts";
import type { FrozenBatch, MetadataStore } from "../metadata/metadata-store.ts";
import type { Clock } from "../platform/clock.ts";
import type { Disk } from "../platform/disk.ts";
import type { RandomSource } from "../platform/random.ts";
import { type BorrowedBytes, lend } from "../borrowed-bytes.ts";
import { ChunkLedger } from "./chunk-ledger.ts";
import { type ChunkMove, ChunkMover, isSamePlace } from "./chunk-mover.ts";
import type { ChunkStore, ChunkStoreStatistics, CollectionReport, StoredChunk } from "./chunk-store.ts";
import { ChunkPrefetcher } from "./chunk-prefetcher.ts";
import { Collector } from "./collector.ts";
import type { FrameCache } from "./frame-cache.ts";
import { FrameReader } from "./frame-reader.ts";
import { NO_FRAME_CACHE } from "./no-frame-cache.ts";
import { OpenPacks } from "./open-packs.ts";
import { chunkIdKey } from "../format/record-keys.ts";
import type { OwnPacks } from "./pack-directory.ts";
import type { PackedChunkRecord } from "./pack-format.ts";
import { PackProofs } from "./pack-proofs.ts";
import { PackReaders } from "./pack-readers.ts";
import { PackRewrapper, type Pause } from "./pack-rewrapper.ts";
import { type PackShelf, distrustChunk } from "./pack-shelf.ts";
import { TouchedChunks } from "./touched-chunks.ts";
import { type JobLimits, type WantedChunk, cutInputs, groupIntoJobs, joinPieces, missing } from "./wanted-chunks.ts";

/** Sealing jobs under way at once: two cores seal, two jobs wait for the disk. */
const MAX_SEAL_JOBS = 4;
/** Keeps what one job adds to a pack's index far below the largest chunk. */
const MAX_JOB_CHUNKS = 8192;
/** A larger chunk goes to a pack whatever was asked: LevelDB copies values again with every compaction. */
const MAX_INLINE_CHUNK_BYTES = 256 * 1024;
/** Inline bytes or chunks in the metadata from which on they are moved to packs in the background. */
const INLINE_MOVE_BYTES = 8 * 1024 * 1024;
const INLINE_MOVE_COUNT = 8192;
/** Read descriptors kept open. */
const MAX_OPEN_PACKS = 256;

const NOTHING = lend([]);

/** A read of a packed chunk that failed. */
interface FailedRead {
  readonly id: ChunkId;
  /** Where it was read. */
  readonly from: PackedChunkRecord;
  readonly isSecond: boolean;
  readonly error: unknown;
}

export interface PackChunkStoreOptions {
  /** The vault's directory; packs are in `packs` below it, which is there if anything is to be written. */
  readonly directory: string;
  readonly disk: Disk;
  /** Borrowed: closed by its owner, after the store. */
  readonly engine: SealingEngine;
  /** Borrowed: closed by its owner, after the store. */
  readonly metadata: MetadataStore;
  readonly random: RandomSource;
  readonly clock: Clock;
  readonly vaultId: Uint8Array;
  /** Borrowed: its keys are wiped by their owner, after the store. */
  readonly packKeys: PackKeyWrapper;
  /** Owned: cleared by close. */
  readonly frameCache: FrameCache;
  /** Stored bytes at which a pack counts as full. */
  readonly packBytes: number;
  /** Packs that are written at the same time. */
  readonly openPacks: number;
  /** Where packs are that are not here, and what bounds those that are. */
  readonly shelf?: PackShelf | undefined;
}

export class PackChunkStore implements ChunkStore, AsyncDisposable {
  /** For the end of a key epoch. */
  readonly rewrapper: PackRewrapper;
  readonly #engine: SealingEngine;
  readonly #metadata: MetadataStore;
  readonly #limits: JobLimits;
  readonly #packs: OpenPacks;
  readonly #readers: PackReaders;
  readonly #frames: FrameReader;
  /** Past the cache. */
  readonly #storedFrames: FrameReader;
  readonly #prefetcher: ChunkPrefetcher;
  readonly #cache: FrameCache;
  readonly #proofs: PackProofs;
  readonly #ledger: ChunkLedger;
  readonly #mover: ChunkMover;
  readonly #collector: Collector;
  readonly #shelf: PackShelf | undefined;
  readonly #touched = new TouchedChunks();
  /** Chunks that did not verify when read: whoever brings the same content heals them. */
  readonly #damaged = new Set<ChunkIdKey>();
  /** Work that close waits for. */
  readonly #running = new Set<Promise<unknown>>();
  #moving: Promise<void> | undefined;
  /** A failed flush: nothing is made durable after it. */
  #failure: TcfsError | undefined;
  #isClosed = false;

  private constructor(options: PackChunkStoreOptions, ledger: ChunkLedger) {
    const { disk, engine, metadata, random, vaultId, packBytes, openPacks, packKeys } = options;
    const directory = join(options.directory, "packs");
    const jobBytes = engine.sealBoundBytes(MAX_CHUNK_BYTES);
    this.#engine = engine;
    this.#metadata = metadata;
    this.#ledger = ledger;
    this.#limits = { jobBytes, chunkCount: MAX_JOB_CHUNKS };
    const shared = { disk, directory, engine, vaultId, packKeys, shelf: options.shelf };
    this.rewrapper = new PackRewrapper({ disk, directory, vaultId, packKeys });
    this.#packs = new OpenPacks({ ...shared, random, packBytes, openPacks, maxJobs: MAX_SEAL_JOBS, jobBytes });
    this.#readers = new PackReaders({
      ...shared,
      clock: options.clock,
      maxOpen: MAX_OPEN_PACKS,
    });
    this.#cache = options.frameCache;
    this.#frames = new FrameReader(this.#readers, this.#cache);
    this.#prefetcher = new ChunkPrefetcher({ ledger, metadata, frames: this.#frames, shelf: options.shelf });
    this.#storedFrames = new FrameReader(this.#readers, NO_FRAME_CACHE);
    this.#proofs = new PackProofs(this.#readers);
    this.#mover = new ChunkMover(this.#packs, ledger, engine, this.#limits);
    this.#collector = new Collector({
      disk,
      directory,
      metadata,
      ledger,
      packs: this.#packs,
      readers: this.#readers,
      frames: this.#frames,
      mover: this.#mover,
      touched: this.#touched,
      proofs: this.#proofs,
      shelf: options.shelf,
    });
    this.#shelf = options.shelf;
  }

  /** Writes nothing: a vault can be opened to be read. */
  static async open(options: PackChunkStoreOptions): Promise<PackChunkStore> {
    return new PackChunkStore(options, await ChunkLedger.open(options.metadata));
  }

  /** Whether the pack's file is on this disk. */
  isPackHere(pack: PackId): Promise<boolean> {
    return this.#readers.isHere(pack);
  }

  /** The packs of this session, for whoever takes them elsewhere. */
  get ownPacks(): OwnPacks {
    return this.#packs;
  }

  name(inputs: readonly ChunkInput[]): MaybePromise<NamedChunk[][]> {
    this.#assertWritable();
    const named = this.#engine.nameChunks(inputs);
    return isPromise(named) ? this.#track(named) : named;
  }

  store(
    inputs: readonly ChunkInput[],
    place: "inline" | "pack",
    named: MaybePromise<readonly (readonly NamedChunk[])[]> = this.name(inputs),
  ): MaybePromise<StoredChunk[][]> {
    const stored = andThen(named, (chunksOf) => {
      this.#assertWritable();
      const wanted = cutInputs(inputs, chunksOf);
      const chunks = wanted.flat();
      const records = chunks.map((chunk) => this.#lookUp(chunk));
      const doubtful = records.filter((record) => record?.kind === "packed" && !this.#proofs.isProven(record));
      if (doubtful.length === 0) return this.#storeWanted(wanted, records, place);
      return this.#proofs.prove(doubtful).then(() => {
        const proven = chunks.map((chunk) => this.#lookUp(chunk));
        return this.#storeWanted(wanted, proven, place);
      });
    });
    return isPromise(stored) ? this.#track(stored) : stored;
  }

  /** @param records - Of all wanted chunks, looked up in this same step: no commit or collection came between. */
  #storeWanted(
    wanted: readonly (readonly WantedChunk[])[],
    records: readonly (ChunkRecord | undefined)[],
    place: "inline" | "pack",
  ): MaybePromise<StoredChunk[][]> {
    const fresh: WantedChunk[] = [];
    const waiting: Promise<void>[] = [];
    let next = 0;
    const stored = wanted.map((ofInput) =>
      ofInput.map((chunk): StoredChunk => {
        const { id, key, lengthBytes } = chunk;
        const record = records[next++];
        const isNew = !this.#isThere(key, record, waiting);
        if (isNew) {
          fresh.push(chunk);
          this.#ledger.add({ id, key, replaces: record, record: undefined, written: undefined });
        }
        this.#touched.touch(id, key);
        return { id, lengthBytes, isNew };
      }),
    );
    const writes = [...waiting, ...this.#write(fresh, place)];
    if (writes.length === 0) return stored;
    return settleAll(writes).then(() => {
      for (const { id, key } of wanted.flat()) this.#touched.touch(id, key);
      return stored;
    });
  }

  /** The chunk's durable record, if it has one and no newer copy is on its way. */
  #lookUp({ id, key }: WantedChunk): ChunkRecord | undefined {
    return this.#ledger.uncommitted(key) === undefined ? this.#durableRecord(id, key) : undefined;
  }

  /** A record that does not verify is none: the content is at hand to be stored anew. */
  #durableRecord(id: ChunkId, key: ChunkIdKey): ChunkRecord | undefined {
    return unlessCorrupt(() => this.#ledger.durableRecord(id, key));
  }

  /** Whether an equal chunk can be relied on. @param waiting - Gets the write that still has to succeed for it. */
  #isThere(key: ChunkIdKey, record: ChunkRecord | undefined, waiting: Promise<void>[]): boolean {
    const uncommitted = this.#ledger.uncommitted(key);
    if (uncommitted !== undefined) {
      this.#ledger.rescue(key); // condemned while it was moved: the next batch would delete what this one writes
      if (uncommitted.written !== undefined) waiting.push(uncommitted.written);
      return true;
    }
    if (record === undefined || this.#damaged.has(key)) return false;
    if (record.kind === "packed" && !this.#proofs.isProven(record)) return false;
    this.#ledger.rescue(key);
    return true;
  }

  /** @returns One promise per job; each rejects without harm to the others. */
  #write(fresh: readonly WantedChunk[], place: "inline" | "pack"): Promise<void>[] {
    const isInline = (chunk: WantedChunk): boolean => place === "inline" && chunk.lengthBytes <= MAX_INLINE_CHUNK_BYTES;
    for (const chunk of fresh) {
      const entry = this.#ledger.uncommitted(chunk.key);
      if (entry !== undefined && isInline(chunk)) entry.record = { kind: "inline", content: joinPieces(chunk) };
    }
    const packed = fresh.filter((chunk) => !isInline(chunk));
    const sealBoundBytes = (lengthBytes: number): number => this.#engine.sealBoundBytes(lengthBytes);
    return groupIntoJobs(packed, this.#limits, sealBoundBytes).map((job) => this.#writeJob(job));
  }

  #writeJob(job: readonly WantedChunk[]): Promise<void> {
    const entries = job.map(({ key }) => this.#ledger.uncommitted(key));
    const written = this.#packs.append(job).then(
      (records) => {
        entries.forEach((entry, i) => {
          const record = records[i];
          if (entry === undefined || record === undefined) return;
          entry.record = record;
          entry.written = undefined;
          this.#proofs.trust(record.pack);
        });
      },
      (error: unknown) => {
        for (const entry of entries) if (entry !== undefined) this.#ledger.abandon(entry);
        throw error;
      },
    );
    written.catch(() => undefined); // the store call reports it
    for (const entry of entries) if (entry !== undefined) entry.written = written;
    return written;
  }

  read(id: ChunkId, offset: number, lengthBytes: number): MaybePromise<BorrowedBytes> {
    return this.#read(id, offset, lengthBytes, false);
  }

  /** @param isSecond - What did not verify was given up, to come from the store. */
  #read(id: ChunkId, offset: number, lengthBytes: number, isSecond: boolean): MaybePromise<BorrowedBytes> {
    if (this.#isClosed) throw new TcfsError("TCFS_CLOSED", "the chunk store is closed");
    if (lengthBytes === 0) return NOTHING;
    const key = chunkIdKey(id);
    this.#touched.touchForRead(id);
    this.#ledger.rescue(key);
    const uncommitted = this.#ledger.uncommitted(key);
    if (uncommitted?.written !== undefined) return uncommitted.written.then(() => this.read(id, offset, lengthBytes));
    const record = uncommitted?.record ?? this.#metadata.getChunk(id);
    if (record === undefined) throw missing(id);
    const chunkBytes = record.kind === "inline" ? record.content.length : record.lengthBytes;
    if (offset + lengthBytes > chunkBytes) throw new TcfsError("TCFS_CORRUPT", "an extent reaches beyond its chunk");
    if (record.kind === "inline") return lend([record.content.subarray(offset, offset + lengthBytes)]);
    const again = (error: unknown): MaybePromise<BorrowedBytes> =>
      this.#readAgain({ id, from: record, isSecond, error }, (isNext) => this.#read(id, offset, lengthBytes, isNext));
    let result: MaybePromise<BorrowedBytes>;
    try {
      result = this.#frames.read(record, offset, lengthBytes);
    } catch (error) {
      return again(error);
    }
    return isPromise(result) ? this.#track(result.catch(again)) : result;
  }

  /**
   * After a failure: the chunk may have been moved between the look-up and the opening of its old pack, or the store may
   * have what does not verify here.
   */
  #readAgain<T>(
    { id, from, isSecond, error }: FailedRead,
    read: (isSecond: boolean) => MaybePromise<T>,
  ): MaybePromise<T> {
    const key = chunkIdKey(id);
    const now = this.#ledger.uncommitted(key)?.record ?? this.#metadata.getChunk(id);
    if (now !== undefined && !isSamePlace(now, from)) return read(isSecond);
    const isDamage = isTcfsError(error, "TCFS_CORRUPT");
    if (!isDamage && !isTcfsError(error, "TCFS_IO")) throw error;
    const opens = (): Promise<boolean> => this.#readers.opens(from.pack);
    const isElsewhere = isSecond || this.#shelf === undefined ? false : distrustChunk(this.#shelf, from, error, opens);
    return andThen(isElsewhere, (isThere) => {
      if (isThere) return read(true);
      if (isDamage) this.#damaged.add(key);
      throw error;
    });
  }

  check(id: ChunkId): Promise<number> {
    return this.#check(id, false);
  }

  async #check(id: ChunkId, isSecond: boolean): Promise<number> {
    if (this.#isClosed) throw new TcfsError("TCFS_CLOSED", "the chunk store is closed");
    const key = chunkIdKey(id);
    const uncommitted = this.#ledger.uncommitted(key);
    await uncommitted?.written;
    const record = uncommitted?.record ?? this.#metadata.getChunk(id);
    if (record === undefined) throw missing(id);
    if (record.kind === "inline") return record.content.length; // its record was opened just now
    try {
      (await this.#track(Promise.resolve(this.#storedFrames.read(record, 0, record.lengthBytes)))).release();
    } catch (error) {
      return this.#readAgain({ id, from: record, isSecond, error }, (isNext) => this.#check(id, isNext));
    }
    return record.lengthBytes;
  }

  packOf(id: ChunkId): PackId | undefined {
    const record = this.#ledger.uncommitted(chunkIdKey(id))?.record ?? this.#metadata.getChunk(id);
    return record?.kind === "packed" ? record.pack : undefined;
  }

  /** They do not verify where they are; nothing new relies on the pack unseen, and collection moves what is whole out of it. */
  noteDamaged(pack: PackId, ids: readonly ChunkId[]): void {
    this.#proofs.forget(pack);
    this.#collector.noteDamaged(pack);
    for (const id of ids) this.#damaged.add(chunkIdKey(id));
  }

  /** Whether the pack is known to be lost: what comes again of it is stored anew, for which of it is whole is not known. */
  distrust(pack: PackId, isLost: boolean): void {
    this.#proofs.distrust(pack, isLost);
    if (isLost) this.#collector.noteDamaged(pack);
  }

  retain(id: ChunkId): void {
    const key = chunkIdKey(id);
    this.#touched.touch(id, key);
    this.#ledger.rescue(key);
  }

  prefetch(id: ChunkId, offset: number, lengthBytes: number): void {
    if (!this.#isClosed && lengthBytes > 0) this.#prefetcher.prefetch(id, offset, lengthBytes);
  }

  get hasStore(): boolean {
    return this.#shelf !== undefined;
  }

  approach(ids: readonly ChunkId[]): boolean {
    return this.#isClosed || this.#prefetcher.approach(ids);
  }

  get isDirty(): boolean {
    return this.#ledger.isDirty || this.#packs.hasUnrecorded;
  }

  flushInto(batch: FrozenBatch): MaybePromise<void> {
    this.#assertWritable();
    const chunks = [...this.#ledger.allUncommitted()].filter(({ record }) => record !== undefined);
    return settled(
      () => andThen(this.#packs.makeDurable(), (packs) => this.#ledger.fill(batch, chunks, packs)),
      () => undefined,
      (error) => {
        throw isTcfsError(error, "TCFS_TOO_MANY_FILES") ? error : this.#failed(error);
      },
    );
  }

  /**
   * The device may have dropped what it was to keep, and says so only once: from now on nothing is promised. What verifies
   * is read all the same: it may be all that there is of it.
   */
  #failed(error: unknown): TcfsError {
    this.#failure ??= new TcfsError("TCFS_IO", "packs could not be flushed; the chunk store takes no more", {
      cause: error,
    });
    return this.#failure;
  }

  committed(): void {
    const chunks = [...this.#damaged].filter((key) => this.#ledger.uncommitted(key)?.record !== undefined);
    const packs = this.#ledger.committed();
    for (const key of chunks) if (this.#ledger.uncommitted(key) === undefined) this.#damaged.delete(key);
    this.#touched.committed();
    // Closing a pack that is finished and flushed has nothing left to report.
    void this.#track(this.#packs.recorded(packs)).catch(() => undefined);
    const { inlineBytes } = this.#ledger.totals;
    if (inlineBytes > INLINE_MOVE_BYTES || this.#ledger.inline.count > INLINE_MOVE_COUNT) {
      this.migrateInline().catch(() => undefined); // they are well where they are; the next commit tries again
    }
  }

  migrateInline(): Promise<void> {
    this.#moving ??= this.#track(
      this.#migrateInline().finally(() => {
        this.#moving = undefined;
      }),
    );
    return this.#moving;
  }

  async #migrateInline(): Promise<void> {
    this.#assertWritable();
    let moves: ChunkMove[] = [];
    let heldBytes = 0;
    for (const id of this.#ledger.inline.oldest(INLINE_MOVE_COUNT)) {
      const key = chunkIdKey(id);
      if (this.#ledger.uncommitted(key) !== undefined) continue;
      const from = this.#durableRecord(id, key);
      if (from?.kind !== "inline") {
        this.#ledger.inline.remove([key]); // moved or deleted by an earlier session
        continue;
      }
      moves.push({ id, from, content: from.content });
      heldBytes += from.content.length;
      if (heldBytes < MAX_CHUNK_BYTES) continue;
      await this.#mover.move(moves);
      moves = [];
      heldBytes = 0;
    }
    await this.#mover.move(moves);
  }

  collect(barrier: () => Promise<void>, signal: AbortSignal, neededBytes = 0): Promise<CollectionReport> {
    this.#assertWritable();
    return this.#track(this.#collector.collect(barrier, signal, neededBytes));
  }

  renewPacks(barrier: () => Promise<void>, signal: AbortSignal, pause: Pause): Promise<number> {
    this.#assertWritable();
    return this.#track(this.#collector.renew(barrier, signal, pause));
  }

  statistics(): ChunkStoreStatistics {
    const { packCount, packBytes, inlineBytes, uniqueBytes } = this.#ledger.totals;
    const cacheBytes = this.#cache.usedBytes;
    return { storedBytes: packBytes + inlineBytes, uniqueBytes, packCount, inlineBytes, cacheBytes };
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await Promise.allSettled(this.#running);
    try {
      await this.#packs.close();
      await this.#readers.close();
    } finally {
      this.#cache.clear();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #track<T>(work: Promise<T>): Promise<T> {
    this.#running.add(work);
    const forget = (): void => {
      this.#running.delete(work);
    };
    work.then(forget, forget);
    return work;
  }

  #assertWritable(): void {
    if (this.#isClosed) throw new TcfsError("TCFS_CLOSED", "the chunk store is closed");
    if (this.#failure !== undefined) throw this.#failure;
  }
}
