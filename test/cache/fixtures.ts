/** A vault whose packs are a bounded cache of a directory as its store; uploads happen when the test says so. */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { BoundedPackShelf, type ShelfOptions } from "../../src/cache/bounded-pack-shelf.ts";
import { packPath } from "../../src/chunkstore/open-packs.ts";
import { ObjectSealer } from "../../src/crypto/object-seal.ts";
import { PackKeyWrapper } from "../../src/crypto/pack-key.ts";
import { type Clock, systemClock } from "../../src/platform/clock.ts";
import type { Disk } from "../../src/platform/disk.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { DirectoryStore } from "../../src/remote/directory-store.ts";
import { RequestTrace, watchedStore } from "../../src/remote/watched-store.ts";
import { packObject } from "../../src/replica/object-names.ts";
import { PackFetcher } from "../../src/replica/pack-fetcher.ts";
import { SUBKEYS, TestVault } from "../chunkstore/test-vault.ts";
import { VAULT_ID, firstEpoch, noise } from "../crypto/fixtures.ts";
import { FaultyStore, type FaultyStoreOptions } from "../remote/faulty-store.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** What the limit leaves to headers and indices of open packs. */
export const UNASKED_BYTES = 6 * 1024 * 1024;

export interface CachedVaultOptions {
  readonly maxBytes: number;
  readonly waitMs?: number;
  readonly packBytes?: number;
  readonly openPacks?: number;
  readonly faults?: FaultyStoreOptions;
  readonly disk?: Disk;
  readonly clock?: Clock;
}

export interface CachedVault extends AsyncDisposable {
  readonly vault: TestVault;
  readonly store: FaultyStore;
  /** What was asked of the store to read packs. */
  readonly trace: RequestTrace;
  /** Of the vault's present opening. */
  readonly shelf: () => BoundedPackShelf;
  /** Finish packs, bring what the store lacks, and tell the shelf, as after a root. */
  readonly upload: () => Promise<void>;
  /** What packs and blocks take on the disk. */
  readonly diskBytes: () => Promise<number>;
}

export async function openCachedVault(options: CachedVaultOptions): Promise<CachedVault> {
  const { maxBytes, waitMs = 5000, packBytes = 1024 * 1024, openPacks = 2 } = options;
  const { disk = new NodeDisk(), clock = systemClock } = options;
  const place = await temporaryDirectory("store");
  const clean = await DirectoryStore.open(place.path, { create: true });
  const store = new FaultyStore(clean, options.faults ?? { seed: 1, chances: {} });
  const sealer = new ObjectSealer(firstEpoch(noise("store subkey", 32)), VAULT_ID, systemRandom);
  const seal: ShelfOptions["seal"] = { mac: (bytes) => sealer.mac(bytes), link: noise("link", 16) };
  const packKeys = new PackKeyWrapper(firstEpoch(SUBKEYS.packs), VAULT_ID, systemRandom);
  const packRooms = { packKeys, vaultId: VAULT_ID };
  const trace = new RequestTrace();
  const fetchers: PackFetcher[] = [];
  const shelves: BoundedPackShelf[] = [];
  const shelf = (): BoundedPackShelf => shelves.at(-1)!;
  const openShelf = async (directory: string): Promise<BoundedPackShelf> => {
    const remote = new PackFetcher(() => Promise.resolve(watchedStore(store, trace)), packRooms, waitMs);
    fetchers.push(remote);
    shelves.push(await BoundedPackShelf.open({ disk, directory, clock, remote, seal, maxBytes, waitMs }));
    return shelf();
  };
  const chunking = { minBytes: 4096, averageBytes: 65_536, maxBytes: 262_144 };
  const vault = await TestVault.open({ packBytes, openPacks, chunking, cacheBytes: 0, disk, openShelf });
  return {
    vault,
    store,
    trace,
    shelf,
    async upload() {
      await vault.store.ownPacks.retire();
      await vault.commit();
      for (const pack of shelf().unstored()) {
        const content = await disk.readFile(packPath(join(vault.path, "packs"), pack));
        if (content === undefined) continue;
        // As an upload does: what the store has at its length is not brought again, whatever has become of it here.
        if ((await clean.head(packObject(pack))) !== content.length) await clean.put(packObject(pack), content);
        shelf().noteStored(pack, content.length);
      }
    },
    async diskBytes() {
      let bytes = 0;
      for (const file of await vault.packFiles()) bytes += (await stat(file).catch(() => undefined))?.size ?? 0; // or gone
      for (const name of await readdir(join(vault.path, "blocks"))) {
        const stats = await stat(join(vault.path, "blocks", name)).catch(() => undefined); // moved to packs meanwhile
        bytes += (stats?.blocks ?? 0) * 512;
      }
      return bytes;
    },
    async [Symbol.asyncDispose]() {
      for (const fetcher of fetchers) await fetcher.close();
      for (const each of shelves) await each.close();
      await vault[Symbol.asyncDispose]();
      await store.close();
      await place[Symbol.asyncDispose]();
    },
  };
}
