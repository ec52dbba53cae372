/** Whoever waited for the store knows that what he sees is there: no file says `unsent` right after. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { setStore } from "../../src/cli/access/store-setup.ts";
import { ObjectSealer } from "../../src/crypto/object-seal.ts";
import { PackKeyWrapper } from "../../src/crypto/pack-key.ts";
import type { Name, PackId } from "../../src/ids.ts";
import { TcfsError } from "../../src/errors.ts";
import { NO_DEVICES } from "../../src/keys/devices/device-list.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { DirectoryStore } from "../../src/remote/directory-store.ts";
import { StoredConfirmer } from "../../src/replica/stored-confirmer.ts";
import { VAULT_ID, firstEpoch, noise } from "../crypto/fixtures.ts";
import { make } from "../fs/fixtures/files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { VaultDirectory } from "../vault/opened-vault.ts";

const { signal } = new AbortController();

afterEach(() => {
  vi.restoreAllMocks();
});

test("a wait ends once the store has shown all that it took, though it answers late, or not at first", async () => {
  await using stored = await makeStored();
  const { opened } = stored;
  const original = Reflect.get(DirectoryStore.prototype, "head");
  let failures = 0;
  vi.spyOn(DirectoryStore.prototype, "head").mockImplementation(async function (this: DirectoryStore, name, ...all) {
    const isThere = (await original.call(this, name, ...all)) !== undefined;
    // Of what was just brought, and is asked for again.
    if (isThere && name.startsWith("packs/") && failures++ === 0)
      throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", "made");
    return original.call(this, name, ...all);
  });
  const ino = await make(opened, "photo" as Name, Buffer.from(noise("photo", 3_000_000)));
  await opened.waitForStore(signal);
  expect(failures).toBeGreaterThan(1);
  expect(await opened.copies?.stateOf(ino)).toBe("stored");
});

test("a wait does not end well where the root was set back before the store has shown what it took", async () => {
  await using stored = await makeStored();
  const { opened, place } = stored;
  await make(opened, "old" as Name, Buffer.from(noise("old", 3_000_000)));
  await opened.waitForStore(signal);
  const before = await readFile(join(place, "root"));
  const original = Reflect.get(DirectoryStore.prototype, "head");
  let isBack = false;
  vi.spyOn(DirectoryStore.prototype, "head").mockImplementation(async function (this: DirectoryStore, name, ...all) {
    const lengthBytes = await original.call(this, name, ...all);
    if (isBack || lengthBytes === undefined || !name.startsWith("packs/")) return lengthBytes;
    isBack = true;
    await writeFile(join(place, "root"), before);
    throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", "made");
  });
  await make(opened, "new" as Name, Buffer.from(noise("new", 3_000_000)));
  await expect(opened.waitForStore(signal)).rejects.toMatchObject({ code: "TCFS_REMOTE_DIVERGED" });
  expect(isBack).toBe(true);
});

test("a wait does not end well where the store does not have what it takes over and over", async () => {
  await using stored = await makeStored();
  const { opened } = stored;
  const original = Reflect.get(DirectoryStore.prototype, "head");
  const head = vi.spyOn(DirectoryStore.prototype, "head").mockImplementation(async function (
    this: DirectoryStore,
    name,
    ...all
  ) {
    return name.startsWith("packs/") ? undefined : original.call(this, name, ...all);
  });
  const ino = await make(opened, "photo" as Name, Buffer.from(noise("photo", 3_000_000)));
  await expect(opened.waitForStore(signal)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
  expect(await opened.copies?.stateOf(ino)).not.toBe("stored");
  head.mockRestore();
  await opened.waitForStore(signal);
  expect(await opened.copies?.stateOf(ino)).toBe("stored");
});

test("nobody waits for one that is closed", async () => {
  const confirmer = new StoredConfirmer({
    packKeys: new PackKeyWrapper(firstEpoch(noise("packs", 32)), VAULT_ID, systemRandom),
    vaultId: VAULT_ID,
    sealer: new ObjectSealer(firstEpoch(noise("store", 32)), VAULT_ID, systemRandom),
    openStore: () => Promise.reject(new TcfsError("TCFS_REMOTE_UNAVAILABLE", "made")),
    devices: () => NO_DEVICES,
    stored: { has: () => true },
    unstored: () => [noise("pack", 16) as PackId],
    noteStored: () => true,
    isPackNamed: () => true,
    rootHash: () => "00",
    clock: systemClock,
    onMissing: () => true,
    onOtherRoot: () => undefined,
  });
  await confirmer.confirm();
  await confirmer.close();
  await expect(confirmer.confirmed(AbortSignal.timeout(1000))).rejects.toMatchObject({ code: "TCFS_CLOSED" });
});

/** A vault with a store in the directory `place`, open. */
async function makeStored() {
  const temporary = await temporaryDirectory("confirmed");
  const vault = await VaultDirectory.make();
  const place = join(temporary.path, "store");
  const store = await DirectoryStore.open(place, { create: true });
  await setStore(store, { directory: vault.directory, ...vault.first, url: `file://${place}` });
  const opened = await vault.open(vault.first, { isReplicated: true });
  return {
    opened,
    place,
    [Symbol.asyncDispose]: async () => {
      for (const each of [opened, vault, temporary]) await each[Symbol.asyncDispose]();
    },
  };
}
