/**
 * Flipped bits in the metadata of a vault: LevelDB by itself drops what does not check and goes on, so that files would
 * vanish from the middle of history. Nothing that was synced may be missing without a word.
 */
import { cp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cleanup } from "../support/cleanup.ts";
import { mountTcfs, type TcfsMount } from "../support/tcfs-mount.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { filesBelow, flipBit } from "./known-files.ts";

const FILE_COUNT = 60;
const FLIPS_IN_LOG = 10;
const FLIPS_IN_TABLES = 24;

describe("metadata with a flipped bit", () => {
  const cleanup = new Cleanup();
  let killed = "";
  let closed = "";
  let work = "";
  const nameOf = (i: number): string => `file-${String(i).padStart(3, "0")}`;

  beforeAll(async () => {
    const directory = cleanup.use(await temporaryDirectory("metadata"));
    [killed, closed, work] = ["killed", "closed", "vault"].map((name) => join(directory.path, name)) as [
      string,
      string,
      string,
    ];
    await using mount = await mountTcfs({ vaultDirectory: work });
    for (let i = 0; i < FILE_COUNT; i++) {
      await writeFile(join(mount.mountPoint, nameOf(i)), `content ${i}\n`, { flush: true });
    }
    await mount.kill9();
    await rm(join(work, "control.sock"), { force: true });
    await cp(work, killed, { recursive: true });
    await mount.mount(); // LevelDB turns its log into a table
    await mount.remount();
    await mount.unmount();
    await cp(work, closed, { recursive: true });
  });
  afterAll(() => cleanup[Symbol.asyncDispose]());

  /** @returns Names that are missing or wrong without EIO, and what the daemon logged; undefined if mounting was refused. */
  async function liesAfter(vault: string, path: string, offset: number): Promise<string[] | undefined> {
    await rm(work, { recursive: true, force: true });
    await cp(vault, work, { recursive: true });
    await flipBit(join(work, path), offset);
    let mount: TcfsMount;
    try {
      mount = await mountTcfs({ vaultDirectory: work });
    } catch (error) {
      expect(String(error)).toMatch(/tcfs mount ended with \d+/);
      return undefined;
    }
    await using mounted = mount;
    const lies: string[] = [];
    const listed = await readdir(mounted.mountPoint).catch(errnoFrom);
    for (let i = 0; i < FILE_COUNT; i++) {
      const found = await readFile(join(mounted.mountPoint, nameOf(i)), "utf8").catch(errnoFrom);
      if (found !== `content ${i}\n` && found !== "EIO") lies.push(`${nameOf(i)}: ${found}`);
      if (Array.isArray(listed) && !listed.includes(nameOf(i))) lies.push(`${nameOf(i)}: not listed`);
    }
    return lies;
  }

  async function expectNoLies(vault: string, paths: readonly string[], count: number): Promise<void> {
    for (const path of paths) {
      const { size } = await stat(join(vault, path));
      for (let i = 0; i < count && size > 0; i++) {
        const offset = Math.floor(((i + 0.37) * size) / count);
        expect((await liesAfter(vault, path, offset)) ?? [], `${path} at ${offset} of ${size}`).toEqual([]);
      }
    }
  }

  test("in the log of a killed daemon loses nothing silently", async () => {
    const logs = (await filesBelow(killed)).filter((path) => /^meta\/\d+\.log$/.test(path));
    expect(logs).toHaveLength(1);
    await expectNoLies(killed, logs, FLIPS_IN_LOG);
  });

  test("in a table loses nothing silently", async () => {
    const tables = (await filesBelow(closed)).filter((path) => /^meta\/\d+\.ldb$/.test(path));
    expect(tables.length).toBeGreaterThan(0);
    await expectNoLies(closed, tables, FLIPS_IN_TABLES);
  });

  test("the last record of the log cut short by a power cut is no damage", async () => {
    const [log = ""] = (await filesBelow(killed)).filter((path) => /^meta\/\d+\.log$/.test(path));
    await rm(work, { recursive: true, force: true });
    await cp(killed, work, { recursive: true });
    const file = await open(join(work, log), "r+");
    await file.truncate((await file.stat()).size - 5);
    await file.close();
    await using mount = await mountTcfs({ vaultDirectory: work });
    const names = await readdir(mount.mountPoint);
    expect(names.sort()).toEqual(Array.from({ length: names.length }, (_, i) => nameOf(i)));
    expect(names.length).toBeGreaterThanOrEqual(FILE_COUNT - 2);
  });
});

function errnoFrom(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}
