/** One batch on its way to the database: a frozen layer, and what the commit itself adds (extents, chunks, packs). */
import type { ByteWriter } from "../bytes.ts";
import { encodeChunk, encodeChunkTotals, encodeInlineList, encodePack } from "../format/chunk-codec.ts";
import { encodeExtentPage } from "../format/extent-codec.ts";
import { encodeVolume } from "../format/inode-codec.ts";
import { encodeLoggedContent } from "../format/write-codec.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import {
  chunkIdKey,
  chunkKey,
  extentsKey,
  inlineListKey,
  loggedWritesKey,
  packKey,
  singleKey,
} from "../format/record-keys.ts";
import type {
  ChunkRecord,
  ChunkTotals,
  ExtentPage,
  InlineList,
  LoggedContent,
  PackRecord,
  VolumeRecord,
} from "../format/records.ts";
import type { ChunkId, ChunkIdKey, Epoch, InodeNumber, PackId } from "../ids.ts";
import type { BatchHistory } from "./batch-history.ts";
import type { BatchVersions } from "./batch-versions.ts";
import type { JournaledDatabase } from "./journaled-database.ts";
import type { Layer } from "./layer.ts";
import { type MaybePromise, andThen, settled } from "../maybe-promise.ts";
import type { FrozenBatch } from "./metadata-store.ts";

/** What a batch needs of its store. */
export interface BatchOwner {
  readonly database: JournaledDatabase;
  /** Holds the values of the batch until it is durable. */
  readonly writer: ByteWriter;
  extentPageChanged(ino: InodeNumber, page: number, extents: ExtentPage): void;
  chunkChanged(key: ChunkIdKey, record: ChunkRecord | null): void;
  /** @param volume - As stored; undefined where the batch was empty and nothing was written. */
  batchCommitted(volume: VolumeRecord | undefined): void;
}

/** What a freeze hands to its batch. */
export interface FrozenState {
  readonly layer: Layer;
  /** As the batch is to store it: commit number and time are this commit's. */
  readonly volume: VolumeRecord;
  /** Of the batch's records; the volume's is one more where the batch takes a snapshot. */
  readonly epoch: Epoch;
  /** The layer's, in plaintext. */
  readonly operations: RecordChange[];
  /** Where there is a snapshot that may need what the batch overwrites. */
  readonly history: BatchHistory | undefined;
  /** Where there are versions that share pages with their inodes. */
  readonly versions: BatchVersions | undefined;
}

export class LevelFrozenBatch implements FrozenBatch {
  readonly layer: Layer;
  /** Pages by inode and number; an empty one: deleted. */
  readonly extents = new Map<InodeNumber, Map<number, ExtentPage>>();
  /** null: deleted. */
  readonly chunks = new Map<ChunkIdKey, ChunkRecord | null>();
  /** The newest put, if one was. */
  chunkTotals: ChunkTotals | undefined;
  readonly #volume: VolumeRecord;
  readonly #operations: RecordChange[];
  readonly #owner: BatchOwner;
  readonly #epoch: Epoch;
  readonly #history: BatchHistory | undefined;
  readonly #versions: BatchVersions | undefined;
  #state: "open" | "writing" | "done" = "open";

  constructor({ layer, volume, epoch, operations, history, versions }: FrozenState, owner: BatchOwner) {
    this.layer = layer;
    this.#volume = volume;
    this.#epoch = epoch;
    this.#operations = operations;
    this.#history = history;
    this.#versions = versions;
    this.#owner = owner;
  }

  get recordCount(): number {
    return this.#operations.length;
  }

  putExtentPage(ino: InodeNumber, page: number, extents: ExtentPage): void {
    this.#requireOpen();
    if (extents.length > 0) encodeExtentPage(this.#owner.writer, this.#epoch, extents);
    this.#push(extentsKey(ino, page), extents.length > 0);
    let pages = this.extents.get(ino);
    if (pages === undefined) {
      pages = new Map();
      this.extents.set(ino, pages);
    }
    pages.set(page, extents);
    this.#owner.extentPageChanged(ino, page, extents);
  }

  putChunk(id: ChunkId, record: ChunkRecord): void {
    this.#requireOpen();
    encodeChunk(this.#owner.writer, this.#epoch, record);
    this.#push(chunkKey(id), true);
    this.#chunkChanged(id, record);
  }

  deleteChunk(id: ChunkId): void {
    this.#requireOpen();
    this.#push(chunkKey(id), false);
    this.#chunkChanged(id, null);
  }

  putPack(record: PackRecord): void {
    this.#requireOpen();
    encodePack(this.#owner.writer, this.#epoch, record);
    this.#push(packKey(record.pack), true);
  }

  deletePack(pack: PackId): void {
    this.#requireOpen();
    this.#push(packKey(pack), false);
  }

  putChunkTotals(totals: ChunkTotals): void {
    this.#requireOpen();
    encodeChunkTotals(this.#owner.writer, this.#epoch, totals);
    this.#push(singleKey("chunkTotals"), true);
    this.chunkTotals = totals;
  }

  putInlineList(list: InlineList): void {
    this.#requireOpen();
    const isEmpty = list.chunks.length === 0;
    if (!isEmpty) encodeInlineList(this.#owner.writer, this.#epoch, list);
    this.#push(inlineListKey(list.list), !isEmpty);
  }

  putLoggedWrites(ino: InodeNumber, content: LoggedContent): number {
    this.#requireOpen();
    encodeLoggedContent(this.#owner.writer, this.#epoch, content);
    this.#push(loggedWritesKey(ino, this.#volume.commit), true);
    return this.#volume.commit;
  }

  deleteLoggedWrites(ino: InodeNumber, commit: number): void {
    this.#requireOpen();
    this.#push(loggedWritesKey(ino, commit), false);
  }

  commit(): MaybePromise<void> {
    this.#requireOpen();
    if (this.recordCount === 0) {
      this.#state = "done";
      this.#owner.batchCommitted(undefined);
      return;
    }
    this.#state = "writing";
    const done = (): void => {
      this.#state = "done";
      this.#owner.batchCommitted(this.#volume);
    };
    const failed = (error: unknown): never => {
      this.#state = "open";
      throw error;
    };
    return settled(
      () => andThen(this.#history?.of(this.#operations) ?? [], (history) => this.#write(history)),
      done,
      failed,
    );
  }

  #write(history: readonly RecordChange[]): MaybePromise<void> {
    const kept = this.#versions?.of(this.#operations) ?? [];
    return this.#owner.database.write(this.#volume.commit, this.#withVolume([...history, ...kept]));
  }

  /** With what goes to history and to versions, and the volume record last. */
  #withVolume(kept: readonly RecordChange[]): RecordChange[] {
    const { writer } = this.#owner;
    writer.drop();
    encodeVolume(writer, this.#volume);
    return [...this.#operations, ...kept, { key: singleKey("volume"), value: writer.take() }];
  }

  #chunkChanged(id: ChunkId, record: ChunkRecord | null): void {
    const key = chunkIdKey(id);
    this.chunks.set(key, record);
    this.#owner.chunkChanged(key, record);
  }

  #push(key: Uint8Array, hasValue: boolean): void {
    this.#operations.push({ key, value: hasValue ? this.#owner.writer.take() : undefined });
  }

  #requireOpen(): void {
    if (this.#state !== "open") throw new RangeError("the batch is being committed or was");
    this.#owner.writer.drop();
  }
}
