/** A vault with a store and its replicator in this process: sessions that die and come back, and what they are compared with. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { expect } from "vitest";
import { copyLoan } from "../../src/borrowed-bytes.ts";
import { BoundedPackShelf } from "../../src/cache/bounded-pack-shelf.ts";
import { LruFrameCache } from "../../src/cache/lru-frame-cache.ts";
import { PackChunkStore } from "../../src/chunkstore/pack-chunk-store.ts";
import { PackDirectory } from "../../src/chunkstore/pack-directory.ts";
import { formatPackId } from "../../src/chunkstore/pack-format.ts";
import { findPackDamage } from "../../src/chunkstore/pack-verifier.ts";
import type { PackShelf } from "../../src/chunkstore/pack-shelf.ts";
import type { ChunkingParameters, SealingEngine } from "../../src/crypto/engine.ts";
import { ObjectSealer } from "../../src/crypto/object-seal.ts";
import { openEngine } from "../../src/crypto/open-engine.ts";
import { PackKeyWrapper } from "../../src/crypto/pack-key.ts";
import type { ChunkId, InodeNumber, PackId } from "../../src/ids.ts";
import { DeviceBook } from "../../src/keys/devices/device-book.ts";
import { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { type Clock, systemClock } from "../../src/platform/clock.ts";
import type { Disk } from "../../src/platform/disk.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { DirectoryStore } from "../../src/remote/directory-store.ts";
import type { ObjectStore } from "../../src/remote/object-store.ts";
import { Pace } from "../../src/remote/paced-store.ts";
import { TcfsError } from "../../src/errors.ts";
import type { LostKind } from "../../src/format/replica-codec.ts";
import { packKey } from "../../src/format/record-keys.ts";
import { KEPT_ROOTS, ROOT_NAME, manifestObject, packObject } from "../../src/replica/object-names.ts";
import { readRoot, readSteps } from "../../src/replica/remote-root.ts";
import { StreamReader } from "../../src/replica/record-stream.ts";
import { collect } from "../support/collect.ts";
import { attachRecords, notePacks } from "../../src/replica/attach.ts";
import { LostPacks } from "../../src/replica/lost-packs.ts";
import { PackFetcher } from "../../src/replica/pack-fetcher.ts";
import { PackUploader } from "../../src/replica/pack-uploader.ts";
import { type ReplicaState, disownNewer, readState, verifyState, writeState } from "../../src/replica/replica-state.ts";
import { Replicator } from "../../src/replica/replicator.ts";
import { StoreLedger } from "../../src/replica/store-ledger.ts";
import { StoredPacks } from "../../src/replica/stored-packs.ts";
import { SUBKEYS } from "../chunkstore/test-vault.ts";
import { VAULT_ID, firstEpoch, noise } from "../crypto/fixtures.ts";

const ZEROS = "0".repeat(32);
const NEW_STATE: ReplicaState = {
  url: "file:///x",
  deviceId: ZEROS,
  last: null,
  pending: [],
  keptBelow: 0,
  kept: [],
  link: ZEROS,
};
const CHUNKING: ChunkingParameters = { minBytes: 4096, averageBytes: 16_384, maxBytes: 65_536 };
const STORE_SUBKEY = noise("store subkey", 32);
export const disk = new NodeDisk();

/** Waits a thousandth as long. */
export const hurriedClock: Clock = {
  now: () => systemClock.now(),
  monotonicMs: () => systemClock.monotonicMs(),
  after: (delayMs, action) => systemClock.after(delayMs / 1000, action),
};

export interface SessionOptions {
  readonly clock?: Clock;
  readonly keepDeletedSeconds?: number;
  /** Whether records are known to be damaged. */
  readonly isDamaged?: () => boolean;
  /** Where packs are read from to be sent. */
  readonly packDisk?: Disk;
}

export const newEngine = (): SealingEngine =>
  openEngine({
    vaultId: VAULT_ID,
    subkeys: SUBKEYS,
    chunking: CHUNKING,
    sessionId: systemRandom.bytes(8),
    keyEpoch: 1,
  });
export const sealer = new ObjectSealer(firstEpoch(STORE_SUBKEY), VAULT_ID, systemRandom);
export const rooms = (engine: SealingEngine) => ({
  engine,
  packKeys: new PackKeyWrapper(firstEpoch(SUBKEYS.packs), VAULT_ID, systemRandom),
  vaultId: VAULT_ID,
  random: systemRandom,
});

