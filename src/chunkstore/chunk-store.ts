/**
 * The chunk store's interface: contents by keyed name, each stored once, in packs or inline in the metadata.
 * It knows nothing of files. New chunks can be read at once; they become durable with the commit that
 * `flushInto` fills.
 */
import type { ChunkInput, NamedChunk } from "../crypto/engine.ts";
import type { ChunkId, PackId } from "../ids.ts";
import type { MaybePromise } from "../maybe-promise.ts";
import type { BorrowedBytes } from "../borrowed-bytes.ts";
import type { FrozenBatch } from "../metadata/metadata-store.ts";

export interface StoredChunk {
  readonly id: ChunkId;
  readonly lengthBytes: number;
  /** False when an equal chunk was there already. */
  readonly isNew: boolean;
}

export interface ChunkStoreStatistics {
  /** Bytes that sealed chunks take in packs and inline. */
  readonly storedBytes: number;
  /** Plaintext bytes of those chunks, each counted once. */
  readonly uniqueBytes: number;
  readonly packCount: number;
  readonly inlineBytes: number;
  readonly cacheBytes: number;
}

export interface CollectionReport {
  readonly liveChunks: number;
  readonly deadChunks: number;
  /** Pack bytes given back to the disk. */
  readonly freedBytes: number;
  readonly rewrittenBytes: number;
}

export interface ChunkStore {
  /** Cut each input by content and name the pieces: the first half of {@link store}. @param inputs - Lent until settled. */
  name(inputs: readonly ChunkInput[]): MaybePromise<NamedChunk[][]>;
  /**
   * Cut each input by content, name the pieces, and store those not yet known; at once where that is little work.
   * @param inputs - Lent until settled.
   * @param named - What {@link name} said of them, where it was asked before.
   * @param place - `inline`: in the metadata commit, for little data (one device flush). `pack`: otherwise.
   * @returns For each input its chunks in order. What a non-final input leaves over is not stored.
   * @throws TcfsError `TCFS_STORE_FULL`, `TCFS_IO`. Nothing is lost: the caller still has the plaintext.
   */
  store(
    inputs: readonly ChunkInput[],
    place: "inline" | "pack",
    named?: readonly (readonly NamedChunk[])[],
  ): MaybePromise<StoredChunk[][]>;
  /**
   * Bytes of one chunk. Synchronous when cached or inline, a promise otherwise.
   * @throws TcfsError `TCFS_CORRUPT` if the chunk is missing or does not verify.
   */
  read(id: ChunkId, offset: number, lengthBytes: number): MaybePromise<BorrowedBytes>;
  /**
   * Read and verify a whole chunk from where it is stored, past the cache of frames.
   * @returns Its length.
   * @throws TcfsError `TCFS_CORRUPT` if it is missing or does not verify, `TCFS_IO`.
   */
  check(id: ChunkId): Promise<number>;
  /** @returns The pack that a chunk is in; undefined for one in the metadata, or none. @throws TcfsError `TCFS_CORRUPT` */
  packOf(id: ChunkId): PackId | undefined;
  /** Keep a chunk alive through a running collection: it is about to be referenced from somewhere new. */
  retain(id: ChunkId): void;
  /** Tell that these bytes are likely to be read next; fetched in the background, bounded, never fails. */
  prefetch(id: ChunkId, offset: number, lengthBytes: number): void;
  /** Whether some of what is stored may be in a store alone. */
  readonly hasStore: boolean;
  /**
   * Tell that these will be read before long: what only the store has of them is brought here in the background, bounded;
   * never fails. @returns False where enough is under way: to be told again.
   */
  approach(ids: readonly ChunkId[]): boolean;
  /**
   * Device-flush every pack written since the last time, then put the records of all chunks stored so far into
   * the batch. Called once per batch, after the last `store` that the batch depends on. If it fails it can be
   * called again with the same batch.
   */
  flushInto(batch: FrozenBatch): MaybePromise<void>;
  /** Whether `flushInto` would put anything into a batch: chunks stored, moved or to be dropped. */
  readonly isDirty: boolean;
  /** The batch is durable: the records given to it need no second home. */
  committed(): void;
  /**
   * Move chunks that ride inline in the metadata to packs, with the next batch. Happens by itself when they are many;
   * to be called when the volume falls quiet. Cheap when there are none.
   * @throws TcfsError `TCFS_STORE_FULL`, `TCFS_IO`; the chunks are well where they are.
   */
  migrateInline(): Promise<void>;
  /**
   * Mark from every extent page, then drop what nothing refers to: chunk records with the next batches, whole packs
   * once empty; packs mostly dead are emptied into new ones. Keeps everything on any read error.
   * @param barrier - Makes everything acknowledged so far durable (a commit); called as often as needed.
   * @param neededBytes - To be given back, if it can be: until then packs are emptied that are partly dead.
   */
  collect(barrier: () => Promise<void>, signal: AbortSignal, neededBytes?: number): Promise<CollectionReport>;
  /**
   * As `collect`, and packs that were made in an older key epoch are replaced by new ones.
   * @param pause - Called between steps; throws where it is to end.
   * @returns How many could not be, for want of room or since they are damaged.
   * @throws TcfsError also `TCFS_IO` while the store does not give a pack that it alone has.
   */
  renewPacks(barrier: () => Promise<void>, signal: AbortSignal, pause: () => Promise<void>): Promise<number>;
  statistics(): ChunkStoreStatistics;
  close(): Promise<void>;
}
