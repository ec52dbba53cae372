/** Packs of an older key epoch stored anew (`tcfs key rotate --reencrypt`): what is left is told, and never taken for done. */
import { afterEach, describe, expect, test, vi } from "vitest";
import type { StoredChunk } from "../../src/chunkstore/chunk-store.ts";
import { TcfsError } from "../../src/errors.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { type CachedVault, UNASKED_BYTES, openCachedVault } from "../cache/fixtures.ts";
import { expectSameBytes, noise } from "../crypto/fixtures.ts";
import { FaultyDisk } from "./faulty-disk.ts";

const MIB = 1024 * 1024;
const CONTENT = noise("of the older epoch", 3 * MIB);
const noPause = (): Promise<void> => Promise.resolve();

afterEach(() => {
  vi.restoreAllMocks();
});

/** A vault with content in packs of epoch 1 that the store has, in its second epoch now. */
async function makeOlder(disk: FaultyDisk): Promise<CachedVault & { readonly chunks: readonly StoredChunk[] }> {
  const cached = await openCachedVault({ maxBytes: UNASKED_BYTES + 40 * MIB, waitMs: 5000, disk });
  const chunks = await cached.vault.put(CONTENT);
  await cached.vault.commit(new Map([[1, chunks.map(({ id }) => id)]]));
  await cached.upload();
  Object.defineProperty(cached.vault.engine, "keyEpoch", { value: 2 });
  await cached.shelf().close();
  await cached.vault.reopen();
  return { ...cached, chunks, [Symbol.asyncDispose]: () => cached[Symbol.asyncDispose]() };
}

const renew = ({ vault }: CachedVault): Promise<number> =>
  vault.store.renewPacks(() => vault.commit(), new AbortController().signal, noPause);

describe("packs of an older key epoch", () => {
  test("that only the store has are waited for, and those that were replaced are not replaced again", async () => {
    await using cached = await makeOlder(new FaultyDisk(new NodeDisk()));
    expect(await cached.shelf().clear()).toBeGreaterThan(CONTENT.length);
    const away = vi.spyOn(cached.store, "getRange");
    away.mockRejectedValue(new TcfsError("TCFS_REMOTE_UNAVAILABLE", "away"));
    await expect(renew(cached)).rejects.toMatchObject({ code: "TCFS_IO" });
    away.mockRestore();
    expect(await renew(cached)).toBe(0);
    expectSameBytes(await cached.vault.get(cached.chunks), CONTENT);
    await cached.upload();
    expect(await cached.shelf().clear()).toBeGreaterThan(CONTENT.length);
    const before = cached.vault.store.statistics();
    expect(await renew(cached)).toBe(0);
    await cached.vault.store.ownPacks.retire();
    await cached.vault.commit();
    expect(cached.shelf().unstored()).toEqual([]);
    expect(cached.vault.store.statistics()).toEqual(before);
    expectSameBytes(await cached.vault.get(cached.chunks), CONTENT);
  });

  test("for which there is no room are told, and replaced once there is", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using cached = await makeOlder(disk);
    disk.availableBytes = 16 * MIB;
    expect(await renew(cached)).toBeGreaterThan(0);
    expectSameBytes(await cached.vault.get(cached.chunks), CONTENT);
    disk.availableBytes = undefined;
    expect(await renew(cached)).toBe(0);
    expectSameBytes(await cached.vault.get(cached.chunks), CONTENT);
  });
});
