/** What an upload does with packs that seem to be in the store already, and with what became of them here. */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { packPath } from "../../src/chunkstore/open-packs.ts";
import { PackDirectory } from "../../src/chunkstore/pack-directory.ts";
import type { PackDamage } from "../../src/chunkstore/pack-verifier.ts";
import { encodePackHeader } from "../../src/chunkstore/pack-format.ts";
import { EpochKeys } from "../../src/crypto/epoch-keys.ts";
import { PackKeyWrapper } from "../../src/crypto/pack-key.ts";
import { TcfsError } from "../../src/errors.ts";
import type { PackId } from "../../src/ids.ts";
import { systemClock } from "../../src/platform/clock.ts";
import type { Disk } from "../../src/platform/disk.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { DirectoryStore } from "../../src/remote/directory-store.ts";
import { LostPacks } from "../../src/replica/lost-packs.ts";
import { HEADER_NAME, packObject } from "../../src/replica/object-names.ts";
import { decodeRemains, encodeRemains } from "../../src/replica/pack-remains.ts";
import { PackGone, PackUploader } from "../../src/replica/pack-uploader.ts";
import { StoredPacks } from "../../src/replica/stored-packs.ts";
import { VAULT_ID, expectSameBytes, noise } from "../crypto/fixtures.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const disk = new NodeDisk();
const PACK = noise("pack", 16) as PackId;
const LENGTH_BYTES = 1256;
const keyOf = (keyEpoch: number) => ({ keyEpoch, key: noise(`packs, epoch ${keyEpoch}`, 32) });
const keysOf = (keyEpoch: number) => new PackKeyWrapper(new EpochKeys(keyOf(keyEpoch)), VAULT_ID, systemRandom);

/** A pack of the first epoch whose key is wrapped under `keyEpoch`. */
function packUnder(keyEpoch: number): Uint8Array {
  const wraps = [keysOf(keyEpoch).wrap(PACK, noise("its key", 32))];
  const header = encodePackHeader({ keyEpoch: 1, vaultId: VAULT_ID, pack: PACK, wraps });
  return new Uint8Array(Buffer.concat([header, noise("its frames", LENGTH_BYTES - header.length)]));
}

/** Last byte of what counts as damaged here. */
const SPOILED = 0xee;

function spoiled(content: Uint8Array): Uint8Array {
  const copy = content.slice();
  copy[copy.length - 1] = SPOILED;
  return copy;
}

const openLost = (directory: string, from: Disk = disk) =>
  LostPacks.open({
    disk: from,
    directory,
    clock: systemClock,
    onListed: () => undefined,
    onLost: () => undefined,
    onFound: () => undefined,
  });

async function makePlace() {
  const place = await temporaryDirectory("upload");
  const store = await DirectoryStore.open(join(place.path, "store"), { create: true });
  await store.put(HEADER_NAME, Buffer.from("header"));
  await writeFile(join(place.path, "store.json"), "");
  const stored = await StoredPacks.open(disk, place.path);
  const own = { isOwn: () => false, isOpen: () => false, retire: () => Promise.resolve() };
  const packs = join(place.path, "packs");
  const packDisk = new NodeDisk();
  const local = new PackDirectory(packDisk, packs, own);
  const damages: PackDamage[] = [];
  const isNamed = { value: true };
  const lost = await openLost(place.path);
  const uploader = new PackUploader({
    local,
    stored,
    lost,
    isNamed: () => isNamed.value,
    isChunkThere: () => true,
    clock: systemClock,
    packKeys: keysOf(2),
    vaultId: VAULT_ID,
    findDamage: (_, content) =>
      Promise.resolve(content.at(-1) === SPOILED ? { ofPack: "spoiled", chunks: [] } : undefined),
    onDamage: (_, damage) => damages.push(damage),
  });
  const record = { pack: PACK, lengthBytes: LENGTH_BYTES, contentBytes: 1000, isFinished: true };
  return {
    store,
    damages,
    local,
    disk: packDisk,
    isNamed,
    lost: () => lost.all().map(({ kind }) => kind),
    lostOnDisk: async () => (await openLost(place.path)).all().map(({ kind }) => kind),
    removeLocal: () => rm(packPath(packs, PACK)),
    writeLocal: async (content: Uint8Array) => {
      await mkdir(dirname(packPath(packs, PACK)), { recursive: true });
      await writeFile(packPath(packs, PACK), content);
    },
    upload: () => uploader.upload(store, [record], new AbortController().signal),
    stored: async () => (await store.get(packObject(PACK), { maxBytes: 1_000_000 }))?.content,
    async [Symbol.asyncDispose]() {
      await stored[Symbol.asyncDispose]();
      await place[Symbol.asyncDispose]();
    },
  };
}

