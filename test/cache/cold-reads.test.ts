/** Reads of what only the store has: which requests they make. */
import { expect, test } from "vitest";
import { BLOCK_BYTES } from "../../src/cache/block-map.ts";
import type { StoredChunk } from "../../src/chunkstore/chunk-store.ts";
import { expectSameBytes, noise } from "../crypto/fixtures.ts";
import { type CachedVault, UNASKED_BYTES, openCachedVault } from "./fixtures.ts";

const MIB = 1024 * 1024;

interface ColdVault extends CachedVault {
  readonly chunks: readonly StoredChunk[];
  readonly content: Uint8Array;
  /** Since it is cold. */
  readonly asked: () => { readonly heads: number; readonly reads: number; readonly bytes: number };
}

/** A vault of whose packs, which come to about as many bytes, nothing is here. */
async function makeCold(lengthBytes: number): Promise<ColdVault> {
  const cached = await openCachedVault({ maxBytes: UNASKED_BYTES + 100 * MIB, packBytes: 16 * MIB });
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
  expect(bytes).toBeLessThanOrEqual(2 * BLOCK_BYTES);
});
