/**
 * Collection of what nothing refers to any more (DESIGN §9.6): mark from every extent page, then drop dead chunk
 * records in bounded batches, empty packs that are mostly dead, and delete packs without a chunk. Whatever cannot be
 * read, or was touched since the collection began, is kept; a missing chunk that is referred to stops everything.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { counted } from "../counted.ts";
import { copyLoan } from "../borrowed-bytes.ts";

import { TcfsError, isTcfsError } from "../errors.ts";
import type { PackRecord } from "../format/records.ts";
import { isZeroChunk } from "../format/zero-chunk.ts";
import type { ChunkId, PackId } from "../ids.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import type { Disk } from "../platform/disk.ts";
import type { ChunkLedger } from "./chunk-ledger.ts";
import type { ChunkMove, ChunkMover } from "./chunk-mover.ts";
import type { CollectionReport } from "./chunk-store.ts";
import { EmptyingPlan, isMostlyDead } from "./emptying-plan.ts";
import type { FrameReader } from "./frame-reader.ts";
import { IdSet } from "./id-set.ts";
import { type OpenPacks, packPath } from "./open-packs.ts";
import { listPackFiles } from "./pack-directory.ts";
import { type PackedChunkRecord, formatPackId, sumBytes } from "./pack-format.ts";
import type { PackProofs } from "./pack-proofs.ts";
import type { PackReaders } from "./pack-readers.ts";
import type { PackShelf } from "./pack-shelf.ts";
import type { TouchedChunks } from "./touched-chunks.ts";

/** Records looked at between two turns of the event loop: about a millisecond of foreground latency. */
const RECORDS_PER_TURN = 256;
/** Deletions that ride on one commit. */
const DOOMED_PER_BATCH = 4096;
/** Content held in memory while chunks are moved. */
const MOVE_BYTES = 8 * 1024 * 1024;
/** Moved content after which a commit makes the new places durable. */
const MOVED_PER_BATCH_BYTES = 64 * 1024 * 1024;
/** Room on the disk that moving leaves alone: without it no commit could make the moves durable, nor free anything. */
const UNTOUCHED_BYTES = 24 * 1024 * 1024;

export interface CollectorOptions {
  readonly disk: Disk;
  /** The vault's `packs` directory. */
  readonly directory: string;
  readonly metadata: MetadataStore;
  readonly ledger: ChunkLedger;
  readonly packs: OpenPacks;
  readonly readers: PackReaders;
  readonly frames: FrameReader;
  readonly mover: ChunkMover;
  readonly touched: TouchedChunks;
  readonly proofs: PackProofs;
  readonly shelf: PackShelf | undefined;
}

interface Survey {
  /** Stored bytes of live chunks by pack name. */
  readonly liveBytes: ReadonlyMap<string, number>;
  readonly liveChunks: number;
  readonly deadChunks: number;
}

/** A collection that also empties packs of older key epochs, whatever lives in them, and takes its time. */
interface PackRenewal {
  /** Called after each move. */
  readonly pause: () => Promise<void>;
  /** Names of those packs, until they are gone. */
  readonly outdated: Set<string>;
}

/** What a collection is asked for. */
interface Orders {
  readonly barrier: () => Promise<void>;
  readonly signal: AbortSignal;
  /** To be given back, if it can be, by emptying packs that would stay otherwise. */
  readonly neededBytes: number;
  readonly renewal: PackRenewal | undefined;
}

/** A chunk to be moved from one pack to another. */
interface PackedMove extends ChunkMove {
  readonly from: PackedChunkRecord;
}

/** One collection under way. */
interface Run extends Orders {
  readonly marked: IdSet;
}

export class Collector {
  readonly #options: CollectorOptions;
  /** Names of packs that are not whole. */
  readonly #damaged = new Set<string>();
  /** By name: packs whose records go, and whose files go once that is durable, though a later collection sees to it. */
  readonly #going = new Map<string, PackRecord>();
  #isRunning = false;
  #recordsThisTurn = 0;

  constructor(options: CollectorOptions) {
    this.#options = options;
  }

  /** The pack is not whole: it is emptied, as far as its chunks verify, so that it goes once the others are needed no more. */
  noteDamaged(pack: PackId): void {
    this.#damaged.add(formatPackId(pack));
  }

