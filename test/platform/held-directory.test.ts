import { mkdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { HeldDirectory } from "../../src/platform/held-directory.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { temporaryDirectory, type TemporaryDirectory } from "../support/temporary-directory.ts";

/** A directory `vault` that is held, and looked at as often as one asks. */
async function hold(): Promise<{ temporary: TemporaryDirectory; path: string; held: HeldDirectory }> {
  const temporary = await temporaryDirectory("held");
  const path = join(temporary.path, "vault");
  await mkdir(join(path, "packs"), { recursive: true });
  let nowMs = 0;
  const held = HeldDirectory.open(path, { monotonicMs: () => (nowMs += 1000) });
  return { temporary, path, held };
}

describe("a directory that is held open", () => {
  test("is where everything beneath its path is done, wherever it was moved", async () => {
    const { temporary, path, held } = await hold();
    await using _temporary = temporary;
    const disk = new NodeDisk(held);
    await rename(path, `${path}.old`);
    await mkdir(join(path, "packs"), { recursive: true });

    await disk.makeDirectory(join(path, "packs", "aa"));
    await (await disk.create(join(path, "packs", "aa", "pack"))).close();
    await disk.replaceFile(join(path, "settings"), Buffer.from("kept"));
    await disk.rename(join(path, "packs", "aa", "pack"), join(path, "packs", "pack"));
    await disk.syncDirectory(path);
    expect((await disk.list(path)).sort()).toEqual(["packs", "settings"]);
    expect((await disk.list(join(path, "packs"))).sort()).toEqual(["aa", "pack"]);
    expect((await disk.space(path)).totalBytes).toBeGreaterThan(0);
    expect(await readFile(join(`${path}.old`, "settings"), "utf8")).toBe("kept");
    await disk.remove(join(path, "settings"));
    await expect(stat(join(`${path}.old`, "settings"))).rejects.toMatchObject({ code: "ENOENT" });
    expect(await new NodeDisk().list(join(path, "packs"))).toEqual([]);
    held.close();
  });

  test("is in place until it was moved, replaced, or its parent became something else; and again when it is back", async () => {
    const { temporary, path, held } = await hold();
    await using _temporary = temporary;
    held.assertInPlace();
    await rename(path, `${path}.old`);
    expect(() => {
      held.assertInPlace();
    }).toThrow(/not at .* any more/u);
    await mkdir(path);
    expect(() => {
      held.assertInPlace();
    }).toThrow(/another directory is at/u);
    await rm(path, { recursive: true });
    await rename(`${path}.old`, path);
    held.assertInPlace();
    held.close();
  });

  test("leaves paths that lie elsewhere as they are, those that only begin alike too", async () => {
    const { temporary, path, held } = await hold();
    await using _temporary = temporary;
    await writeFile(`${path}-else`, "elsewhere");
    expect(held.locate(`${path}-else`)).toBe(`${path}-else`);
    expect(await new NodeDisk(held).readFile(`${path}-else`)).toEqual(Buffer.from("elsewhere"));
    held.close();
    expect(() => held.locate(path)).toThrow(/is closed/u);
  });

  test("is held once, whatever path leads to it, until it is closed", async () => {
    const { temporary, path, held } = await hold();
    await using _temporary = temporary;
    await symlink(path, `${path}-again`);
    const holdAgain = (): HeldDirectory => HeldDirectory.open(`${path}-again`, { monotonicMs: () => 0 });
    expect(holdAgain).toThrow(expect.objectContaining({ code: "TCFS_VAULT_IN_USE" }));
    held.close();
    holdAgain().close();
  });
});