test("brings a pack anew that the store has under a key which was given up", async () => {
  await using place = await makePlace();
  const content = packUnder(2);
  await place.writeLocal(content);
  await place.store.put(packObject(PACK), packUnder(1)); // as long, from before the rotation
  await place.upload();
  expect(await place.stored()).toEqual(content);
});

test("takes a pack for lost that only the store has, under a key which was given up, until it has another", async () => {
  await using place = await makePlace();
  await place.store.put(packObject(PACK), packUnder(1));
  await place.upload();
  expect(place.lost()).toEqual(["missing"]);
  expect(await place.lostOnDisk()).toEqual(["missing"]);
  await place.store.put(packObject(PACK), spoiled(packUnder(2)));
  await place.upload(); // what was lost has to be looked at whole
  expect(place.lost()).toEqual(["damaged"]);
  await place.store.put(packObject(PACK), packUnder(2));
  await place.upload();
  expect(place.lost()).toEqual([]);
  expect(await place.lostOnDisk()).toEqual([]);
});

test("writes down once that many packs are lost, and once that they came again", async () => {
  await using place = await temporaryDirectory("many");
  const store = await DirectoryStore.open(join(place.path, "store"), { create: true });
  await store.put(HEADER_NAME, Buffer.from("header"));
  await writeFile(join(place.path, "store.json"), "");
  await using stored = await StoredPacks.open(disk, place.path);
  const own = { isOwn: () => false, isOpen: () => false, retire: () => Promise.resolve() };
  let writes = 0;
  const counting = new NodeDisk();
  counting.replaceFile = (path, content) => {
    writes += 1;
    return disk.replaceFile(path, content);
  };
  const uploader = new PackUploader({
    local: new PackDirectory(disk, join(place.path, "packs"), own),
    stored,
    clock: systemClock,
    packKeys: keysOf(1),
    vaultId: VAULT_ID,
    findDamage: () => Promise.resolve(undefined),
    lost: await openLost(place.path, counting),
    isNamed: () => true,
    isChunkThere: () => true,
    onDamage: () => expect.unreachable("nothing is damaged"),
  });
  const records = Array.from({ length: 40 }, (_, i) => {
    return { pack: noise(`id ${String(i)}`, 16) as PackId, lengthBytes: 10, contentBytes: 1, isFinished: true };
  });
  await uploader.upload(store, records, new AbortController().signal);
  expect(writes).toBe(1);
  expect((await openLost(place.path)).count).toBe(40);
  for (const { pack } of records.slice(1)) await store.put(packObject(pack), noise("x", 10));
  await uploader.upload(store, records, new AbortController().signal);
  expect(writes).toBe(2);
  expect((await openLost(place.path)).count).toBe(1);
});

test("begins anew where the vault has moved on from a pack that is gone", async () => {
  await using place = await makePlace();
  place.isNamed.value = false;
  await expect(place.upload()).rejects.toThrow(PackGone);
  expect(place.lost()).toEqual([]);
});

test("reads one pack after another into the same memory, whatever their lengths", async () => {
  await using place = await temporaryDirectory("rooms");
  const store = await DirectoryStore.open(join(place.path, "store"), { create: true });
  await using stored = await StoredPacks.open(disk, place.path);
  const packs = join(place.path, "packs");
  const own = { isOwn: () => true, isOpen: () => false, retire: () => Promise.resolve() };
  const memories = new Set<ArrayBufferLike>();
  const uploader = new PackUploader({
    local: new PackDirectory(disk, packs, own),
    stored,
    clock: systemClock,
    packKeys: keysOf(1),
    vaultId: VAULT_ID,
    findDamage: (_, content) => {
      memories.add(content.buffer);
      return Promise.resolve(undefined);
    },
    lost: await openLost(place.path),
    isNamed: () => true,
    isChunkThere: () => true,
    onDamage: () => expect.unreachable("nothing is damaged"),
  });
  const contents = Array.from({ length: 12 }, (_, i) => noise(`pack ${String(i)}`, 100_000 - ((i * 37) % 12) * 5000));
  const records = contents.map((content, i) => {
    return {
      pack: noise(`id ${String(i)}`, 16) as PackId,
      lengthBytes: content.length,
      contentBytes: 1,
      isFinished: true,
    };
  });
  for (const [i, { pack }] of records.entries()) {
    await mkdir(dirname(packPath(packs, pack)), { recursive: true });
    await writeFile(packPath(packs, pack), contents[i]!);
  }
  await uploader.upload(store, records, new AbortController().signal);
  for (const [i, { pack }] of records.entries()) {
    const found = await store.get(packObject(pack), { maxBytes: 1_000_000 });
    expectSameBytes(found!.content, contents[i]!);
  }
  expect(memories.size).toBeLessThanOrEqual(3);
});

