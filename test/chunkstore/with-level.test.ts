/** The chunk store on the real metadata store: what it stores, moves and collects survives new mounts. */
import { copyLoan } from "../../src/borrowed-bytes.ts";
import { join } from "node:path";

import { expect, test } from "vitest";

import { LruFrameCache } from "../../src/cache/lru-frame-cache.ts";
import { PackChunkStore } from "../../src/chunkstore/pack-chunk-store.ts";
import { DEFAULT_CHUNKING } from "../../src/crypto/engine.ts";
import { openEngine } from "../../src/crypto/open-engine.ts";
import { PackKeyWrapper } from "../../src/crypto/pack-key.ts";
import type { ChunkId, InodeNumber } from "../../src/ids.ts";
import { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { VAULT_ID, expectSameBytes, firstEpoch, noise } from "../crypto/fixtures.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { SUBKEYS } from "./test-vault.ts";

async function mount(directory: string): Promise<{
  store: PackChunkStore;
  commit: (files?: ReadonlyMap<number, ChunkId | undefined>) => Promise<void>;
  unmount: () => Promise<void>;
}> {
  const sessionId = systemRandom.bytes(8);
  const engine = openEngine({
    vaultId: VAULT_ID,
    subkeys: SUBKEYS,
    chunking: DEFAULT_CHUNKING,
    sessionId,
    keyEpoch: 1,
  });
  const metadata = await LevelMetadataStore.open({
    directory: join(directory, "meta"),
    journalDirectory: join(directory, "journal"),
    disk: new NodeDisk(),
    engine,
    clock: systemClock,
    createIfMissing: true,
    cacheBytes: 1_000_000,
  });
  await new NodeDisk().makeDirectory(join(directory, "packs"));
  const store = await PackChunkStore.open({
    directory,
    disk: new NodeDisk(),
    engine,
    metadata,
    random: systemRandom,
    clock: systemClock,
    vaultId: VAULT_ID,
    packKeys: new PackKeyWrapper(firstEpoch(SUBKEYS.packs), VAULT_ID, systemRandom),
    frameCache: new LruFrameCache({ cacheBytes: 1_000_000 }),
    packBytes: 100_000,
    openPacks: 2,
  });
  return {
    store,
    commit: async (files = new Map()) => {
      const batch = metadata.freeze();
      for (const [ino, chunk] of files) {
        const extents = chunk === undefined ? [] : [{ start: 0, lengthBytes: 1, chunk, chunkOffset: 0 }];
        batch.putExtentPage(ino as InodeNumber, 0, extents);
      }
      await store.flushInto(batch);
      await batch.commit();
      store.committed();
    },
    unmount: async () => {
      await store.close();
      await metadata.close();
      engine.close();
    },
  };
}

test("stores, moves and collects through mounts, and its counters stay exact", async () => {
  await using directory = await temporaryDirectory("chunkstore");
  const contentOf = (ino: number): Uint8Array => noise(`file ${String(ino)}`, 10_000 + ino * 1000);
  const chunkOf = new Map<number, ChunkId>();
  let volume = await mount(directory.path);
  for (let ino = 1; ino <= 20; ino++) {
    const place = ino % 2 === 0 ? "inline" : "pack";
    const [stored] = await volume.store.store([{ pieces: [contentOf(ino)], isFinal: true }], place);
    chunkOf.set(ino, stored![0]!.id);
    await volume.commit(new Map([[ino, stored![0]!.id]]));
  }
  await volume.unmount();

  volume = await mount(directory.path);
  expect(volume.store.statistics()).toMatchObject({ uniqueBytes: 410_000, inlineBytes: 210_000 });
  await volume.store.migrateInline();
  await volume.commit();
  expect(volume.store.statistics()).toMatchObject({ uniqueBytes: 410_000, inlineBytes: 0 });
  await volume.commit(new Map(Array.from({ length: 15 }, (_, i) => [i + 1, undefined])));
  await volume.unmount();

  volume = await mount(directory.path);
  const report = await volume.store.collect(() => volume.commit(), new AbortController().signal);
  expect(report).toMatchObject({ liveChunks: 5, deadChunks: 15 });
  await volume.unmount();

  volume = await mount(directory.path);
  const { uniqueBytes, storedBytes, packCount } = volume.store.statistics();
  expect(uniqueBytes).toBe(140_000);
  expect(storedBytes).toBeLessThan(2 * 140_000 + 500 * packCount);
  for (let ino = 16; ino <= 20; ino++) {
    const content = contentOf(ino);
    expectSameBytes(copyLoan(await volume.store.read(chunkOf.get(ino)!, 0, content.length)), content);
  }
  await volume.unmount();
});
