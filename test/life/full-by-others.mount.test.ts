/** Other programs fill the disk below the vault to the last byte: it mounts, is read, and gives back what is deleted. */
import { randomBytes } from "node:crypto";
import { mkdir, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cleanup } from "../support/cleanup.ts";
import { loopExt4, type LoopExt4 } from "../support/loop-ext4.ts";
import { attempt, eventually, run } from "../support/run.ts";
import { mountTcfs, type TcfsMount } from "../support/tcfs-mount.ts";
import { SyncedFiles } from "./synced-files.ts";

const MIB = 2 ** 20;
/** Of which only what is written is stored: room is put by where there is plenty. */
const DISK_MIB = 2600;
const RESERVE_BYTES = 128 * MIB;
/** Their deletion is more than the journal holds. */
const SMALL_FILES = 12_000;
const LONG_MS = 120_000;

describe("a vault on a disk that others fill", () => {
  const cleanup = new Cleanup();
  let disk: LoopExt4;
  let mount: TcfsMount;
  const files = new SyncedFiles(() => mount.mountPoint);
  const inside = (name: string): string => join(mount.mountPoint, name);
  const ballast = (name: string): string => join(disk.mountPoint, name);
  const reserveBytes = async (): Promise<number> =>
    stat(join(mount.vaultDirectory, "reserve")).then(
      ({ size }) => size,
      () => 0,
    );

  beforeAll(async () => {
    disk = cleanup.use(await loopExt4(DISK_MIB));
    mount = cleanup.use(await mountTcfs({ vaultDirectory: join(disk.mountPoint, "vault") }));
    const policy = await mount.tcfs(["versions", "--policy", "min-age=0s", "-m", mount.mountPoint]);
    expect(policy.stderr).toBe("");
    await mkdir(inside("small"));
    for (let i = 0; i < SMALL_FILES; i++) await writeFile(inside(`small/${i}`), randomBytes(2000));
    for (const name of ["one", "two"]) expect(await files.tryToWrite(name, 20 * MIB)).toBeUndefined();
    await eventually("room is put by", LONG_MS, async () => (await reserveBytes()) === RESERVE_BYTES);
  });
  afterAll(() => cleanup[Symbol.asyncDispose]());

  /** Blocks are taken without being written, then what is left by ever smaller writes. */
  async function fillUp(): Promise<void> {
    for (const bytes of [64 * MIB, MIB, 4096]) {
      for (let i = 0; ; i++) {
        const taken = await attempt("fallocate", ["-l", String(bytes), ballast(`ballast ${bytes} ${i}`)]);
        if (taken.code !== 0) break;
      }
    }
    const { stdout } = await attempt("stat", ["-f", "-c", "%a", disk.mountPoint]);
    expect(Number(stdout)).toBeLessThan(16);
  }

  test("mounts after a kill, though not one byte is left, and what was synced is right", async () => {
    await fillUp();
    await mount.kill9();
    await mount.mount();
    expect(await reserveBytes()).toBe(RESERVE_BYTES / 2);
    await files.expectRight();
  });

  test("has no room for writes", async () => {
    expect(await files.tryToWrite("more", MIB)).toBe("ENOSPC");
    await rm(inside("more"), { force: true });
  });

  test("carries deletions out, more of them than the journal holds, and they give room back", async () => {
    await fillUp(); // half of what was put by is gone too
    await rm(inside("small"), { recursive: true });
    await run("sync", ["-f", mount.mountPoint]);
    await rm(inside("one"));
    files.hashes.delete("one");
    await mount.remount();
    await files.expectRight();
    expect(await readdir(mount.mountPoint)).toEqual(["two"]);
  });

  test("puts room by again once there is plenty", async () => {
    for (const name of await readdir(disk.mountPoint)) if (name.startsWith("ballast")) await rm(ballast(name));
    await eventually("writes succeed", LONG_MS, async () => (await files.tryToWrite("new", MIB)) === undefined);
    await eventually("room is put by", LONG_MS, async () => (await reserveBytes()) === RESERVE_BYTES);
    await files.expectRight();
  });
});
