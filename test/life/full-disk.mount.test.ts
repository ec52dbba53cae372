/** The disk below the vault is full: ENOSPC at write, nothing acknowledged is lost, and it goes on when there is room. */
import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cleanup } from "../support/cleanup.ts";
import { loopExt4, type LoopExt4 } from "../support/loop-ext4.ts";
import { eventually } from "../support/run.ts";
import { mountTcfs, type TcfsMount } from "../support/tcfs-mount.ts";
import { hashOf } from "./known-files.ts";

const MIB = 2 ** 20;
const DISK_MIB = 128;
const ROOM_MS = 60_000;

describe("a vault on a full disk", { timeout: 300_000 }, () => {
  const cleanup = new Cleanup();
  let disk: LoopExt4;
  let mount: TcfsMount;
  /** Path → SHA-256 of what a successful fsync has acknowledged. */
  const synced = new Map<string, string>();
  const inside = (name: string): string => join(mount.mountPoint, name);

  beforeAll(async () => {
    disk = cleanup.use(await loopExt4(DISK_MIB));
    mount = cleanup.use(await mountTcfs({ vaultDirectory: join(disk.mountPoint, "vault") }));
  }, 120_000);
  afterAll(() => cleanup[Symbol.asyncDispose](), 120_000);

  /** Write and fsync one file. @returns The errno's name if that failed. */
  async function tryToWrite(name: string, lengthBytes: number): Promise<string | undefined> {
    const content = randomBytes(lengthBytes);
    try {
      const file = await open(inside(name), "w");
      try {
        await file.writeFile(content);
        await file.sync();
        synced.set(name, hashOf(content));
      } finally {
        await file.close();
      }
      return undefined;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? String(error);
    }
  }

  async function fillUp(prefix: string): Promise<string | undefined> {
    for (let i = 0; i < DISK_MIB; i++) {
      const failure = await tryToWrite(`${prefix}${i}`, 2 * MIB);
      if (failure !== undefined) return failure;
    }
    return undefined;
  }

  async function expectSyncedRight(): Promise<void> {
    for (const [name, hash] of synced) expect(hashOf(await readFile(inside(name))), name).toBe(hash);
  }

  test("answers ENOSPC when it is full, and what was synced before is right", async () => {
    expect(await fillUp("file")).toBe("ENOSPC");
    expect(synced.size).toBeGreaterThan(DISK_MIB / 6);
    await expectSyncedRight();
  });

  test("answers ENOSPC again and again, and reads go on", async () => {
    for (let i = 0; i < 5; i++) expect(await tryToWrite(`again${i}`, 4 * MIB)).toBe("ENOSPC");
    await expectSyncedRight();
    expect((await readdir(mount.mountPoint)).length).toBeGreaterThan(0);
  });

  test("removing files works on a full disk and makes room", async () => {
    for (const name of await readdir(mount.mountPoint)) {
      if (!synced.has(name)) await rm(inside(name));
    }
    for (const name of [...synced.keys()].slice(0, Math.floor(synced.size / 2))) {
      await rm(inside(name));
      synced.delete(name);
    }
    await eventually("writes succeed again", ROOM_MS, async () => (await tryToWrite("new", 2 * MIB)) === undefined);
    await expectSyncedRight();
  });

  test("is the same after unmount and mount", async () => {
    await mount.remount();
    await expectSyncedRight();
    expect(await tryToWrite("after-mount", MIB)).toBeUndefined();
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
    await expectSyncedRight();
    expect((await stat(inside("after-mount"))).size).toBe(MIB);
    await rm(ballast);
    await eventually("writes succeed again", ROOM_MS, async () => (await tryToWrite("relieved", MIB)) === undefined);
    await expectSyncedRight();
  });

  test("a daemon killed on the full disk comes back with all that was synced", async () => {
    await fillUp("last");
    await mount.kill9();
    await mount.mount();
    await expectSyncedRight();
    await rm(inside("relieved"));
    synced.delete("relieved");
    await writeFile(inside("small"), "small");
    expect(await readFile(inside("small"), "utf8")).toBe("small");
  });
});
