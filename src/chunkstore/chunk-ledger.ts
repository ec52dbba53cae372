/**
 * What the chunk store owes the metadata: chunks stored, chunks and packs to delete, counters. Fills batches, and
 * remembers what it gave them until they are durable. A batch that fails may be filled again: then it gets
 * everything again, and what is put last counts.
 */
import { isTcfsError } from "../errors.ts";
import type { ChunkRecord, ChunkTotals, InlineList, PackRecord } from "../format/records.ts";
import type { ChunkId, ChunkIdKey } from "../ids.ts";
import type { FrozenBatch, MetadataStore } from "../metadata/metadata-store.ts";
import { InlineChunks } from "./inline-chunks.ts";
import type { ChangedPack } from "./open-packs.ts";
import { chunkIdKey } from "../format/record-keys.ts";

/** A chunk stored in this session whose record is not durable yet. */
export interface UncommittedChunk {
  readonly id: ChunkId;
  readonly key: ChunkIdKey;
  /** The durable record that this one will replace. */
  readonly replaces: ChunkRecord | undefined;
  /** Where it is; undefined while it is being written. */
  record: ChunkRecord | undefined;
  /** Settles when `record` is set, or the write has failed. */
  written: Promise<void> | undefined;
}

interface DoomedChunk {
  readonly id: ChunkId;
  readonly record: ChunkRecord;
}

/** What was put into the last batch. */
interface Filled {
  readonly chunks: readonly UncommittedChunk[];
  readonly packs: readonly ChangedPack[];
  readonly drops: readonly PackRecord[];
  readonly totals: ChunkTotals;
  readonly inlineLists: readonly InlineList[];
  readonly inlineRemoved: ReadonlySet<ChunkIdKey>;
}

const NO_TOTALS: ChunkTotals = { packCount: 0, packBytes: 0, inlineBytes: 0, uniqueBytes: 0 };

export class ChunkLedger {
  readonly #metadata: MetadataStore;
  readonly inline: InlineChunks;
  readonly #uncommitted = new Map<ChunkIdKey, UncommittedChunk>();
  /** To be deleted with the next batch, unless they are wanted again before. */
  readonly #doomed = new Map<ChunkIdKey, DoomedChunk>();
  /** Their deletion is in a batch: they count as gone. */
  readonly #vanishing = new Map<ChunkIdKey, DoomedChunk>();
  readonly #drops = new Set<PackRecord>();
  /** As of the last durable batch. */
  #totals: ChunkTotals;
  #filled: Filled | undefined;

  private constructor(metadata: MetadataStore, inline: InlineChunks) {
    this.#metadata = metadata;
    this.inline = inline;
    this.#totals = metadata.getChunkTotals() ?? NO_TOTALS;
  }

  static async open(metadata: MetadataStore): Promise<ChunkLedger> {
    const inline = new InlineChunks();
    for await (const list of metadata.inlineLists()) inline.add(list);
    return new ChunkLedger(metadata, inline);
  }

  get totals(): ChunkTotals {
    return this.#totals;
  }

  /** Whether a batch would get anything. */
  get isDirty(): boolean {
    return this.#uncommitted.size > 0 || this.#doomed.size > 0 || this.#vanishing.size > 0 || this.#drops.size > 0;
  }

  /** Stored in this session, not durable yet. */
  uncommitted(key: ChunkIdKey): UncommittedChunk | undefined {
    return this.#uncommitted.get(key);
  }

  allUncommitted(): IterableIterator<UncommittedChunk> {
    return this.#uncommitted.values();
  }

  /** The record that a durable batch wrote (or the one being written); undefined when it is on its way out. */
  durableRecord(id: ChunkId, key: ChunkIdKey): ChunkRecord | undefined {
    return this.#vanishing.has(key) ? undefined : this.#metadata.getChunk(id);
  }

  /** Note a chunk as stored, or about to be; it supersedes what was known of it. */
  add(chunk: UncommittedChunk): void {
    this.#doomed.delete(chunk.key);
    this.#uncommitted.set(chunk.key, chunk);
  }