  /** @throws TcfsError `TCFS_BUSY`, `TCFS_INTERRUPTED`, `TCFS_CORRUPT` or `TCFS_IO`; what was not yet dropped stays. */
  collect(barrier: () => Promise<void>, signal: AbortSignal, neededBytes: number): Promise<CollectionReport> {
    return this.#run({ barrier, signal, neededBytes, renewal: undefined });
  }

  /** See {@link ChunkStore.renewPacks}. @throws as {@link collect}, and what `pause` throws. */
  async renew(barrier: () => Promise<void>, signal: AbortSignal, pause: () => Promise<void>): Promise<number> {
    const outdated = new Set<string>();
    await this.#run({ barrier, signal, neededBytes: 0, renewal: { pause, outdated } });
    return outdated.size;
  }

  async #run(orders: Orders): Promise<CollectionReport> {
    if (this.#isRunning) throw new TcfsError("TCFS_BUSY", "a collection is running already");
    this.#isRunning = true;
    const { touched } = this.#options;
    touched.beginCollection();
    for (const { id } of this.#options.ledger.allUncommitted()) touched.touchForRead(id);
    try {
      return await this.#collect(orders);
    } finally {
      touched.endCollection();
      this.#isRunning = false;
    }
  }

  async #collect(orders: Orders): Promise<CollectionReport> {
    await this.#options.packs.retire();
    await orders.barrier();
    const run: Run = { ...orders, marked: await this.#mark(orders.signal) };
    const files = await this.#foreignFiles();
    const packs = await this.#closedPacks();
    const survey = await this.#survey(run);
    const plan = await this.#planEmptying(run, packs, survey);
    let orphans = files.filter((pack) => !packs.has(formatPackId(pack)));
    let candidates = [...packs.values()].filter(({ pack }) => !survey.liveBytes.has(formatPackId(pack)));
    const { liveChunks, deadChunks } = survey;
    const report = { liveChunks, deadChunks, freedBytes: 0, rewrittenBytes: 0 };
    let toEmpty = plan.take(await this.#roomToMove());
    let isStuck: boolean;
    do {
      const { movedBytes, isFull } = await this.#sweep(run, toEmpty);
      report.rewrittenBytes += movedBytes;
      await run.barrier();
      candidates.push(...[...packs.values()].filter(({ pack }) => toEmpty.has(formatPackId(pack))));
      const { gone, freedBytes } = await this.#dropPacks(run, candidates, orphans);
      report.freedBytes += freedBytes;
      gone.forEach((name) => {
        plan.noteGone(name);
      });
      isStuck = isFull && gone.length === 0 && freedBytes === 0;
      candidates = [];
      orphans = [];
      toEmpty = plan.take(await this.#roomToMove());
    } while (!isStuck && toEmpty.size > 0);
    return report;
  }

  /** @returns Bytes that moves may write. */
  async #roomToMove(): Promise<number> {
    const { disk, directory } = this.#options;
    return (await disk.space(directory)).availableBytes - UNTOUCHED_BYTES;
  }

  async #mark(signal: AbortSignal): Promise<IdSet> {
    const marked = new IdSet();
    for await (const page of this.#options.metadata.allExtentPages()) {
      for (const { chunk } of page) if (!isZeroChunk(chunk)) marked.add(chunk);
      await this.#turn(signal);
    }
    return marked;
  }

  /** Packs of the database that this session does not write any more: nothing new ever comes into them. */
  async #closedPacks(): Promise<Map<string, PackRecord>> {
    const packs = new Map<string, PackRecord>();
    for await (const record of this.#options.metadata.packs()) {
      if (!this.#options.packs.isOpen(record.pack)) packs.set(formatPackId(record.pack), record);
    }
    return packs;
  }

  /** Pack files of earlier sessions. One that no batch ever named is what a crash left between packs and batch. */
  async #foreignFiles(): Promise<PackId[]> {
    const { disk, directory } = this.#options;
    const files: PackId[] = [];
    for await (const pack of listPackFiles(disk, directory)) {
      if (!this.#options.packs.isOwn(pack)) files.push(pack);
    }
    return files;
  }

  #isLive(run: Run, id: ChunkId): boolean {
    return run.marked.has(id) || this.#options.touched.isTouched(id);
  }

