/** What a cache does while its store does not answer, or answers late. */
import { readFile, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test, vi } from "vitest";
import { TcfsError } from "../../src/errors.ts";
import type { StoredChunk } from "../../src/chunkstore/chunk-store.ts";
import { type Clock, systemClock } from "../../src/platform/clock.ts";
import { expectSameBytes, noise } from "../crypto/fixtures.ts";
import { type CachedVault, type CachedVaultOptions, UNASKED_BYTES, openCachedVault } from "./fixtures.ts";

const MIB = 1024 * 1024;
const CONTENT = noise("away", 3 * MIB);
/** Longer than a test lasts. */
const FOR_EVER_MS = 3600_000;

afterEach(() => {
  vi.restoreAllMocks();
});

interface Stored {
  readonly cached: CachedVault;
  readonly chunks: readonly StoredChunk[];
}

/** Content in a few packs that the store has, too. */
async function makeStored(options: Partial<CachedVaultOptions>): Promise<Stored> {
  const cached = await openCachedVault({ maxBytes: UNASKED_BYTES + 40 * MIB, ...options });
  const chunks = await cached.vault.put(CONTENT);
  await cached.vault.commit(new Map([[1, chunks.map(({ id }) => id)]]));
  await cached.upload();
  return { cached, chunks };
}

/** Until it is given up. */
const never = (_: string, signal?: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    signal?.addEventListener("abort", () => {
      reject(new TcfsError("TCFS_CANCELLED", "given up"));
    });
  });

test("a write of what only a store has that is away is stored anew, and waits for no pack of it", async () => {
  let aheadMs = 0;
  const clock: Clock = {
    now: () => systemClock.now(),
    monotonicMs: () => systemClock.monotonicMs() + aheadMs,
    after: (delayMs, action) => systemClock.after(delayMs, action),
  };
  const { cached, chunks } = await makeStored({ waitMs: FOR_EVER_MS, clock });
  await using _cached = cached;
  expect(await cached.shelf().clear()).toBeGreaterThan(CONTENT.length);
  await cached.shelf().close();
  await cached.vault.reopen();
  const head = vi.spyOn(cached.store, "head").mockImplementation(never);
  const anew = await cached.vault.put(CONTENT);
  expect(anew.map(({ isNew }) => isNew)).toEqual(chunks.map(() => true));
  expect(head.mock.calls.length).toBe(1);
  expectSameBytes(await cached.vault.get(anew), CONTENT);
  head.mockRestore();

  // Once it answers, it is asked again, in the same session.
  const other = noise("away, too", 2 * MIB);
  const first = await cached.vault.put(other);
  await cached.vault.commit(new Map([[2, first.map(({ id }) => id)]]));
  await cached.upload();
  await cached.shelf().clear();
  await cached.vault.reopen();
  const silent = vi.spyOn(cached.store, "head").mockImplementation(never);
  expect((await cached.vault.put(other.subarray(0, MIB))).some(({ isNew }) => !isNew)).toBe(false);
  silent.mockRestore();
  aheadMs = 60_000;
  const again = await cached.vault.put(other.subarray(MIB));
  expect(again.filter(({ isNew }) => !isNew).length).toBeGreaterThan(1);
});

test("a store that refuses is not asked again by each write", async () => {
  const { cached } = await makeStored({ waitMs: FOR_EVER_MS });
  await using _cached = cached;
  await cached.shelf().clear();
  await cached.shelf().close();
  await cached.vault.reopen();
  const head = vi.spyOn(cached.store, "head").mockRejectedValue(new TcfsError("TCFS_REMOTE_DENIED", "made"));
  for (let at = 0; at < 3 * MIB; at += MIB / 2) {
    expect((await cached.vault.put(CONTENT.subarray(at, at + MIB / 2))).length).toBeGreaterThan(0);
  }
  expect(head.mock.calls.length).toBe(1);
});

test("what is damaged here takes nothing with it while the store is away, and heals once it is back", async () => {
  const { cached, chunks } = await makeStored({ waitMs: 2000 });
  await using _cached = cached;
  await cached.shelf().close();
  await cached.vault.reopen();
  for (const path of await cached.vault.packFiles()) {
    const content = await readFile(path);
    content[Math.floor(content.length / 2)]! ^= 1;
    await writeFile(path, content);
  }
  const failing = async (): Promise<number> => {
    let count = 0;
    for (const chunk of chunks) await cached.vault.get([chunk]).catch(() => (count += 1));
    return count;
  };
  cached.store.beforeAnswer = () => {
    throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", "made to fail: away");
  };
  const packCount = (await cached.vault.packFiles()).length;
  expect(await failing()).toBeLessThanOrEqual(packCount);
  expect(await failing()).toBeLessThanOrEqual(packCount);
  expect(cached.shelf().figures().partialCount).toBe(0);
  cached.store.beforeAnswer = () => undefined;
  expect(await failing()).toBe(0);
  expectSameBytes(await cached.vault.get(chunks), CONTENT);
});

test("whoever clears the cache waits for a store that answers late", async () => {
  const { cached } = await makeStored({ waitMs: 60_000 });
  await using _cached = cached;
  await cached.shelf().close();
  await cached.vault.reopen();
  const original = cached.store.head.bind(cached.store);
  vi.spyOn(cached.store, "head").mockImplementation(async (...all) => {
    await sleep(2500);
    return original(...all);
  });
  expect(await cached.shelf().clear()).toBeGreaterThan(CONTENT.length);
  expect(cached.shelf().figures().packCount).toBe(0);
});
