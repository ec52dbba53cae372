import { expect, test } from "vitest";

import { IdSet } from "../../src/chunkstore/id-set.ts";
import type { ChunkId } from "../../src/ids.ts";
import { noise } from "../crypto/fixtures.ts";

const idOf = (n: number): ChunkId => noise(`id ${String(n)}`, 32) as ChunkId;

test("has what was added, through growth, and not what was not", () => {
  const set = new IdSet();
  for (let n = 0; n < 5000; n++) expect(set.add(idOf(n))).toBe(true);
  for (let n = 0; n < 5000; n++) expect(set.add(idOf(n))).toBe(false);
  expect(set.count).toBe(5000);
  for (let n = 0; n < 5000; n++) expect(set.has(idOf(n))).toBe(true);
  for (let n = 5000; n < 10_000; n++) expect(set.has(idOf(n))).toBe(false);
});

test("takes an id of zeros as any other", () => {
  const set = new IdSet();
  const zeros = new Uint8Array(32) as ChunkId;
  expect(set.has(zeros)).toBe(false);
  expect(set.add(zeros)).toBe(true);
  expect(set.has(zeros)).toBe(true);
});
