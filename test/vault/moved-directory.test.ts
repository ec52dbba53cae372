/** A vault directory that is moved away, or whose drive is gone, beneath a vault that is open. */
import { rename, stat } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import type { Name } from "../../src/ids.ts";
import { noise } from "../crypto/fixtures.ts";
import { contentOf, fsync, make } from "../fs/fixtures/files.ts";
import { run, shell } from "../support/run.ts";
import { VaultDirectory } from "./opened-vault.ts";

/** More than rides inside the metadata: it goes to a pack. */
const LONG_BYTES = 3_000_000;

/** As text, which is what the fixtures compare. */
const long = (seed: string): string => Buffer.from(noise(seed, LONG_BYTES / 2)).toString("hex");

/** Every name in a directory, and a hash of every file. */
function contentsOf(directory: string): Promise<string> {
  return shell("find . | LC_ALL=C sort; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum", {
    cwd: directory,
  });
}

describe("a vault directory that is moved away while the vault is open", () => {
  test("has nothing confirmed that lies elsewhere: all of it is there when the directory is back", async () => {
    await using vault = await VaultDirectory.make();
    const elsewhere = `${vault.directory}-elsewhere`;
    await using opened = await vault.open(vault.first);
    const confirmed: string[] = [];
    const keep = async (name: string): Promise<void> => {
      await make(opened, name as Name, long(name));
      await fsync(opened);
      confirmed.push(name);
    };
    await keep("before");

    await rename(vault.directory, elsewhere);
    for (let i = 0; i < 6; i++) await keep(`after${String(i)}`).catch(() => undefined);
    await expect(stat(vault.directory)).rejects.toMatchObject({ code: "ENOENT" });

    await rename(elsewhere, vault.directory);
    await opened.close().catch(() => undefined); // may tell of the failure once more
    await using again = await vault.open(vault.first);
    for (const name of confirmed) expect((await contentOf(again, name as Name)) === long(name), name).toBe(true);
  });

  test("takes nothing more, and makes nothing where it was", async () => {
    await using vault = await VaultDirectory.make();
    await using opened = await vault.open(vault.first);
    await rename(vault.directory, `${vault.directory}-elsewhere`);
    const lost = make(opened, "after" as Name, long("after")).then(() => fsync(opened));
    await expect(lost).rejects.toMatchObject({ code: "TCFS_IO" });
    expect(opened.figures().problem).toContain(`not at ${vault.directory} any more`);
    await expect(stat(vault.directory)).rejects.toMatchObject({ code: "ENOENT" });
    await opened.close().catch(() => undefined);
  });

  test("confirms nothing once a copy is in its place, writes nothing there, and keeps what it had confirmed", async () => {
    await using vault = await VaultDirectory.make();
    const original = `${vault.directory}.old`;
    await using opened = await vault.open(vault.first);
    await make(opened, "before" as Name, long("before"));
    await fsync(opened);

    await rename(vault.directory, original);
    await run("cp", ["-a", original, vault.directory]);
    const copied = await contentsOf(vault.directory);
    for (const [index, content] of ["little", long("much")].entries()) {
      const lost = make(opened, `after${String(index)}` as Name, content).then(() => fsync(opened));
      await expect(lost).rejects.toMatchObject({ code: "TCFS_IO" });
    }
    expect(opened.figures().problem).toContain(`another directory is at ${vault.directory} now`);
    await opened.close().catch(() => undefined);
    expect(await contentsOf(vault.directory)).toEqual(copied);

    for (const directory of [vault.directory, original]) {
      await using again = await vault.open(vault.first, { directory });
      expect((await contentOf(again, "before" as Name)) === long("before"), directory).toBe(true);
    }
  });
});

test("a vault that this very process has open is in use", async () => {
  await using vault = await VaultDirectory.make();
  await using _opened = await vault.open(vault.first);
  await expect(vault.open(vault.first)).rejects.toMatchObject({ code: "TCFS_VAULT_IN_USE" });
});
