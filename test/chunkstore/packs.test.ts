/** What is in a pack file: frame numbers used once, an index that rebuilds the tables, finishing and rolling. */
import { basename, join } from "node:path";

import { describe, expect, test } from "vitest";

import { PackReaders } from "../../src/chunkstore/pack-readers.ts";
import { LruFrameCache } from "../../src/cache/lru-frame-cache.ts";
import { PackChunkStore } from "../../src/chunkstore/pack-chunk-store.ts";
import { parsePackId } from "../../src/chunkstore/pack-format.ts";
import { FRAME_BYTES, type PackCipher, type SealingEngine } from "../../src/crypto/engine.ts";
import { PackKeyWrapper } from "../../src/crypto/pack-key.ts";
import type { PackId } from "../../src/ids.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { VAULT_ID, expectSameBytes, firstEpoch, framesOf, noise } from "../crypto/fixtures.ts";
import { eventually } from "../support/run.ts";
import { FaultyDisk } from "./faulty-disk.ts";
import { SUBKEYS, TestVault } from "./test-vault.ts";

function openReaders(vault: TestVault, maxOpen = 4): PackReaders {
  return new PackReaders({
    disk: new NodeDisk(),
    directory: join(vault.path, "packs"),
    engine: vault.engine,
    vaultId: VAULT_ID,
    packKeys: new PackKeyWrapper(firstEpoch(SUBKEYS.packs), VAULT_ID, systemRandom),
    clock: systemClock,
    maxOpen,
  });
}

/** An engine that notes each frame number it seals under each pack's key. */
function watchFrames(engine: SealingEngine): { engine: SealingEngine; seen: Map<string, number[]> } {
  const seen = new Map<string, number[]>();
  const watched: SealingEngine = {
    kind: engine.kind,
    records: engine.records,
    keyEpoch: engine.keyEpoch,
    nameChunks: (inputs) => engine.nameChunks(inputs),
    sealBoundBytes: (lengthBytes) => engine.sealBoundBytes(lengthBytes),
    namePrf: (directory, name) => engine.namePrf(directory, name),
    close: () => undefined,
    packCipher(packId: PackId, packKey: Uint8Array, keyEpoch: number): PackCipher {
      const cipher = engine.packCipher(packId, packKey, keyEpoch);
      const numbers: number[] = [];
      seen.set(`${Buffer.from(packId).toString("hex")} ${Buffer.from(packKey).toString("hex")}`, numbers);
      return {
        seal: (chunks, firstFrame, output) => {
          let frame = firstFrame;
          for (const { lengthBytes } of chunks) {
            for (let at = 0; at < lengthBytes; at += FRAME_BYTES) numbers.push(frame++);
          }
          return cipher.seal(chunks, firstFrame, output);
        },
        unseal: (run, sealed, output) => cipher.unseal(run, sealed, output),
        unsealSync: (run, sealed, output) => {
          cipher.unsealSync(run, sealed, output);
        },
        wipe: () => {
          cipher.wipe();
        },
      };
    },
  };
  return { engine: watched, seen };
}

describe("frame numbers", () => {
  test("are used once under each pack's key, through concurrent calls, failed writes and rolling", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk });
    const { engine, seen } = watchFrames(vault.engine);
    const store = await PackChunkStore.open({
      directory: vault.path,
      disk,
      engine,
      metadata: vault.metadata.asStore(),
      random: systemRandom,
      clock: systemClock,
      vaultId: VAULT_ID,
      packKeys: new PackKeyWrapper(firstEpoch(SUBKEYS.packs), VAULT_ID, systemRandom),
      frameCache: new LruFrameCache({ cacheBytes: 0 }),
      packBytes: 600_000,
      openPacks: 2,
    });
    let failureCount = 0;
    for (let round = 0; round < 8; round++) {
      if (round % 2 === 1) disk.fail("write", round % 4 === 1 ? "TCFS_STORE_FULL" : "TCFS_IO", 2);
      const calls = Array.from({ length: 4 }, async (_, i) =>
        store.store([{ pieces: [noise(`${String(round)} ${String(i)}`, 150_000)], isFinal: true }], "pack"),
      );
      const outcomes = await Promise.allSettled(calls);
      failureCount += outcomes.filter(({ status }) => status === "rejected").length;
    }
    await store.close();
    expect(failureCount).toBeGreaterThan(3);
    expect(seen.size).toBeGreaterThan(4);
    for (const numbers of seen.values()) expect(new Set(numbers).size).toBe(numbers.length);
    expect([...seen.values()].flat().length).toBeGreaterThan(60);
  });
});

