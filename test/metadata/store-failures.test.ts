import * as fs from "node:fs/promises";
import { join } from "node:path";
import { Level } from "level";
import { describe, expect, test, vi } from "vitest";
import type { TcfsError } from "../../src/errors.ts";
import { inodeKey } from "../../src/format/record-keys.ts";
import type { LevelMetadataStore, LevelMetadataStoreOptions } from "../../src/metadata/level-metadata-store.ts";
import { FaultyLevel } from "./faulty-level.ts";
import * as fixture from "./store-fixture.ts";
import { inode, makeInode, makeTemporaryDirectory, name } from "./store-fixture.ts";

vi.mock("node:fs/promises", { spy: true });

const ROOT = inode(1);

const withCode = (code: string): unknown => expect.objectContaining({ code });

/** A store whose every commit goes past the journal, to LevelDB. */
function openTestStore(
  directory: string,
  options: Partial<LevelMetadataStoreOptions> = {},
): Promise<LevelMetadataStore> {
  return fixture.openTestStore(directory, { journaledBytes: 0, ...options });
}

/** A closed store with some inodes and dentries in it. */
async function makeStoredDirectory(entries: number): Promise<string> {
  const directory = await makeTemporaryDirectory();
  const store = await openTestStore(directory);
  for (let ino = 2; ino < entries + 2; ino++) {
    store.putInode(makeInode(ino));
    store.putDentry(ROOT, { name: name(`secret-${String(ino)}`), ino: inode(ino), type: 8 });
  }
  await store.freeze().commit();
  await store.close();
  return directory;
}

async function changeDatabase(
  directory: string,
  change: (level: Level<Buffer, Buffer>) => Promise<void>,
): Promise<void> {
  const encoding = { keyEncoding: "buffer", valueEncoding: "buffer" } as const;
  const level = new Level<Buffer, Buffer>(join(directory, "meta"), encoding);
  await change(level);
  await level.close();
}

describe("opening", () => {
  test("a database that is open already is in use", async () => {
    const directory = await makeStoredDirectory(1);
    await openTestStore(directory);
    await expect(openTestStore(directory)).rejects.toThrow(withCode("TCFS_VAULT_IN_USE"));
  });

  test("a missing database is corruption, unless it may be created", async () => {
    const directory = await makeTemporaryDirectory();
    await expect(openTestStore(directory, { createIfMissing: false })).rejects.toThrow(withCode("TCFS_CORRUPT"));
  });

  test("a database without a volume record is corruption, and is not taken for a new one", async () => {
    const directory = await makeStoredDirectory(1);
    await changeDatabase(directory, (level) => level.del(Buffer.from("V")));
    await expect(openTestStore(directory)).rejects.toThrow(withCode("TCFS_CORRUPT"));
  });

  test("a damaged LevelDB is corruption", async () => {
    const directory = await makeStoredDirectory(1);
    await fs.writeFile(join(directory, "meta", "CURRENT"), "MANIFEST-999999\n");
    await expect(openTestStore(directory)).rejects.toThrow(withCode("TCFS_CORRUPT"));
  });
});