  /** Its write failed, or it is durable. */
  abandon(chunk: UncommittedChunk): void {
    if (this.#uncommitted.get(chunk.key) === chunk) this.#uncommitted.delete(chunk.key);
  }

  /** Nothing refers to it: delete its record with the next batch. */
  doom(id: ChunkId, record: ChunkRecord): void {
    this.#doomed.set(chunkIdKey(id), { id, record });
  }

  /** It is wanted after all. No help for one whose deletion is in a batch already: that one is stored anew. */
  rescue(key: ChunkIdKey): void {
    this.#doomed.delete(key);
  }

  /** No record refers to the pack: delete its own with the next batch. */
  dropPack(record: PackRecord): void {
    this.#drops.add(record);
  }

  /** Whether no durable batch has the deletion yet. */
  isDropPending(record: PackRecord): boolean {
    return this.#drops.has(record);
  }

  /** @param packs - Changed packs, durable. @param chunks - Stored by then, in those packs or inline. */
  fill(batch: FrozenBatch, chunks: readonly UncommittedChunk[], packs: readonly ChangedPack[]): void {
    this.#takeDoomed();
    const current = chunks.filter((chunk) => this.#uncommitted.get(chunk.key) === chunk);
    const drops = [...this.#drops];
    if (current.length + packs.length + this.#vanishing.size + drops.length === 0) return;

    for (const { id } of this.#vanishing.values()) batch.deleteChunk(id);
    for (const { id, record } of current) if (record !== undefined) batch.putChunk(id, record);
    for (const { record } of packs) batch.putPack(record);
    for (const { pack } of drops) batch.deletePack(pack);

    const newInline = current.filter(({ record }) => record?.kind === "inline").map(({ id }) => id);
    const inlineRemoved = this.#inlineRemoved(current);
    const lists = this.inline.plan(newInline, inlineRemoved);
    for (const list of lists) batch.putInlineList(list);
    const totals = this.#totalsWith(current, packs, drops);
    batch.putChunkTotals(totals);
    this.#filled = { chunks: current, packs, drops, totals, inlineLists: lists, inlineRemoved };
  }

  /** Between doom and batch a chunk may have been moved, or be on its way: counters follow the record that there is. */
  #takeDoomed(): void {
    for (const [key, chunk] of this.#doomed) {
      if (this.#uncommitted.has(key)) continue;
      const record = this.#presentRecord(chunk);
      if (record !== undefined) this.#vanishing.set(key, { id: chunk.id, record });
    }
    this.#doomed.clear();
  }

  /** One that does not verify any more goes all the same. */
  #presentRecord({ id, record }: DoomedChunk): ChunkRecord | undefined {
    try {
      return this.#metadata.getChunk(id);
    } catch (error) {
      if (isTcfsError(error, "TCFS_CORRUPT")) return record;
      throw error;
    }
  }

  #inlineRemoved(chunks: readonly UncommittedChunk[]): Set<ChunkIdKey> {
    const removed = new Set<ChunkIdKey>();
    for (const { key, replaces, record } of chunks) {
      if (replaces?.kind === "inline" && record?.kind === "packed") removed.add(key);
    }
    for (const [key, { record }] of this.#vanishing) if (record.kind === "inline") removed.add(key);
    return removed;
  }

  #totalsWith(
    chunks: readonly UncommittedChunk[],
    packs: readonly ChangedPack[],
    drops: readonly PackRecord[],
  ): ChunkTotals {
    let { packCount, packBytes, inlineBytes, uniqueBytes } = this.#totals;
    for (const { record, replaces } of chunks) {
      uniqueBytes += contentBytes(record) - contentBytes(replaces);
      inlineBytes += inlineBytesOf(record) - inlineBytesOf(replaces);
    }
    for (const { record } of this.#vanishing.values()) {
      uniqueBytes -= contentBytes(record);
      inlineBytes -= inlineBytesOf(record);
    }
    for (const { record, previous } of packs) {
      packBytes += record.lengthBytes - (previous?.lengthBytes ?? 0);
      if (previous === undefined) packCount += 1;
    }
    for (const { lengthBytes } of drops) {
      packBytes -= lengthBytes;
      packCount -= 1;
    }
    return { packCount, packBytes, inlineBytes, uniqueBytes };
  }

  /** The batch last filled is durable. @returns The packs that it recorded. */
  committed(): readonly ChangedPack[] {
    const filled = this.#filled;
    if (filled === undefined) return [];
    this.#filled = undefined;
    for (const chunk of filled.chunks) this.abandon(chunk);
    this.#vanishing.clear();
    for (const drop of filled.drops) this.#drops.delete(drop);
    this.#totals = filled.totals;
    this.inline.committed(filled.inlineLists, filled.inlineRemoved);
    return filled.packs;
  }
}

function contentBytes(record: ChunkRecord | undefined): number {
  if (record === undefined) return 0;
  return record.kind === "inline" ? record.content.length : record.lengthBytes;
}

function inlineBytesOf(record: ChunkRecord | undefined): number {
  return record?.kind === "inline" ? record.content.length : 0;
}