describe("a finished pack", () => {
  test("is on the device, index and all, before it is recorded, though a commit flushes it while that is written", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, packBytes: 20_000, openPacks: 1 });
    let writeIndex = (): void => undefined;
    const isIndexWritten = new Promise<void>((resolve) => {
      writeIndex = resolve;
    });
    let writes = 0;
    disk.before = async (action) => {
      if (action === "write" && ++writes === 3) await isIndexWritten; // after header and content
    };
    await vault.put(noise("fills the pack", 30_000));
    await vault.commit(); // flushes what is there of it
    writeIndex();
    const finishedPacks = () => [...vault.metadata.durable.packs.values()].filter(({ isFinished }) => isFinished);
    await eventually("it is recorded as finished", 60_000, async () => {
      await vault.commit();
      return finishedPacks().length > 0;
    });
    const [path = ""] = await vault.packFiles();
    expect(disk.cutPower().get(path)).toBe(finishedPacks()[0]?.lengthBytes);
  });

  test("tells all its chunks, so that every table can be rebuilt from packs alone", async () => {
    await using vault = await TestVault.open({ packBytes: 200_000 });
    const contents = Array.from({ length: 12 }, (_, i) => noise(String(i), 10_000 + i * 9000));
    for (const content of contents) await vault.put(content);
    await vault.commit();
    await vault.store.close();
    const readers = openReaders(vault, 1);
    const rebuilt = new Map<string, unknown>();
    const files = await vault.packFiles();
    expect(files.length).toBeGreaterThan(2);
    for (const path of files) {
      const pack = parsePackId(basename(path));
      const reader = await readers.acquire(pack!);
      for (const { id, record } of (await reader.readIndex(pack!)) ?? []) {
        rebuilt.set(Buffer.from(id).toString("hex"), record);
        const content = new Uint8Array(record.lengthBytes);
        await reader.read(record, record.packOffset, framesOf(content));
        const [named] = await vault.engine.nameChunks([{ pieces: [content], isFinal: true }]);
        expectSameBytes(named![0]!.id, id);
      }
      readers.release(reader);
    }
    await readers.close();
    const known = new Map([...vault.metadata.durable.chunks].map(([key, { record }]) => [key, record]));
    expect(rebuilt).toEqual(known);
  });

  test("is told to the metadata, and only with its index on the device", async () => {
    await using vault = await TestVault.open({ packBytes: 20_000, openPacks: 1 });
    await vault.put(noise("fills the pack", 30_000));
    await vault.put(noise("the next one", 1000));
    const finishedPacks = () => [...vault.metadata.durable.packs.values()].filter(({ isFinished }) => isFinished);
    await eventually("its index is written", 60_000, async () => {
      await vault.commit();
      return finishedPacks().length > 0;
    });
    const finished = finishedPacks();
    expect(finished).toHaveLength(1);
    await vault.crash();
    const readers = openReaders(vault);
    const reader = await readers.acquire(finished[0]!.pack);
    expect(await reader.readIndex(finished[0]!.pack)).toHaveLength(1);
    expect(await reader.length()).toBe(finished[0]!.lengthBytes);
    readers.release(reader);
    await readers.close();
  });

  test("is finished even after a write that failed half-way left bytes behind its end", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, openPacks: 1 });
    const kept = await vault.put(noise("kept", 1000));
    disk.fail("write", "TCFS_STORE_FULL");
    await expect(vault.put(noise("lost", 500_000))).rejects.toMatchObject({ code: "TCFS_STORE_FULL" });
    await vault.commit();
    await vault.store.close();
    const readers = openReaders(vault);
    const { pack } = [...vault.metadata.durable.packs.values()][0]!;
    const reader = await readers.acquire(pack);
    expect((await reader.readIndex(pack))?.map(({ id }) => id)).toEqual(kept.map(({ id }) => id));
    readers.release(reader);
    await readers.close();
  });
});

