/** The store over its journal: what survives, what is seen while LevelDB follows or cannot, and how it is closed. */
import { cpSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { FrozenBatch } from "../../src/metadata/metadata-store.ts";
import type { LevelMetadataStore, LevelMetadataStoreOptions } from "../../src/metadata/level-metadata-store.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { noise } from "../crypto/fixtures.ts";
import { FaultyLevel } from "./faulty-level.ts";
import { PowerCutDisk } from "./power-cut-disk.ts";
import { chunkId, inode, makeInode, makeTemporaryDirectory, name, openTestStore } from "./store-fixture.ts";

const ROOT = inode(1);
const LARGE_BYTES = 240_000;
/** So many large commits fill a file of the journal. */
const LARGE_PER_FILE = 17;

const withCode = (code: string): unknown => expect.objectContaining({ code });

interface Vault {
  readonly store: LevelMetadataStore;
  readonly power: PowerCutDisk;
  readonly level: FaultyLevel;
  readonly directory: string;
  /** What `onLag` was told. */
  readonly lags: unknown[];
  readonly torn: string[];
}

async function openVault(
  options: Partial<LevelMetadataStoreOptions> & { readonly power?: PowerCutDisk; readonly directory?: string } = {},
): Promise<Vault> {
  const { power = new PowerCutDisk(), directory = await makeTemporaryDirectory(), ...rest } = options;
  const level = new FaultyLevel();
  const [lags, torn]: [unknown[], string[]] = [[], []];
  const store = await openTestStore(directory, {
    disk: power.disk,
    journalDirectory: "/journal",
    cacheBytes: 0,
    openLevel: level.open,
    onLag: (error) => lags.push(error),
    onTornLog: (sentence) => torn.push(sentence),
    ...rest,
  });
  return { store, power, level, directory, lags, torn };
}

/** The vault as a power cut at this moment leaves it, opened. LevelDB must be at rest. */
async function afterPowerCut({ power, level, directory }: Vault): Promise<Vault> {
  expect(level.batchesUnderWay).toBe(0);
  const after = power.powerCut();
  const copy = await makeTemporaryDirectory();
  cpSync(join(directory, "meta"), join(copy, "meta"), { recursive: true });
  return openVault({ power: after, directory: copy });
}

async function commit(batch: FrozenBatch): Promise<void> {
  await batch.commit();
}

/** One commit with a large inline chunk; the few chunks take turns. */
async function commitLarge({ store }: Vault, round: number): Promise<void> {
  store.putInode(makeInode(2, { linkCount: round }));
  const batch = store.freeze();
  batch.putChunk(chunkId(round % 4), { kind: "inline", content: noise(String(round), LARGE_BYTES) });
  await commit(batch);
}

async function commitSmall({ store }: Vault, ino: number, linkCount = 1): Promise<void> {
  store.putInode(makeInode(ino, { linkCount }));
  store.putDentry(ROOT, { name: name(`n${ino}`), ino: inode(ino), type: 8 });
  await commit(store.freeze());
}

function contentOf({ store }: Vault, chunk: number): Uint8Array | undefined {
  const record = store.getChunk(chunkId(chunk));
  return record?.kind === "inline" ? record.content : undefined;
}

const isContent = (content: Uint8Array | undefined, round: number): boolean =>
  content !== undefined && Buffer.compare(content, noise(String(round), LARGE_BYTES)) === 0;

async function atRest({ level }: Vault): Promise<void> {
  await expect.poll(() => level.batchesUnderWay, { interval: 5 }).toBe(0);
}

interface Gate {
  readonly closed: Promise<void>;
  open(): void;
}

function makeGate(): Gate {
  let open = (): void => undefined;
  const closed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { closed, open };
}

describe("a commit", () => {
  test("survives a power cut at once, each of them, and the database is not even asked", async () => {
    const vault = await openVault();
    for (let ino = 2; ino <= 12; ino++) {
      await commitSmall(vault, ino);
      const after = await afterPowerCut(vault);
      expect(after.store.volume.commit).toBe(ino - 1);
      for (let earlier = 2; earlier <= ino; earlier++) expect(after.store.getInode(inode(earlier))?.ino).toBe(earlier);
      expect(after.store.getInode(inode(ino + 1))).toBeUndefined();
      expect(await after.store.listDirectory(ROOT)).toHaveLength(ino - 1);
      expect(after.torn).toEqual([]);
      await after.store.close();
    }
    expect(vault.level.batches).toBe(0);
  });

  test("survives it while the journal goes round and round", async () => {
    const vault = await openVault();
    for (let round = 1; round <= 5 * LARGE_PER_FILE; round++) {
      await commitLarge(vault, round);
      if (round % 12 !== 0) continue;
      await atRest(vault);
      const after = await afterPowerCut(vault);
      expect(after.store.volume.commit).toBe(round);
      for (let earlier = round; earlier > round - 4; earlier--) {
        expect(isContent(contentOf(after, earlier % 4), earlier)).toBe(true);
      }
      await after.store.close();
    }
    expect(vault.lags).toEqual([]);
  });

  test("of very many small records has the database follow long before the journal turns: they take memory", async () => {
    const vault = await openVault();
    const removeNames = async (round: number): Promise<void> => {
      for (let index = 0; index < 6000; index++) vault.store.deleteDentry(ROOT, name(`r${round}-${index}`));
      await commit(vault.store.freeze());
    };
    for (let round = 0; round < 4; round++) await removeNames(round);
    expect(vault.level.batches).toBe(0);
    await removeNames(4);
    expect(vault.level.batches).toBeGreaterThan(0);
  });

  test("is read from the journal where nothing may be written, and nothing is", async () => {
    const vault = await openVault();
    for (let ino = 2; ino <= 5; ino++) await commitSmall(vault, ino);
    const power = vault.power.powerCut();
    const directory = await makeTemporaryDirectory();
    cpSync(join(vault.directory, "meta"), join(directory, "meta"), { recursive: true });
    const reader = await openVault({ power, directory, isReadOnly: true });
    expect(reader.store.volume.commit).toBe(4);
    expect(await reader.store.listDirectory(ROOT)).toHaveLength(4);
    expect(() => reader.store.getInode(inode(5))).not.toThrow();
    await reader.store.close();
    expect(reader.level.batches).toBe(0);
    const writer = await openVault({ power, directory });
    expect(writer.store.volume.commit).toBe(4);
    await writer.store.close();
    expect(writer.level.batches).toBeGreaterThan(0);
  });

  test("is left out when it was torn, and the one before it is there", async () => {
    const vault = await openVault();
    await commitSmall(vault, 2, 1);
    await commitSmall(vault, 2, 2);
    vault.power.damage("/journal/0", (bytes) => bytes.fill(0, 4096 + 64, 8192));
    const after = await afterPowerCut(vault);
    expect(after.store.getInode(inode(2))?.linkCount).toBe(1);
    expect(after.torn).toEqual(["commit 2 was not complete in the journal and is left out"]);
    await commitSmall(after, 2, 3);
    expect((await afterPowerCut(after)).store.getInode(inode(2))?.linkCount).toBe(3);
  });

  test("of much data goes to the database, which has all that came before it by then", async () => {
    const vault = await openVault({ journaledBytes: 10_000 });
    await commitSmall(vault, 2, 1);
    await commitLarge(vault, 5);
    const after = await afterPowerCut(vault);
    expect(after.store.volume.commit).toBe(2);
    expect(after.store.getInode(inode(2))?.linkCount).toBe(5);
    expect(await after.store.listDirectory(ROOT)).toHaveLength(1);
    expect(isContent(contentOf(after, 1), 5)).toBe(true);
  });
});

describe("while the database follows", () => {
  /** A vault whose database is stopped in the first batch of its following. */
  async function stopped(): Promise<{ vault: Vault; gate: Gate; rounds: number }> {
    const vault = await openVault();
    const gate = makeGate();
    for (const ino of [10, 11]) await commitSmall(vault, ino);
    await vault.store.close();
    const { directory, power } = vault;
    const again = await openVault({ directory, power });
    again.level.batchGate = gate.closed;
    let rounds = 0;
    while (again.level.batches === 0) await commitLarge(again, ++rounds);
    expect(rounds).toBeLessThanOrEqual(LARGE_PER_FILE + 1);
    return { vault: again, gate, rounds };
  }

  test("reads, walks and listings show what is pending, deletions too", async () => {
    const { vault, gate, rounds } = await stopped();
    const { store } = vault;
    store.putDentry(ROOT, { name: name("new"), ino: inode(2), type: 8 });
    store.deleteDentry(ROOT, name("n10"));
    store.deleteInode(inode(10));
    store.addOrphan(inode(11));
    const batch = store.freeze();
    for (const page of [0, 7]) {
      batch.putExtentPage(inode(2), page, [{ start: 0, lengthBytes: 5, chunk: chunkId(1), chunkOffset: 0 }]);
    }
    batch.deleteChunk(chunkId(rounds % 4));
    await commit(batch);
    const check = async ({ store: seen }: Vault): Promise<void> => {
      expect((await seen.listDirectory(ROOT)).map((dentry) => dentry.name).sort()).toEqual(["n11", "new"]);
      expect(seen.getDentry(ROOT, name("n10"))).toBeUndefined();
      expect(seen.getInode(inode(10))).toBeUndefined();
      expect(await seen.listOrphans()).toEqual([11]);
      expect(await seen.extentPages(inode(2), 0, 100)).toEqual([0, 7]);
      const ids: number[] = [];
      for await (const { id } of seen.chunks()) ids.push(id[0] ?? -1);
      expect(ids).toEqual([0, 1, 2, 3].filter((id) => id !== rounds % 4));
    };
    await check(vault);
    const begunBefore = store.chunks();
    const first = await begunBefore.next();
    gate.open();
    await atRest(vault);
    const others = [];
    for await (const { id } of begunBefore) others.push(id);
    expect([first.value === undefined ? undefined : 1, others.length]).toEqual([1, 2]);
    await check(vault);
    await check(await afterPowerCut(vault));
  });

  test("small commits go on, and a large one waits until the database has them too", async () => {
    const { vault, gate } = await stopped();
    await commitSmall(vault, 50, 1);
    await commitSmall(vault, 51, 1);
    const { store } = vault;
    store.putInode(makeInode(50, { linkCount: 9 }));
    const large = store.freeze();
    large.putChunk(chunkId(9), { kind: "inline", content: noise("9", 300_000) });
    const committed = commit(large);
    gate.open();
    await committed;
    const check = async ({ store: seen }: Vault): Promise<void> => {
      expect(seen.getInode(inode(50))?.linkCount).toBe(9);
      expect(seen.getInode(inode(51))?.linkCount).toBe(1);
      expect((await seen.listDirectory(ROOT)).map((dentry) => dentry.name)).toContain("n51");
    };
    await check(vault);
    await check(await afterPowerCut(vault));
    await commitSmall(vault, 52);
    await check(await afterPowerCut(vault));
    await store.close();
    const { directory, power } = vault;
    await check(await openVault({ directory, power }));
  });

  test("closing brings all of it to the database", async () => {
    const { vault, gate } = await stopped();
    await commitSmall(vault, 50);
    const closed = vault.store.close();
    gate.open();
    await closed;
    const after = await afterPowerCut(vault);
    expect(after.store.getInode(inode(50))?.ino).toBe(50);
    await after.store.close();
    expect(after.level.batches).toBe(0);
  });
});

describe("a database that cannot follow", () => {
  test("is told of and tried again; commits go on while there is room, then there is none, and all heals", async () => {
    const vault = await openVault();
    vault.level.failingWrites = Infinity;
    let rounds = 0;
    let failed: FrozenBatch | undefined;
    while (failed === undefined) {
      vault.store.putInode(makeInode(2, { linkCount: ++rounds }));
      const batch = vault.store.freeze();
      batch.putChunk(chunkId(rounds % 4), { kind: "inline", content: noise(String(rounds), LARGE_BYTES) });
      await commit(batch).catch((error: unknown) => {
        expect(error).toEqual(withCode("TCFS_STORE_FULL"));
        failed = batch;
      });
      expect(vault.store.getInode(inode(2))?.linkCount).toBe(rounds);
    }
    expect(rounds).toBe(2 * LARGE_PER_FILE + 1);
    expect(vault.lags.length).toBeGreaterThan(0);
    expect(vault.lags[0]).toEqual(withCode("TCFS_STORE_FULL"));
    expect(vault.store.volume.commit).toBe(rounds - 1);
    await expect(commit(failed)).rejects.toThrow(withCode("TCFS_STORE_FULL"));
    const cut = await afterPowerCut(vault);
    expect(cut.store.volume.commit).toBe(rounds - 1);
    expect(isContent(contentOf(cut, (rounds - 1) % 4), rounds - 1)).toBe(true);

    expect(vault.lags.at(-1)).toBeDefined();
    vault.level.failingWrites = 0;
    await commit(failed);
    expect(vault.lags.at(-1), "told that it is up to date again").toBeUndefined();
    for (let more = 0; more < 2 * LARGE_PER_FILE; more++) await commitLarge(vault, ++rounds);
    await atRest(vault);
    const after = await afterPowerCut(vault);
    expect(after.store.volume.commit).toBe(rounds);
    expect(isContent(contentOf(after, rounds % 4), rounds)).toBe(true);
  });

  test("keeps its journal through closing, and is brought up by the next session", async () => {
    const vault = await openVault();
    await commitSmall(vault, 2);
    vault.level.failingWrites = 1;
    await vault.store.close();
    expect(vault.lags).toHaveLength(1);
    const { directory, power } = vault;
    const again = await openVault({ directory, power, createIfMissing: false });
    expect(again.store.getInode(inode(2))?.ino).toBe(2);
    await again.store.close();
    expect(again.level.batches).toBe(1);
  });
});

describe("closing", () => {
  test("waits for a commit that is on its way through the pool, and takes no other", async () => {
    let nowMs = 0;
    const clock = { ...systemClock, now: () => systemClock.now(), monotonicMs: () => (nowMs += 1) };
    const vault = await openVault({ clock: clock });
    const { store, power } = vault;
    for (let ino = 2; ino < 11; ino++) await commitSmall(vault, ino);
    const gate = makeGate();
    power.gate = gate.closed;
    store.putInode(makeInode(50));
    const batch = store.freeze();
    const committed = commit(batch);
    const order: string[] = [];
    const closed = store.close().then(() => order.push("closed"));
    await expect(commit(batch)).rejects.toThrow(RangeError);
    void committed.then(() => order.push("committed"));
    await Promise.race([closed, setTimeout(50)]); // time to do it wrong
    gate.open();
    await Promise.all([committed, closed]);
    expect(order).toEqual(["committed", "closed"]);
    expect((await afterPowerCut(vault)).store.getInode(inode(50))?.ino).toBe(50);
  });

  test("refuses a batch that was frozen before and comes after", async () => {
    const { store } = await openVault();
    store.putInode(makeInode(2));
    const batch = store.freeze();
    await store.close();
    await expect(commit(batch)).rejects.toThrow(withCode("TCFS_CLOSED"));
  });
});
