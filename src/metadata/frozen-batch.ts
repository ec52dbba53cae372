/** One batch on its way to the database: a frozen layer, and what the commit itself adds (extents, chunks, packs). */
import { ByteWriter, latin1Of } from "../bytes.ts";
import type { PlainRecord, RecordCipher } from "../crypto/engine.ts";
import { encodeChunk, encodeChunkTotals, encodeInlineList, encodePack } from "../format/chunk-codec.ts";
import { encodeExtentPage } from "../format/extent-codec.ts";
import { encodeVolume } from "../format/inode-codec.ts";
import { chunkKey, extentsKey, inlineListKey, packKey, singleKey } from "../format/record-keys.ts";
import type { ChunkRecord, ChunkTotals, ExtentPage, InlineList, PackRecord, VolumeRecord } from "../format/records.ts";
import type { ChunkId, ChunkIdKey, InodeNumber, PackId } from "../ids.ts";
import type { Database, WriteOperation } from "./database.ts";
import type { Layer } from "./layer.ts";
import type { FrozenBatch } from "./metadata-store.ts";

const SMALL_ARENA_BYTES = 8 * 1024;

/** What a batch needs of its store. */
export interface BatchOwner {
  readonly database: Database;
  readonly records: RecordCipher;
  extentPageChanged(ino: InodeNumber, page: number, extents: ExtentPage): void;
  chunkChanged(key: ChunkIdKey, record: ChunkRecord | null): void;
  /** @param volume - As stored; undefined where the batch was empty and nothing was written. */
  batchCommitted(volume: VolumeRecord | undefined): void;
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
  readonly #operations: WriteOperation[];
  readonly #owner: BatchOwner;
  readonly #writer = new ByteWriter(SMALL_ARENA_BYTES);
  #state: "open" | "writing" | "done" = "open";

  /**
   * @param volume - As the batch is to store it: commit number and time are this commit's. Kept.
   * @param operations - The layer's, in plaintext. Kept.
   */
  constructor(layer: Layer, volume: VolumeRecord, operations: WriteOperation[], owner: BatchOwner) {
    this.layer = layer;
    this.#volume = volume;
    this.#operations = operations;
    this.#owner = owner;
  }

  get recordCount(): number {
    return this.#operations.length;
  }

  putExtentPage(ino: InodeNumber, page: number, extents: ExtentPage): void {
    this.#requireOpen();
    if (extents.length > 0) encodeExtentPage(this.#writer, this.#volume.epoch, extents);
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
    encodeChunk(this.#writer, this.#volume.epoch, record);
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
    encodePack(this.#writer, this.#volume.epoch, record);
    this.#push(packKey(record.pack), true);
  }

  deletePack(pack: PackId): void {
    this.#requireOpen();
    this.#push(packKey(pack), false);
  }

  putChunkTotals(totals: ChunkTotals): void {
    this.#requireOpen();
    encodeChunkTotals(this.#writer, this.#volume.epoch, totals);
    this.#push(singleKey("chunkTotals"), true);
    this.chunkTotals = totals;
  }

  putInlineList(list: InlineList): void {
    this.#requireOpen();
    const isEmpty = list.chunks.length === 0;
    if (!isEmpty) encodeInlineList(this.#writer, this.#volume.epoch, list);
    this.#push(inlineListKey(list.list), !isEmpty);
  }

  async commit(): Promise<void> {
    this.#requireOpen();
    if (this.recordCount === 0) {
      this.#state = "done";
      this.#owner.batchCommitted(undefined);
      return;
    }
    this.#state = "writing";
    try {
      await this.#owner.database.write(this.#seal());
    } catch (error) {
      this.#state = "open";
      throw error;
    }
    this.#state = "done";
    this.#owner.batchCommitted(this.#volume);
  }

  /** Everything sealed in one call, the volume record last. */
  #seal(): WriteOperation[] {
    const writer = new ByteWriter(SMALL_ARENA_BYTES);
    encodeVolume(writer, this.#volume);
    const operations = [...this.#operations, { key: singleKey("volume"), value: writer.take() }];
    const sealed = this.#owner.records.seal(operations.filter(hasValue));
    let next = 0;
    return operations.map(({ key, value }) => ({ key, value: value === undefined ? undefined : sealed[next++] }));
  }

  #chunkChanged(id: ChunkId, record: ChunkRecord | null): void {
    const key = chunkIdKey(id);
    this.chunks.set(key, record);
    this.#owner.chunkChanged(key, record);
  }

  #push(key: Uint8Array, hasValue: boolean): void {
    this.#operations.push({ key, value: hasValue ? this.#writer.take() : undefined });
  }

  #requireOpen(): void {
    if (this.#state !== "open") throw new RangeError("the batch is being committed or was");
    this.#writer.drop();
  }
}

export function chunkIdKey(id: ChunkId): ChunkIdKey {
  return latin1Of(id) as ChunkIdKey;
}

function hasValue(operation: WriteOperation): operation is PlainRecord {
  return operation.value !== undefined;
}
