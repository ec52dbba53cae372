/** Wrapping packs anew in place: whatever a power cut leaves of a write, the pack opens (FORMAT.md §5.2). */
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { packPath } from "../../src/chunkstore/open-packs.ts";
import { decodePackHeader, encodePackHeader, formatPackId, wrapsOf } from "../../src/chunkstore/pack-format.ts";
import { PackRewrapper } from "../../src/chunkstore/pack-rewrapper.ts";
import type { EpochKeys } from "../../src/crypto/epoch-keys.ts";
import { PackKeyWrapper } from "../../src/crypto/pack-key.ts";
import { TcfsError } from "../../src/errors.ts";
import type { PackId } from "../../src/ids.ts";
import type { Disk, DurableFile } from "../../src/platform/disk.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { PACK_ID, PACK_KEY, VAULT_ID, firstEpoch, noise } from "../crypto/fixtures.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const FRAMES = noise("frames", 1000);
const oldKeys = (): EpochKeys => firstEpoch(noise("packs", 32));
const bothKeys = (): EpochKeys => {
  const keys = oldKeys();
  keys.begin({ keyEpoch: 2, key: noise("packs of epoch 2", 32) });
  return keys;
};
const newKeys = (): EpochKeys => {
  const keys = bothKeys();
  keys.forgetOlder();
  return keys;
};
const wrapperOf = (keys: EpochKeys): PackKeyWrapper => new PackKeyWrapper(keys, VAULT_ID, systemRandom);
const noPause = (): Promise<void> => Promise.resolve();
const rewrapperOf = (directory: string, keys: EpochKeys, disk: Disk = new NodeDisk()): PackRewrapper =>
  new PackRewrapper({ disk, directory, vaultId: VAULT_ID, packKeys: wrapperOf(keys) });

async function putPack(directory: string, pack: PackId = PACK_ID): Promise<string> {
  const path = packPath(directory, pack);
  const wraps = [wrapperOf(oldKeys()).wrap(pack, PACK_KEY)];
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, Buffer.concat([encodePackHeader({ keyEpoch: 1, vaultId: VAULT_ID, pack, wraps }), FRAMES]));
  return path;
}

/** Power goes in write number `cut`, of which a part is left. */
class CutDisk extends NodeDisk {
  readonly #cut: number;
  readonly #left: (bytes: Uint8Array, before: Uint8Array) => Uint8Array;
  writeCount = 0;

  constructor(cut: number, left: (bytes: Uint8Array, before: Uint8Array) => Uint8Array) {
    super();
    this.#cut = cut;
    this.#left = left;
  }

