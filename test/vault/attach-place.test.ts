/** An attach that is killed at any instant: the next one clears what it left, and nothing else. */
import { cpSync } from "node:fs";
import { mkdir, readFile, readdir, rename, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { setStore } from "../../src/cli/access/store-setup.ts";
import { TcfsError } from "../../src/errors.ts";
import type { Name } from "../../src/ids.ts";
import { formatHeader } from "../../src/keys/header.ts";
import { DirectoryStore } from "../../src/remote/directory-store.ts";
import { attachVault } from "../../src/vault/attach-vault.ts";
import { contentOf, make } from "../fs/fixtures/files.ts";
import { FaultyStore } from "../remote/faulty-store.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary-directory.ts";
import { VaultDirectory } from "./opened-vault.ts";

const FILE = "file" as Name;
const MARK = "attaching";

let temporary: TemporaryDirectory;
let vault: VaultDirectory;
let store: DirectoryStore;
beforeAll(async () => {
  temporary = await temporaryDirectory("attach");
  vault = await VaultDirectory.make();
  store = await DirectoryStore.open(join(temporary.path, "store"), { create: true });
  await setStore(store, { directory: vault.directory, ...vault.first, url: `file://${temporary.path}/store` });
  await using opened = await vault.open(vault.first, { isReplicated: true });
  await make(opened, FILE, "what it holds");
  await opened.waitForStore(new AbortController().signal);
});
afterAll(async () => {
  await store.close();
  await vault[Symbol.asyncDispose]();
  await temporary[Symbol.asyncDispose]();
});

const place = (name: string): string => join(temporary.path, name);

function attach(directory: string, from: FaultyStore | DirectoryStore = store, prepare?: () => Promise<void>) {
  return attachVault(from, { directory, ...vault.first, url: `file://${temporary.path}/store`, prepare });
}

async function expectVault(directory: string): Promise<void> {
  expect(await readdir(directory)).not.toContain(MARK);
  await using opened = await vault.open(vault.first, { directory, isReadOnly: true });
  expect(await contentOf(opened, FILE)).toBe("what it holds");
}

/** What a process that is killed right before its vault is one leaves. */
async function leftBehind(name: string): Promise<string> {
  await attach(place(`${name}-whole`), store, () => {
    cpSync(place(`${name}-whole`), place(name), { recursive: true });
    return Promise.resolve();
  });
  return place(name);
}

describe("an attach that was killed", () => {
  test("is begun anew by the next one, whatever it had got", async () => {
    const killed: string[] = [];
    const watched = new FaultyStore(store, { seed: 1, chances: {} });
    const keep = (): void => {
      killed.push(place(`killed-${String(killed.length)}`));
      cpSync(place("whole"), killed.at(-1)!, { recursive: true });
    };
    watched.beforeAnswer = keep;
    await attach(place("whole"), watched, () => {
      keep();
      return Promise.resolve();
    });
    expect(killed.length).toBeGreaterThan(2);
    const last = killed.at(-1)!;
    // Within the last steps: the header is in the mark, whole or in part, and in its place, without its copy.
    const header = formatHeader(vault.first.header);
    for (const [name, content] of [
      ["half", header.slice(0, 100)],
      ["full", header],
    ] as const) {
      cpSync(last, place(name), { recursive: true });
      await writeFile(join(place(name), MARK), content);
      killed.push(place(name));
    }
    for (const directory of killed) {
      expect(await readdir(directory)).toContain(MARK);
      await attach(directory);
      await expectVault(directory);
    }
    const renamed = await leftBehind("renamed");
    await writeFile(join(renamed, MARK), header);
    await rename(join(renamed, MARK), join(renamed, "vault.json"));
    await expectVault(renamed);
  });

  test("has a file that it did not make kept, and nothing taken away beside it", async () => {
    const strange: readonly ((directory: string) => Promise<void>)[] = [
      (directory) => writeFile(join(directory, "holiday.jpg"), "mine"),
      (directory) => writeFile(join(directory, "meta", "notes"), "mine"),
      (directory) => writeFile(join(directory, "packs", "ab"), "mine"),
      (directory) => mkdir(join(directory, "journal", "2")),
      (directory) => mkdir(join(directory, "store.json.new")),
      async (directory) => {
        await rename(join(directory, "meta"), place("elsewhere"));
        await symlink(place("elsewhere"), join(directory, "meta"));
      },
    ];
    for (const [index, add] of strange.entries()) {
      const directory = await leftBehind(`strange-${String(index)}`);
      await add(directory);
      const before = (await readdir(directory, { recursive: true })).sort();
      await expect(attach(directory)).rejects.toMatchObject({
        code: "TCFS_USAGE",
        message: expect.stringContaining(directory) as string,
      });
      expect((await readdir(directory, { recursive: true })).sort()).toEqual(before);
    }
  });

  test("is no reason to clear a vault, or one that lost its header", async () => {
    const whole = await leftBehind("with-vault");
    await attach(place("with-vault-made"));
    for (const name of ["vault.json", "vault.json.bak"]) {
      const directory = name === "vault.json" ? whole : await leftBehind("with-copy");
      cpSync(join(place("with-vault-made"), name), join(directory, name));
      const before = (await readdir(directory)).sort();
      const code = name === "vault.json" ? "TCFS_VAULT_EXISTS" : "TCFS_NO_VAULT";
      await expect(attach(directory)).rejects.toMatchObject({ code });
      expect((await readdir(directory)).sort()).toEqual(before);
    }
  });
});

test("of two attaches to one directory at once one is told, and the other one's vault is whole", async () => {
  const directory = place("twice");
  await attach(directory, store, async () => {
    await expect(attach(directory)).rejects.toMatchObject({ code: "TCFS_BUSY" });
  });
  await expectVault(directory);
  await expect(attach(directory)).rejects.toMatchObject({ code: "TCFS_VAULT_EXISTS" });
  expect(await readFile(join(directory, "vault.json"))).toEqual(await readFile(join(directory, "vault.json.bak")));
});

test("an attach that fails leaves nothing in the directory", async () => {
  const directory = place("failed");
  await expect(attach(directory, store, () => Promise.reject(new Error("made to fail")))).rejects.toThrow(
    /made to fail/u,
  );
  expect(await readdir(directory)).toEqual([]);

  // Nor does it hide why it failed, where somebody has put something there meanwhile.
  const failing = attach(directory, store, async () => {
    await writeFile(join(directory, "holiday.jpg"), "mine");
    throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", "made to fail");
  });
  await expect(failing).rejects.toMatchObject({ code: "TCFS_REMOTE_UNAVAILABLE" });
  expect(await readdir(directory)).toEqual(expect.arrayContaining([MARK, "holiday.jpg"]));
});
