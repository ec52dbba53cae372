/**
 * The metadata as the chunk store uses it, in memory: what is in `durable` survives a crash, what is in a batch does
 * not. Commits can be made to fail. Only what the chunk store calls is there.
 */
import type { ChunkRecord, ChunkTotals, ExtentPage, InlineList, PackRecord } from "../../src/format/records.ts";
import type { ChunkId } from "../../src/ids.ts";
import type { FrozenBatch, MetadataStore } from "../../src/metadata/metadata-store.ts";

type Change = (state: MetadataState) => void;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** What a crash leaves. */
export class MetadataState {
  readonly chunks = new Map<string, { readonly id: ChunkId; readonly record: ChunkRecord }>();
  readonly packs = new Map<string, PackRecord>();
  readonly pages = new Map<string, ExtentPage>();
  readonly inlineLists = new Map<number, InlineList>();
  totals: ChunkTotals | undefined;
}

export class MemoryBatch implements FrozenBatch {
  readonly changes: Change[] = [];
  readonly chunks = new Map<string, ChunkRecord | undefined>();
  readonly #metadata: MemoryMetadata;

  constructor(metadata: MemoryMetadata) {
    this.#metadata = metadata;
  }

  get recordCount(): number {
    return this.changes.length;
  }

  putExtentPage(ino: number, page: number, extents: ExtentPage): void {
    const key = `${String(ino)}/${String(page)}`;
    this.changes.push(({ pages }) => {
      if (extents.length === 0) pages.delete(key);
      else pages.set(key, extents);
    });
  }

  putLoggedWrites(): never {
    throw new RangeError("chunk stores log no writes");
  }

  deleteLoggedWrites(): never {
    throw new RangeError("chunk stores log no writes");
  }

  putChunk(id: ChunkId, record: ChunkRecord): void {
    this.chunks.set(hex(id), record);
    this.changes.push(({ chunks }) => {
      chunks.set(hex(id), { id, record });
    });
  }

  deleteChunk(id: ChunkId): void {
    this.chunks.set(hex(id), undefined);
    this.changes.push(({ chunks }) => {
      chunks.delete(hex(id));
    });
  }

  putPack(record: PackRecord): void {
    this.changes.push(({ packs }) => {
      packs.set(hex(record.pack), record);
    });
  }

  deletePack(pack: Uint8Array): void {
    this.changes.push(({ packs }) => {
      packs.delete(hex(pack));
    });
  }

  putChunkTotals(totals: ChunkTotals): void {
    this.changes.push((state) => {
      state.totals = totals;
    });
  }

  putInlineList(list: InlineList): void {
    this.changes.push(({ inlineLists }) => {
      if (list.chunks.length === 0) inlineLists.delete(list.list);
      else inlineLists.set(list.list, list);
    });
  }

  async commit(): Promise<void> {
    await Promise.resolve();
    this.#metadata.commit(this);
  }
}

/** Walks what was there when the walk began. */
async function* snapshot<T>(items: Iterable<T>): AsyncGenerator<T> {
  for (const item of [...items]) {
    await Promise.resolve();
    yield item;
  }
}

export class MemoryMetadata implements Pick<
  MetadataStore,
  "getChunk" | "chunks" | "allExtentPages" | "packs" | "getChunkTotals" | "inlineLists"
> {
  readonly durable: MetadataState;
  #batch: MemoryBatch | undefined;
  /** The next commit fails once with this. */
  failure: Error | undefined;

  constructor(durable = new MetadataState()) {
    this.durable = durable;
  }

  /** As the chunk store takes it. */
  asStore(): MetadataStore {
    return this as unknown as MetadataStore;
  }

  freeze(): MemoryBatch {
    if (this.#batch !== undefined) throw new RangeError("a batch is frozen already");
    this.#batch = new MemoryBatch(this);
    return this.#batch;
  }

  commit(batch: MemoryBatch): void {
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
    for (const change of batch.changes) change(this.durable);
    this.#batch = undefined;
  }

  getChunk(id: ChunkId): ChunkRecord | undefined {
    const key = hex(id);
    if (this.#batch?.chunks.has(key) === true) return this.#batch.chunks.get(key);
    return this.durable.chunks.get(key)?.record;
  }

  getChunkTotals(): ChunkTotals | undefined {
    return this.durable.totals;
  }

  chunks(): AsyncGenerator<{ readonly id: ChunkId; readonly record: ChunkRecord }> {
    return snapshot(this.durable.chunks.values());
  }

  allExtentPages(): AsyncGenerator<ExtentPage> {
    return snapshot(this.durable.pages.values());
  }

  packs(): AsyncGenerator<PackRecord> {
    return snapshot(this.durable.packs.values());
  }

  inlineLists(): AsyncGenerator<InlineList> {
    return snapshot(this.durable.inlineLists.values());
  }
}