  override async openDurable(path: string): Promise<DurableFile> {
    const file = await super.openDurable(path);
    return {
      readInto: (into, offset) => file.readInto(into, offset),
      length: () => file.length(),
      close: () => file.close(),
      writeSync: (bytes, offset) => {
        file.writeSync(bytes, offset);
      },
      write: async (pieces, offset) => {
        const bytes = Buffer.concat(pieces);
        if (this.writeCount++ !== this.#cut) return file.write([bytes], offset);
        const before = new Uint8Array(bytes.length);
        await file.readInto(before, offset);
        await file.write([this.#left(bytes, before)], offset);
        throw new TcfsError("TCFS_IO", "power is gone");
      },
    };
  }
}

const tears: [string, (bytes: Uint8Array, before: Uint8Array) => Uint8Array][] = [
  ["nothing", (_bytes, before) => before],
  ["all", (bytes) => bytes],
  ...[1, 4, 5, 40, 75].map((end): [string, (bytes: Uint8Array, before: Uint8Array) => Uint8Array] => [
    `the first ${end} bytes`,
    (bytes, before) => Uint8Array.from(before, (byte, i) => (i < end ? bytes[i]! : byte)),
  ]),
  ...[4, 40, 75].map((start): [string, (bytes: Uint8Array, before: Uint8Array) => Uint8Array] => [
    `the last bytes from ${start} on`,
    (bytes, before) => Uint8Array.from(before, (byte, i) => (i < start ? byte : bytes[i]!)),
  ]),
  ["every other byte", (bytes, before) => Uint8Array.from(before, (byte, i) => (i % 2 === 0 ? byte : bytes[i]!))],
];

describe("a pack wrapped anew", () => {
  test("opens under the new key alone, its frames untouched; done again it is left alone", async () => {
    await using directory = await temporaryDirectory("rewrap");
    const path = await putPack(directory.path);
    const rewrapper = rewrapperOf(directory.path, bothKeys());
    expect(await rewrapper.count(noPause)).toEqual({ packCount: 1, olderCount: 1, olderDataCount: 1, damagedCount: 0 });
    await rewrapper.rewrapAll(noPause);
    const bytes = await readFile(path);
    expect(bytes.subarray(256).equals(FRAMES)).toBe(true);
    const header = decodePackHeader(bytes);
    expect(header.keyEpoch).toBe(1);
    expect(wrapsOf(header).map(({ keyEpoch }) => keyEpoch)).toEqual([2]);
    expect(wrapperOf(newKeys()).unwrap(PACK_ID, wrapsOf(header))).toEqual(PACK_KEY);
    expect(() => wrapperOf(oldKeys()).unwrap(PACK_ID, wrapsOf(header))).toThrow(/key epoch 2/u);
    expect(await rewrapper.count(noPause)).toEqual({ packCount: 1, olderCount: 0, olderDataCount: 1, damagedCount: 0 });
    const disk = new CutDisk(-1, (written) => written);
    await rewrapperOf(directory.path, bothKeys(), disk).rewrapAll(noPause);
    expect(disk.writeCount).toBe(0);
    expect((await readFile(path)).equals(bytes)).toBe(true);
  });

  test("is done too where only a part of it is here, and left where its header is not", async () => {
    await using directory = await temporaryDirectory("rewrap");
    const packs = join(directory.path, "packs");
    const [part, headless] = [noise("part", 16), noise("headless", 16)] as [PackId, PackId];
    const partPath = join(directory.path, "blocks", formatPackId(part));
    const headlessPath = join(directory.path, "blocks", formatPackId(headless));
    await mkdir(dirname(partPath));
    await rename(await putPack(packs, part), partPath);
    await writeFile(headlessPath, new Uint8Array(1000));
    const rewrapper = rewrapperOf(packs, bothKeys());
    const none = { packCount: 0, olderDataCount: 0, damagedCount: 0 };
    expect(await rewrapper.count(noPause)).toEqual({ ...none, olderCount: 1 });
    await rewrapper.rewrapAll(noPause);
    expect(await rewrapper.count(noPause)).toEqual({ ...none, olderCount: 0 });
    const header = decodePackHeader(await readFile(partPath));
    expect(wrapsOf(header).map(({ keyEpoch }) => keyEpoch)).toEqual([2]);
    expect(wrapperOf(newKeys()).unwrap(part, wrapsOf(header))).toEqual(PACK_KEY);
    expect(await readFile(headlessPath)).toEqual(Buffer.alloc(1000));
  });

  describe.each([0, 1])("if power goes in write %i", (cut) => {
    test.each(tears)("and %s of it is left, opens, and is wrapped anew the next time", async (_name, left) => {
      await using directory = await temporaryDirectory("rewrap");
      const path = await putPack(directory.path);
      const cutting = rewrapperOf(directory.path, bothKeys(), new CutDisk(cut, left));
      await expect(cutting.rewrapAll(noPause)).rejects.toThrow(/power is gone/u);
      const torn = decodePackHeader(await readFile(path));
      expect(wrapperOf(bothKeys()).unwrap(PACK_ID, wrapsOf(torn))).toEqual(PACK_KEY);
      const rewrapper = rewrapperOf(directory.path, bothKeys());
      await rewrapper.rewrapAll(noPause);
      const header = decodePackHeader(await readFile(path));
      expect(wrapsOf(header).map(({ keyEpoch }) => keyEpoch)).toEqual([2]);
      expect(wrapperOf(newKeys()).unwrap(PACK_ID, wrapsOf(header))).toEqual(PACK_KEY);
      expect((await readFile(path)).subarray(256).equals(FRAMES)).toBe(true);
      expect(await rewrapper.count(noPause)).toMatchObject({ olderCount: 0, damagedCount: 0 });
    });
  });

  test("is left as it is where it opens under no key, and counted as damage; others are done", async () => {
    await using directory = await temporaryDirectory("rewrap");
    const other = noise("other pack", 16) as PackId;
    const damaged = await putPack(directory.path, other);
    const bytes = await readFile(damaged);
    bytes[100]! ^= 1;
    await writeFile(damaged, bytes);
    await writeFile(join(dirname(damaged), `${"0".repeat(32)}.new`), "no pack");
    await putPack(directory.path);
    const rewrapper = rewrapperOf(directory.path, bothKeys());
    await rewrapper.rewrapAll(noPause);
    expect((await readFile(damaged)).equals(bytes)).toBe(true);
    expect(await rewrapper.count(noPause)).toEqual({ packCount: 2, olderCount: 0, olderDataCount: 1, damagedCount: 1 });
  });
});