describe("damaged records", () => {
  test("an inode's record in another's place fails, and only that", async () => {
    const directory = await makeStoredDirectory(4);
    await changeDatabase(directory, async (level) => {
      const key = (ino: number): Buffer => Buffer.from(inodeKey("inode", inode(ino)));
      await level.put(key(2), await level.get(key(3)));
    });
    const store = await openTestStore(directory);
    expect(() => store.getInode(inode(2))).toThrow(withCode("TCFS_CORRUPT"));
    expect(() => store.getInode(inode(2))).toThrow(/inode record 2/u);
    expect(store.getInode(inode(3))?.ino).toBe(3);
  });

  test("a damaged inode can be deleted and put anew", async () => {
    const directory = await makeStoredDirectory(2);
    await changeDatabase(directory, (level) =>
      level.put(Buffer.from(inodeKey("inode", inode(2))), Buffer.from("garbage")),
    );
    const store = await openTestStore(directory);
    store.deleteInode(inode(2));
    expect(store.getInode(inode(2))).toBeUndefined();
    await store.freeze().commit();
    expect(store.getInode(inode(2))).toBeUndefined();
  });

  test("a listing leaves a damaged dentry out and tells of it; asking for its name fails, without naming it", async () => {
    const directory = await makeStoredDirectory(3);
    await changeDatabase(directory, async (level) => {
      for await (const key of level.keys({ gte: Buffer.from("D"), lt: Buffer.from("E"), limit: 1 })) {
        await level.put(key, Buffer.alloc(60));
      }
    });
    const damage: TcfsError[] = [];
    const store = await openTestStore(directory, { onDamage: (error) => damage.push(error) });
    const listed = (await store.listDirectory(ROOT)).map((dentry) => dentry.name as string);
    expect(listed).toHaveLength(2);
    expect(damage).toMatchObject([{ code: "TCFS_CORRUPT" }]);
    expect(damage[0]?.message).toContain("directory 1");
    const missing = ["secret-2", "secret-3", "secret-4"].filter((text) => !listed.includes(text));
    expect(() => store.getDentry(ROOT, name(missing[0] ?? ""))).toThrow(withCode("TCFS_CORRUPT"));
    expect(() => store.getDentry(ROOT, name(missing[0] ?? ""))).not.toThrow(/secret/u);
    expect(store.getDentry(ROOT, name("secret-9"))).toBeUndefined();
  });
});

