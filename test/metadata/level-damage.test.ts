import { cp, open, readdir, readFile, rename, rm, stat, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { TcfsError, isTcfsError } from "../../src/errors.ts";
import { openLevel, type LevelDatabase, type OpenLevel } from "../../src/metadata/database.ts";
import { JOURNAL_FILE_BYTES } from "../../src/metadata/journal.ts";
import { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { systemClock } from "../../src/platform/clock.ts";
import type { Disk } from "../../src/platform/disk.ts";
import { collect } from "../support/collect.ts";
import { PowerCutDisk } from "./power-cut-disk.ts";
import { inode, makeInode, makeTemporaryDirectory, name, openTestEngine } from "./store-fixture.ts";

const ROOT = inode(1);
const BATCHES = 60;
const ENTRIES_PER_BATCH = 6;
const DIRECTORY_MODE = 0o040755;
const MIB = 1024 * 1024;
/** What {@link countRight} asks for. */
const ALL_READS = 3 + 2 * BATCHES * ENTRIES_PER_BATCH;

const engine = openTestEngine();
const entryName = (batch: number, entry: number): ReturnType<typeof name> => name(`f-${batch}-${entry}`);
const inodeOf = (batch: number, entry: number): number => 2 + (batch - 1) * ENTRIES_PER_BATCH + entry;

interface Reports {
  readonly damage: TcfsError[];
  readonly torn: string[];
}

/** Every commit goes past it: it need not outlive a session. */
function emptyJournal(): Disk {
  const power = new PowerCutDisk();
  for (const file of ["0", "1"]) power.put(`/journal/${file}`, new Uint8Array(JOURNAL_FILE_BYTES));
  return power.disk;
}

function openStore(directory: string, reports?: Reports, openWith?: OpenLevel): Promise<LevelMetadataStore> {
  return LevelMetadataStore.open({
    directory: join(directory, "meta"),
    journalDirectory: "/journal",
    disk: emptyJournal(),
    engine,
    clock: systemClock,
    createIfMissing: true,
    cacheBytes: 4 * MIB,
    journaledBytes: 0,
    onDamage: (error) => reports?.damage.push(error),
    onTornLog: (sentence) => reports?.torn.push(sentence),
    ...(openWith === undefined ? {} : { openLevel: openWith }),
  });
}

/** Batch n: the root with all entries so far, n's entries, and their inodes. */
async function commitBatches(store: LevelMetadataStore, count: number): Promise<void> {
  for (let batch = 1; batch <= count; batch++) {
    for (let entry = 0; entry < ENTRIES_PER_BATCH; entry++) {
      const ino = inodeOf(batch, entry);
      store.putDentry(ROOT, { name: entryName(batch, entry), ino: inode(ino), type: 8 });
      store.putInode(makeInode(ino));
    }
    store.putInode(makeInode(1, { mode: DIRECTORY_MODE, parent: ROOT, entryCount: batch * ENTRIES_PER_BATCH }));
    await store.freeze().commit();
  }
}

/** As a killed process leaves it: everything in the log. */
async function makeKilled(): Promise<string> {
  const [origin, directory] = [await makeTemporaryDirectory(), await makeTemporaryDirectory()];
  const store = await openStore(origin);
  await commitBatches(store, BATCHES);
  await cp(origin, directory, { recursive: true });
  await store.close();
  return directory;
}

/** @param whileOpen - Is lent the store and a call that makes LevelDB write all tables anew. */
async function withCompaction(
  directory: string,
  reports: Reports,
  whileOpen: (store: LevelMetadataStore, compact: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const levels: LevelDatabase[] = [];
  const store = await openStore(directory, reports, async (path, createIfMissing) => {
    const level = await openLevel(path, createIfMissing);
    levels.push(level);
    return level;
  });
  const level = levels[0] as unknown as { compactRange(first: string, end: string): Promise<void> };
  await whileOpen(store, () => level.compactRange("\u0000", "~"));
  await store.close();
}

/** Everything in tables, on two levels. */
async function makeTables(): Promise<string> {
  const directory = await makeTemporaryDirectory();
  await withCompaction(directory, noReports(), async (store, compact) => {
    await commitBatches(store, BATCHES / 2);
    await compact();
    await commitBatches(store, BATCHES);
  });
  await (await openStore(directory)).close(); // the log becomes a table
  return directory;
}

async function filesOf(directory: string, suffix: RegExp): Promise<string[]> {
  const names = (await readdir(join(directory, "meta"))).filter((file) => suffix.test(file));
  const sized: string[] = [];
  for (const file of names) {
    const path = join("meta", file);
    if ((await stat(join(directory, path))).size > 0) sized.push(path);
  }
  return sized.sort();
}

async function copyOf(directory: string, body: (copy: string) => Promise<void>): Promise<void> {
  const copy = await makeTemporaryDirectory();
  try {
    await cp(directory, copy, { recursive: true });
    await body(copy);
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

async function flip(path: string, bit: number): Promise<void> {
  const file = await open(path, "r+");
  try {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, bit >> 3);
    byte[0] = (byte[0] as number) ^ (1 << (bit & 7));
    await file.write(byte, 0, 1, bit >> 3);
  } finally {
    await file.close();
  }
}

/** @returns How many batches the store holds, if they are the first ones without a gap. */
async function prefixOf(store: LevelMetadataStore): Promise<number> {
  const listed = (await store.listDirectory(ROOT)).length;
  const count = listed / ENTRIES_PER_BATCH;
  expect(store.getInode(ROOT)?.entryCount ?? 0).toBe(listed);
  for (let batch = 1; batch <= BATCHES; batch++) {
    for (let entry = 0; entry < ENTRIES_PER_BATCH; entry += ENTRIES_PER_BATCH - 1) {
      const ino = batch <= count ? inodeOf(batch, entry) : undefined;
      expect(store.getDentry(ROOT, entryName(batch, entry))?.ino).toBe(ino);
      expect(store.getInode(inode(inodeOf(batch, entry)))?.ino).toBe(ino);
    }
  }
  return count;
}

/** @returns undefined if opening was refused as corrupt. */
async function openedPrefix(directory: string, reports: Reports): Promise<number | undefined> {
  let store: LevelMetadataStore;
  try {
    store = await openStore(directory, reports);
  } catch (error) {
    expect(error).toMatchObject({ code: "TCFS_CORRUPT" });
    expect((error as Error).message).toMatch(/log \d+\.log is damaged at byte \d+.*restore the file from a copy/u);
    return undefined;
  }
  try {
    return await prefixOf(store);
  } finally {
    await store.close();
  }
}

const noReports = (): Reports => ({ damage: [], torn: [] });

describe("a log", () => {
  test("with any bit flipped is refused, or loses no more than its last batch and says so", async () => {
    const directory = await makeKilled();
    const [log = ""] = await filesOf(directory, /\.log$/u);
    const { size } = await stat(join(directory, log));
    expect(size).toBeGreaterThan(2 * 32 * 1024);
    let refused = 0;
    const anyBit = fc.oneof(fc.nat(size * 8 - 1), fc.integer({ min: (size - 3000) * 8, max: size * 8 - 1 }));
    const property = fc.asyncProperty(anyBit, (bit) =>
      copyOf(directory, async (copy) => {
        await flip(join(copy, log), bit);
        const reports = noReports();
        const prefix = await openedPrefix(copy, reports);
        if (prefix === undefined) refused++;
        else if (prefix === BATCHES)
          expect(reports.torn).toEqual([]); // the padding of a block
        else expect([prefix, reports.torn.length]).toEqual([BATCHES - 1, 1]);
      }),
    );
    await fc.assert(property, { numRuns: 40 });
    expect(refused).toBeGreaterThan(0);
  });

  test("cut short anywhere opens with the batches that are whole", async () => {
    const directory = await makeKilled();
    const [log = ""] = await filesOf(directory, /\.log$/u);
    const { size } = await stat(join(directory, log));
    const property = fc.asyncProperty(fc.nat(size), fc.nat(70_000), (end, zeros) =>
      copyOf(directory, async (copy) => {
        await truncate(join(copy, log), end);
        await truncate(join(copy, log), end + (zeros % 3 === 0 ? zeros : 0)); // allocated, never written
        expect(await openedPrefix(copy, noReports())).toBeGreaterThanOrEqual(Math.floor((end / size) * BATCHES) - 2);
      }),
    );
    await fc.assert(property, { numRuns: 15 });
  });

  test("whole, empty or all zeros is opened without a word, or with one", async () => {
    const directory = await makeKilled();
    const [log = ""] = await filesOf(directory, /\.log$/u);
    await copyOf(directory, async (copy) => {
      const reports = noReports();
      await writeFile(join(copy, "meta", "999999.log"), "");
      expect(await openedPrefix(copy, reports)).toBe(BATCHES);
      expect(reports).toEqual(noReports());
    });
    await copyOf(directory, async (copy) => {
      const reports = noReports();
      await writeFile(join(copy, log), Buffer.alloc(100_000));
      const store = await openStore(copy, reports);
      expect(store.getInode(ROOT)).toBeUndefined();
      await store.close();
      expect(reports.torn).toHaveLength(1);
    });
  });

  test("that lost a whole batch, leaving the others in place, is refused", async () => {
    const directory = await makeKilled();
    const [log = ""] = await filesOf(directory, /\.log$/u);
    const bytes = await readFile(join(directory, log));
    const recordBytes = 7 + bytes.readUInt16LE(4);
    await writeFile(join(directory, log), Buffer.concat([bytes.subarray(0, recordBytes), secondOnward(bytes)]));
    expect(await openedPrefix(directory, noReports())).toBeUndefined();
  });
});

/** Every other block of data begins with a key of one byte: LevelDB's own asserts that there are eight. */
async function shortenFirstKeys(path: string): Promise<void> {
  const table = await readFile(path);
  const blockBytes = 4096; // about: whatever is hit is damaged
  for (let at = 0; at < table.length - 48; at += 2 * blockBytes) table[at + 1] = 1;
  await writeFile(path, table);
}

/** The first block from its third record on. */
function secondOnward(bytes: Buffer): Buffer {
  const second = 7 + bytes.readUInt16LE(4);
  const third = second + 7 + bytes.readUInt16LE(second + 4);
  return bytes.subarray(third, 8 * 1024);
}

describe("a table", () => {
  test("with any bit flipped never gives a wrong answer, nor a silent miss, in this session or the next", async () => {
    const directory = await makeTables();
    const tables = await filesOf(directory, /\.ldb$/u);
    expect(tables.length).toBeGreaterThan(1);
    let right = 0;
    const anyPlace = fc.double({ min: 0, max: 0.999, noNaN: true });
    const property = fc.asyncProperty(fc.constantFrom(...tables), anyPlace, (table, place) =>
      copyOf(directory, async (copy) => {
        await flip(join(copy, table), Math.floor(place * (await stat(join(copy, table))).size * 8));
        for (let session = 0; session < 2; session++) {
          const reports = noReports();
          const store = await openStore(copy, reports).catch(corruption);
          const count = store === undefined ? 0 : await countRight(store);
          right += count;
          if (count < ALL_READS) expect(reports.damage.length).toBeGreaterThan(0);
          await store?.close();
        }
      }),
    );
    await fc.assert(property, { numRuns: 25 });
    expect(right).toBeGreaterThan(0);
  });

  test("with impossible keys does not end the process, nor does reading or compacting what is around them", async () => {
    const directory = await makeTables();
    for (const table of await filesOf(directory, /\.ldb$/u)) {
      await copyOf(directory, async (copy) => {
        await shortenFirstKeys(join(copy, table));
        for (let session = 0; session < 2; session++) {
          const reports = noReports();
          await withCompaction(copy, reports, async (store, compact) => {
            await countRight(store);
            await compact();
            await countRight(store);
          }).catch(corruption);
          expect(reports.damage.length).toBeGreaterThan(0);
        }
      });
    }
  });

  test("that is damaged is named once a session, even after compaction, and no miss is said to be absence", async () => {
    const directory = await makeTables();
    const [table = ""] = await filesOf(directory, /\.ldb$/u);
    await flip(join(directory, table), 8 * 40);
    for (let session = 0; session < 2; session++) {
      const reports = noReports();
      await withCompaction(directory, reports, async (store, compact) => {
        const named = [
          expect.stringContaining(table.slice("meta/".length)),
          expect.stringContaining("automatic snapshots"),
          expect.stringContaining("versions of files"),
        ];
        expect(reports.damage.map((error) => error.message)).toEqual(named);
        expect(() => store.getDentry(ROOT, name("nowhere"))).toThrow(expect.objectContaining({ code: "TCFS_CORRUPT" }));
        await compact();
      });
      expect(await filesOf(directory, /\.ldb$/u)).not.toContain(table);
    }
  });

  test("that is left of an interrupted compaction is none of LevelDB's, and not reported", async () => {
    const directory = await makeKilled();
    await withCompaction(directory, { damage: [], torn: [] }, async (_store, compact) => compact());
    const reports: Reports = { damage: [], torn: [] };
    const meta = join(directory, "meta");
    const table = (await readdir(meta)).find((file) => file.endsWith(".ldb")) ?? "";
    const whole = await readFile(join(meta, table));
    await writeFile(join(meta, "900000.ldb"), whole.subarray(0, whole.length / 2));
    await (await openStore(directory, reports)).close();
    expect(reports).toEqual({ damage: [], torn: [] });
    expect((await readdir(meta)).filter((file) => file.startsWith("900000"))).toEqual([]);
    await truncate(join(meta, table), whole.length / 2);
    await openStore(directory, reports).then(
      (store) => store.close(),
      () => undefined,
    );
    expect(reports.damage).toHaveLength(1);
  });

  test("that is found damaged only while walks run makes those fail that decide what is deleted", async () => {
    const store = await openStore(await makeTables());
    const walks = [store.allRecords(), store.chunks(), store.allExtentPages(), store.packs(), store.inlineLists()];
    const error = new TcfsError("TCFS_CORRUPT", "found late");
    let isFound = false;
    vi.spyOn(store.database.damage, "ofRange").mockImplementation(() => (isFound ? error : undefined));
    vi.spyOn(store.database.damage, "checked").mockImplementation(() => {
      isFound = true;
      return Promise.resolve();
    });
    for (const walk of walks) {
      isFound = false;
      await expect(collect<unknown>(walk)).rejects.toBe(error);
    }
    await store.close();
  });

  test("that is whole is not reported", async () => {
    const directory = await makeTables();
    const reports = noReports();
    const store = await openStore(directory, reports);
    expect(await prefixOf(store)).toBe(BATCHES);
    expect(reports).toEqual(noReports());
    await store.close();
  });
});

test("a database whose log was lost is refused, and whole once it is back", async () => {
  const directory = await makeTables();
  const [log = ""] = (await readdir(join(directory, "meta"))).filter((file) => file.endsWith(".log"));
  await rename(join(directory, "meta", log), join(directory, "log"));
  await expect(openStore(directory)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
  await rename(join(directory, "log"), join(directory, "meta", log));
  await (await openStore(directory)).close();
});

test.for(["000999.ldb", "MANIFEST-000999", "LOG", ""])("a symlink in the place of meta/%s is refused", async (file) => {
  const directory = await makeTables();
  const path = join(directory, "meta", file);
  const target = join(directory, "somebody's");
  if (file === "") await rename(path, target);
  else {
    await writeFile(target, "mine");
    await rm(path, { force: true });
    await symlink(target, path);
  }
  if (file === "") await symlink(target, join(directory, "meta"));
  await expect(openStore(directory)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
  if (file !== "") expect(await readFile(target, "utf8")).toBe("mine");
});

test("a directory with fewer entries than its inode counts is not listed", async () => {
  const directory = await makeTemporaryDirectory();
  const first = await openStore(directory);
  await commitBatches(first, 1);
  first.putInode(makeInode(1, { mode: DIRECTORY_MODE, parent: ROOT, entryCount: ENTRIES_PER_BATCH + 1 }));
  await first.freeze().commit();
  await first.close();
  const reports = noReports();
  const store = await openStore(directory, reports);
  await expect(store.listDirectory(ROOT)).rejects.toThrow(expect.objectContaining({ code: "TCFS_CORRUPT" }));
  expect(reports.damage).toHaveLength(1);
  await store.close();
});

function corruption(error: unknown): undefined {
  if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
  return undefined;
}

/** @returns How many reads gave an answer; none may be wrong. */
async function countRight(store: LevelMetadataStore): Promise<number> {
  let count = 0;
  const expectRight = (read: () => unknown, right: unknown): void => {
    let found: unknown;
    try {
      found = read();
    } catch (error) {
      corruption(error);
      return;
    }
    expect(found).toBe(right);
    count++;
  };
  expectRight(() => store.volume.commit, BATCHES + BATCHES / 2);
  expectRight(() => store.getInode(ROOT)?.entryCount, BATCHES * ENTRIES_PER_BATCH);
  for (let batch = 1; batch <= BATCHES; batch++) {
    for (let entry = 0; entry < ENTRIES_PER_BATCH; entry++) {
      const ino = inodeOf(batch, entry);
      expectRight(() => store.getDentry(ROOT, entryName(batch, entry))?.ino, ino);
      expectRight(() => store.getInode(inode(ino))?.ino, ino);
    }
  }
  const listing = await Promise.resolve(store.listDirectory(ROOT)).catch(corruption);
  if (listing === undefined) return count;
  expect(listing).toHaveLength(BATCHES * ENTRIES_PER_BATCH);
  return count + 1;
}
