/** What the caches of decoded records really hold on to, measured: their estimates and bounds are for this. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, test } from "vitest";
import { CachedDentry, DirectoryCache, ENTRY_BYTES, NO_COOKIE } from "../../src/metadata/directory-cache.ts";
import { INODE_BYTES } from "../../src/metadata/cache-weights.ts";
import { GenerationCache } from "../../src/metadata/generation-cache.ts";
import type { InodeNumber } from "../../src/ids.ts";
import type { InodeRecord } from "../../src/format/records.ts";
import { inode, makeInode, name } from "./store-fixture.ts";

const MIB = 1024 * 1024;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** @returns Bytes that stay in use after `fill`, and what it filled. */
function retained<T>(fill: () => T): { readonly bytes: number; readonly held: T } {
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  const held = fill();
  collectGarbage();
  return { bytes: process.memoryUsage().heapUsed - before, held };
}

describe("memory", () => {
  const cookieOf = (_directory: number, text: string): bigint => BigInt(text.slice(1)) + 3n;
  const dentry = (index: number, cookie = NO_COOKIE): CachedDentry =>
    new CachedDentry(name(`n${String(index)}`), inode(index + 2), 8, cookie);

  test.for([100, 20_000])("does not grow with names that come and go in a listed directory of %d", (entryCount) => {
    const cache = new DirectoryCache(MIB, cookieOf);
    const listing = Array.from({ length: entryCount }, (_, index) => dentry(index, BigInt(index) + 3n));
    cache.keepListing(inode(1), listing, [], true);
    const { bytes } = retained(() => {
      for (let index = entryCount; index < 100_000; index++) {
        cache.change(inode(1), name(`n${String(index)}`), dentry(index));
        cache.change(inode(1), name(`n${String(index)}`), null);
      }
    });
    expect(bytes).toBeLessThan(2 * MIB);
    expect(cache.list(inode(1))).toHaveLength(entryCount);
  });

  test("a directory's entry and an inode take about what the caches reckon with", () => {
    const count = 50_000;
    const directories = retained(() => {
      const cache = new DirectoryCache(1024 * MIB, cookieOf);
      cache.addNew(inode(1));
      for (let index = 0; index < count; index++) cache.change(inode(1), name(`n${String(index)}`), dentry(index));
      cache.list(inode(1));
      return cache;
    });
    expect(directories.bytes / count).toBeLessThan(1.25 * ENTRY_BYTES);
    const inodes = retained(() => {
      const cache = new GenerationCache<InodeNumber, InodeRecord>(1024 * MIB, () => INODE_BYTES);
      for (let index = 0; index < count; index++) cache.set(inode(index), makeInode(index));
      return cache;
    });
    expect(inodes.bytes / count).toBeLessThan(1.25 * INODE_BYTES);
    expect(directories.held.list(inode(1))).toHaveLength(count);
    expect(inodes.held.get(inode(0))).toBeDefined();
  });
});
