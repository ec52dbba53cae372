import { fc, test } from "@fast-check/vitest";
import { expect } from "vitest";
import {
  allOfKind,
  chunkIdOfKey,
  chunkKey,
  cookieOfDentryKey,
  cookieOfPrf,
  dentriesOf,
  dentryKey,
  extentsKey,
  extentsOf,
  inlineListKey,
  inodeKey,
  inodeOfKey,
  listOfKey,
  packIdOfKey,
  packKey,
  pageOfKey,
  RECORD_KIND,
  singleKey,
} from "../../src/format/record-keys.ts";
import type { InodeNumber } from "../../src/ids.ts";

const anyNumber = fc.maxSafeNat() as fc.Arbitrary<InodeNumber>;
const anyPrf = fc.uint8Array({ minLength: 16, maxLength: 16 });

const isBelow = (left: Uint8Array, right: Uint8Array): boolean => Buffer.compare(left, right) < 0;

test.prop([anyNumber, anyNumber])("numbers in keys are read back", (ino, page) => {
  expect(inodeOfKey(inodeKey("inode", ino))).toBe(ino);
  expect(inodeOfKey(extentsKey(ino, page))).toBe(ino);
  expect(pageOfKey(extentsKey(ino, page))).toBe(page);
});

test.prop([anyNumber, anyNumber])("keys sort by number", (left, right) => {
  expect(isBelow(inodeKey("inode", left), inodeKey("inode", right))).toBe(left < right);
  expect(isBelow(extentsKey(left, 5), extentsKey(right, 5))).toBe(left < right);
});

test.prop([anyPrf, anyPrf])("dentries sort by cookie", (left, right) => {
  const [low, high] = [left, right].sort((a, b) => Buffer.compare(a, b)) as [Uint8Array, Uint8Array];
  expect(cookieOfPrf(low) <= cookieOfPrf(high)).toBe(true);
  expect(cookieOfDentryKey(dentryKey(7 as InodeNumber, left))).toBe(cookieOfPrf(left));
});

test("a cookie is never one of those that mean the start, . and ..", () => {
  expect(cookieOfPrf(new Uint8Array(16))).toBe(3n);
  expect(cookieOfPrf(new Uint8Array(16).fill(0xff))).toBe(2n ** 63n - 1n);
});

test.prop([anyNumber, anyPrf])("a directory's range holds its dentries and no others", (directory, prf) => {
  fc.pre(directory > 0 && directory < Number.MAX_SAFE_INTEGER);
  const { first, end } = dentriesOf(directory);
  const inside = dentryKey(directory, prf);
  expect(!isBelow(inside, first) && isBelow(inside, end)).toBe(true);
  expect(isBelow(dentryKey((directory - 1) as InodeNumber, prf), first)).toBe(true);
  expect(isBelow(dentryKey((directory + 1) as InodeNumber, prf), end)).toBe(false);
});

test("a range of extent pages is closed below and open above", () => {
  const { first, end } = extentsOf(9 as InodeNumber, 3, 5);
  expect(first).toEqual(extentsKey(9 as InodeNumber, 3));
  expect(end).toEqual(extentsKey(9 as InodeNumber, 5));
});

test("ids and list numbers are read back from keys, and no other lengths", () => {
  const id = new Uint8Array(32).fill(8) as never;
  expect(chunkIdOfKey(chunkKey(id))).toEqual(id);
  expect(packIdOfKey(packKey(new Uint8Array(16).fill(3) as never))).toEqual(new Uint8Array(16).fill(3));
  expect(() => chunkIdOfKey(packKey(new Uint8Array(16) as never))).toThrow(/length/u);
  expect(() => packIdOfKey(chunkKey(id))).toThrow(/length/u);
  expect(listOfKey(inlineListKey(0xfedc_ba98))).toBe(0xfedc_ba98);
  expect(() => inlineListKey(2 ** 32)).toThrow(RangeError);
});

test("each kind of record has its own first byte", () => {
  const kinds = Object.values(RECORD_KIND);
  expect(new Set(kinds).size).toBe(kinds.length);
  expect(singleKey("volume")).toEqual(allOfKind("volume").first);
});