export const newDevice = (name: string) => ({
  id: systemRandom.bytes(16),
  name,
  random: systemRandom,
  clock: systemClock,
});

async function openMetadata(
  directory: string,
  engine: SealingEngine,
  createIfMissing: boolean,
  onCommitted?: Replicator["note"],
): Promise<LevelMetadataStore> {
  return LevelMetadataStore.open({
    directory: join(directory, "meta"),
    journalDirectory: join(directory, "journal"),
    disk,
    engine,
    clock: systemClock,
    createIfMissing,
    cacheBytes: 1_000_000,
    onCommitted,
  });
}

function openChunks(directory: string, engine: SealingEngine, metadata: LevelMetadataStore, shelf?: PackShelf) {
  return PackChunkStore.open({
    directory,
    disk,
    engine,
    metadata,
    random: systemRandom,
    clock: systemClock,
    vaultId: VAULT_ID,
    packKeys: new PackKeyWrapper(firstEpoch(SUBKEYS.packs), VAULT_ID, systemRandom),
    frameCache: new LruFrameCache({ cacheBytes: 1_000_000 }),
    packBytes: 200_000,
    openPacks: 2,
    shelf,
  });
}

/** @returns A hash of all records: equal states have the same. */
async function stateOf(metadata: LevelMetadataStore): Promise<string> {
  const hash = createHash("sha256");
  for await (const records of metadata.allRecords()) {
    for (const { key, value } of records)
      hash
        .update(`${String(key.length)}.${String(value.length)}.`)
        .update(key)
        .update(value);
  }
  return hash.digest("hex");
}

/** One opening of the vault with its replicator: what a daemon is. */
export class Session {
  readonly metadata: LevelMetadataStore;
  readonly chunks: PackChunkStore;
  readonly replicator: Replicator;
  readonly known: Known;
  readonly #engine: SealingEngine;
  readonly #stored: StoredPacks;

  private constructor(
    parts: Pick<Session, "metadata" | "chunks" | "replicator" | "known">,
    engine: SealingEngine,
    stored: StoredPacks,
  ) {
    this.metadata = parts.metadata;
    this.chunks = parts.chunks;
    this.replicator = parts.replicator;
    this.known = parts.known;
    this.#engine = engine;
    this.#stored = stored;
  }

  static async open(
    directory: string,
    store: ObjectStore,
    known: Known,
    {
      clock = hurriedClock,
      keepDeletedSeconds = 0,
      isDamaged = () => false,
      packDisk: packsFrom = disk,
    }: SessionOptions = {},
  ): Promise<Session> {
    const engine = newEngine();
    const follower: { replicator?: Replicator } = {};
    const metadata = await openMetadata(directory, engine, true, (commit, changes) =>
      follower.replicator?.note(commit, changes),
    );
    const chunks = await openChunks(directory, engine, metadata);
    const stored = await StoredPacks.open(disk, directory);
    const local = new PackDirectory(packsFrom, join(directory, "packs"), chunks.ownPacks);
    const { commit } = metadata.volume;
    const found = verifyState((await readState(disk, directory))!, sealer);
    const state = await disownNewer(disk, directory, found, commit, sealer);
    const replicator = new Replicator({
      ...rooms(engine),
      openStore: () => Promise.resolve(store),
      disk,
      directory,
      state,
      devices: await DeviceBook.open({ disk, directory, sealer }, newDevice("the first")),
      onNewDevices: () => undefined,
      commit,
      allRecords: () => metadata.allRecords(),
      readHeader: () => Promise.resolve({ content: Buffer.from("header"), revision: 1 }),
      onOutcome: () => undefined,
      sealer,
      clock,
      local,
      ledger: await StoreLedger.open(disk, directory, { mac: (bytes) => sealer.mac(bytes), link: new Uint8Array(16) }),
      uploader: new PackUploader({
        ...rooms(engine),
        local,
        stored,
        clock,
        lost: await LostPacks.open({
          disk,
          directory,
          clock,
          onListed: (pack, isListed) => {
            chunks.distrust(pack, isListed);
          },
          onLost: ({ pack, kind }) => known.lost.push(`${formatPackId(pack)} ${kind}`),
          onFound: (pack) => known.found.push(formatPackId(pack)),
        }),
        isNamed: (pack) => metadata.database.find(packKey(pack)) !== undefined,
        isChunkThere: (id, pack) => {
          const record = metadata.getChunk(id);
          return record?.kind === "packed" && Buffer.compare(record.pack, pack) === 0;
        },
        findDamage: (pack, content, buffer, isFinished) =>
          findPackDamage(pack, content, rooms(engine), buffer, isFinished),
        onDamage: (pack, damage) => {
          chunks.noteDamaged(pack, damage.chunks);
        },
      }),
      packs: () => metadata.packs(),
      settings: { isPaused: false, limitBytesPerSecond: null, maxAgeSeconds: 60, keepDeletedSeconds },
      pace: new Pace(clock),
      findPack: (pack) => {
        if (isDamaged()) throw new TcfsError("TCFS_CORRUPT", "made to fail: a damaged table");
        return metadata.getPack(pack);
      },
      onHeadDamaged: (error) => known.damagedHeads.push(error.message),
    });
    follower.replicator = replicator;
    return new Session({ metadata, chunks, replicator, known }, engine, stored);
  }

