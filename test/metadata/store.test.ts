import { expect, test, vi } from "vitest";
import type { Extent } from "../../src/format/records.ts";
import type { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { collect } from "../support/collect.ts";
import { chunkId, inode, makeInode, makeTemporaryDirectory, name, openTestStore, packId } from "./store-fixture.ts";

const ROOT = inode(1);

async function commitAll(store: LevelMetadataStore): Promise<void> {
  await store.freeze().commit();
}

function extent(start: number, lengthBytes: number, seed: number): Extent {
  return { start, lengthBytes, chunk: chunkId(seed), chunkOffset: 0 };
}

test("a new store has no inode and counts from 2", async () => {
  const store = await openTestStore(await makeTemporaryDirectory());
  expect(store.getInode(ROOT)).toBeUndefined();
  expect(store.getInode(inode(2 ** 60))).toBeUndefined();
  expect(store.volume).toMatchObject({ nextInode: 2, inodeCount: 0, epoch: 1, commit: 0 });
  expect(await store.listOrphans()).toEqual([]);
});

test("every kind of record is there after a commit and a reopening", async () => {
  const directory = await makeTemporaryDirectory();
  const store = await openTestStore(directory);
  const root = makeInode(1, { parent: ROOT, hasXattrs: true, mode: 0o40755 });
  store.putInode(root);
  store.putDentry(ROOT, { name: name("a"), ino: inode(2), type: 8 });
  store.putXattrs(ROOT, new Map([[name("user.x"), Uint8Array.of(1, 2)]]));
  store.addOrphan(inode(9));
  store.volume.nextInode = inode(3);
  const batch = store.freeze();
  const page = [extent(0, 10, 1), extent(20, 5, 2)];
  const pack = { pack: packId(4), lengthBytes: 10, contentBytes: 9, isFinished: true };
  const totals = { packCount: 1, packBytes: 10, inlineBytes: 3, uniqueBytes: 3 };
  const inlineList = { list: 7, chunks: [chunkId(1)] };
  batch.putExtentPage(inode(2), 3, page);
  batch.putChunk(chunkId(1), { kind: "inline", content: Uint8Array.of(5, 6, 7) });
  batch.putPack(pack);
  batch.putChunkTotals(totals);
  batch.putInlineList(inlineList);
  await batch.commit();
  await store.close();

  const again = await openTestStore(directory, { createIfMissing: false });
  expect(again.volume).toMatchObject({ nextInode: 3, commit: 1 });
  expect(again.getInode(ROOT)).toEqual(root);
  expect(again.getDentry(ROOT, name("a"))).toMatchObject({ name: "a", ino: 2, type: 8 });
  expect([...again.getXattrs(ROOT)]).toEqual([["user.x", Uint8Array.of(1, 2)]]);
  expect(await again.listOrphans()).toEqual([9]);
  expect(again.getExtentPage(inode(2), 3)).toEqual(page);
  expect(await again.extentPages(inode(2), 0, 100)).toEqual([3]);
  expect(again.getChunk(chunkId(1))).toEqual({ kind: "inline", content: Uint8Array.of(5, 6, 7) });
  expect(await collect(again.packs())).toEqual([pack]);
  expect(again.getChunkTotals()).toEqual(totals);
  expect(await collect(again.inlineLists())).toEqual([inlineList]);
  expect((await collect(again.chunks())).map(({ id }) => id)).toEqual([chunkId(1)]);
  expect(await collect(again.allExtentPages())).toEqual([page]);
});

test("what is changed after a freeze is not in the batch and is not lost", async () => {
  const directory = await makeTemporaryDirectory();
  const store = await openTestStore(directory);
  const file = makeInode(2, { linkCount: 1 });
  store.putInode(file);
  const batch = store.freeze();
  file.linkCount = 2;
  store.putInode(file);
  expect(store.dirtyRecordCount).toBe(1);
  await batch.commit();
  await store.close();

  const again = await openTestStore(directory);
  expect(again.getInode(inode(2))?.linkCount).toBe(1);
});

test("a batch without records writes nothing and leaves the commit number", async () => {
  const store = await openTestStore(await makeTemporaryDirectory());
  const batch = store.freeze();
  expect(batch.recordCount).toBe(0);
  await batch.commit();
  expect(store.volume.commit).toBe(0);
  store.putInode(makeInode(2));
  await commitAll(store);
  expect(store.volume.commit).toBe(1);
});

test("a second freeze while a batch exists, and a change to a committed batch, are programming errors", async () => {
  const store = await openTestStore(await makeTemporaryDirectory());
  store.putInode(makeInode(2));
  const batch = store.freeze();
  expect(() => store.freeze()).toThrow(RangeError);
  await batch.commit();
  expect(() => {
    batch.deleteChunk(chunkId(1));
  }).toThrow(RangeError);
});

test("deleting an inode deletes its attributes", async () => {
  const directory = await makeTemporaryDirectory();
  const store = await openTestStore(directory);
  store.putInode(makeInode(2, { hasXattrs: true }));
  store.putXattrs(inode(2), new Map([[name("user.x"), Uint8Array.of(1)]]));
  await commitAll(store);
  store.deleteInode(inode(2));
  expect(store.getXattrs(inode(2)).size).toBe(0);
  await commitAll(store);
  await store.close();

  const again = await openTestStore(directory);
  again.putInode(makeInode(2, { hasXattrs: true }));
  expect(again.getXattrs(inode(2)).size).toBe(0);
});

test("a directory made in this session is listed and searched without the database", async () => {
  const store = await openTestStore(await makeTemporaryDirectory());
  const get = vi.spyOn(store.database, "find");
  store.putInode(makeInode(2, { parent: ROOT, mode: 0o40755 }));
  store.putDentry(inode(2), { name: name("b"), ino: inode(3), type: 8 });
  expect(store.getDentry(inode(2), name("missing"))).toBeUndefined();
  const listed = store.listDirectory(inode(2));
  expect(listed).toMatchObject([{ name: "b", ino: 3 }]);
  expect(get).not.toHaveBeenCalled();
});

test("a name asked twice is searched in the database once, found or not", async () => {
  const directory = await makeTemporaryDirectory();
  const first = await openTestStore(directory);
  first.putDentry(ROOT, { name: name("there"), ino: inode(2), type: 8 });
  await commitAll(first);
  await first.close();
  const store = await openTestStore(directory);
  const get = vi.spyOn(store.database, "find");
  for (let round = 0; round < 2; round++) {
    expect(store.getDentry(ROOT, name("there"))?.ino).toBe(2);
    expect(store.getDentry(ROOT, name("missing"))).toBeUndefined();
  }
  expect(get).toHaveBeenCalledTimes(2);
});

test("a listing shows what was put and deleted while it was walked", async () => {
  const directory = await makeTemporaryDirectory();
  const first = await openTestStore(directory);
  for (let index = 0; index < 3000; index++) {
    first.putDentry(ROOT, { name: name(`n${String(index)}`), ino: inode(index + 2), type: 8 });
  }
  await commitAll(first);
  await first.close();

  const store = await openTestStore(directory);
  store.deleteDentry(ROOT, name("n0"));
  const batch = store.freeze();
  store.putDentry(ROOT, { name: name("early"), ino: inode(9000), type: 8 });
  const walk = store.listDirectory(ROOT) as Promise<readonly { name: string }[]>;
  expect(store.listDirectory(ROOT)).toBeInstanceOf(Promise);
  await batch.commit();
  store.putDentry(ROOT, { name: name("late"), ino: inode(9001), type: 8 });
  store.deleteDentry(ROOT, name("n2999"));
  const names = new Set((await walk).map((dentry) => dentry.name));
  expect(names.size).toBe(3000);
  expect(["early", "late", "n0", "n2999"].map((text) => names.has(text))).toEqual([true, true, false, false]);
  expect(store.listDirectory(ROOT)).not.toBeInstanceOf(Promise);
});

test("extent pages of the frozen batch are listed, those that it deletes are not", async () => {
  const store = await openTestStore(await makeTemporaryDirectory());
  const first = store.freeze();
  for (const page of [0, 1, 5]) first.putExtentPage(inode(2), page, [extent(0, 1, page + 1)]);
  await first.commit();
  const second = store.freeze();
  second.putExtentPage(inode(2), 1, []);
  second.putExtentPage(inode(2), 3, [extent(0, 1, 9)]);
  expect(await store.extentPages(inode(2), 0, 5)).toEqual([0, 3]);
  expect(store.getExtentPage(inode(2), 1)).toEqual([]);
  await second.commit();
  expect(await store.extentPages(inode(2), 0, 2 ** 43)).toEqual([0, 3, 5]);
});

test("caches of no size lose nothing", async () => {
  const store = await openTestStore(await makeTemporaryDirectory(), { cacheBytes: 0 });
  for (let ino = 2; ino < 50; ino++) {
    store.putInode(makeInode(ino, { hasXattrs: true }));
    store.putDentry(ROOT, { name: name(`n${String(ino)}`), ino: inode(ino), type: 8 });
    store.putXattrs(inode(ino), new Map([[name("user.x"), Uint8Array.of(ino)]]));
  }
  const check = async (): Promise<void> => {
    for (let ino = 2; ino < 50; ino++) {
      expect(store.getInode(inode(ino))?.ino).toBe(ino);
      expect(store.getDentry(ROOT, name(`n${String(ino)}`))?.ino).toBe(ino);
      expect(store.getXattrs(inode(ino)).get(name("user.x"))).toEqual(Uint8Array.of(ino));
    }
    expect((await store.listDirectory(ROOT)).length).toBe(48);
  };
  await check();
  const batch = store.freeze();
  await check();
  await batch.commit();
  await check();
});

test("a change to a listed directory shows in the listing, be it one or thousands", async () => {
  const store = await openTestStore(await makeTemporaryDirectory());
  const expected = new Set<string>();
  for (const count of [1, 2000, 10, 500]) {
    for (let index = 0; index < count; index++) {
      const text = `n${String(expected.size)}-${String(index)}`;
      store.putDentry(ROOT, { name: name(text), ino: inode(2), type: 8 });
      expected.add(text);
    }
    for (const text of [...expected].slice(0, count / 2)) {
      store.deleteDentry(ROOT, name(text));
      expected.delete(text);
    }
    const listed = await store.listDirectory(ROOT);
    expect(new Set(listed.map((dentry) => dentry.name))).toEqual(expected);
    const cookies = listed.map((dentry) => dentry.cookie);
    expect(cookies).toEqual([...cookies].sort((left, right) => (left < right ? -1 : 1)));
  }
});
