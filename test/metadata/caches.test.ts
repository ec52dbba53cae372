import { describe, expect, test } from "vitest";
import { CachedDentry, DirectoryCache, NO_COOKIE } from "../../src/metadata/directory-cache.ts";
import { GenerationCache } from "../../src/metadata/generation-cache.ts";
import { inode, name } from "./store-fixture.ts";

const MIB = 1024 * 1024;

describe("a generation cache", () => {
  test("holds no more than its bytes, and what was used last", () => {
    const cache = new GenerationCache<number, { readonly bytes: number }>(1000, (value) => value.bytes);
    for (let key = 0; key < 500; key++) {
      cache.set(key, { bytes: 10 });
      cache.get(0);
    }
    const kept = Array.from({ length: 500 }, (_, key) => key).filter((key) => cache.get(key) !== undefined);
    expect(kept.length).toBeLessThanOrEqual(100);
    expect(kept).toContain(0);
    expect(kept).toContain(499);
  });

  test("forgets what was deleted in either generation", () => {
    const cache = new GenerationCache<number, string>(4, () => 1);
    for (let key = 0; key < 4; key++) cache.set(key, "value");
    for (let key = 0; key < 4; key++) cache.delete(key);
    expect([0, 1, 2, 3].map((key) => cache.get(key))).toEqual([undefined, undefined, undefined, undefined]);
  });
});

describe("a directory cache", () => {
  const cookieOf = (_directory: number, text: string): bigint => BigInt(text.slice(1)) + 3n;
  const dentry = (index: number, cookie = NO_COOKIE): CachedDentry =>
    new CachedDentry(name(`n${String(index)}`), inode(index + 2), 8, cookie);
  const listing = (count: number): CachedDentry[] =>
    Array.from({ length: count }, (_, index) => dentry(index, BigInt(index) + 3n));

  test("keeps the listing of one directory larger than itself, and lets the one before go", () => {
    const cache = new DirectoryCache(MIB, cookieOf);
    cache.keepListing(inode(1), listing(20_000), [], true);
    expect(cache.list(inode(1))).toHaveLength(20_000);
    cache.learn(inode(5), name("n1"), dentry(1));
    expect(cache.list(inode(1))).toHaveLength(20_000);
    cache.keepListing(inode(2), listing(20_000), [], true);
    expect(cache.list(inode(2))).toHaveLength(20_000);
    expect(cache.list(inode(1))).toBeUndefined();
    expect(cache.find(inode(5), name("n1"))).toMatchObject({ ino: 3 });
  });

  test("does not grow with a large directory that nobody lists, and claims nothing about what it dropped", () => {
    const cache = new DirectoryCache(MIB, cookieOf);
    cache.addNew(inode(1));
    expect(cache.find(inode(1), name("n5"))).toBeNull();
    for (let index = 0; index < 20_000; index++) cache.change(inode(1), dentry(index).name, dentry(index));
    expect(cache.find(inode(1), name("n5"))).toBeUndefined();
    expect(cache.find(inode(1), name("n19999"))).toMatchObject({ ino: 20_001 });
    expect(cache.list(inode(1))).toBeUndefined();
  });

  test("drops directories that were not used for long", () => {
    const cache = new DirectoryCache(MIB, cookieOf);
    for (let ino = 1; ino <= 5000; ino++) {
      cache.learn(inode(ino), name("n1"), dentry(1));
      cache.find(inode(1), name("n1"));
    }
    expect(cache.find(inode(1), name("n1"))).toMatchObject({ ino: 3 });
    expect(cache.find(inode(2), name("n1"))).toBeUndefined();
    expect(cache.find(inode(5000), name("n1"))).toMatchObject({ ino: 3 });
  });

  test("leaves room for a damaged entry: what a listing lacks is then not known to be absent", () => {
    const cache = new DirectoryCache(MIB, cookieOf);
    cache.keepListing(inode(1), listing(3), [], false);
    expect(cache.find(inode(1), name("n9"))).toBeUndefined();
    expect(cache.list(inode(1))).toHaveLength(3);
  });
});
