/** Reads of what only the store has: which requests they make. */
import { expect, test, vi } from "vitest";
import { BLOCK_BYTES } from "../../src/cache/block-map.ts";
import type { StoredChunk } from "../../src/chunkstore/chunk-store.ts";
import { TcfsError } from "../../src/errors.ts";
import { type Clock, systemClock } from "../../src/platform/clock.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { packObject } from "../../src/replica/object-names.ts";
import { FaultyDisk } from "../chunkstore/faulty-disk.ts";
import { expectSameBytes, noise } from "../crypto/fixtures.ts";
import { type CachedVault, UNASKED_BYTES, openCachedVault } from "./fixtures.ts";

const MIB = 1024 * 1024;
const WAIT = { timeout: 180_000 };

interface ColdVault extends CachedVault {
  readonly chunks: readonly StoredChunk[];
  readonly content: Uint8Array;
  /** Since it is cold. */
  readonly asked: () => { readonly heads: number; readonly reads: number; readonly bytes: number };
}

/** A vault of whose packs, which come to about as many bytes, nothing is here. */
async function makeCold(lengthBytes: number, clock: Clock = systemClock, packBytes = 16 * MIB): Promise<ColdVault> {
  const cached = await openCachedVault({ maxBytes: UNASKED_BYTES + 100 * MIB, packBytes, openPacks: 1, clock });
  const content = noise("cold", lengthBytes);
  const chunks = await cached.vault.put(content);
  await cached.vault.commit(new Map([[1, chunks.map(({ id }) => id)]]));
  await cached.upload();
  await cached.shelf().clear();
  await cached.vault.reopen();
  expect(cached.shelf().figures().usedBytes).toBe(0);
  const totals = (): { heads: number; reads: number; bytes: number } => {
    const found = { heads: 0, reads: 0, bytes: 0 };
    for (const { method, count, bytes } of cached.trace.report().totals) {
      if (method === "HEAD") found.heads += count;
      else found.reads += count;
      found.bytes += bytes;
    }
    return found;
  };
  const before = totals();
  const asked = (): ReturnType<typeof totals> => {
    const now = totals();
    return { heads: now.heads - before.heads, reads: now.reads - before.reads, bytes: now.bytes - before.bytes };
  };
  return { ...cached, chunks, content, asked, [Symbol.asyncDispose]: () => cached[Symbol.asyncDispose]() };
}

test("one request begins a pack, and tells its length: a small one has come with it", async () => {
  await using cold = await makeCold(100_000);
  expectSameBytes(await cold.vault.get(cold.chunks), cold.content);
  const { heads, reads, bytes } = cold.asked();
  expect({ heads, reads }).toEqual({ heads: 0, reads: 1 });
  expect(bytes).toBeLessThan(BLOCK_BYTES);
});

test("a few bytes anywhere cost the first block and their own, whoever else asks for them", async () => {
  await using cold = await makeCold(6 * MIB);
  const chunk = cold.chunks.at(-1)!;
  const all = await Promise.all(Array.from({ length: 8 }, () => cold.vault.read(chunk.id, 10, 20)));
  const offset = cold.content.length - chunk.lengthBytes + 10;
  for (const read of all) expectSameBytes(read, cold.content.slice(offset, offset + 20));
  const { heads, reads, bytes } = cold.asked();
  expect({ heads, reads }).toEqual({ heads: 0, reads: 2 });
  expect(bytes).toBeLessThanOrEqual(3 * BLOCK_BYTES); // a frame may lie in two
});

test("what lies further in is asked for along with the pack's beginning, and once more if it did not come so", async () => {
  await using cold = await makeCold(6 * MIB);
  const offsetOf = (index: number): number =>
    cold.chunks.slice(0, index).reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
  const getPart = cold.store.getPart.bind(cold.store);
  const starts: (() => void)[] = [];
  const others: string[] = [];
  cold.store.getPart = async (name, range, signal) => {
    if (range.offset === 0) await new Promise<void>((resolve) => starts.push(resolve));
    else if (others.push(name) === 2) throw new TcfsError("TCFS_CORRUPT", "made to fail");
    return getPart(name, range, signal);
  };
  const last = cold.chunks.length - 1;
  for (const times of [1, 2]) {
    const read = cold.vault.read(cold.chunks[last]!.id, 10, 20);
    await vi.waitFor(() => {
      expect([starts.length, others.length]).toEqual([times, times]); // neither has been answered
    }, WAIT);
    starts.at(-1)?.();
    expectSameBytes(await read, cold.content.slice(offsetOf(last) + 10, offsetOf(last) + 30));
    await cold.shelf().clear();
    await cold.vault.reopen();
  }
});

