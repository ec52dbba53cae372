import { expect, test } from "vitest";

import { LruFrameCache } from "../../src/cache/lru-frame-cache.ts";
import { type Frame, FrameMemory } from "../../src/chunkstore/frame-memory.ts";
import { FRAME_BYTES } from "../../src/crypto/engine.ts";

const memory = new FrameMemory();

function frame(value: number, lengthBytes = 1000): Frame {
  const taken = memory.take(lengthBytes);
  taken.bytes.fill(value);
  return taken;
}

/** Put a frame that nobody but the cache holds from then on. */
function put(cache: LruFrameCache, packNumber: number, number: number, content: Frame): void {
  cache.set(packNumber, number, content);
  content.release();
}

test("gives back frames by pack and number", () => {
  const cache = new LruFrameCache({ cacheBytes: 100_000 });
  put(cache, 1, 2, frame(12));
  put(cache, 2, 1, frame(21));
  put(cache, 2, 2 ** 32 - 1, frame(99));
  expect(cache.get(1, 2)?.bytes).toEqual(new Uint8Array(1000).fill(12));
  expect(cache.get(2, 1)?.bytes).toEqual(new Uint8Array(1000).fill(21));
  expect(cache.get(2, 2 ** 32 - 1)?.bytes).toEqual(new Uint8Array(1000).fill(99));
  expect(cache.get(1, 1)).toBeUndefined();
  expect(cache.has(1, 2)).toBe(true);
});

test("drops the least recently used when it is full", () => {
  const cache = new LruFrameCache({ cacheBytes: 5000 });
  for (let n = 0; n < 3; n++) put(cache, 1, n, frame(n));
  cache.get(1, 0);
  put(cache, 1, 3, frame(3));
  put(cache, 1, 4, frame(4));
  expect([0, 1, 2, 3, 4].map((n) => cache.has(1, n))).toEqual([true, false, false, true, true]);
  expect(cache.usedBytes).toBeLessThanOrEqual(5000);
  cache.clear();
  expect(cache.usedBytes).toBe(0);
});

test("holds nothing when it may hold nothing, or less than a frame", () => {
  for (const cacheBytes of [0, 1000]) {
    const cache = new LruFrameCache({ cacheBytes });
    const content = frame(1);
    cache.set(1, 1, content);
    expect(cache.get(1, 1)).toBeUndefined();
    expect(cache.usedBytes).toBe(0);
    content.release();
    expect(() => {
      content.release();
    }).toThrow(RangeError);
  }
});

test("memory of whole frames is used again, but never while the cache or a reader holds it", () => {
  const cache = new LruFrameCache({ cacheBytes: 3 * (FRAME_BYTES + 256) });
  const reader = frame(255, FRAME_BYTES);
  put(cache, 2, 0, reader);
  reader.hold();
  const seen = new Set<Uint8Array>();
  for (let n = 0; n < 20; n++) {
    const next = memory.take(FRAME_BYTES);
    for (let k = 0; k < n; k++) expect(cache.get(1, k)?.bytes).not.toBe(next.bytes);
    expect(next.bytes).not.toBe(reader.bytes);
    seen.add(next.bytes);
    next.bytes.fill(n);
    put(cache, 1, n, next);
  }
  expect(seen.size).toBe(4);
  expect(cache.get(1, 19)?.bytes.every((byte) => byte === 19)).toBe(true);
  expect(reader.bytes.every((byte) => byte === 255)).toBe(true);
  cache.delete(1, 19);
  expect(seen.has(memory.take(FRAME_BYTES).bytes)).toBe(true);
  reader.release();
  expect(memory.take(FRAME_BYTES).bytes).toBe(reader.bytes);
});

test("a frame put twice is held once", () => {
  const cache = new LruFrameCache({ cacheBytes: 10 * FRAME_BYTES });
  const content = frame(7, FRAME_BYTES);
  cache.set(1, 1, content);
  cache.set(1, 1, content);
  content.release();
  cache.delete(1, 1);
  expect(() => {
    content.release();
  }).toThrow(RangeError);
});