  async #survey(run: Run): Promise<Survey> {
    const liveBytes = new Map<string, number>();
    let liveChunks = 0;
    let deadChunks = 0;
    let markedChunks = 0;
    for await (const { id, record } of this.#options.metadata.chunks()) {
      if (run.marked.has(id)) markedChunks += 1;
      if (!this.#isLive(run, id)) deadChunks += 1;
      else {
        liveChunks += 1;
        if (record.kind === "packed") countLive(liveBytes, record);
      }
      await this.#turn(run.signal);
    }
    if (markedChunks < run.marked.count) {
      const missing = run.marked.count - markedChunks;
      throw new TcfsError(
        "TCFS_CORRUPT",
        `${counted(missing, "chunk")} that files refer to ${missing === 1 ? "is" : "are"} missing: nothing is collected`,
      );
    }
    return { liveBytes, liveChunks, deadChunks };
  }

  /**
   * Packs whose live chunks are to be moved: mostly dead, never finished, damaged, or outdated; where room is needed,
   * those that are partly dead as well. Of packs that only the store has none but outdated ones are: fetching them would
   * cost more than they take here, which is nothing. They are dropped once all in them is dead.
   */
  async #planEmptying(run: Run, packs: ReadonlyMap<string, PackRecord>, survey: Survey): Promise<EmptyingPlan> {
    let { neededBytes } = run;
    for (const [name, { pack, lengthBytes }] of packs) {
      if (neededBytes <= 0) break;
      if (!survey.liveBytes.has(name) && (await this.#takesRoom(pack))) neededBytes -= lengthBytes;
    }
    const plan = new EmptyingPlan(neededBytes);
    for (const [name, { pack, lengthBytes, isFinished }] of packs) {
      const living = { name, liveBytes: survey.liveBytes.get(name) ?? 0, lengthBytes };
      if (living.liveBytes === 0) continue;
      if (run.renewal !== undefined && (await this.#isOutdated(pack))) {
        run.renewal.outdated.add(name);
        plan.addOwed(living);
        continue;
      }
      const isOwed = isMostlyDead(living) || this.#damaged.has(name);
      const isWanted = plan.isWanted(living);
      if (!isOwed && !isWanted && isFinished) continue;
      if (!(await this.#takesRoom(pack))) continue;
      if (isOwed || (!isFinished && !(await this.#hasIndex(pack)))) plan.addOwed(living);
      else if (isWanted) plan.addOptional(living);
    }
    return plan;
  }

  /** Whether it is on this disk: a store's may not be. */
  async #takesRoom(pack: PackId): Promise<boolean> {
    return this.#options.shelf === undefined || this.#options.readers.isHere(pack);
  }

  /** One that does not open counts as such: its chunks are moved, as far as they verify. */
  async #isOutdated(pack: PackId): Promise<boolean> {
    try {
      return await this.#options.readers.isOfOlderEpoch(pack);
    } catch (error) {
      await this.#throwIfAway(error, pack);
      return true;
    }
  }

  /** What the store alone has, and does not give now, is no damage: a renewal that took it for that would end too early. */
  async #throwIfAway(error: unknown, pack: PackId): Promise<void> {
    if (!isTcfsError(error)) throw error;
    if (error.code !== "TCFS_CORRUPT" && !(await this.#options.readers.isHere(pack))) throw error;
  }

  /** A pack that was finished when its session ended has its index, though no batch said so any more. */
  async #hasIndex(pack: PackId): Promise<boolean> {
    const { readers } = this.#options;
    try {
      const reader = await readers.acquire(pack);
      try {
        return (await reader.readIndex(pack)) !== undefined;
      } finally {
        readers.release(reader);
      }
    } catch (error) {
      if (isTcfsError(error)) return false; // its chunks are moved, as far as they verify
      throw error;
    }
  }

  /** Delete dead records and move live chunks. @returns Content bytes moved, and whether there was no room for more. */
  async #sweep(
    run: Run,
    toEmpty: ReadonlySet<string>,
  ): Promise<{ readonly movedBytes: number; readonly isFull: boolean }> {
    const held: PackedMove[] = [];
    const state = { heldBytes: 0, movedBytes: 0, unflushedBytes: 0, doomedCount: 0, isFull: false };
    const moveHeld = async (): Promise<void> => {
      state.isFull = !(await this.#move(held.splice(0)));
      if (!state.isFull) state.movedBytes += state.heldBytes;
      state.unflushedBytes += state.heldBytes;
      state.heldBytes = 0;
      await run.renewal?.pause();
    };
    for await (const { id, record } of this.#options.metadata.chunks()) {
      await this.#turn(run.signal);
      if (!this.#isLive(run, id)) {
        this.#options.ledger.doom(id, record);
        state.doomedCount += 1;
      } else if (!state.isFull && record.kind === "packed" && toEmpty.has(formatPackId(record.pack))) {
        const content = await this.#readToMove(run, record);
        if (content === undefined) continue;
        held.push({ id, from: record, content });
        state.heldBytes += content.length;
      }
      if (state.heldBytes >= MOVE_BYTES) await moveHeld();
      if (state.doomedCount < DOOMED_PER_BATCH && state.unflushedBytes < MOVED_PER_BATCH_BYTES) continue;
      await run.barrier();
      state.doomedCount = 0;
      state.unflushedBytes = 0;
    }
    if (held.length > 0) await moveHeld();
    return state;
  }

  /** @returns False where there is no room to move into: then only packs without live chunks give theirs back. */
  async #move(moves: readonly PackedMove[]): Promise<boolean> {
    const storedBytes = moves.reduce((sum, { from }) => sum + sumBytes(from.storedFrameBytes), 0);
    try {
      if ((await this.#roomToMove()) < storedBytes) return false;
      await this.#options.mover.move(moves);
      return true;
    } catch (error) {
      if (isTcfsError(error, "TCFS_STORE_FULL")) return false;
      throw error;
    }
  }

  /** @returns Undefined where the chunk cannot be read: it stays, and its pack with it. */
  async #readToMove(run: Run, record: PackedChunkRecord): Promise<Uint8Array | undefined> {
    try {
      return copyLoan(await this.#options.frames.read(record, 0, record.lengthBytes));
    } catch (error) {
      if (!isTcfsError(error)) throw error;
      if (run.renewal !== undefined) await this.#throwIfAway(error, record.pack);
      return undefined;
    }
  }

  /**
   * Delete packs that no chunk record refers to: records first, files when that is durable.
   * @returns Names of packs that went, and the bytes that all files gave back.
   */
  async #dropPacks(
    run: Run,
    candidates: readonly PackRecord[],
    orphans: readonly PackId[],
  ): Promise<{ readonly gone: readonly string[]; readonly freedBytes: number }> {
    const gone: string[] = [];
    let freedBytes = 0;
    if (candidates.length === 0 && orphans.length === 0 && this.#going.size === 0) return { gone, freedBytes };
    const inUse = new Set<string>();
    for await (const { record } of this.#options.metadata.chunks()) {
      if (record.kind === "packed") inUse.add(formatPackId(record.pack));
      await this.#turn(run.signal);
    }
    const drops = candidates.filter(({ pack }) => !inUse.has(formatPackId(pack)));
    for (const drop of drops) {
      this.#options.ledger.dropPack(drop);
      this.#going.set(formatPackId(drop.pack), drop);
      run.renewal?.outdated.delete(formatPackId(drop.pack));
    }
    if (drops.length > 0) await run.barrier();
    for (const [name, drop] of this.#going) {
      if (this.#options.ledger.isDropPending(drop)) continue;
      freedBytes += await this.#remove(drop.pack);
      this.#going.delete(name);
      gone.push(name);
    }
    for (const pack of orphans) if (!inUse.has(formatPackId(pack))) freedBytes += await this.#remove(pack);
    return { gone, freedBytes };
  }

  /** @returns Bytes given back; a file that is gone gives none. */
  async #remove(pack: PackId): Promise<number> {
    const { disk, directory, readers, proofs, shelf } = this.#options;
    const path = packPath(directory, pack);
    readers.forget(pack);
    proofs.forget(pack);
    await shelf?.drop(pack);
    try {
      const file = await disk.open(path);
      const lengthBytes = await file.length().finally(() => file.close());
      await disk.remove(path);
      return lengthBytes;
    } catch (error) {
      if (isTcfsError(error, "TCFS_NO_ENTRY")) return 0;
      throw error;
    }
  }

  /** Let foreground work go on every so often. */
  async #turn(signal: AbortSignal): Promise<void> {
    if (++this.#recordsThisTurn < RECORDS_PER_TURN) return;
    this.#recordsThisTurn = 0;
    if (signal.aborted) throw new TcfsError("TCFS_INTERRUPTED", "the collection was interrupted");
    await nextTurn();
  }
}

function countLive(liveBytes: Map<string, number>, record: PackedChunkRecord): void {
  const name = formatPackId(record.pack);
  liveBytes.set(name, (liveBytes.get(name) ?? 0) + sumBytes(record.storedFrameBytes));
}