test("what is approached comes in few requests, and is read without any more", async () => {
  await using cold = await makeCold(12 * MIB);
  const ids = cold.chunks.map(({ id }) => id);
  await vi.waitFor(() => {
    expect(cold.vault.store.approach(ids)).toBe(true);
    expect(cold.shelf().figures()).toMatchObject({ packCount: 1, partialCount: 0 });
  }, WAIT);
  const asked = cold.asked();
  expect(asked.heads).toBe(0);
  expect(asked.reads).toBeLessThanOrEqual(4); // by the order of the pack's three parts
  expect(asked.bytes).toBe(cold.shelf().figures().usedBytes);
  expectSameBytes(await cold.vault.get(cold.chunks), cold.content);
  expect(cold.asked()).toEqual(asked);
});

test("only so much is approached at once, and nothing more over a slow line; who reads is served", async () => {
  let skewMs = 0;
  const clock: Clock = {
    now: () => systemClock.now(),
    monotonicMs: () => systemClock.monotonicMs() + skewMs,
    after: (delayMs, action) => systemClock.after(delayMs, action),
  };
  await using cold = await makeCold(32 * MIB, clock, MIB);
  const { store: chunks } = cold.vault;
  const ids = cold.chunks.map(({ id }) => id);
  const getPart = cold.store.getPart.bind(cold.store);
  const held: (() => void)[] = [];
  const names = new Set<string>();
  cold.store.getPart = async (name, ...all) => {
    names.add(name);
    await new Promise<void>((resolve) => held.push(resolve));
    return getPart(name, ...all);
  };
  try {
    expect(chunks.approach(ids)).toBe(false);
    await vi.waitFor(() => {
      expect(held.length).toBe(4);
    }, WAIT);
    expect(chunks.approach(ids)).toBe(false);
    held.shift()?.();
    await vi.waitFor(() => {
      chunks.approach(ids);
      expect(held.length).toBe(4); // one has come, the next is under way
    }, WAIT);
    skewMs = 60_000;
    held.shift()?.();
    await vi.waitFor(() => {
      expect(cold.shelf().figures()).toMatchObject({ packCount: 2, partialCount: 0 });
    }, WAIT);
    expect(chunks.approach(ids)).toBe(false);
    cold.store.getPart = getPart;
    const other = cold.chunks.findIndex(({ id }) => !names.has(packObject(chunks.packOf(id)!)));
    const offset = cold.chunks.slice(0, other).reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    const { id, lengthBytes } = cold.chunks[other]!;
    expectSameBytes(await cold.vault.read(id, 0, lengthBytes), cold.content.slice(offset, offset + lengthBytes));
    expect(held.length).toBe(3);
  } finally {
    cold.store.getPart = getPart;
    for (const go of held) go();
  }
});

test("what this disk cannot read any more comes from the store, or once that is back", async () => {
  const disk = new FaultyDisk(new NodeDisk());
  await using cached = await openCachedVault({
    maxBytes: UNASKED_BYTES + 100 * MIB,
    openPacks: 1,
    waitMs: 60_000,
    disk,
  });
  const content = noise("worn out", 4 * MIB);
  const chunks = await cached.vault.put(content);
  await cached.vault.commit(new Map([[1, chunks.map(({ id }) => id)]]));
  await cached.upload();
  await cached.shelf().close();
  await cached.vault.reopen();
  const first = chunks[0]!;
  await cached.vault.read(first.id, 0, 10); // the header has been read
  const requestsOf = (): number => cached.trace.report().totals.reduce((sum, { count }) => sum + count, 0);
  const before = requestsOf();
  disk.fail("read", "TCFS_IO");
  expectSameBytes(await cached.vault.get(chunks), content);
  expect(requestsOf() - before).toBeGreaterThan(0);
  await cached.vault.get(chunks);
  const after = requestsOf();
  expectSameBytes(await cached.vault.get(chunks), content);
  expect(requestsOf()).toBe(after);
  cached.store.beforeAnswer = () => {
    throw new TcfsError("TCFS_REMOTE_DENIED", "made to fail");
  };
  disk.fail("read", "TCFS_IO");
  await expect(cached.vault.read(first.id, 0, 10)).rejects.toMatchObject({ code: "TCFS_IO" });
  cached.store.beforeAnswer = () => undefined;
  expectSameBytes(await cached.vault.get(chunks), content);
});
