/** The disk below the vault is full: ENOSPC at write, nothing acknowledged is lost, and it goes on when there is room. */
import { mkdir, open, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cleanup } from "../support/cleanup.ts";
import { loopExt4, type LoopExt4 } from "../support/loop-ext4.ts";
import { eventually } from "../support/run.ts";
import { mountTcfs, type TcfsMount } from "../support/tcfs-mount.ts";
import { SyncedFiles } from "./synced-files.ts";

const MIB = 2 ** 20;
const DISK_MIB = 128;
const ROOM_MS = 60_000;

describe("a vault on a full disk", () => {
  const cleanup = new Cleanup();
  let disk: LoopExt4;
  let mount: TcfsMount;
  const files = new SyncedFiles(() => mount.mountPoint);
  const synced = files.hashes;
  const inside = (name: string): string => join(mount.mountPoint, name);

  beforeAll(async () => {
    disk = cleanup.use(await loopExt4(DISK_MIB));
    mount = cleanup.use(await mountTcfs({ vaultDirectory: join(disk.mountPoint, "vault") }));
  });
  afterAll(() => cleanup[Symbol.asyncDispose]());

  const fillUp = (prefix: string): Promise<string | undefined> => files.fillUp(prefix, DISK_MIB, 2 * MIB);

  const removeHalf = async (): Promise<void> => {
    for (const name of [...synced.keys()].slice(0, Math.ceil(synced.size / 2))) {
      await rm(inside(name));
      synced.delete(name);
    }
  };

  test("answers ENOSPC when it is full, and what was synced before is right", async () => {
    expect(await fillUp("file")).toBe("ENOSPC");
    expect(synced.size).toBeGreaterThan(DISK_MIB / 6);
    await files.expectRight();
  });

  test("answers ENOSPC again and again, and reads go on", async () => {
    for (let i = 0; i < 5; i++) expect(await files.tryToWrite(`again${i}`, 4 * MIB)).toBe("ENOSPC");
    await files.expectRight();
    expect((await readdir(mount.mountPoint)).length).toBeGreaterThan(0);
  });

  test("removing files works on a full disk and makes room", async () => {
    for (const name of await readdir(mount.mountPoint)) {
      if (!synced.has(name)) await rm(inside(name));
    }
    await removeHalf();
    await eventually(
      "writes succeed again",
      ROOM_MS,
      async () => (await files.tryToWrite("new", 2 * MIB)) === undefined,
    );
    await files.expectRight();
  });

  test("is the same after unmount and mount", async () => {
    await mount.remount();
    await files.expectRight();
    expect(await files.tryToWrite("after-mount", MIB)).toBeUndefined();
  });

  test("survives a disk that something else filled, and goes on when that is gone", async () => {
    await mkdir(join(disk.mountPoint, "other"));
    const ballast = join(disk.mountPoint, "other", "ballast");
    const file = await open(ballast, "w");
    await file.writeFile(Buffer.alloc(DISK_MIB * MIB)).catch((error: unknown) => {
      expect(error).toHaveProperty("code", "ENOSPC");
    });
    await file.close();
    await expect(fillUp("squeezed")).resolves.toBe("ENOSPC");
    await files.expectRight();
    expect((await stat(inside("after-mount"))).size).toBe(MIB);
    await rm(ballast);
    await eventually(
      "writes succeed again",
      ROOM_MS,
      async () => (await files.tryToWrite("relieved", MIB)) === undefined,
    );
    await files.expectRight();
  });

  test("a daemon killed on the full disk comes back with all that was synced", async () => {
    await fillUp("last");
    await mount.kill9();
    await mount.mount();
    await files.expectRight();
    await removeHalf();
    await eventually("writes succeed again", ROOM_MS, async () => (await files.tryToWrite("small", 5)) === undefined);
    await files.expectRight();
  });
});
