/** The journal and the database that follows it: in which order commits reach the database. */
import { cp } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { InodeNumber, Name } from "../../src/ids.ts";
import { openLevel, type LevelDatabase, type OpenLevel } from "../../src/metadata/database.ts";
import type { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { makeInode, makeTemporaryDirectory, openTestStore } from "./store-fixture.ts";

const KIB = 1024;
const BEFORE = 1000 as InodeNumber;
const BOTH = 1001 as InodeNumber;

/** LevelDB whose batches wait. */
class GatedLevel {
  waitingWrites = 0;
  gate: Promise<void> = Promise.resolve();

  readonly open: OpenLevel = async (directory, createIfMissing) => {
    const level = await openLevel(directory, createIfMissing);
    const batch = (): unknown => {
      const real = level.batch();
      const write = async (options: object): Promise<void> => {
        this.waitingWrites += 1;
        await this.gate;
        await real.write(options);
      };
      return { put: real.put.bind(real), del: real.del.bind(real), write };
    };
    const getSync = (key: Uint8Array): Uint8Array | undefined => level.getSync(key);
    return {
      getSync,
      batch,
      iterator: level.iterator.bind(level),
      close: () => level.close(),
    } as unknown as LevelDatabase;
  };
}

/** One commit with so many times 50 KiB in xattrs that matter to nobody. */
async function commitXattrs(store: LevelMetadataStore, count: number): Promise<void> {
  for (let ino = 10; ino < 10 + count; ino++) {
    store.putInode(makeInode(ino, { hasXattrs: true }));
    store.putXattrs(ino as InodeNumber, new Map([["user.x" as Name, new Uint8Array(50 * KIB)]]));
  }
  await store.freeze().commit();
}

describe("a large commit, which goes past the journal, while the database follows", () => {
  it("waits for the small ones that came since, and is newer than they", async () => {
    const directory = await makeTemporaryDirectory();
    const level = new GatedLevel();
    const store = await openTestStore(directory, { openLevel: level.open, cacheBytes: 1, journaledBytes: 300 * KIB });
    let open = (): void => undefined;
    level.gate = new Promise((resolve) => {
      open = resolve;
    });
    for (let commits = 0; level.waitingWrites === 0; commits++) {
      expect(commits, "the database begins to follow").toBeLessThan(100);
      await commitXattrs(store, 5);
    }
    store.putInode(makeInode(BEFORE, { lengthBytes: 1n }));
    store.putInode(makeInode(BOTH, { lengthBytes: 1n }));
    await store.freeze().commit();
    store.putInode(makeInode(BOTH, { lengthBytes: 2n }));
    const large = commitXattrs(store, 8);
    await setTimeout(5);
    open();
    await large;
    expect(store.getInode(BOTH)?.lengthBytes).toBe(2n);

    const crashed = await makeTemporaryDirectory();
    await cp(directory, crashed, { recursive: true });
    const after = await openTestStore(crashed, { cacheBytes: 1 });
    expect(after.getInode(BEFORE)?.lengthBytes, "what was committed before it").toBe(1n);
    expect(after.getInode(BOTH)?.lengthBytes).toBe(2n);
  });
});
