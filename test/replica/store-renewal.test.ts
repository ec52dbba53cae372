/** The end of a key epoch in a store, beside uploads that are under way and objects that were cut short. */
import { expect, test } from "vitest";
import { PACK_HEADER_BYTES, encodePackHeader } from "../../src/chunkstore/pack-format.ts";
import { isUnderOlder, openHeader } from "../../src/chunkstore/pack-rewrapper.ts";
import { EpochKeys } from "../../src/crypto/epoch-keys.ts";
import { PackKeyWrapper } from "../../src/crypto/pack-key.ts";
import type { PackId } from "../../src/ids.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { DirectoryStore } from "../../src/remote/directory-store.ts";
import type { ObjectStore } from "../../src/remote/object-store.ts";
import { packObject } from "../../src/replica/object-names.ts";
import { StoreRenewal } from "../../src/replica/store-renewal.ts";
import { VAULT_ID, noise } from "../crypto/fixtures.ts";
import { FaultyStore } from "../remote/faulty-store.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const OLDER = { keyEpoch: 1, key: noise("packs, epoch 1", 32) };
const NEWER = { keyEpoch: 2, key: noise("packs, epoch 2", 32) };
const packKeys = new PackKeyWrapper(new EpochKeys(NEWER, [OLDER]), VAULT_ID, systemRandom);
const olderPackKeys = new PackKeyWrapper(new EpochKeys(OLDER), VAULT_ID, systemRandom);

/** @returns A pack of the older epoch, as it was read before the rotation. */
function olderPack(pack: PackId): Uint8Array {
  const wraps = [olderPackKeys.wrap(pack, noise("a pack's key", 32))];
  const header = encodePackHeader({ keyEpoch: 1, vaultId: VAULT_ID, pack, wraps });
  return new Uint8Array(Buffer.concat([header, noise("its frames", 1000)]));
}

async function renew(store: ObjectStore, named: readonly PackId[], writeCheckpoint: () => Promise<void>) {
  const records = named.map((pack) => ({ pack, lengthBytes: 1000, contentBytes: 1000, isFinished: true }));
  const renewal = new StoreRenewal({
    store,
    packKeys,
    vaultId: VAULT_ID,
    packs: async function* () {
      yield* records;
    },
    writeCheckpoint,
    pause: () => Promise.resolve(),
    signal: new AbortController().signal,
  });
  return renewal.run();
}

/** Whether the newest key alone opens the pack, and its frames are what they were. */
async function expectRenewed(store: ObjectStore, pack: PackId): Promise<void> {
  const found = await store.get(packObject(pack), { maxBytes: 1_000_000 });
  expect(found).toBeDefined();
  const header = openHeader(found!.content, { pack, vaultId: VAULT_ID, packKeys });
  expect(header !== undefined && !isUnderOlder(header, packKeys)).toBe(true);
  expect(found!.content.slice(PACK_HEADER_BYTES)).toEqual(noise("its frames", 1000));
}

test.each([false, true])("keeps a pack whose upload ends with the checkpoint (lying listings: %s)", async (isLying) => {
  await using place = await temporaryDirectory("renewal");
  const clean = await DirectoryStore.open(place.path, { create: true });
  const store = new FaultyStore(clean, { seed: 1, chances: {}, liesInListings: isLying });
  const [early, late, again, dropped] = ["early", "late", "again", "dropped"].map((name) => noise(name, 16) as PackId);
  for (const pack of [early!, again!, dropped!]) await store.put(packObject(pack), olderPack(pack));
  await renew(store, [early!, late!, again!], async () => {
    await store.put(packObject(late!), olderPack(late!)); // read before the rotation, sent slowly
    await store.put(packObject(again!), olderPack(again!)); // the same, after an answer that was lost
  });
  for (const pack of [early!, late!, again!]) await expectRenewed(store, pack);
  if (!isLying) expect(await store.head(packObject(dropped!))).toBeUndefined();
});

test("ends although objects in the store are cut short", async () => {
  await using place = await temporaryDirectory("renewal");
  const store = await DirectoryStore.open(place.path, { create: true });
  const [whole, cut] = [noise("whole", 16) as PackId, noise("cut", 16) as PackId];
  await store.put(packObject(whole), olderPack(whole));
  await store.put(packObject(cut), noise("what is left", 10));
  await store.put("commits/7-0123456789abcdef", new Uint8Array(0));
  await renew(store, [whole, cut], () => Promise.resolve());
  await expectRenewed(store, whole);
});
