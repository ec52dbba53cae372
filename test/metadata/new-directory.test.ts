/** Directories that a session makes: what is not put into them is known to be absent. */
import { expect, test } from "vitest";
import { inode, makeInode, makeTemporaryDirectory, name, openTestStore } from "./store-fixture.ts";

const DIRECTORY = { mode: 0o040755, parent: inode(1) };
const NAMES = Array.from({ length: 400 }, (_, at) => name(`name ${String(at)}`));

test.for([2, 4])("names put into new directories before their inodes are in them, of %s directories", async (count) => {
  const store = await openTestStore(await makeTemporaryDirectory(), { cacheBytes: 500_000 });
  store.putInode(makeInode(1, { mode: 0o040755 }));
  const directories = Array.from({ length: count }, (_, at) => inode(10 + at));
  for (const directory of directories)
    for (const text of NAMES) store.putDentry(directory, { name: text, ino: inode(5), type: 8 });
  for (const directory of directories) store.putInode(makeInode(directory, { ...DIRECTORY, entryCount: NAMES.length }));
  for (const directory of directories) {
    expect(NAMES.filter((text) => store.getDentry(directory, text) === undefined)).toEqual([]);
    expect(await store.listDirectory(directory)).toHaveLength(NAMES.length);
  }
});
