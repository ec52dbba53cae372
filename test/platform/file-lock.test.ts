import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { lockDirectory, lockPath } from "../../src/platform/file-lock.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const PATIENCE_SECONDS = 600;

describe("a lock on a path", () => {
  test("is held by one at a time, in the order of asking, also on a directory", async () => {
    await using directory = await temporaryDirectory("lock");
    const order: string[] = [];
    const first = await lockPath(directory.path, "is at it", PATIENCE_SECONDS);
    const second = lockPath(directory.path, "is at it", PATIENCE_SECONDS).then(async (lock) => {
      order.push("second");
      await lock[Symbol.asyncDispose]();
    });
    order.push("first");
    await first[Symbol.asyncDispose]();
    await second;
    expect(order).toEqual(["first", "second"]);
  });

  test("is refused by what the other process does, once the time is up", async () => {
    await using directory = await temporaryDirectory("lock");
    const path = join(directory.path, "file");
    await using _held = await lockPath(path, "is at it", PATIENCE_SECONDS);
    await expect(lockPath(path, "is talking to the TPM", 0)).rejects.toThrow(/another process is talking to the TPM/u);
  });

  test("is let go of by the end of its process", async () => {
    await using directory = await temporaryDirectory("lock");
    const path = join(directory.path, "file");
    const holder = spawn("flock", [path, "cat"], { stdio: ["pipe", "pipe", "ignore"] });
    holder.stdin.write("\n");
    await once(holder.stdout, "data");
    await expect(lockPath(path, "holds it", 0)).rejects.toThrow(/another process holds it/u);
    holder.kill("SIGKILL");
    await once(holder, "close");
    // flock(1) ends with its signal, `cat` with the end of its input.
    await using _mine = await lockPath(path, "holds it", PATIENCE_SECONDS);
  });

  test("of a directory that is gone makes no file in its place", async () => {
    await using directory = await temporaryDirectory("lock");
    const path = join(directory.path, "gone");
    await expect(lockDirectory(path, "holds it", 1)).rejects.toThrow(/cannot be locked/u);
    expect(await readdir(directory.path)).toEqual([]);
    await mkdir(path);
    await using _held = await lockDirectory(path, "holds it", PATIENCE_SECONDS);
    await expect(lockDirectory(path, "holds it", 0)).rejects.toThrow(/another process holds it/u);
  });

  test("is refused where the path cannot be", async () => {
    await expect(lockPath("/nowhere/at/all", "holds it", 1)).rejects.toThrow(/cannot be locked/u);
  });
});
