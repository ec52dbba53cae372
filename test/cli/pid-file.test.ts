import { existsSync } from "node:fs";
import { readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { writePidFile } from "../../src/cli/daemon/pid-file.ts";
import { run } from "../support/run.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

describe("a pid file", () => {
  test("replaces what an earlier daemon left, and goes with its own", async () => {
    await using directory = await temporaryDirectory("pid");
    const path = join(directory.path, "pid");
    await writeFile(path, "123456789012345\n");
    const written = await writePidFile(path);
    expect(await readFile(path, "utf8")).toBe(`${process.pid}\n`);
    await written[Symbol.asyncDispose]();
    expect(existsSync(path)).toBe(false);
  });

  test("is not written through a symlink", async () => {
    await using directory = await temporaryDirectory("pid");
    const [path, victim] = [join(directory.path, "pid"), join(directory.path, "victim")];
    await writeFile(victim, "precious");
    await symlink(victim, path);
    await expect(writePidFile(path)).rejects.toMatchObject({ code: "TCFS_USAGE" });
    expect(await readFile(victim, "utf8")).toBe("precious");
  });

  test("does not wait at a FIFO", async () => {
    await using directory = await temporaryDirectory("pid");
    const path = join(directory.path, "pid");
    await run("mkfifo", [path]);
    await expect(writePidFile(path)).rejects.toMatchObject({ code: "TCFS_USAGE" });
  });
});
