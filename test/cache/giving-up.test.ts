/** What a shelf gives up, and what it asks the store before. */
import { rm } from "node:fs/promises";
import { expect, test, vi } from "vitest";
import { TcfsError } from "../../src/errors.ts";
import type { StoredChunk } from "../../src/chunkstore/chunk-store.ts";
import type { PackId } from "../../src/ids.ts";
import { packObject } from "../../src/replica/object-names.ts";
import { expectSameBytes, noise } from "../crypto/fixtures.ts";
import { SimulatedClock } from "../support/simulated-clock.ts";
import { type CachedVault, UNASKED_BYTES, openCachedVault } from "./fixtures.ts";

const MIB = 1024 * 1024;
const CONTENT = noise("only copy", 3 * MIB);
const WAIT = { timeout: 180_000 };

/** A vault with content in a few packs that the store has, opened anew: nothing was seen in this session. */
async function makeUploaded(waitMs = 60_000): Promise<CachedVault & { readonly chunks: readonly StoredChunk[] }> {
  const cached = await openCachedVault({ maxBytes: UNASKED_BYTES + 40 * MIB, waitMs });
  const chunks = await cached.vault.put(CONTENT);
  await cached.vault.commit(new Map([[1, chunks.map(({ id }) => id)]]));
  await cached.upload();
  await cached.shelf().close();
  await cached.vault.reopen();
  expect(cached.shelf().figures()).toMatchObject({ unsentBytes: 0, partialCount: 0 });
  return { ...cached, chunks, [Symbol.asyncDispose]: () => cached[Symbol.asyncDispose]() };
}

test("nothing goes while the bucket itself is gone", async () => {
  await using cached = await makeUploaded();
  const { packCount } = cached.shelf().figures();
  await rm(cached.store.place, { recursive: true });
  expect(await cached.shelf().clear()).toBe(0);
  expectSameBytes(await cached.vault.get(cached.chunks), CONTENT);
  expect(cached.shelf().figures().packCount).toBe(packCount);
});

test("packs that the store lost count as unsent again", async () => {
  await using cached = await makeUploaded();
  const lost: PackId[] = [];
  const uploads = { hurry: () => undefined, progress: () => 0, isUnderWay: () => false, hasEnded: () => false };
  cached.shelf().uploads = { ...uploads, noteLost: (pack) => lost.push(pack) };
  const { packCount } = cached.shelf().figures();
  for await (const name of cached.store.list("packs/")) await cached.store.delete(name);
  expect(await cached.shelf().clear()).toBe(0);
  expect(lost.length).toBe(packCount);
  expect(cached.shelf().unstored().length).toBe(packCount);
  await cached.upload();
  expect(await cached.shelf().clear()).toBeGreaterThan(CONTENT.length);
  for (const pack of lost) expect(await cached.store.head(packObject(pack))).toBeDefined();
  expectSameBytes(await cached.vault.get(cached.chunks), CONTENT);
});

test("to clear, the store is asked for what it was just seen to have", async () => {
  await using cached = await openCachedVault({ maxBytes: UNASKED_BYTES + 40 * MIB, waitMs: 60_000 });
  const chunks = await cached.vault.put(CONTENT);
  await cached.vault.commit(new Map([[1, chunks.map(({ id }) => id)]]));
  await cached.upload();
  expect(cached.shelf().figures().unsentBytes).toBe(0);
  for await (const name of cached.store.list("packs/")) await cached.store.delete(name);
  expect(await cached.shelf().clear()).toBe(0);
  expectSameBytes(await cached.vault.get(chunks), CONTENT);
});

test("a length that no pack has makes nobody take memory for it", async () => {
  await using cached = await makeUploaded();
  await cached.shelf().clear();
  const getPart = cached.store.getPart.bind(cached.store);
  cached.store.getPart = async (...all) => {
    const start = await getPart(...all);
    return start && { ...start, objectBytes: 2 ** 50 };
  };
  await expect(cached.vault.get(cached.chunks)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
  cached.store.getPart = getPart;
  expectSameBytes(await cached.vault.get(cached.chunks), CONTENT);
});

test("a store that does not answer: to clear is refused, room is made all the same", async () => {
  await using cached = await makeUploaded(300);
  const silence = { isThere: true };
  cached.store.beforeAnswer = () => {
    if (silence.isThere) throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", "made to fail");
  };
  await expect(cached.shelf().clear()).rejects.toMatchObject({ code: "TCFS_REMOTE_UNAVAILABLE" });
  expectSameBytes(await cached.vault.get(cached.chunks), CONTENT);
  const before = cached.shelf().figures().usedBytes;
  await cached.shelf().relieve(MIB);
  expect(cached.shelf().figures().usedBytes).toBeLessThan(before);
  silence.isThere = false;
  // A read that takes longer than those 300 ms fails, and succeeds later.
  expectSameBytes(await vi.waitFor(() => cached.vault.get(cached.chunks), WAIT), CONTENT);
});

test("a writer waits as long as something is on its way, however slow the line, and ten seconds more", async () => {
  const clock = new SimulatedClock("2026-11-22T08:10:00Z");
  await using cached = await openCachedVault({ maxBytes: UNASKED_BYTES + 40 * MIB, clock });
  let isUnderWay = true;
  const uploads = { hurry: () => undefined, progress: () => 0, hasEnded: () => false, noteLost: () => undefined };
  cached.shelf().uploads = { ...uploads, isUnderWay: () => isUnderWay };
  let hasRoom: boolean | undefined;
  const waiting = cached
    .shelf()
    .awaitRoom(40 * MIB)
    .then((answer) => (hasRoom = answer));
  const pass = (ms: number): Promise<void> => clock.pass(ms, () => new Promise(setImmediate));
  await pass(600_000);
  isUnderWay = false;
  await pass(9_000);
  expect(hasRoom).toBeUndefined();
  await pass(1_000);
  await waiting;
  expect(hasRoom).toBe(false);
});
