/**
 * A vault that uploads to a store which fails as stores do, and dies at random instants: after each round an attach from
 * the store alone gives a state that the vault had, never older than what was acknowledged as stored, with every chunk.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { copyLoan } from "../../src/borrowed-bytes.ts";
import { BoundedPackShelf } from "../../src/cache/bounded-pack-shelf.ts";
import { LruFrameCache } from "../../src/cache/lru-frame-cache.ts";
import { PackChunkStore } from "../../src/chunkstore/pack-chunk-store.ts";
import { PackDirectory } from "../../src/chunkstore/pack-directory.ts";
import { packPath } from "../../src/chunkstore/open-packs.ts";
import { formatPackId } from "../../src/chunkstore/pack-format.ts";
import { findPackDamage } from "../../src/chunkstore/pack-verifier.ts";
import type { PackShelf } from "../../src/chunkstore/pack-shelf.ts";
import { type ChunkingParameters, type SealingEngine } from "../../src/crypto/engine.ts";
import { ObjectSealer } from "../../src/crypto/object-seal.ts";
import { openEngine } from "../../src/crypto/open-engine.ts";
import { PackKeyWrapper } from "../../src/crypto/pack-key.ts";
import { TcfsError } from "../../src/errors.ts";
import { packKey } from "../../src/format/record-keys.ts";
import type { ChunkId, InodeNumber } from "../../src/ids.ts";
import { DeviceBook } from "../../src/keys/devices/device-book.ts";
import { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { type Clock, systemClock } from "../../src/platform/clock.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { DirectoryStore } from "../../src/remote/directory-store.ts";
import type { ObjectStore } from "../../src/remote/object-store.ts";
import { Pace } from "../../src/remote/paced-store.ts";
import { attachRecords } from "../../src/replica/attach.ts";
import { ROOT_NAME, packObject } from "../../src/replica/object-names.ts";
import { PackFetcher } from "../../src/replica/pack-fetcher.ts";
import { PackUploader } from "../../src/replica/pack-uploader.ts";
import { readState, verifyState, writeState } from "../../src/replica/replica-state.ts";
import { Replicator } from "../../src/replica/replicator.ts";
import { StoredPacks } from "../../src/replica/stored-packs.ts";
import { SUBKEYS } from "../chunkstore/test-vault.ts";
import { VAULT_ID, firstEpoch, noise } from "../crypto/fixtures.ts";
import { FaultyStore, collect, seeded } from "../remote/faulty-store.ts";
import { eventually } from "../support/run.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary-directory.ts";

const ZEROS = "0".repeat(32);
const NEW_STATE = { url: "file:///x", deviceId: ZEROS, last: null, pending: [], keptBelow: 0, link: ZEROS };
const CHUNKING: ChunkingParameters = { minBytes: 4096, averageBytes: 16_384, maxBytes: 65_536 };
const STORE_SUBKEY = noise("store subkey", 32);
const ROUNDS = 4;
const disk = new NodeDisk();

/** Waits a thousandth as long. */
const hurriedClock: Clock = {
  now: () => systemClock.now(),
  monotonicMs: () => systemClock.monotonicMs(),
  after: (delayMs, action) => systemClock.after(delayMs / 1000, action),
};

const newEngine = (): SealingEngine =>
  openEngine({
    vaultId: VAULT_ID,
    subkeys: SUBKEYS,
    chunking: CHUNKING,
    sessionId: systemRandom.bytes(8),
    keyEpoch: 1,
  });
const sealer = new ObjectSealer(firstEpoch(STORE_SUBKEY), VAULT_ID, systemRandom);
const rooms = (engine: SealingEngine) => ({
  engine,
  packKeys: new PackKeyWrapper(firstEpoch(SUBKEYS.packs), VAULT_ID, systemRandom),
  vaultId: VAULT_ID,
  random: systemRandom,
});

