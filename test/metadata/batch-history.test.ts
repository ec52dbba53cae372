/** What the first change after a snapshot costs, and keeps. */
import { expect, test } from "vitest";
import type { SnapshotRecord } from "../../src/format/snapshot-codec.ts";
import type { InodeNumber } from "../../src/ids.ts";
import { openLevel } from "../../src/metadata/database.ts";
import type { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { inode, makeInode, makeTemporaryDirectory, name, openTestStore } from "./store-fixture.ts";

const DIRECTORY = inode(1);

test("a new name in a directory that a snapshot has costs no look-up in the database", async () => {
  const { store, snapshot, lookups } = await open();
  for (let at = 0; at < 10; at++) {
    expect(store.getDentry(DIRECTORY, name(`new ${String(at)}`))).toBeUndefined();
    put(store, `new ${String(at)}`, 100 + at);
  }
  const toSayThatTheyAreAbsent = lookups();
  await store.freeze().commit();
  expect(lookups()).toBe(toSayThatTheyAreAbsent);
  expect(targetIn(store, snapshot, "new 3")).toBeUndefined();
  expect(await changedNames(store, snapshot)).toBe(10);
});

test("a name that is deleted and made again is kept as it was, whether known before or not", async () => {
  const { store, snapshot } = await open();
  expect(store.getDentry(DIRECTORY, name("old 1"))?.ino).toBe(51);
  for (const known of ["old 1", "old 2"]) {
    store.deleteDentry(DIRECTORY, name(known));
    put(store, known, 200);
  }
  store.deleteDentry(DIRECTORY, name("old 3"));
  await store.freeze().commit();
  put(store, "old 3", 201);
  put(store, "old 4", 202);
  await store.freeze().commit();
  for (const at of [1, 2, 3, 4]) expect(targetIn(store, snapshot, `old ${String(at)}`)).toBe(50 + at);
  expect(await changedNames(store, snapshot)).toBe(4);
});

test("a name that was looked up before it is deleted or replaced is kept without being read again", async () => {
  const { store, snapshot, lookups } = await open();
  for (const at of [0, 1, 2, 3]) expect(store.getDentry(DIRECTORY, name(`old ${String(at)}`))?.ino).toBe(50 + at);
  const toLookUp = lookups();
  for (const at of [0, 1]) store.deleteDentry(DIRECTORY, name(`old ${String(at)}`));
  for (const at of [2, 3]) put(store, `old ${String(at)}`, 200 + at);
  await store.freeze().commit();
  expect(lookups()).toBe(toLookUp);
  for (const at of [0, 1, 2, 3]) expect(targetIn(store, snapshot, `old ${String(at)}`)).toBe(50 + at);
  expect(await changedNames(store, snapshot)).toBe(4);
});

test("each snapshot has the name as it was then, though all changes came out of the cache", async () => {
  const { store, snapshot, lookups } = await open();
  const old = name("old 1");
  expect(store.getDentry(DIRECTORY, old)?.ino).toBe(51);
  const toLookUp = lookups();
  const taken = [snapshot];
  for (const at of [1, 2, 3]) {
    put(store, "old 1", 200 + at);
    await store.freeze().commit();
    if (at === 2) continue; // nobody keeps what came and went between two snapshots
    store.snapshots.request({ name: `s${String(at)}`, comment: "", isSafety: false });
    await store.freeze().commit();
    taken.push(store.snapshots.find(`s${String(at)}`) as SnapshotRecord);
  }
  store.deleteDentry(DIRECTORY, old);
  await store.freeze().commit();
  expect(lookups()).toBe(toLookUp);
  expect(taken.map((each) => targetIn(store, each, "old 1"))).toEqual([51, 201, 203]);
  expect(store.getDentry(DIRECTORY, old)).toBeUndefined();
});

/** A directory with old names, a snapshot of it, and nothing cached. */
async function open() {
  const directory = await makeTemporaryDirectory();
  const made = await openTestStore(directory);
  made.putInode(makeInode(1, { mode: 0o040755 }));
  for (let at = 0; at < 5; at++) put(made, `old ${String(at)}`, 50 + at);
  made.volume.nextInode = inode(100);
  made.snapshots.request({ name: "s", comment: "", isSafety: false });
  await made.freeze().commit();
  await made.close();
  let lookups = 0;
  const store = await openTestStore(directory, {
    openLevel: async (path, createIfMissing) => {
      const level = await openLevel(path, createIfMissing);
      const getSync = level.getSync.bind(level);
      level.getSync = (key: Uint8Array) => {
        lookups++;
        return getSync(key);
      };
      return level;
    },
  });
  return { store, snapshot: store.snapshots.find("s") as SnapshotRecord, lookups: () => lookups };
}

function put(store: LevelMetadataStore, text: string, ino: number): void {
  store.putInode(makeInode(ino));
  store.putDentry(DIRECTORY, { name: name(text), ino: inode(ino), type: 8 });
}

function targetIn(store: LevelMetadataStore, snapshot: SnapshotRecord, text: string): InodeNumber | undefined {
  return store.snapshots.view(snapshot).getDentry(DIRECTORY, name(text))?.ino;
}

async function changedNames(store: LevelMetadataStore, snapshot: SnapshotRecord): Promise<number> {
  let count = 0;
  for await (const { kind } of store.snapshots.changes(snapshot, undefined)) if (kind === "dentry") count++;
  return count;
}
