/** Versions and trash on a disk that runs full: they give way to what is written, and what is left of them is right. */
import { readFile, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cleanup } from "../support/cleanup.ts";
import { loopExt4 } from "../support/loop-ext4.ts";
import { eventually } from "../support/run.ts";
import { mountTcfs, type TcfsMount } from "../support/tcfs-mount.ts";
import { hashOf } from "./known-files.ts";
import { SyncedFiles } from "./synced-files.ts";

const MIB = 2 ** 20;
const DISK_MIB = 192;
const ROOM_MS = 120_000;

describe("versions on a full disk", () => {
  const cleanup = new Cleanup();
  let mount: TcfsMount;
  const files = new SyncedFiles(() => mount.mountPoint);
  /** SHA-256 of all that any file ever held in full. */
  const held = new Set<string>();

  beforeAll(async () => {
    const disk = cleanup.use(await loopExt4(DISK_MIB));
    mount = cleanup.use(await mountTcfs({ vaultDirectory: join(disk.mountPoint, "vault") }));
    const policy = await mount.tcfs(["versions", "--policy", "min-age=0s", "-m", mount.mountPoint]);
    expect(policy.stderr).toBe("");
  });
  afterAll(() => cleanup[Symbol.asyncDispose]());

  /** Written sooner or later: whoever is refused first has versions given up. */
  async function write(name: string): Promise<void> {
    await eventually(`${name} has room`, ROOM_MS, async () => (await files.tryToWrite(name, 4 * MIB)) === undefined);
    held.add(files.hashes.get(name) ?? "");
  }

  async function keptCount(): Promise<number> {
    const status = JSON.parse((await mount.tcfs(["status", "--json", mount.mountPoint])).stdout) as {
      versions: { count: number; trashCount: number };
    };
    return status.versions.count + status.versions.trashCount;
  }

  /** Every version that is told of can be read, and holds what some file held. */
  async function expectVersionsRight(): Promise<void> {
    const below = join(mount.mountPoint, ".versions");
    for (const name of await readdir(below)) {
      const content = await readFile(join(below, name)).catch((error: unknown) => {
        expect(error).toHaveProperty("code", "ENOENT"); // given up meanwhile
      });
      if (content === undefined) continue;
      const hash = hashOf(content);
      expect(held.has(hash) || files.halfWritten.has(hash), name).toBe(true);
    }
  }

  test("what is written and deleted again and again finds room, for the oldest of it goes", async () => {
    await write("stays");
    const count = Math.ceil((1.5 * DISK_MIB) / 4);
    for (let index = 0; index < count; index++) {
      await write("changed");
      await write(`file${index}`);
      await rm(join(mount.mountPoint, `file${index}`));
      files.hashes.delete(`file${index}`);
    }
    expect(await keptCount()).toBeLessThan(count);
    expect(await mount.log()).toContain("the oldest versions and deleted files were given up");
    await files.expectRight();
    await expectVersionsRight();
  });

  test("with what is there alone it is full at last, says ENOSPC, and has lost nothing", async () => {
    await eventually("full for good", ROOM_MS, async () => {
      const failure = await files.fillUp(`more${files.hashes.size} `, DISK_MIB, 4 * MIB);
      expect(failure).toBe("ENOSPC");
      return (await keptCount()) === 0;
    });
    await files.expectRight();
    await mount.kill9();
    await mount.mount();
    await files.expectRight();
    await expectVersionsRight();
  });
});