const newDevice = (name: string) => ({
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
class Session {
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

  static async open(directory: string, store: ObjectStore, known: Known): Promise<Session> {
    const engine = newEngine();
    const follower: { replicator?: Replicator } = {};
    const metadata = await openMetadata(directory, engine, true, (commit, changes) =>
      follower.replicator?.note(commit, changes),
    );
    const chunks = await openChunks(directory, engine, metadata);
    const stored = await StoredPacks.open(disk, directory);
    const local = new PackDirectory(disk, join(directory, "packs"), chunks.ownPacks);
    const state = await readState(disk, directory);
    const replicator = new Replicator({
      ...rooms(engine),
      openStore: () => Promise.resolve(store),
      disk,
      directory,
      state: verifyState(state!, sealer),
      devices: await DeviceBook.open({ disk, directory, sealer }, newDevice("the first")),
      onNewDevices: () => undefined,
      commit: metadata.volume.commit,
      allRecords: () => metadata.allRecords(),
      readHeader: () => Promise.resolve({ content: Buffer.from("header"), revision: 1 }),
      onOutcome: () => undefined,
      sealer,
      clock: hurriedClock,
      local,
      uploader: new PackUploader({
        ...rooms(engine),
        local,
        stored,
        clock: hurriedClock,
        findDamage: (pack, content) => findPackDamage(pack, content, rooms(engine)),
        onDamage: () => expect.unreachable("nothing is damaged"),
        onGone: (pack) => known.gone.push(formatPackId(pack)),
      }),
      packs: () => metadata.packs(),
      settings: { isPaused: false, limitBytesPerSecond: null, maxAgeSeconds: 60 },
      pace: new Pace(hurriedClock),
      isPackNamed: ({ pack }) => metadata.database.find(packKey(pack)) !== undefined,
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

let temporary: TemporaryDirectory;
beforeAll(async () => {
  temporary = await temporaryDirectory("soak");
});
afterAll(() => temporary[Symbol.asyncDispose]());

/** What the vault is known to have been: states by commit, contents by chunk. */
interface Known {
  readonly states: Map<number, string>;
  readonly contents: Map<string, Uint8Array>;
  acknowledged: number;
  /** Packs that neither the store nor the disk has. */
  readonly gone: string[];
}

async function change(session: Session, random: () => number, known: Known): Promise<void> {
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

async function expectAttachable(store: ObjectStore, known: Known, name: string): Promise<void> {
  const directory = join(temporary.path, name);
  await disk.makeDirectory(directory);
  const engine = newEngine();
  const identity = newDevice("a copy");
  const place = { store, url: "file:///x", disk, directory, sealer, headerRevision: 1, identity };
  const { volume } = await attachRecords({ ...rooms(engine), ...place });
  expect(volume.commit).toBeGreaterThanOrEqual(known.acknowledged);
  const metadata = await openMetadata(directory, engine, false);
  expect(await stateOf(metadata)).toBe(known.states.get(volume.commit));
  const fetcher = new PackFetcher(() => Promise.resolve(store), rooms(engine), 10_000);
  const seal = { mac: (bytes: Uint8Array) => sealer.mac(bytes), link: new Uint8Array(16) };
  const limits = { maxBytes: 2 ** 30, waitMs: 10_000 };
  const shelf = await BoundedPackShelf.open({ disk, directory, clock: systemClock, remote: fetcher, seal, ...limits });
  const chunks = await openChunks(directory, engine, metadata, shelf);
  for await (const { id, record } of metadata.chunks()) {
    const lengthBytes = record.kind === "inline" ? record.content.length : record.lengthBytes;
    const content = copyLoan(await chunks.read(id, 0, lengthBytes));
    expect(Buffer.compare(content, known.contents.get(Buffer.from(id).toString("hex")) ?? new Uint8Array(0))).toBe(0);
  }
  await chunks.close();
  await fetcher.close();
  await shelf.close();
  await metadata.close();
  engine.close();
}

const SEEDS = process.env["TCFS_SOAK_SEEDS"]?.split(",").map(Number) ?? [20_261_122, 7];

test.for(SEEDS)("comes back from the store alone, seed %i", async (seed) => {
  const random = seeded(seed);
  const directory = join(temporary.path, `vault-${String(seed)}`);
  await disk.makeDirectory(join(directory, "packs"));
  const clean = await DirectoryStore.open(join(temporary.path, `store-${String(seed)}`), { create: true });
  await writeState(disk, directory, NEW_STATE, sealer);
  const known: Known = { states: new Map(), contents: new Map(), acknowledged: 0, gone: [] };
  for (let round = 0; round < ROUNDS; round++) {
    const chances = { failing: 0.03, throttled: 0.03, lost: 0.05, cut: 0.03, full: 0.02 };
    const store = new FaultyStore(clean, { seed: seed + round, chances, liesInListings: true });
    const dying = { after: random() < 0.5 ? 1 + Math.floor(random() * 25) : Infinity, isDead: false };
    store.beforeChange = () => {
      dying.after -= 1;
      dying.isDead ||= dying.after < 0;
      if (dying.isDead) throw new Error("the daemon was killed");
    };
    const session = await Session.open(directory, store, known);
    for (let step = 0; step < 5; step++) {
      await change(session, random, known);
      if (random() < 0.2) {
        await session.chunks.collect(() => session.commit(), new AbortController().signal);
      }
      if (random() < 0.5) continue;
      const { commit } = session.metadata.volume;
      const giveUp = new AbortController();
      const waiting = session.replicator.wait(commit, giveUp.signal);
      const watch = setInterval(() => {
        if (dying.isDead) giveUp.abort();
      }, 5);
      const isStored = await waiting.then(
        () => true,
        () => false,
      );
      clearInterval(watch);
      if (!isStored) expect(dying.isDead).toBe(true);
      if (isStored) known.acknowledged = commit;
    }
    await session.close();
    if (known.acknowledged > 0) await expectAttachable(clean, known, `copy-${String(seed)}-${String(round)}`);
  }
  expect(known.acknowledged).toBeGreaterThan(0);
});

test("a pack that the store lost is brought again, and no other", async () => {
  const directory = join(temporary.path, "lost");
  await disk.makeDirectory(join(directory, "packs"));
  const clean = await DirectoryStore.open(join(temporary.path, "lost-store"), { create: true });
  await writeState(disk, directory, NEW_STATE, sealer);
  const known: Known = { states: new Map(), contents: new Map(), acknowledged: 0, gone: [] };
  const store = new FaultyStore(clean, { seed: 1, chances: {} });
  const session = await Session.open(directory, store, known);
  const signal = new AbortController().signal;
  for (const seed of [1, 2, 3]) await change(session, seeded(seed), known);
  await session.replicator.wait(session.metadata.volume.commit, signal);
  const written: string[] = [];
  store.beforeChange = (name) => written.push(name);
  const [record] = await collect(session.metadata.packs());
  await clean.delete(packObject(record!.pack));
  session.replicator.noteLost(record!);
  expect(session.replicator.status()).toMatchObject({ activity: "waiting", backlogPacks: 1 });
  await session.replicator.wait(session.metadata.volume.commit, signal);
  expect(written).toContain(packObject(record!.pack));
  expect(written.filter((name) => name.startsWith("packs/")).length).toBe(1);
  expect(session.replicator.status()).toMatchObject({ backlogPacks: 0 });
  for (let times = 0; times < 5; times++) session.replicator.noteLost(record!); // it says so for ever
  await session.replicator.wait(session.metadata.volume.commit, signal);
  session.replicator.noteLost(record!);
  expect(session.replicator.status().backlogPacks).toBe(0);
  await expectAttachable(clean, known, "lost-copy");

  await clean.delete(packObject(record!.pack));
  await disk.remove(packPath(join(directory, "packs"), record!.pack));
  await session.close();
  const again = await Session.open(directory, clean, known);
  again.replicator.noteLost(record!);
  for (const seed of [4, 5]) {
    await change(again, seeded(seed), known);
    await again.replicator.wait(again.metadata.volume.commit, signal); // what is new goes up all the same
  }
  expect(known.gone).toEqual([formatPackId(record!.pack)]);
  expect(again.replicator.status()).toMatchObject({ backlogPacks: 0, lastError: null });
  await again.close();
});

test("a root that the store wrote after it was given up is known for ours", async () => {
  const directory = join(temporary.path, "late");
  await disk.makeDirectory(join(directory, "packs"));
  const clean = await DirectoryStore.open(join(temporary.path, "late-store"), { create: true });
  await writeState(disk, directory, NEW_STATE, sealer);
  const known: Known = { states: new Map(), contents: new Map(), acknowledged: 0, gone: [] };
  const store = new FaultyStore(clean, { seed: 1, chances: {} });
  const session = await Session.open(directory, store, known);
  const signal = new AbortController().signal;
  await change(session, seeded(1), known);
  await session.replicator.wait(session.metadata.volume.commit, signal);
  const putIfMatch = store.putIfMatch.bind(store);
  const late: (() => Promise<unknown>)[] = [];
  let rootCount = 0;
  store.putIfMatch = async (name, content, version, given) => {
    if (name === ROOT_NAME) rootCount += 1;
    if (name === ROOT_NAME && rootCount === 1) {
      const copy = Uint8Array.from(content);
      late.push(() => clean.putIfMatch(name, copy, version));
      throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", "made to fail: given up");
    }
    for (const carryOut of late.splice(0)) await carryOut(); // just before the next one comes
    return putIfMatch(name, content, version, given);
  };
  await change(session, seeded(2), known);
  const { commit } = session.metadata.volume;
  await session.replicator.wait(commit, signal);
  expect(rootCount).toBe(3);
  expect(session.replicator.status()).toMatchObject({ lastError: null, lastRoot: { commit } });
  known.acknowledged = commit;
  await session.close();
  await expectAttachable(clean, known, "late-copy");
});

/** Clock skew and expired credentials are DENIED, a deleted bucket MISSING, 409 and 412 CONFLICT, time-outs and 500 UNAVAILABLE. */
const PASSING = [
  "TCFS_REMOTE_UNAVAILABLE",
  "TCFS_REMOTE_THROTTLED",
  "TCFS_REMOTE_DENIED",
  "TCFS_REMOTE_MISSING",
  "TCFS_REMOTE_FULL",
  "TCFS_REMOTE_CONFLICT",
] as const;

test.for(PASSING)("%s is told of, and uploads go on by themselves after it", async (code) => {
  const random = seeded(11);
  const directory = join(temporary.path, `passing-${code}`);
  await disk.makeDirectory(join(directory, "packs"));
  const clean = await DirectoryStore.open(join(temporary.path, `passing-store-${code}`), { create: true });
  await writeState(disk, directory, NEW_STATE, sealer);
  const known: Known = { states: new Map(), contents: new Map(), acknowledged: 0, gone: [] };
  const store = new FaultyStore(clean, { seed: 1, chances: {} });
  const session = await Session.open(directory, store, known);
  const fault = { isThere: true };
  store.beforeChange = () => {
    if (fault.isThere) throw new TcfsError(code, "made to fail");
  };
  await change(session, random, known);
  const { commit } = session.metadata.volume;
  const waiting = session.replicator.wait(commit, new AbortController().signal);
  await eventually("the failure is told of", 20_000, () => session.replicator.status().activity === "failing");
  expect(session.replicator.status().lastError).toBe("made to fail");
  fault.isThere = false;
  await waiting;
  known.acknowledged = commit;
  expect(session.replicator.status()).toMatchObject({ lastError: null, backlogPacks: 0, lastRoot: { commit } });
  await session.close();
  await expectAttachable(clean, known, `passing-copy-${code}`);
});
