/** A rotation of the key beside commands that know the older key, older headers, and TPMs that must be told of it. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { openDeviceBook, withSealer } from "../../src/vault/device-setup.ts";
import { runKeyForgetTpm } from "../../src/cli/commands/key-forget-tpm.ts";
import { headerForStore } from "../../src/vault/own-header.ts";
import { rewriteHeader } from "../../src/vault/rewrite-header.ts";
import { readSettings } from "../../src/cli/settings.ts";
import { OpenPacks } from "../../src/chunkstore/open-packs.ts";
import { PackRewrapper } from "../../src/chunkstore/pack-rewrapper.ts";
import type { Name } from "../../src/ids.ts";
import { EpochRooms } from "../../src/keys/epoch-rooms.ts";
import { readHeader } from "../../src/keys/header-file.ts";
import { formatHeader } from "../../src/keys/header.ts";
import { VaultKeys } from "../../src/keys/key-epochs.ts";
import { addSlot } from "../../src/keys/keyring.ts";
import { formatRecoveryWords } from "../../src/keys/recovery-words.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { noise } from "../crypto/fixtures.ts";
import { contentOf, make } from "../fs/fixtures/files.ts";
import { keyringOptions } from "../keys/fixtures.ts";
import { eventually } from "../support/run.ts";
import { type Unlocked, VaultDirectory, beginRotation, nextHeader } from "./opened-vault.ts";

const disk = new NodeDisk();
const HELD = "held" as Name;

afterEach(() => {
  vi.restoreAllMocks();
});

const present = async (vault: VaultDirectory, { key }: Pick<Unlocked, "key">): Promise<Unlocked> => ({
  header: await readHeader(disk, vault.directory),
  key,
});

function roomsOf({ header, key }: Unlocked): EpochRooms {
  const keys = VaultKeys.open(header, key);
  const rooms = new EpochRooms(keys, { vaultId: header.vaultId, chunking: header.chunking, random: systemRandom });
  keys.wipe();
  return rooms;
}

describe("a command that unlocked the vault before its key was rotated", () => {
  test("opens nothing by the older key, while the rotation is under way and after it, and is told to try again", async () => {
    await using vault = await VaultDirectory.make();
    const next = await nextHeader(vault.first);
    // Begun and killed: nothing but the header tells of it.
    await rewriteHeader(vault.directory, vault.first.header, next.header);
    await expect(vault.open(vault.first)).rejects.toThrow(/TCFS_BUSY|rotated by another process meanwhile; try again/u);

    await using opened = await vault.open(await present(vault, next));
    await opened.rotation.wait();
    await opened.close();
    await expect(vault.open(vault.first)).rejects.toMatchObject({ code: "TCFS_BUSY" });
    const ended = await present(vault, next);
    expect(ended.header.keyring?.older).toEqual([]);
    // Nor by what kept the older key still: it would go on with what has ended.
    await expect(vault.open(next)).rejects.toMatchObject({ code: "TCFS_BUSY" });
    await using again = await vault.open(ended);
    expect(again.rotation.status()).toBeNull();
  });

  test("writes nothing to the list of devices, which would then open for nobody", async () => {
    await using vault = await VaultDirectory.make();
    const next = await nextHeader(vault.first);
    const { header, key } = vault.first;
    const listOf = (): Promise<Buffer> => readFile(join(vault.directory, "devices"));
    await withSealer(header, key, async (sealer) => {
      const book = await openDeviceBook({ disk, directory: vault.directory, sealer }, header.deviceId);
      await rewriteHeader(vault.directory, header, next.header);
      const [before, own] = [await listOf(), await readFile(join(vault.directory, "device"))];
      const change = book.change((list) => ({ ...list, revision: list.revision + 1 }));
      await expect(change).rejects.toMatchObject({ code: "TCFS_BUSY" });
      await expect(book.keep({ isAnchored: true })).rejects.toMatchObject({ code: "TCFS_BUSY" });
      expect([await listOf(), await readFile(join(vault.directory, "device"))]).toEqual([before, own]);
    });
  });
});

describe("vault.json put back from before a rotation", () => {
  test("is refused while the rotation is under way, and its copy opens everything afterwards", async () => {
    await using vault = await VaultDirectory.make();
    const next = await nextHeader(vault.first);
    await using opened = await vault.open(vault.first);
    await beginRotation(opened, vault.first, next);
    await opened.close();
    const path = join(vault.directory, "vault.json");
    await writeFile(path, formatHeader(vault.first.header));
    await expect(vault.open(vault.first)).rejects.toThrow(
      /from before the vault's key was rotated.*put vault.json.bak/u,
    );
    await writeFile(path, await readFile(`${path}.bak`));
    await using again = await vault.open(await present(vault, next));
    expect((await again.rotation.wait())?.records.damagedCount ?? 0).toBe(0);
  });

  test("together with its copy opens nothing, and is named as what may be wrong", async () => {
    await using vault = await VaultDirectory.make();
    const next = await nextHeader(vault.first);
    await using opened = await vault.open(vault.first);
    await beginRotation(opened, vault.first, next);
    await opened.rotation.wait();
    await opened.close();
    for (const name of ["vault.json", "vault.json.bak"])
      await writeFile(join(vault.directory, name), formatHeader(vault.first.header));
    await expect(vault.open(vault.first)).rejects.toThrow(/vault\.json is from before a rotation of the key/u);
  });
});

describe("the header that goes to a store", () => {
  test("is the vault's own and no older than what the store has; the next epoch's waits until it has begun", async () => {
    await using vault = await VaultDirectory.make();
    const { directory, first } = vault;
    const rooms = roomsOf(first);
    const forStore = (least: number) => headerForStore(disk, directory, rooms, least);
    expect(await forStore(0)).toEqual({ content: formatHeader(first.header), revision: 1 });
    expect((await forStore(1)).revision).toBe(1);
    await expect(forStore(2)).rejects.toThrow(/older \(revision 1\) than the one that the store has \(2\)/u);

    const next = await nextHeader(first);
    await rewriteHeader(directory, first.header, next.header);
    expect((await forStore(1)).revision).toBe(1);
    await expect(forStore(0)).rejects.toMatchObject({ code: "TCFS_BAD_HEADER" });
    const keys = VaultKeys.open(next.header, next.key);
    rooms.begin(keys);
    keys.wipe();
    expect((await forStore(1)).revision).toBe(2);

    const slot = { kind: { kind: "recovery-words" }, material: new Uint8Array(32) } as const;
    const forged = await addSlot(next.header, first.key, slot, keyringOptions("forged"));
    await writeFile(join(directory, "vault.json"), formatHeader(forged));
    await expect(forStore(1)).rejects.toThrow(/not this vault's header any more/u);
    rooms.close();
  });
});

describe("a vault that a TPM remembers", () => {
  test("keeps its older key until a mount tells the TPM: a command that was not asked to goes on without the end", async () => {
    await using vault = await VaultDirectory.make();
    const { directory, first } = vault;
    await withSealer(first.header, first.key, async (sealer) => {
      const book = await openDeviceBook({ disk, directory, sealer }, first.header.deviceId);
      await book.keep({ isAnchored: true });
    });
    const next = await nextHeader(first);
    await rewriteHeader(directory, first.header, next.header);
    await using opened = await vault.open(await present(vault, next));
    const why = (): string => opened.rotation.status()?.lastError ?? "";
    await eventually("it stands still", 60_000, () => why() !== "");
    expect(why()).toMatch(/a TPM remembers the vault, and must be told of its new key.*: tcfs key forget-tpm$/u);
    expect(opened.rotation.status()?.needsPerson).toBe(true);
    await opened.close();
    expect((await readHeader(disk, directory)).keyring?.older).toHaveLength(1);
  });

  test("ends a rotation once somebody who opens it without the TPM has said that the TPM is gone", async () => {
    await using vault = await VaultDirectory.make();
    const { directory, first } = vault;
    await withSealer(first.header, first.key, async (sealer) => {
      const book = await openDeviceBook({ disk, directory, sealer }, first.header.deviceId);
      await book.keep({ isAnchored: true });
    });
    const next = await nextHeader(first);
    await using opened = await vault.open(first);
    await beginRotation(opened, first, next);
    await eventually("it stands still", 60_000, () => opened.rotation.status()?.needsPerson === true);

    let told = "";
    vi.spyOn(process.stdout, "write").mockImplementation((text) => {
      told += String(text);
      return true;
    });
    const settings = readSettings({ PATH: process.env["PATH"] });
    const [words, wrong] = [join(directory, "..", "words"), join(directory, "..", "wrong")];
    await writeFile(words, formatRecoveryWords(new Uint8Array(32)), { mode: 0o600 });
    await writeFile(wrong, formatRecoveryWords(new Uint8Array(32).fill(1)), { mode: 0o600 });
    const forget = (recoveryFile: string) => runKeyForgetTpm({ vault: directory, recoveryFile }, settings);
    await expect(forget(wrong)).rejects.toMatchObject({ code: "TCFS_WRONG_KEY" });
    expect(opened.rotation.status()?.needsPerson).toBe(true);
    await forget(words);
    expect(told).toMatch(/^No TPM is asked any more .*\nThe vault opens with the key slot .*recovery words\)\.\n$/u);
    expect(await opened.rotation.wait()).toMatchObject({ endedEpoch: 1, records: { olderCount: 0 } });
    await forget(words);
    expect(told).toContain("No TPM remembers the vault's state: nothing was changed.");
  });
});

describe("a pack that was being made under the older key when the next epoch began", () => {
  test("holds the end up until its header is there and was wrapped anew: what it took is read under the new key", async () => {
    await using vault = await VaultDirectory.make();
    const next = await nextHeader(vault.first);
    await using opened = await vault.open(vault.first);
    const { reached, release } = holdPackHeaders();
    // Were packs gone through, or counted, before: then it comes right after, and nobody would look at it again.
    const [rewrapAll, count] = [
      vi.spyOn(PackRewrapper.prototype, "rewrapAll"),
      vi.spyOn(PackRewrapper.prototype, "count"),
    ];
    const { retire } = OpenPacks.prototype as { retire: (this: OpenPacks) => Promise<void> };
    vi.spyOn(OpenPacks.prototype, "retire").mockImplementation(function (this: OpenPacks) {
      if (rewrapAll.mock.calls.length === 0) release();
      return retire.call(this);
    });
    const content = Buffer.from(noise("held", 600_000)).toString("hex");
    await make(opened, HELD, content);
    const stored = opened.volume.syncAll();
    await reached;
    const counted = eventually("all is counted", 60_000, () => count.mock.settledResults.length > 0);
    counted.then(release, release);
    await beginRotation(opened, vault.first, next);
    await stored;
    const report = await opened.rotation.wait();
    expect(report).toMatchObject({ packs: { olderCount: 0, damagedCount: 0 }, records: { damagedCount: 0 } });
    await opened.close();
    await using again = await vault.open(await present(vault, next));
    expect((await contentOf(again, HELD)) === content).toBe(true);
  });
});

/** From now on headers of new packs, sealed already, are written once `release` was called. */
function holdPackHeaders(): { readonly reached: Promise<void>; readonly release: () => void } {
  let reach: () => void = () => undefined;
  let release: () => void = () => undefined;
  const reached = new Promise<void>((resolve) => (reach = resolve));
  const released = new Promise<void>((resolve) => (release = resolve));
  const { create } = NodeDisk.prototype as { create: (this: NodeDisk, path: string) => ReturnType<NodeDisk["create"]> };
  vi.spyOn(NodeDisk.prototype, "create").mockImplementation(async function (this: NodeDisk, path: string) {
    const file = await create.call(this, path);
    if (!path.includes("/packs/")) return file;
    const write = file.write.bind(file);
    return Object.assign(file, {
      write: async (pieces: readonly Uint8Array[], offset: number) => {
        reach();
        await released;
        await write(pieces, offset);
      },
    });
  });
  return { reached, release };
}
