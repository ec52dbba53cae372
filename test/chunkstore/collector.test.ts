import { mkdir, open, rename, rm, stat, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";

import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";

import { formatPackId } from "../../src/chunkstore/pack-format.ts";
import { TcfsError } from "../../src/errors.ts";
import type { StoredChunk } from "../../src/chunkstore/chunk-store.ts";
import { expectSameBytes, noise } from "../crypto/fixtures.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { FaultyDisk } from "./faulty-disk.ts";
import { TestVault } from "./test-vault.ts";

/** The collector's own: room that commits need. */
const UNTOUCHED_BYTES = 24 * 1024 * 1024;

const ids = (chunks: readonly StoredChunk[]): StoredChunk["id"][] => chunks.map(({ id }) => id);

async function packBytesOnDisk(vault: TestVault): Promise<number> {
  let sum = 0;
  for (const path of await vault.packFiles()) sum += (await stat(path)).size;
  return sum;
}

describe("collection", () => {
  test("deletes packs that nothing refers to and gives the space back", async () => {
    await using vault = await TestVault.open({ packBytes: 100_000 });
    for (let i = 0; i < 20; i++)
      await vault.commit(new Map([[i, ids(await vault.put(noise(`file ${String(i)}`, 30_000)))]]));
    await vault.commit(new Map(Array.from({ length: 19 }, (_, i) => [i, []])));
    await vault.reopen();
    const before = await packBytesOnDisk(vault);
    const report = await vault.collect();
    expect(report).toMatchObject({ liveChunks: 1, deadChunks: 19 });
    expect(report.freedBytes).toBeGreaterThan(400_000);
    expect(before - (await packBytesOnDisk(vault))).toBeGreaterThan(400_000);
    await vault.reopen();
    expect(vault.store.statistics()).toMatchObject({ uniqueBytes: 30_000 });
    expect(vault.store.statistics().storedBytes).toBeLessThan(100_000);
    expectSameBytes(
      await vault.get([{ id: ids(await vault.put(noise("file 19", 30_000)))[0]!, lengthBytes: 30_000, isNew: false }]),
      noise("file 19", 30_000),
    );
  });

  test("deletes dead inline chunks, and their lists", async () => {
    await using vault = await TestVault.open();
    const dead = await vault.put(noise("dead", 1000), "inline");
    await vault.commit(new Map([[1, ids(dead)]]));
    await vault.commit(new Map([[1, []]]));
    await vault.commit();
    await vault.commit();
    await vault.collect();
    expect(vault.metadata.durable.chunks.size).toBe(0);
    expect(vault.metadata.durable.inlineLists.size).toBe(0);
    expect(vault.store.statistics()).toMatchObject({ inlineBytes: 0, uniqueBytes: 0 });
  });

  test("keeps what was stored but not yet referred to, found again or retained meanwhile", async () => {
    await using vault = await TestVault.open();
    const [eager, found, retained, dead] = await Promise.all(
      ["eager", "found", "retained", "dead"].map((seed) => vault.put(noise(seed, 1000))),
    );
    await vault.commit(new Map([[1, [...ids(found!), ...ids(retained!), ...ids(dead!)]]]));
    await vault.commit(new Map([[1, []]]));
    await vault.reopen(); // forgets what was touched
    vault.store.retain(retained![0]!.id);
    await vault.store.collect(async () => {
      await vault.put(noise("eager", 1000));
      await vault.put(noise("found", 1000));
      await vault.commit();
    }, new AbortController().signal);
    for (const [chunks, seed] of [
      [eager, "eager"],
      [found, "found"],
      [retained, "retained"],
    ] as const) {
      expectSameBytes(await vault.get(chunks!), noise(seed, 1000));
    }
    expect(() => vault.store.read(dead![0]!.id, 0, 1)).toThrow();
  });

  test("keeps a dead chunk that is found again while the batch that moves it is written", async () => {
    await using vault = await TestVault.open();
    const chunks = await vault.put(noise("moved", 1000), "inline");
    await vault.commit(new Map([[1, ids(chunks)]]));
    await vault.commit(new Map([[1, []]]));
    await vault.reopen(); // forgets what was touched
    const { metadata, store } = vault;
    const walk = metadata.chunks.bind(metadata);
    let walks = 0;
    metadata.chunks = async function* () {
      const isSweep = ++walks === 2;
      if (!isSweep) yield* walk();
      if (!isSweep) return;
      const records = [...metadata.durable.chunks.values()];
      await store.migrateInline();
      const batch = metadata.freeze();
      await store.flushInto(batch);
      yield* records; // the collection condemns it
      await vault.put(noise("moved", 1000));
      await batch.commit();
      store.committed();
    };
    await vault.collect();
    await vault.commit(new Map([[2, ids(chunks)]]));
    expect(walks).toBe(2);
    expectSameBytes(await vault.get(chunks), noise("moved", 1000));
  });

  test("gives back dead packs even where there is no room to move live chunks", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, packBytes: 100_000, openPacks: 1 });
    const kept = await vault.put(noise("kept", 10_000));
    await vault.commit(new Map([[1, ids(kept)]]));
    for (let i = 0; i < 20; i++) await vault.commit(new Map([[2, ids(await vault.put(noise(String(i), 30_000)))]]));
    await vault.commit(new Map([[2, []]]));
    await vault.reopen();
    disk.fail("write", "TCFS_STORE_FULL", Infinity);
    const { freedBytes, rewrittenBytes } = await vault.collect();
    expect(freedBytes).toBeGreaterThan(400_000);
    expect(rewrittenBytes).toBe(0);
    expectSameBytes(await vault.get(kept), noise("kept", 10_000));
    disk.heal();
    expect((await vault.collect()).rewrittenBytes).toBe(10_000);
    expectSameBytes(await vault.get(kept), noise("kept", 10_000));
  });

  test("moves nothing into the room that commits need, and gives back dead packs all the same", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, packBytes: 100_000, openPacks: 1 });
    await vault.commit(new Map([[1, ids(await vault.put(noise("kept", 10_000)))]]));
    for (let i = 0; i < 20; i++) await vault.commit(new Map([[2, ids(await vault.put(noise(String(i), 30_000)))]]));
    await vault.commit(new Map([[2, []]]));
    await vault.reopen();
    disk.availableBytes = 16 * 1024 * 1024;
    const { freedBytes, rewrittenBytes } = await vault.collect();
    expect(rewrittenBytes).toBe(0);
    expect(freedBytes).toBeGreaterThan(400_000);
    disk.availableBytes = undefined;
    expect((await vault.collect()).rewrittenBytes).toBe(10_000);
  });

  describe("on a disk that is nearly full", () => {
    /** Ten packs of 100,000 bytes, of which so many chunks of 10,000 live. */
    async function halfDead(disk: FaultyDisk, livingPerPack: number) {
      const vault = await TestVault.open({ disk, packBytes: 100_000, openPacks: 1 });
      const living = new Map<number, readonly StoredChunk[]>();
      for (let i = 0; i < 100; i++) {
        const chunks = await vault.put(noise(String(i), 10_000));
        await vault.commit(new Map([[i, ids(chunks)]]));
        if (i % 10 < livingPerPack) living.set(i, chunks);
      }
      const dead = Array.from({ length: 100 }, (_, i) => i).filter((i) => !living.has(i));
      await vault.commit(new Map(dead.map((i) => [i, []])));
      await vault.reopen();
      expect((await vault.packFiles()).length).toBe(10);
      return { vault, living };
    }

    /** Packs may grow by so much, and commits find what they need untouched. */
    async function limit(disk: FaultyDisk, vault: TestVault, roomBytes: number) {
      const limitBytes = (await packBytesOnDisk(vault)) + roomBytes;
      const lowest = { roomBytes: Infinity };
      vi.spyOn(disk, "space").mockImplementation(async () => {
        const leftBytes = limitBytes - (await packBytesOnDisk(vault));
        lowest.roomBytes = Math.min(lowest.roomBytes, leftBytes);
        const availableBytes = UNTOUCHED_BYTES + leftBytes;
        return { totalBytes: 2 ** 40, freeBytes: availableBytes, availableBytes };
      });
      return lowest;
    }

    async function expectAlive(vault: TestVault, living: ReadonlyMap<number, readonly StoredChunk[]>) {
      for (const [i, chunks] of living) expectSameBytes(await vault.get(chunks), noise(String(i), 10_000));
    }

    test("empties as many packs at a time as there is room for, until all that are mostly dead are gone", async () => {
      const disk = new FaultyDisk(new NodeDisk());
      const { vault, living } = await halfDead(disk, 4);
      await using _ = vault;
      const lowest = await limit(disk, vault, 60_000);
      const { freedBytes, rewrittenBytes } = await vault.collect();
      expect(freedBytes).toBeGreaterThan(900_000);
      expect(rewrittenBytes).toBe(400_000);
      expect(lowest.roomBytes).toBeGreaterThan(0);
      await expectAlive(vault, living);
    });

    test("empties packs that are half alive where room is needed, and no more of them than that takes", async () => {
      const disk = new FaultyDisk(new NodeDisk());
      const { vault, living } = await halfDead(disk, 6);
      await using _ = vault;
      const lowest = await limit(disk, vault, 70_000);
      expect(await vault.collect()).toMatchObject({ freedBytes: 0, rewrittenBytes: 0 });
      const { rewrittenBytes } = await vault.collect(60_000);
      expect(rewrittenBytes).toBe(120_000);
      await expectAlive(vault, living);
      await vault.collect(2 ** 30);
      expect(await packBytesOnDisk(vault)).toBeLessThan(640_000);
      expect(lowest.roomBytes).toBeGreaterThan(0);
      await expectAlive(vault, living);
    });

    test("empties others in the place of a pack that cannot be emptied, since not all in it is readable", async () => {
      const disk = new FaultyDisk(new NodeDisk());
      const { vault, living } = await halfDead(disk, 6);
      await using _ = vault;
      const [first = []] = living.values();
      const record = vault.metadata.durable.chunks.get(Buffer.from(first[0]!.id).toString("hex"))!.record;
      if (record.kind !== "packed") throw new Error("not in a pack");
      const name = formatPackId(record.pack);
      const path = (await vault.packFiles()).find((file) => file.endsWith(name))!;
      const file = await open(path, "r+");
      await file.write(Buffer.from([0xff, 0xff, 0xff, 0xff]), 0, 4, record.packOffset + 100);
      await file.close();
      vault.store.noteDamaged(record.pack, []);
      await limit(disk, vault, 130_000);
      const { freedBytes, rewrittenBytes } = await vault.collect(30_000);
      expect(freedBytes).toBeGreaterThan(90_000);
      expect(rewrittenBytes).toBe(50_000 + 60_000);
      living.delete([...living.keys()][0]!);
      await expectAlive(vault, living);
    });

    test("writes nothing to give a few bytes back", async () => {
      const disk = new FaultyDisk(new NodeDisk());
      const vault = await TestVault.open({ disk, packBytes: 100_000, openPacks: 1 });
      await using _ = vault;
      const inputs = Array.from({ length: 90 }, (_, i) => ({ pieces: [noise(String(i), 1000)], isFinal: true }));
      const stored = (await vault.store.store(inputs, "pack")).flat();
      await vault.commit(new Map([[1, ids(stored)]]));
      await vault.commit(new Map([[1, ids(stored.slice(5))]]));
      await vault.reopen();
      expect(await vault.collect(2 ** 30)).toMatchObject({ deadChunks: 5, freedBytes: 0, rewrittenBytes: 0 });
    });
  });

  test("deletes the file of a pack later whose record went with a commit that found no room at first", async () => {
    await using vault = await TestVault.open({ packBytes: 40_000, openPacks: 1 });
    for (let i = 0; i < 4; i++) await vault.commit(new Map([[i, ids(await vault.put(noise(String(i), 30_000)))]]));
    await vault.commit(new Map([0, 1, 2].map((i) => [i, []])));
    await vault.commit();
    await vault.commit();
    let barriers = 0;
    const failing = vault.store.collect(async () => {
      if (++barriers === 3) throw new TcfsError("TCFS_STORE_FULL", "made to fail");
      await vault.commit();
    }, new AbortController().signal);
    await expect(failing).rejects.toThrow("made to fail");
    await vault.commit();
    const { freedBytes } = await vault.collect();
    expect(freedBytes).toBeGreaterThan(60_000);
    expect((await vault.packFiles()).length).toBe(vault.store.statistics().packCount);
  });

  test("collects nothing when a chunk that a file refers to is missing", async () => {
    await using vault = await TestVault.open();
    const chunks = await vault.put(noise("there", 1000));
    const unknown = chunks[0]!.id.slice() as StoredChunk["id"];
    unknown[0] = unknown[0]! ^ 1;
    await vault.commit(new Map([[1, [unknown]]]));
    await vault.reopen();
    await expect(vault.collect()).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    expectSameBytes(await vault.get(chunks), noise("there", 1000));
  });

  test.for(["packs", "a directory in it"])(
    "never deletes another vault's packs through a symlink for %s",
    async (what) => {
      await using other = await TestVault.open();
      await other.commit(new Map([[1, ids(await other.put(noise("theirs", 10_000)))]]));
      await other.reopen();
      const [theirs = ""] = await other.packFiles();
      await using vault = await TestVault.open();
      await vault.commit(new Map([[1, ids(await vault.put(noise("mine", 10_000)))]]));
      await vault.reopen();
      const packs = join(vault.path, "packs");
      if (what === "packs") {
        await rename(packs, join(vault.path, "moved"));
        await symlink(join(other.path, "packs"), packs);
      } else {
        await mkdir(packs, { recursive: true });
        const name = dirname(theirs).slice(-2);
        await rm(join(packs, name), { recursive: true, force: true });
        await symlink(dirname(theirs), join(packs, name));
      }
      await vault.collect().catch(() => undefined);
      expect((await stat(theirs)).isFile()).toBe(true);
    },
  );

  test("stops when it is told to, and leaves the store whole", async () => {
    await using vault = await TestVault.open();
    const inputs = Array.from({ length: 600 }, (_, i) => ({ pieces: [noise(String(i), 20)], isFinal: true }));
    const stored = (await vault.store.store(inputs, "pack")).flat();
    await vault.commit(new Map([[1, ids(stored)]]));
    const controller = new AbortController();
    controller.abort();
    const collecting = vault.store.collect(() => vault.commit(), controller.signal);
    await expect(vault.collect()).rejects.toMatchObject({ code: "TCFS_BUSY" });
    await expect(collecting).rejects.toMatchObject({ code: "TCFS_INTERRUPTED" });
    expect((await vault.collect()).liveChunks).toBe(600);
  });

  test("empties an unfinished pack, but leaves one that was finished when its session closed", async () => {
    await using vault = await TestVault.open({ openPacks: 1 });
    const crashed = await vault.put(noise("crashed", 5000));
    await vault.commit(new Map([[1, ids(crashed)]]));
    await vault.crash();
    const closed = await vault.put(noise("closed", 5000));
    await vault.commit(new Map([[2, ids(closed)]]));
    await vault.reopen();
    const report = await vault.collect();
    expect(report.rewrittenBytes).toBe(5000);
    expectSameBytes(await vault.get(crashed), noise("crashed", 5000));
    expectSameBytes(await vault.get(closed), noise("closed", 5000));
    expect(await vault.packFiles()).toHaveLength(2);
  });

  test("loses nothing live and returns dead space, whatever is stored, dropped, crashed and read meanwhile", async () => {
    const step = fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({
          kind: fc.constant("write" as const),
          file: fc.nat(12),
          seed: fc.nat(30),
          place: fc.constantFrom("inline" as const, "pack" as const),
        }),
      },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant("drop" as const), file: fc.nat(12) }) },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constantFrom(
            "commit" as const,
            "crash" as const,
            "reopen" as const,
            "collect" as const,
            "migrate" as const,
          ),
        }),
      },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        await using vault = await TestVault.open({ packBytes: 40_000 });
        const lengthOf = (seed: number): number => 500 + seed * 700;
        let live = new Map<number, { seed: number; chunks: readonly StoredChunk[] }>();
        let durable = new Map(live);
        const pending = new Map<number, StoredChunk["id"][]>();
        const commit = async (): Promise<void> => {
          await vault.commit(new Map(pending));
          pending.clear();
          durable = new Map(live);
        };
        const check = async (): Promise<void> => {
          for (const { seed, chunks } of live.values()) {
            expectSameBytes(await vault.get(chunks), noise(`content ${String(seed)}`, lengthOf(seed)));
          }
        };
        for (const action of steps) {
          if (action.kind === "write") {
            const chunks = await vault.put(
              noise(`content ${String(action.seed)}`, lengthOf(action.seed)),
              action.place,
            );
            live.set(action.file, { seed: action.seed, chunks });
            pending.set(action.file, ids(chunks));
          } else if (action.kind === "drop") {
            live.delete(action.file);
            pending.set(action.file, []);
          } else if (action.kind === "crash") {
            await vault.crash();
            live = new Map(durable);
            pending.clear();
          } else if (action.kind === "reopen") {
            await commit();
            await vault.reopen();
          } else if (action.kind === "collect") {
            await vault.store.collect(commit, new AbortController().signal);
          } else if (action.kind === "migrate") await vault.store.migrateInline();
          else await commit();
          await check();
        }
        await commit();
        await vault.reopen();
        await vault.store.collect(commit, new AbortController().signal);
        await vault.store.migrateInline();
        await commit();
        await vault.reopen();
        await vault.store.collect(commit, new AbortController().signal);
        await check();
        const seeds = new Set([...live.values()].map(({ seed }) => seed));
        const liveBytes = [...seeds].reduce((sum, seed) => sum + lengthOf(seed), 0);
        const { uniqueBytes, storedBytes, inlineBytes, packCount } = vault.store.statistics();
        expect({ uniqueBytes, inlineBytes }).toEqual({ uniqueBytes: liveBytes, inlineBytes: 0 });
        expect(storedBytes).toBeLessThanOrEqual(2 * liveBytes + 1000 * packCount);
        expect(storedBytes).toBe(
          [...vault.metadata.durable.packs.values()].reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
        );
        expect((await vault.packFiles()).length).toBe(packCount);
      }),
      { numRuns: 25 },
    );
  });
});
