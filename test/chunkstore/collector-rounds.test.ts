/**
 * Collection on a disk with little room, in rounds, while files change, and with power cuts between any two steps: nothing
 * that lives is lost, and what is found again in a pack that is about to go is there afterwards.
 */
import { rm, stat, truncate } from "node:fs/promises";
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import type { StoredChunk } from "../../src/chunkstore/chunk-store.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { expectSameBytes, noise } from "../crypto/fixtures.ts";
import { FaultyDisk } from "./faulty-disk.ts";
import { TestVault } from "./test-vault.ts";

/** The collector's own: room that commits need. */
const UNTOUCHED_BYTES = 24 * 1024 * 1024;
const FILES = 24;
const SEEDS = 40;
const lengthOf = (seed: number): number => 1000 + seed * 300;

interface File {
  readonly seed: number;
  readonly chunks: readonly StoredChunk[];
}

/** What a file gets; none: it goes. */
const change = fc.record({ file: fc.nat(FILES - 1), seed: fc.option(fc.nat(SEEDS - 1)) });

const collection = fc.record({
  before: fc.array(change, { maxLength: 30 }),
  isReopened: fc.boolean(),
  roomBytes: fc.integer({ min: -5000, max: 60_000 }),
  neededBytes: fc.constantFrom(0, 20_000, 10 ** 6),
  /** Before each commit that the collection asks for; without an end the last ones are made alone. */
  meanwhile: fc.array(fc.array(change, { maxLength: 3 }), { maxLength: 8 }),
  /** The power goes instead of this commit, if there are so many. */
  cutAt: fc.option(fc.nat(9)),
});

class Bench implements AsyncDisposable {
  readonly disk: FaultyDisk;
  readonly vault: TestVault;
  live = new Map<number, File>();
  durable = new Map<number, File>();
  readonly #pending = new Map<number, StoredChunk["id"][]>();

  private constructor(vault: TestVault, disk: FaultyDisk) {
    this.vault = vault;
    this.disk = disk;
  }

  static async open(): Promise<Bench> {
    const disk = new FaultyDisk(new NodeDisk());
    return new Bench(await TestVault.open({ disk, packBytes: 30_000, openPacks: 2 }), disk);
  }

  async change({ file, seed }: { readonly file: number; readonly seed: number | null }): Promise<void> {
    if (seed === null) {
      this.live.delete(file);
      this.#pending.set(file, []);
      return;
    }
    const chunks = await this.vault.put(noise(`content ${seed}`, lengthOf(seed)));
    this.live.set(file, { seed, chunks });
    this.#pending.set(
      file,
      chunks.map(({ id }) => id),
    );
  }

  async commit(): Promise<void> {
    await this.vault.commit(new Map(this.#pending));
    this.#pending.clear();
    this.durable = new Map(this.live);
  }

  async losePower(): Promise<void> {
    const flushed = this.disk.cutPower();
    for (const [path, lengthBytes] of flushed) {
      if (lengthBytes === undefined) await rm(path, { force: true });
      else if ((await lengthIfThere(path)) > lengthBytes) await truncate(path, lengthBytes);
    }
    this.disk.heal();
    await this.vault.crash();
    this.live = new Map(this.durable);
    this.#pending.clear();
  }

  async expectAlive(): Promise<void> {
    for (const { seed, chunks } of this.live.values()) {
      expectSameBytes(await this.vault.get(chunks), noise(`content ${seed}`, lengthOf(seed)));
    }
  }

  async packBytes(): Promise<number> {
    let sum = 0;
    for (const path of await this.vault.packFiles()) sum += (await stat(path)).size;
    return sum;
  }

  /** From now on packs may grow by so much. */
  async limit(roomBytes: number): Promise<() => void> {
    const limitBytes = (await this.packBytes()) + roomBytes + UNTOUCHED_BYTES;
    const space = vi.spyOn(this.disk, "space").mockImplementation(async () => {
      const availableBytes = Math.max(0, limitBytes - (await this.packBytes()));
      return { totalBytes: 2 ** 40, freeBytes: availableBytes, availableBytes };
    });
    return () => {
      space.mockRestore();
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vault[Symbol.asyncDispose]();
  }
}

/** An earlier power cut may have taken it. */
async function lengthIfThere(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

test("loses nothing in any round, whatever is found again meanwhile, and wherever the power goes", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(collection, { minLength: 1, maxLength: 4 }), async (collections) => {
      await using bench = await Bench.open();
      for (const { before, isReopened, roomBytes, neededBytes, meanwhile, cutAt } of collections) {
        for (const step of before) await bench.change(step);
        await bench.commit();
        if (isReopened) await bench.vault.reopen();
        const unlimit = await bench.limit(roomBytes);
        let barriers = 0;
        const barrier = async (): Promise<void> => {
          const index = barriers++;
          for (const step of meanwhile[index] ?? []) await bench.change(step);
          if (index === cutAt) throw new Error("the power goes");
          await bench.commit();
        };
        const end = await bench.vault.store.collect(barrier, new AbortController().signal, neededBytes).then(
          () => undefined,
          (error: unknown) => error,
        );
        unlimit();
        if (end !== undefined) {
          expect(end).toHaveProperty("message", "the power goes");
          await bench.losePower();
        }
        await bench.expectAlive();
      }
      await bench.commit();
      await bench.vault.reopen();
      await bench.vault.collect();
      await bench.vault.reopen();
      await bench.vault.collect();
      await bench.expectAlive();
      const { packCount, uniqueBytes } = bench.vault.store.statistics();
      expect((await bench.vault.packFiles()).length).toBe(packCount);
      const seeds = new Set([...bench.live.values()].map(({ seed }) => seed));
      expect(uniqueBytes).toBe([...seeds].reduce((sum, seed) => sum + lengthOf(seed), 0));
    }),
    { numRuns: 30 },
  );
});
