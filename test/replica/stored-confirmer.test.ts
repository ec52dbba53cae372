/** Whoever waited for the store knows that what he sees is there: no file says `unsent` right after. */
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { setStore } from "../../src/cli/access/store-setup.ts";
import type { Name } from "../../src/ids.ts";
import { TcfsError } from "../../src/errors.ts";
import { DirectoryStore } from "../../src/remote/directory-store.ts";
import { noise } from "../crypto/fixtures.ts";
import { make } from "../fs/fixtures/files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { VaultDirectory } from "../vault/opened-vault.ts";

const { signal } = new AbortController();

afterEach(() => {
  vi.restoreAllMocks();
});

test("a wait ends once the store has shown all that it took, though it answers late, or not at first", async () => {
  await using temporary = await temporaryDirectory("confirmed");
  await using vault = await VaultDirectory.make();
  const url = `file://${join(temporary.path, "store")}`;
  const store = await DirectoryStore.open(join(temporary.path, "store"), { create: true });
  await setStore(store, { directory: vault.directory, ...vault.first, url });
  await using opened = await vault.open(vault.first, { isReplicated: true });
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