  async commit(extents: ReadonlyMap<number, ChunkId | undefined> = new Map()): Promise<void> {
    const batch = this.metadata.freeze();
    for (const [ino, chunk] of extents) {
      const page = chunk === undefined ? [] : [{ start: 0, lengthBytes: 1, chunk, chunkOffset: 0 }];
      batch.putExtentPage(ino as InodeNumber, 0, page);
    }
    await this.chunks.flushInto(batch);
    await batch.commit();
    this.chunks.committed();
    this.known.states.set(this.metadata.volume.commit, await stateOf(this.metadata));
  }

  async close(): Promise<void> {
    await this.replicator.close();
    await this.chunks.close();
    await this.#stored[Symbol.asyncDispose]();
    await this.metadata.close();
    this.#engine.close();
  }
}

/** What the vault is known to have been: states by commit, contents by chunk. */
export interface Known {
  readonly states: Map<number, string>;
  readonly contents: Map<string, Uint8Array>;
  acknowledged: number;
  /** Packs that were found to be lost, and how; and those that came again. */
  readonly lost: string[];
  readonly found: string[];
  readonly damagedHeads: string[];
}

/** Some files get other contents, or none. */
export async function change(session: Session, random: () => number, known: Known): Promise<void> {
  const changed = new Map<number, ChunkId | undefined>();
  for (let i = 0; i < 1 + random() * 4; i++) {
    const ino = 1 + Math.floor(random() * 30);
    if (random() < 0.2) {
      changed.set(ino, undefined);
      continue;
    }
    const content = noise(String(random()), 1 + Math.floor(random() * 30_000));
    const place = random() < 0.3 ? "inline" : "pack";
    const [stored] = await session.chunks.store([{ pieces: [content], isFinal: true }], place);
    let at = 0;
    for (const { id, lengthBytes } of stored ?? []) {
      known.contents.set(Buffer.from(id).toString("hex"), content.slice(at, at + lengthBytes));
      at += lengthBytes;
      changed.set(ino, id);
    }
  }
  await session.commit(changed);
}

/** @param directory - Not there yet. @returns The commit that the copy has. */
export async function attachCopy(store: ObjectStore, directory: string, rootName?: string): Promise<number> {
  await disk.makeDirectories(join(directory, "packs"));
  const engine = newEngine();
  const identity = newDevice("a copy");
  const place = { store, url: "file:///x", disk, directory, sealer, headerRevision: 1, identity, rootName };
  try {
    const { volume } = await attachRecords({ ...rooms(engine), ...place });
    return volume.commit;
  } finally {
    engine.close();
  }
}

/**
 * @param directory - Of the copy: not there yet.
 * @param rootName - If not the present one.
 * @returns Names of the packs of chunks that cannot be read: each is damage, and said to be lost by the root.
 */
