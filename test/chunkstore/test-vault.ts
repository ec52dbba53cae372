/** A vault's packs in a temporary directory, with metadata in memory: opened, committed to, crashed and opened again. */
import { copyLoan } from "../../src/borrowed-bytes.ts";
import { readdir } from "node:fs/promises";
import { join } from "node:path";

import { LruFrameCache } from "../../src/cache/lru-frame-cache.ts";
import { type ChunkingParameters, DEFAULT_CHUNKING, type SealingEngine } from "../../src/crypto/engine.ts";
import { openEngine } from "../../src/crypto/open-engine.ts";
import { PackKeyWrapper } from "../../src/crypto/pack-key.ts";
import { deriveSubkeys } from "../../src/crypto/subkeys.ts";
import { type StoredChunk } from "../../src/chunkstore/chunk-store.ts";
import { PackChunkStore } from "../../src/chunkstore/pack-chunk-store.ts";
import type { PackShelf } from "../../src/chunkstore/pack-shelf.ts";
import type { ExtentPage } from "../../src/format/records.ts";
import type { ChunkId } from "../../src/ids.ts";
import type { Disk } from "../../src/platform/disk.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { VAULT_ID, firstEpoch, noise } from "../crypto/fixtures.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary-directory.ts";
import { MemoryMetadata } from "./memory-metadata.ts";

export interface TestVaultOptions {
  readonly disk?: Disk;
  readonly packBytes?: number;
  readonly openPacks?: number;
  readonly cacheBytes?: number;
  readonly chunking?: ChunkingParameters;
  readonly engine?: SealingEngine["kind"];
  /** Made anew with each opening; the vault's directory is its own. */
  readonly openShelf?: (directory: string) => Promise<PackShelf>;
}

export class TestVault implements AsyncDisposable {
  readonly #directory: TemporaryDirectory;
  readonly #options: TestVaultOptions;
  readonly engine: SealingEngine;
  metadata = new MemoryMetadata();
  store: PackChunkStore;

  private constructor(
    directory: TemporaryDirectory,
    options: TestVaultOptions,
    opened: { readonly engine: SealingEngine; readonly metadata: MemoryMetadata; readonly store: PackChunkStore },
  ) {
    this.#directory = directory;
    this.#options = options;
    this.engine = opened.engine;
    this.metadata = opened.metadata;
    this.store = opened.store;
  }

  static async open(options: TestVaultOptions = {}): Promise<TestVault> {
    const directory = await temporaryDirectory("chunkstore");
    const engine = openEngine(
      {
        vaultId: VAULT_ID,
        subkeys: SUBKEYS,
        chunking: options.chunking ?? DEFAULT_CHUNKING,
        sessionId: systemRandom.bytes(8),
        keyEpoch: 1,
      },
      options.engine,
    );
    const metadata = new MemoryMetadata();
    const store = await openStore(directory.path, engine, metadata, options);
    return new TestVault(directory, options, { engine, metadata, store });
  }

  get path(): string {
    return this.#directory.path;
  }

  /** Abandon everything not committed and open what is durable. The old store's files stay as they are. */
  async crash(): Promise<void> {
    this.metadata = new MemoryMetadata(this.metadata.durable);
    const abandoned = this.store;
    this.store = await openStore(this.path, this.engine, this.metadata, this.#options);
    this.#abandoned.push(abandoned);
  }

  readonly #abandoned: PackChunkStore[] = [];

  /** Unmount and mount. */
  async reopen(): Promise<void> {
    await this.store.close();
    this.metadata = new MemoryMetadata(this.metadata.durable);
    this.store = await openStore(this.path, this.engine, this.metadata, this.#options);
  }

  /** One commit, which makes each file of `files` consist of the chunks given; no chunks delete it. */
  async commit(files: ReadonlyMap<number, readonly ChunkId[]> = new Map()): Promise<void> {
    const batch = this.metadata.freeze();
    for (const [ino, chunks] of files) batch.putExtentPage(ino, 0, extentsOf(chunks));
    await this.store.flushInto(batch);
    await batch.commit();
    this.store.committed();
  }

  async put(content: Uint8Array, place: "inline" | "pack" = "pack"): Promise<readonly StoredChunk[]> {
    const [chunks] = await this.store.store([{ pieces: [content], isFinal: true }], place);
    return chunks ?? [];
  }

  /** Part of one chunk: fresh memory. */
  async read(id: ChunkId, offset: number, lengthBytes: number): Promise<Uint8Array> {
    return copyLoan(await this.store.read(id, offset, lengthBytes));
  }

  async get(chunks: readonly StoredChunk[]): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    for (const { id, lengthBytes } of chunks) parts.push(await this.read(id, 0, lengthBytes));
    return Uint8Array.from(Buffer.concat(parts));
  }

  collect(neededBytes?: number): ReturnType<PackChunkStore["collect"]> {
    return this.store.collect(() => this.commit(), new AbortController().signal, neededBytes);
  }

  /** Paths of all pack files. */
  async packFiles(): Promise<string[]> {
    const names = await readdir(join(this.path, "packs"), { recursive: true }).catch(() => []);
    return names.filter((name) => name.length === 35).map((name) => join(this.path, "packs", name));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close();
    await Promise.all(this.#abandoned.map((store) => store.close()));
    this.engine.close();
    await this.#directory[Symbol.asyncDispose]();
  }
}

export const SUBKEYS = deriveSubkeys(noise("vault key", 32), VAULT_ID);

async function openStore(
  directory: string,
  engine: SealingEngine,
  metadata: MemoryMetadata,
  options: TestVaultOptions,
): Promise<PackChunkStore> {
  await new NodeDisk().makeDirectory(join(directory, "packs"));
  return PackChunkStore.open({
    directory,
    disk: options.disk ?? new NodeDisk(),
    engine,
    metadata: metadata.asStore(),
    random: systemRandom,
    clock: systemClock,
    vaultId: VAULT_ID,
    packKeys: new PackKeyWrapper(firstEpoch(SUBKEYS.packs), VAULT_ID, systemRandom),
    frameCache: new LruFrameCache({ cacheBytes: options.cacheBytes ?? 4 * 1024 * 1024 }),
    packBytes: options.packBytes ?? 16 * 1024 * 1024,
    openPacks: options.openPacks ?? 2,
    shelf: await options.openShelf?.(directory),
  });
}

function extentsOf(chunks: readonly ChunkId[]): ExtentPage {
  return chunks.map((chunk, index) => ({ start: index, lengthBytes: 1, chunk, chunkOffset: 0 }));
}
