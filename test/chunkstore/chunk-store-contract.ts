/** What every chunk store does, whatever disk and engine lie under it. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { DEFAULT_CHUNKING, FRAME_BYTES } from "../../src/crypto/engine.ts";
import { expectSameBytes, noise, prose } from "../crypto/fixtures.ts";
import { TestVault, type TestVaultOptions } from "./test-vault.ts";

const SMALL_CHUNKS = { minBytes: 128 * 1024, averageBytes: 256 * 1024, maxBytes: 1024 * 1024 };

export function testChunkStore(name: string, makeOptions: () => TestVaultOptions): void {
  const open = (options: TestVaultOptions = {}): Promise<TestVault> =>
    TestVault.open({ chunking: SMALL_CHUNKS, ...options, ...makeOptions() });

  describe(`${name}: storing`, () => {
    test("gives back what was stored, before and after the commit and after a new mount", async () => {
      await using vault = await open();
      const content = Buffer.concat([noise("a", 1_500_000), prose(700_000)]);
      const chunks = await vault.put(content);
      expect(chunks.length).toBeGreaterThan(3);
      expectSameBytes(await vault.get(chunks), content);
      await vault.commit();
      expectSameBytes(await vault.get(chunks), content);
      await vault.reopen();
      expectSameBytes(await vault.get(chunks), content);
    });

    test.for(["inline", "pack"] as const)("stores little data, place %s", async (place) => {
      await using vault = await open();
      const contents = ["a", "b", "c"].map((seed) => noise(seed, 5000));
      const stored = await vault.store.store(
        contents.map((content) => ({ pieces: [content.subarray(0, 100), content.subarray(100)], isFinal: true })),
        place,
      );
      await vault.commit();
      await vault.reopen();
      for (const [i, content] of contents.entries()) expectSameBytes(await vault.get(stored[i] ?? []), content);
      const { inlineBytes, uniqueBytes } = vault.store.statistics();
      expect(uniqueBytes).toBe(15_000);
      expect(inlineBytes).toBe(place === "inline" ? 15_000 : 0);
    });

    test("stores nothing for an empty input and leaves over what a non-final input ends with", async () => {
      await using vault = await open();
      const content = noise("left over", 1_000_000);
      const [none, some] = await vault.store.store(
        [
          { pieces: [], isFinal: true },
          { pieces: [content], isFinal: false },
        ],
        "pack",
      );
      expect(none).toEqual([]);
      const taken = (some ?? []).reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
      expect(taken).toBeLessThan(content.length);
      expectSameBytes(await vault.get(some ?? []), content.subarray(0, taken));
    });

    test("stores equal content once: in one call, in concurrent calls, later, and after a new mount", async () => {
      await using vault = await open();
      const content = noise("same", 300_000);
      const input = { pieces: [content], isFinal: true };
      const [call, other] = await Promise.all([
        vault.store.store([input, input], "pack"),
        vault.store.store([input], "pack"),
      ]);
      const isNew = [...call, ...other].flat().map((chunk) => chunk.isNew);
      expect(isNew.filter(Boolean).length).toBe(isNew.length / 3);
      await vault.commit();
      const { storedBytes, uniqueBytes } = vault.store.statistics();
      expect(uniqueBytes).toBe(300_000);
      await vault.reopen();
      const again = await vault.put(content);
      expect(again.some((chunk) => chunk.isNew)).toBe(false);
      await vault.commit();
      expect(vault.store.statistics()).toMatchObject({ uniqueBytes: 300_000, storedBytes });
    });

    test("writes no plaintext to packs", async () => {
      await using vault = await open();
      const canary = "CANARY-in-the-coal-mine";
      await vault.put(Buffer.from(`${canary}${"x".repeat(100_000)}${canary}`));
      await vault.commit();
      await vault.store.close();
      for (const path of await vault.packFiles()) {
        const { readFile } = await import("node:fs/promises");
        expect((await readFile(path)).includes(canary)).toBe(false);
      }
    });

    test("does not touch what it was lent, and leaves alone what it lends until it is given back", async () => {
      await using vault = await open({ cacheBytes: 2 * FRAME_BYTES });
      const content = noise("lent", 400_000);
      const chunks = await vault.put(content);
      expectSameBytes(content, noise("lent", 400_000));
      const [first] = chunks;
      if (first === undefined) throw new Error("nothing stored");
      const loans = [
        await vault.store.read(first.id, 10, 1000),
        await vault.store.read(first.id, 0, first.lengthBytes),
      ];
      const copies = loans.map(({ pieces }) => Buffer.concat(pieces));
      for (const chunk of [...chunks, ...chunks]) await vault.read(chunk.id, 0, chunk.lengthBytes);
      loans.forEach(({ pieces }, i) => {
        expectSameBytes(Buffer.concat(pieces), copies[i]!);
      });
      for (const { release } of loans) release();
      for (const chunk of chunks) await vault.read(chunk.id, 0, chunk.lengthBytes);
      expect(() => loans[0]!.release()).toThrow(RangeError);
    });
  });

  describe(`${name}: reading`, () => {
    test("gives any range of any chunk, however it is cached", async () => {
      await using vault = await open({ cacheBytes: 8 * FRAME_BYTES });
      const content = Buffer.concat([noise("ranges", 900_000), prose(900_000)]);
      const chunks = await vault.put(content);
      await vault.commit();
      await vault.reopen();
      const starts: number[] = [];
      chunks.reduce((at, { lengthBytes }) => (starts.push(at), at + lengthBytes), 0);
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.boolean()), { minLength: 1, maxLength: 6 }),
          async (ranges) => {
            const reads = ranges.map(async ([which, from, length, isPrefetched]) => {
              const index = which % chunks.length;
              const chunk = chunks[index];
              if (chunk === undefined) return;
              const offset = from % chunk.lengthBytes;
              const lengthBytes = Math.min(chunk.lengthBytes - offset, 1 + (length % (6 * FRAME_BYTES)));
              if (isPrefetched) vault.store.prefetch(chunk.id, offset, lengthBytes);
              const start = (starts[index] ?? 0) + offset;
              const bytes = await vault.read(chunk.id, offset, lengthBytes);
              expectSameBytes(bytes, content.subarray(start, start + lengthBytes));
            });
            await Promise.all(reads);
          },
        ),
        { numRuns: 60 },
      );
    });

    test("answers small reads of cached frames at once", async () => {
      await using vault = await open();
      const [chunk] = await vault.put(noise("cached", 100_000));
      if (chunk === undefined) throw new Error("nothing stored");
      await vault.commit();
      await vault.read(chunk.id, 5, 10);
      const answer = vault.store.read(chunk.id, 20, 4096);
      expect(answer).not.toBeInstanceOf(Promise);
      (await answer).release();
      expect(vault.store.statistics().cacheBytes).toBeGreaterThan(4096);
    });

    test("keeps its cache within bounds", async () => {
      const cacheBytes = 6 * FRAME_BYTES;
      await using vault = await open({ cacheBytes });
      const chunks = await vault.put(noise("bounded", 2_000_000));
      for (const { id, lengthBytes } of chunks) {
        for (let at = 0; at < lengthBytes; at += 4096) await vault.read(id, at, 1);
      }
      expect(vault.store.statistics().cacheBytes).toBeLessThanOrEqual(cacheBytes);
      expect(vault.store.statistics().cacheBytes).toBeGreaterThan(cacheBytes / 2);
    });

    test("refuses an unknown chunk and a range beyond the chunk's end", async () => {
      await using vault = await open();
      const [chunk] = await vault.put(noise("short", 1000));
      if (chunk === undefined) throw new Error("nothing stored");
      expect(() => vault.store.read(chunk.id, 990, 11)).toThrow(/TCFS_CORRUPT|beyond its chunk/);
      const unknown = chunk.id.slice() as typeof chunk.id;
      unknown[0] = (unknown[0] ?? 0) ^ 1;
      expect(() => vault.store.read(unknown, 0, 1)).toThrow(expect.objectContaining({ code: "TCFS_CORRUPT" }));
    });
  });

  describe(`${name}: life`, () => {
    test("keeps the default chunk sizes readable", async () => {
      await using vault = await open({ chunking: DEFAULT_CHUNKING });
      const content = noise("large", 9_000_000);
      const chunks = await vault.put(content);
      await vault.commit();
      await vault.reopen();
      expectSameBytes(await vault.get(chunks), content);
    });

    test("closes twice, and then refuses everything", async () => {
      await using vault = await open();
      const [chunk] = await vault.put(noise("closed", 1000));
      await vault.store.close();
      await vault.store.close();
      await expect(vault.put(noise("x", 10))).rejects.toMatchObject({ code: "TCFS_CLOSED" });
      expect(() => vault.store.read(chunk!.id, 0, 1)).toThrow(expect.objectContaining({ code: "TCFS_CLOSED" }));
    });
  });
}
