import { expect, test } from "vitest";

import { FrameCache } from "../../src/cache/frame-cache.ts";

const frame = (value: number): Uint8Array => new Uint8Array(1000).fill(value);

test("gives back frames by pack and number", () => {
  const cache = new FrameCache({ cacheBytes: 100_000 });
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
  const cache = new FrameCache({ cacheBytes: 5000 });
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
  const cache = new FrameCache({ cacheBytes: 0 });
  cache.set(1, 1, frame(1));
  expect(cache.get(1, 1)).toBeUndefined();
  expect(cache.usedBytes).toBe(0);
});