describe("packs open for reading", () => {
  test("stay within their bound, and are opened again as needed", async () => {
    await using vault = await TestVault.open({ packBytes: 5000 });
    for (let i = 0; i < 10; i++) await vault.put(noise(String(i), 6000));
    await vault.commit();
    await vault.store.close();
    const packs = (await vault.packFiles()).map((path) => parsePackId(basename(path))!);
    const readers = openReaders(vault, 2);
    for (let round = 0; round < 3; round++) {
      const held = await Promise.all(packs.map(async (pack) => readers.acquire(pack)));
      expect(await Promise.all(held.map((reader) => reader.length()))).not.toContain(0);
      for (const reader of held) readers.release(reader);
    }
    await readers.close();
    await expect(Promise.resolve().then(() => readers.acquire(packs[0]!))).rejects.toMatchObject({
      code: "TCFS_CLOSED",
    });
  });
});

describe("inline chunks", () => {
  test("are moved to packs with the next commit, and found again after a new mount", async () => {
    await using vault = await TestVault.open();
    const chunks = await Promise.all(["a", "b", "c"].map((seed) => vault.put(noise(seed, 2000), "inline")));
    await vault.commit();
    await vault.reopen();
    await vault.store.migrateInline();
    expect(vault.store.isDirty).toBe(true);
    expectSameBytes(await vault.get(chunks.flat()), Buffer.concat(["a", "b", "c"].map((seed) => noise(seed, 2000))));
    await vault.commit();
    expect(vault.store.statistics()).toMatchObject({ inlineBytes: 0, uniqueBytes: 6000 });
    expect(vault.metadata.durable.inlineLists.size).toBe(0);
    await vault.reopen();
    expectSameBytes(await vault.get(chunks.flat()), Buffer.concat(["a", "b", "c"].map((seed) => noise(seed, 2000))));
    await vault.store.migrateInline();
    expect(vault.store.isDirty).toBe(false);
  });

  test("stay where they are when they cannot be moved", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk });
    const chunks = await vault.put(noise("stays", 2000), "inline");
    await vault.commit();
    disk.fail("write", "TCFS_STORE_FULL");
    await expect(vault.store.migrateInline()).rejects.toMatchObject({ code: "TCFS_STORE_FULL" });
    expectSameBytes(await vault.get(chunks), noise("stays", 2000));
    await vault.store.migrateInline();
    await vault.commit();
    expectSameBytes(await vault.get(chunks), noise("stays", 2000));
    expect(vault.store.statistics().inlineBytes).toBe(0);
  });

  test("are moved by themselves when they have become many", async () => {
    await using vault = await TestVault.open();
    for (let i = 0; i < 5; i++) {
      const inputs = Array.from({ length: 20 }, (_, k) => ({
        pieces: [noise(`${String(i)} ${String(k)}`, 100_000)],
        isFinal: true,
      }));
      await vault.store.store(inputs, "inline");
      await vault.commit();
    }
    await vault.store.migrateInline();
    await vault.commit();
    expect(vault.store.statistics()).toMatchObject({ inlineBytes: 0, uniqueBytes: 10_000_000 });
  });
});
