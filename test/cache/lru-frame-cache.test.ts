import { expect, test } from "vitest";

import { LruFrameCache } from "../../src/cache/lru-frame-cache.ts";
import { FRAME_BYTES } from "../../src/crypto/engine.ts";

const frame = (value: number): Uint8Array => new Uint8Array(1000).fill(value);

test("gives back frames by pack and number", () => {
  const cache = new LruFrameCache({ cacheBytes: 100_000 });
  cache.set(1, 2, frame(12));
  cache.set(2, 1, frame(21));
  cache.set(2, 2 ** 32 - 1, frame(99));
  expect(cache.get(1, 2)).toEqual(frame(12));
  expect(cache.get(2, 1)).toEqual(frame(21));
  expect(cache.get(2, 2 ** 32 - 1)).toEqual(frame(99));
  expect(cache.get(1, 1)).toBeUndefined();
  expect(cache.has(1, 2)).toBe(true);
});

test("drops the least recently used when it is full", () => {
  const cache = new LruFrameCache({ cacheBytes: 5000 });
  for (let n = 0; n < 3; n++) cache.set(1, n, frame(n));
  cache.get(1, 0);
  cache.set(1, 3, frame(3));
  cache.set(1, 4, frame(4));
  expect([0, 1, 2, 3, 4].map((n) => cache.has(1, n))).toEqual([true, false, false, true, true]);
  expect(cache.usedBytes).toBeLessThanOrEqual(5000);
  cache.clear();
  expect(cache.usedBytes).toBe(0);
});

test("holds nothing when it may hold nothing", () => {
  const cache = new LruFrameCache({ cacheBytes: 0 });
  cache.set(1, 1, frame(1));
  expect(cache.get(1, 1)).toBeUndefined();
  expect(cache.usedBytes).toBe(0);
});

test("uses the memory of whole frames again, and never memory that it still holds", () => {
  const cache = new LruFrameCache({ cacheBytes: 3 * (FRAME_BYTES + 256) });
  const seen = new Set<Uint8Array>();
  for (let n = 0; n < 20; n++) {
    const memory = cache.take(FRAME_BYTES);
    for (let k = 0; k < n; k++) expect(cache.get(1, k)).not.toBe(memory);
    seen.add(memory);
    memory.fill(n);
    cache.set(1, n, memory);
  }
  expect(seen.size).toBe(4);
  expect(cache.get(1, 19)?.every((byte) => byte === 19)).toBe(true);
  cache.delete(1, 19);
  expect(seen.has(cache.take(FRAME_BYTES))).toBe(true);
});
