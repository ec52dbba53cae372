/** The end of a key epoch in the metadata: records sealed anew beside commits, the past cleared, deaths anywhere. */
import { createHash } from "node:crypto";
import { cpSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { isTcfsError } from "../../src/errors.ts";
import {
  JOURNAL_BLOCK_BYTES,
  JOURNAL_HEADER_BYTES,
  journalKey,
  parseJournalHeader,
} from "../../src/format/journal-codec.ts";
import { EVERYTHING } from "../../src/format/record-keys.ts";
import { EpochRooms } from "../../src/keys/epoch-rooms.ts";
import { VaultKeys } from "../../src/keys/key-epochs.ts";
import { endRotation, rotateHeader } from "../../src/keys/keyring.ts";
import type { NewVault, RotatedHeader } from "../../src/keys/keyring.ts";
import type { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { noise } from "../crypto/fixtures.ts";
import { Random } from "../fs/fixtures/random.ts";
import { keyringOptions, makeVault } from "../keys/fixtures.ts";
import { FaultyLevel } from "./faulty-level.ts";
import { PowerCutDisk } from "./power-cut-disk.ts";
import { chunkId, inode, makeInode, makeTemporaryDirectory, name, openTestStore } from "./store-fixture.ts";

const SEEDS = Number(process.env["TCFS_ROTATION_SEEDS"] ?? 3);
const FIRST_SEED = Number(process.env["TCFS_ROTATION_FIRST_SEED"] ?? 1);
const never = new AbortController().signal;
const watch = { signal: never, pause: () => Promise.resolve() };

let first: NewVault;
let rotated: RotatedHeader;
let ended: RotatedHeader;

beforeAll(async () => {
  first = await makeVault();
  const slots = [{ kind: { kind: "recovery-words" }, material: noise("words", 32) }] as const;
  rotated = await rotateHeader(first.header, first.key, { slots, renewal: "wraps" }, keyringOptions("rotation"));
  const { newest } = VaultKeys.open(rotated.header, rotated.key);
  ended = { header: endRotation(rotated.header, newest.subkeys.header), key: rotated.key };
});

interface Vault {
  readonly directory: string;
  readonly power: PowerCutDisk;
  readonly level: FaultyLevel;
  readonly rooms: EpochRooms;
  readonly store: LevelMetadataStore;
}

async function open(
  { header, key }: RotatedHeader,
  place: { readonly directory?: string; readonly power?: PowerCutDisk } = {},
): Promise<Vault> {
  const { directory = await makeTemporaryDirectory(), power = new PowerCutDisk() } = place;
  const { vaultId, chunking } = header;
  const rooms = new EpochRooms(VaultKeys.open(header, key), { vaultId, chunking, random: systemRandom });
  const level = new FaultyLevel();
  const store = await openTestStore(directory, {
    engine: rooms.engine,
    disk: power.disk,
    journalDirectory: "/journal",
    openLevel: level.open,
    cacheBytes: 0,
  });
  return { directory, power, level, rooms, store };
}

/** The vault as a power cut at this moment leaves it; LevelDB at rest. */
async function copyOf({ directory, power, level }: Vault): Promise<{ directory: string; power: PowerCutDisk }> {
  await expect.poll(() => level.batchesUnderWay, { interval: 1 }).toBe(0);
  const copy = await makeTemporaryDirectory();
  cpSync(join(directory, "meta"), join(copy, "meta"), { recursive: true });
  return { directory: copy, power: power.powerCut() };
}

/** A hash of all records: equal states have the same. */
async function stateOf(store: LevelMetadataStore): Promise<string> {
  const hash = createHash("sha256");
  for await (const records of store.allRecords()) {
    for (const { key, value } of records) hash.update(`${key.length}.${value.length}.`).update(key).update(value);
  }
  return hash.digest("hex");
}

/** A commit of some records of every kind that a store takes here. */
async function commitSome({ store }: Vault, random: Random): Promise<void> {
  const ino = 2 + random.below(40);
  store.putInode(makeInode(ino, { linkCount: 1 + random.below(100), hasXattrs: true }));
  store.putXattrs(inode(ino), new Map([[name("user.a"), noise(String(random.below(1000)), 20)]]));
  store.putDentry(inode(1), { name: name(`n${ino}`), ino: inode(ino), type: 8 });
  if (random.below(5) === 0) store.deleteDentry(inode(1), name(`n${2 + random.below(40)}`));
  const batch = store.freeze();
  const chunk = random.below(12);
  batch.putChunk(chunkId(chunk), {
    kind: "inline",
    content: noise(String(random.below(1e6)), 1 + random.below(60_000)),
  });
  batch.putExtentPage(inode(ino), 0, [{ start: 0, lengthBytes: 1, chunk: chunkId(chunk), chunkOffset: 0 }]);
  await batch.commit();
}

/** Sealed values as they lie in LevelDB now. */
async function storedValues({ store }: Vault): Promise<Uint8Array[]> {
  const values: Uint8Array[] = [];
  for await (const entries of store.database.walk(EVERYTHING)) {
    for (const [, value, isPlain] of entries) if (isPlain !== true) values.push(value);
  }
  return values;
}

/** @returns How many of these values still lie in LevelDB's files, overwritten or not. */
function countInTables({ directory }: Vault, values: readonly Uint8Array[]): number {
  const files = readdirSync(join(directory, "meta")).filter((file) => /\.(?:ldb|log)$/u.test(file));
  const contents = files.map((file) => readFileSync(join(directory, "meta", file)));
  return values.filter((value) => contents.some((content) => content.includes(Buffer.from(value.subarray(0, 30)))))
    .length;
}

/** @returns How many of the journal's records open under the first epoch's key. */
function countInJournal({ power }: Vault): number {
  const { vaultId, chunking } = first.header;
  const rooms = new EpochRooms(VaultKeys.open(first.header, first.key), { vaultId, chunking, random: systemRandom });
  let count = 0;
  for (const bytes of ["/journal/0", "/journal/1"].map((file) => power.bytesOf(file))) {
    for (let offset = 0; offset < bytes.length; offset += JOURNAL_BLOCK_BYTES) {
      const header = parseJournalHeader(bytes, offset);
      if (header === undefined) continue;
      const start = offset + JOURNAL_HEADER_BYTES;
      const sealed = bytes.subarray(start, start + header.lengthBytes);
      if (opens(() => rooms.engine.records.unseal(journalKey(header.commit), sealed))) count += 1;
    }
  }
  rooms.close();
  return count;
}

function opens(open: () => unknown): boolean {
  try {
    open();
    return true;
  } catch (error) {
    if (isTcfsError(error, "TCFS_CORRUPT")) return false;
    throw error;
  }
}

function begin({ rooms }: Vault): void {
  const keys = VaultKeys.open(rotated.header, rotated.key);
  rooms.begin(keys);
  keys.wipe();
}

describe("records at the end of a key epoch", () => {
  test("are all under the new key afterwards, unchanged, and nothing of the past is left in journal and tables", async () => {
    const vault = await open(first);
    const random = new Random(1);
    for (let i = 0; i < 60; i++) await commitSome(vault, random);
    await vault.store.close();
    const again = await open(first, vault);
    for (let i = 0; i < 10; i++) await commitSome(again, random);
    const old = await storedValues(again);
    const before = await stateOf(again.store);
    expect(countInJournal(again)).toBeGreaterThan(10);
    begin(again);
    const { database } = again.store;
    expect((await database.renewal.count(watch)).olderCount).toBeGreaterThan(50);
    await database.renewal.renew(watch);
    expect(await database.renewal.count(watch)).toMatchObject({ olderCount: 0, damagedCount: 0 });
    expect(countInTables(again, old)).toBeGreaterThan(10);
    await database.clearPast();
    expect([countInTables(again, old), countInJournal(again)]).toEqual([0, 0]);
    expect(await stateOf(again.store)).toBe(before);
    await again.store.close();
    const after = await open(ended, again);
    expect(await stateOf(after.store)).toBe(before);
    await after.store.close();
    await expect(open(first, again)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
  });

  const seeds = Array.from({ length: SEEDS }, (_, i) => FIRST_SEED + i);
  test.each(seeds)("survive power cuts at every step, with commits between: seed %i", async (seed) => {
    const random = new Random(seed);
    let vault = await open(first);
    for (let i = 0; i < 25; i++) await commitSome(vault, random);
    await vault.store.close();
    vault = await open(first, vault);
    begin(vault);
    let expected = await stateOf(vault.store);
    for (let deaths = 0; ;) {
      let cut: { directory: string; power: PowerCutDisk } | undefined;
      /* Between two steps: a commit, or the power goes; then what follows happens to a machine that is no more. */
      const pause = async (): Promise<void> => {
        if (cut !== undefined) return;
        if (random.below(3) === 0) {
          await commitSome(vault, random);
          expected = await stateOf(vault.store);
        }
        if (deaths < 6 && random.below(3) === 0) cut = await copyOf(vault);
      };
      const { database } = vault.store;
      await pause();
      await database.renewal.renew({ signal: never, pause });
      await pause();
      await database.clearPast();
      await pause();
      if (cut === undefined) break;
      deaths += 1;
      await vault.store.close();
      vault = await open(rotated, cut);
      expect(await stateOf(vault.store), `death ${deaths}`).toBe(expected);
    }
    const { database } = vault.store;
    await database.renewal.renew(watch); // what was written between the walk and its end is new: nothing is to be done
    expect(await database.renewal.count(watch)).toMatchObject({ olderCount: 0, damagedCount: 0 });
    expect(countInJournal(vault)).toBe(0);
    await vault.store.close();
    expect(await stateOf((await open(ended, vault)).store)).toBe(expected);
  });

  test("are sealed anew as they are when their batch is written, not as they were when the walk began", async () => {
    const vault = await open(first);
    const random = new Random(5);
    for (let i = 0; i < 40; i++) await commitSome(vault, random);
    await vault.store.close();
    const again = await open(first, vault);
    begin(again);
    const { renewal } = again.store.database;
    let letGo = (): void => undefined;
    again.level.batchGate = new Promise((resolve) => (letGo = resolve));
    const renewing = renewal.renew(watch);
    await expect.poll(() => again.level.batchesUnderWay, { interval: 1 }).toBe(1);
    for (let i = 0; i < 10; i++) await commitSome(again, random);
    const clearing = again.store.database.clearPast();
    letGo();
    await renewing;
    await clearing;
    const state = await stateOf(again.store);
    await again.store.close();
    expect(await stateOf((await open(rotated, again)).store)).toBe(state);
  });

  test("go on after a batch that failed, and stop where they are told to", async () => {
    const vault = await open(first);
    const random = new Random(6);
    for (let i = 0; i < 30; i++) await commitSome(vault, random);
    await vault.store.close();
    const again = await open(first, vault);
    begin(again);
    const { renewal } = again.store.database;
    again.level.failingWrites = 1;
    await expect(renewal.renew(watch)).rejects.toMatchObject({ code: "TCFS_STORE_FULL" });
    const stopped = new AbortController();
    stopped.abort();
    await expect(renewal.renew({ ...watch, signal: stopped.signal })).rejects.toMatchObject({
      code: "TCFS_INTERRUPTED",
    });
    await renewal.renew(watch).catch(() => undefined); // the database is opened anew: walks end
    await renewal.renew(watch);
    expect((await renewal.count(watch)).olderCount).toBe(0);
  });
});
