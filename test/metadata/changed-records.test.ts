/** What differs between two snapshots, while commits go on. */
import { expect, test } from "vitest";
import type { SnapshotRecord } from "../../src/format/snapshot-codec.ts";
import type { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { inode, makeInode, makeTemporaryDirectory, openTestStore } from "./store-fixture.ts";

const COUNT = 600;

async function setAll(store: LevelMetadataStore, uid: number): Promise<void> {
  for (let ino = 1; ino <= COUNT; ino++) store.putInode(makeInode(ino, { uid }));
  store.volume.nextInode = inode(COUNT + 1);
  await store.freeze().commit();
}

async function take(store: LevelMetadataStore, name: string): Promise<SnapshotRecord> {
  store.snapshots.request({ name, comment: "", isSafety: false });
  await store.freeze().commit();
  return store.snapshots.find(name) as SnapshotRecord;
}

/** 0: every commit goes to the database at once; otherwise to the journal. */
test.each([0, 1_000_000])(
  "each record comes as it was then, though it is overwritten meanwhile",
  async (journaledBytes) => {
    const store = await openTestStore(await makeTemporaryDirectory(), { journaledBytes });
    await setAll(store, 1);
    const first = await take(store, "first");
    await setAll(store, 2);
    const second = await take(store, "second");
    const found = new Map<number, readonly [number | undefined, number | undefined]>();
    for await (const change of store.snapshots.changes(first, second)) {
      if (found.size === 0) {
        await setAll(store, 3);
        await take(store, "third");
        await setAll(store, 4);
      }
      if (change.kind === "inode") found.set(change.ino, [change.before?.uid, change.after?.uid]);
    }
    expect(found.size).toBe(COUNT);
    for (const [ino, uids] of found) expect(uids, `inode ${ino}`).toEqual([1, 2]);
  },
);