test.for([
  ["EIO", "missing"],
  ["EMFILE", undefined],
])("an open that fails with %s is the pack's own trouble only if the disk is damaged", async ([code, lost]) => {
  await using place = await makePlace();
  const content = packUnder(2);
  await place.writeLocal(content);
  const open = place.disk.open.bind(place.disk);
  place.disk.open = () =>
    Promise.reject(
      new TcfsError("TCFS_IO", "made to fail", { cause: Object.assign(new Error("made to fail"), { code }) }),
    );
  const upload = place.upload();
  if (lost === undefined) await expect(upload).rejects.toThrow("made to fail");
  else await upload;
  expect(place.lost()).toEqual(lost === undefined ? [] : [lost]);
  place.disk.open = open;
  await place.upload();
  expect(place.lost()).toEqual([]);
  expectSameBytes((await place.stored())!, content);
});

test("sends what is whole when it is read again", async () => {
  await using place = await makePlace();
  const content = packUnder(2);
  await place.writeLocal(content);
  const read = place.local.readInto.bind(place.local);
  let reads = 0;
  place.local.readInto = async (pack, buffer) => (reads++ === 0 ? spoiled(content) : read(pack, buffer));
  await place.upload();
  expect(await place.stored()).toEqual(content);
  expect(place.damages).toEqual([]);
});

test("sends what is damaged on the disk for the rest of it, over nothing; whole again it goes over that", async () => {
  await using place = await makePlace();
  const content = spoiled(packUnder(2));
  await place.writeLocal(content);
  await place.upload();
  expect(decodeRemains((await place.stored())!)).toEqual({ content, isMarked: true });
  expect(place.damages.length).toBe(1);
  expect(place.lost()).toEqual(["damaged"]);
  const other = spoiled(new Uint8Array(Buffer.concat([packUnder(2), noise("its end", 100)])));
  await place.store.put(packObject(PACK), other);
  await place.upload();
  expect(await place.stored()).toEqual(other);
  expect(place.lost()).toEqual(["damaged"]);
  const whole = packUnder(2);
  await place.writeLocal(whole);
  await place.upload();
  expect(await place.stored()).toEqual(whole);
  expect(place.lost()).toEqual([]);
});

test("relies on the store's copy of what is damaged here, if that is whole", async () => {
  await using place = await makePlace();
  const whole = packUnder(2);
  await place.store.put(packObject(PACK), whole);
  await place.writeLocal(whole.subarray(0, LENGTH_BYTES - 1));
  await place.upload();
  expect(await place.stored()).toEqual(whole);
  expect(place.lost()).toEqual([]);
});

test("puts what is damaged here over nothing whole, though the store did not show it when it was asked", async () => {
  await using place = await makePlace();
  const whole = packUnder(2);
  await place.store.put(packObject(PACK), whole);
  await place.writeLocal(spoiled(whole));
  place.store.getPart = () => Promise.resolve(undefined);
  await place.upload();
  expectSameBytes((await place.stored())!, whole);
  expect(place.lost()).toEqual([]);
  const other = spoiled(new Uint8Array(Buffer.concat([whole, noise("its end", 100)])));
  await place.store.put(packObject(PACK), other);
  await place.upload();
  expectSameBytes((await place.stored())!, other);
  expect(place.lost()).toEqual(["damaged"]);
  await place.store.put(packObject(PACK), whole.subarray(0, 1000)); // cut short
  await place.upload();
  expectSameBytes(decodeRemains((await place.stored())!).content, spoiled(whole));
});

test("takes what remains of a pack for no whole one, though no list says so: that is of another copy of the vault", async () => {
  await using place = await makePlace();
  const whole = packUnder(2);
  await place.store.put(packObject(PACK), encodeRemains(spoiled(whole)));
  await place.upload(); // nothing of it is here
  expect(place.lost()).toEqual(["damaged"]);
  await place.writeLocal(encodeRemains(spoiled(whole))); // which a read has brought
  await place.upload();
  expect(place.lost()).toEqual(["damaged"]);
  await using other = await makePlace();
  await other.store.put(packObject(PACK), encodeRemains(spoiled(whole)));
  await other.writeLocal(whole);
  await other.upload();
  expectSameBytes((await other.stored())!, whole);
  expect(other.lost()).toEqual([]);
});

test("sends what there is of a pack that was cut off, and nothing of one whose key is gone", async () => {
  await using place = await makePlace();
  const content = packUnder(2);
  await place.writeLocal(content.subarray(0, 1000));
  await place.upload();
  expect(place.lost()).toEqual(["damaged"]);
  const { content: found } = decodeRemains((await place.stored())!);
  expect(found.length).toBe(LENGTH_BYTES);
  expectSameBytes(found.subarray(0, 1000), content.subarray(0, 1000));
  await place.store.delete(packObject(PACK));
  await place.writeLocal(spoiled(packUnder(1)));
  await place.upload();
  expect(await place.stored()).toBeUndefined();
  expect(place.lost()).toEqual(["missing"]);
});