describe("a failed write", () => {
  test("keeps the batch readable, and the same batch can be committed again", async () => {
    const directory = await makeTemporaryDirectory();
    const level = new FaultyLevel();
    const store = await openTestStore(directory, { openLevel: level.open, cacheBytes: 0 });
    store.putInode(makeInode(2, { linkCount: 1 }));
    const batch = store.freeze();
    store.putInode(makeInode(3));
    level.failingWrites = 1;
    await expect(batch.commit()).rejects.toThrow(withCode("TCFS_STORE_FULL"));
    expect(store.getInode(inode(2))?.linkCount).toBe(1);
    expect(store.volume.commit).toBe(0);
    expect(() => store.freeze()).toThrow(RangeError);

    await batch.commit();
    expect(level.openings).toBe(2);
    expect(store.volume.commit).toBe(1);
    await store.close();
    const again = await openTestStore(directory);
    expect(again.getInode(inode(2))?.linkCount).toBe(1);
    expect(again.getInode(inode(3))).toBeUndefined();
  });

  test.for([true, false])("that %s reached the disk is not a half batch after a crash", async (areWritten) => {
    const directory = await makeStoredDirectory(2);
    const level = new FaultyLevel();
    Object.assign(level, { failingWrites: 1, areWritten, message: "IO error: Input/output error" });
    const store = await openTestStore(directory, { openLevel: level.open });
    for (const ino of [2, 3]) store.putInode(makeInode(ino, { linkCount: 7 }));
    await expect(store.freeze().commit()).rejects.toThrow(withCode("TCFS_IO"));
    await store.close();
    const again = await openTestStore(directory);
    const expected = areWritten ? 7 : 1;
    expect([2, 3].map((ino) => again.getInode(inode(ino))?.linkCount)).toEqual([expected, expected]);
  });

  test("takes more records before it is tried again", async () => {
    const level = new FaultyLevel();
    const store = await openTestStore(await makeTemporaryDirectory(), { openLevel: level.open });
    store.putInode(makeInode(2));
    const batch = store.freeze();
    level.failingWrites = 2;
    await expect(batch.commit()).rejects.toThrow(withCode("TCFS_STORE_FULL"));
    batch.putChunkTotals({ packCount: 1, packBytes: 2, inlineBytes: 3, uniqueBytes: 4 });
    await expect(batch.commit()).rejects.toThrow(withCode("TCFS_STORE_FULL"));
    await batch.commit();
    expect(store.getChunkTotals()?.uniqueBytes).toBe(4);
  });

  test("leaves what is in memory readable while the database is opened again, and then the rest", async () => {
    const level = new FaultyLevel();
    const store = await openTestStore(await makeStoredDirectory(3), { openLevel: level.open });
    store.putInode(makeInode(9));
    const batch = store.freeze();
    level.failingWrites = 1;
    await expect(batch.commit()).rejects.toThrow();
    expect(store.getInode(inode(2))?.ino).toBe(2);

    let openGate = (): void => undefined;
    level.gate = new Promise((resolve) => {
      openGate = resolve;
    });
    const retried = batch.commit();
    await expect.poll(() => level.openings).toBe(2);
    expect(store.reopening).toBeInstanceOf(Promise);
    expect(store.getInode(inode(2))?.ino).toBe(2);
    expect(store.getInode(inode(9))?.ino).toBe(9);
    expect(() => store.getInode(inode(3))).toThrow(withCode("TCFS_IO"));
    const listing = store.listDirectory(ROOT);
    openGate();
    await store.reopening;
    expect(store.getInode(inode(3))?.ino).toBe(3);
    expect(await listing).toHaveLength(3);
    await retried;
    expect(store.reopening).toBeUndefined();
  });

  test("starts a listing over that was being walked", async () => {
    const level = new FaultyLevel();
    const store = await openTestStore(await makeStoredDirectory(5000), { openLevel: level.open });
    store.putDentry(ROOT, { name: name("new"), ino: inode(2), type: 8 });
    const batch = store.freeze();
    level.failingWrites = 1;
    await expect(batch.commit()).rejects.toThrow();
    const listing = store.listDirectory(ROOT);
    await Promise.all([batch.commit(), listing]);
    expect(await listing).toHaveLength(5001);
  });

  test("whose reopening fails can still be tried again", async () => {
    const directory = await makeStoredDirectory(1);
    const level = new FaultyLevel();
    const store = await openTestStore(directory, { openLevel: level.open, cacheBytes: 0 });
    store.putInode(makeInode(9));
    const batch = store.freeze();
    level.failingWrites = 1;
    await expect(batch.commit()).rejects.toThrow(withCode("TCFS_STORE_FULL"));
    level.failingOpenings = 1;
    await expect(batch.commit()).rejects.toThrow(withCode("TCFS_STORE_FULL"));
    expect(() => store.getInode(inode(2))).toThrow(withCode("TCFS_IO"));
    expect(store.getInode(inode(9))?.ino).toBe(9);
    await batch.commit();
    expect(store.getInode(inode(2))?.ino).toBe(2);
  });

  test.for(["readdir", "open"] as const)("waits for file descriptors where %s has none", async (call) => {
    const level = new FaultyLevel();
    level.message = "IO error: 000007.log: Too many open files";
    const store = await openTestStore(await makeStoredDirectory(1), { openLevel: level.open });
    store.putInode(makeInode(9));
    const batch = store.freeze();
    level.failingWrites = 1;
    await expect(batch.commit()).rejects.toThrow(withCode("TCFS_TOO_MANY_FILES"));
    const none = Object.assign(new Error("EMFILE: too many open files"), { code: "EMFILE" });
    vi.mocked(fs[call]).mockRejectedValueOnce(none);
    await expect(batch.commit()).rejects.toThrow(withCode("TCFS_TOO_MANY_FILES"));
    await batch.commit();
    expect(store.getInode(inode(9))?.ino).toBe(9);
  });
});

describe("closing", () => {
  test("waits for the commit in flight, can be repeated, and ends all work", async () => {
    const directory = await makeTemporaryDirectory();
    const store = await openTestStore(directory);
    store.putInode(makeInode(2));
    const committed = store.freeze().commit();
    await Promise.all([store.close(), store.close()]);
    await committed;
    expect(() => store.getInode(inode(3))).toThrow(withCode("TCFS_CLOSED"));
    expect(() => store.freeze()).toThrow(withCode("TCFS_CLOSED"));
    await expect(store.listOrphans()).rejects.toThrow(withCode("TCFS_CLOSED"));
    const again = await openTestStore(directory);
    expect(again.getInode(inode(2))?.ino).toBe(2);
  });
});