export async function expectAttachable(
  store: ObjectStore,
  known: Known,
  directory: string,
  rootName?: string,
): Promise<ReadonlySet<string>> {
  const commit = await attachCopy(store, directory, rootName);
  const engine = newEngine();
  expect(commit).toBeGreaterThanOrEqual(known.acknowledged);
  const metadata = await openMetadata(directory, engine, false);
  expect(await stateOf(metadata)).toBe(known.states.get(commit));
  const fetcher = new PackFetcher(() => Promise.resolve(store), rooms(engine), 10_000);
  const seal = { mac: (bytes: Uint8Array) => sealer.mac(bytes), link: new Uint8Array(16) };
  const limits = { maxBytes: 2 ** 30, waitMs: 10_000 };
  const shelf = await BoundedPackShelf.open({ disk, directory, clock: systemClock, remote: fetcher, seal, ...limits });
  const chunks = await openChunks(directory, engine, metadata, shelf);
  const unreadable = new Set<string>();
  for await (const { id, record } of metadata.chunks()) {
    const lengthBytes = record.kind === "inline" ? record.content.length : record.lengthBytes;
    let content: Uint8Array;
    try {
      content = copyLoan(await chunks.read(id, 0, lengthBytes));
    } catch (error) {
      expect(error).toMatchObject({ code: "TCFS_CORRUPT" });
      unreadable.add(record.kind === "packed" ? formatPackId(record.pack) : "inline");
      continue;
    }
    expect(Buffer.compare(content, known.contents.get(Buffer.from(id).toString("hex")) ?? new Uint8Array(0))).toBe(0);
  }
  await chunks.close();
  await fetcher.close();
  await shelf.close();
  await metadata.close();
  engine.close();
  const told = await lostOf(store, rootName);
  for (const name of unreadable) expect([...told.keys()]).toContain(name);
  return unreadable;
}

/** What the store's root says of packs that its state lacks, by their names. */
export async function lostOf(store: ObjectStore, name = ROOT_NAME): Promise<Map<string, LostKind>> {
  const found = await readRoot(store, sealer, { name });
  const head = found && (await readSteps(store, sealer, found)).at(-1);
  return new Map(head?.lost.map(({ pack, kind }) => [formatPackId(pack), kind]));
}

/** A new vault directory and its store, with nothing in either. */
export async function makeVault(parent: string, name: string) {
  const directory = join(parent, name);
  await disk.makeDirectories(join(directory, "packs"));
  const clean = await DirectoryStore.open(join(parent, `${name}-store`), { create: true });
  await writeState(disk, directory, NEW_STATE, sealer);
  const known: Known = {
    states: new Map(),
    contents: new Map(),
    acknowledged: 0,
    lost: [],
    found: [],
    damagedHeads: [],
  };
  return { directory, clean, known };
}

/** All that a root leads to, by name. @param name - Of the root. */
export async function reachOf(store: ObjectStore, name = ROOT_NAME): Promise<Set<string>> {
  const found = await readRoot(store, sealer, { name });
  if (found === undefined) return new Set();
  const engine = newEngine();
  const reader = new StreamReader(rooms(engine), store);
  const names = new Set<string>();
  const packs = new Map<string, PackId>();
  let { headHash: hash } = found.root;
  for (const { number, previousHash, stream } of (await readSteps(store, sealer, found)).reverse()) {
    names.add(manifestObject(number === found.root.checkpoint ? "checkpoint" : "commit", number, hash));
    hash = previousHash;
    if (stream.kind === "chunks") for (const { pack } of stream.chunks) names.add(packObject(pack));
  }
  for (const { stream } of await readSteps(store, sealer, found)) {
    for await (const changes of reader.read(stream)) notePacks(packs, changes);
  }
  engine.close();
  return new Set([...names, ...[...packs.values()].map(packObject)]);
}

/** What was deleted, and what should not have been. */
export interface Deletions {
  readonly names: string[];
  readonly losses: string[];
}

/** A store that tells what is deleted while its root, or a kept one, leads there: whoever does that loses data. */
export function guarding(store: ObjectStore, { names, losses }: Deletions): ObjectStore {
  return {
    place: store.place,
    get: (...all) => store.get(...all),
    getPart: (...all) => store.getPart(...all),
    getRange: (...all) => store.getRange(...all),
    head: (...all) => store.head(...all),
    put: (...all) => store.put(...all),
    putIfAbsent: (...all) => store.putIfAbsent(...all),
    putIfMatch: (...all) => store.putIfMatch(...all),
    delete: async (name, signal) => {
      for (const root of [ROOT_NAME, ...(await collect(store.list(KEPT_ROOTS)))]) {
        if ((await reachOf(store, root)).has(name)) losses.push(name);
      }
      await store.delete(name, signal);
      names.push(name);
    },
    list: (...all) => store.list(...all),
    close: () => store.close(),
  };
}
