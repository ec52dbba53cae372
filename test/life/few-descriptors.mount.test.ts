/** Too few file descriptors: a mount says so, and a daemon that runs out of them later keeps what it has and goes on. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EXIT_CODE } from "../../src/cli/exit-codes.ts";
import { LINKED_COMMAND } from "../cli/fixtures.ts";
import { Cleanup } from "../support/cleanup.ts";
import { attempt, eventually, run } from "../support/run.ts";
import { mountTcfs, type TcfsMount } from "../support/tcfs-mount.ts";
import { SyncedFiles } from "./synced-files.ts";

const MIB = 2 ** 20;
const PATIENCE_MS = 60_000;

describe("a limit of open files", () => {
  const cleanup = new Cleanup();
  let mount: TcfsMount;
  const files = new SyncedFiles(() => mount.mountPoint);
  beforeAll(async () => {
    mount = cleanup.use(await mountTcfs());
  });
  afterAll(() => cleanup[Symbol.asyncDispose]());

  const limited = (limit: string, words: readonly string[]): ReturnType<typeof attempt> =>
    attempt("prlimit", [`--nofile=${limit}`, process.execPath, LINKED_COMMAND, ...words]);

  test("too low for a mount is told in a sentence; the soft one does not count", async () => {
    await mount.unmount();
    const words = ["mount", mount.mountPoint, "--vault", mount.vaultDirectory];
    const secret = ["--passphrase-file", join(mount.controlDirectory, "passphrase")];
    // At the lower ones not even the parts of the command can be read.
    for (const limit of [22, 26, 32, 100, 383]) {
      const { code, stderr } = await limited(`${limit}:${limit}`, [...words, ...secret]);
      expect(code, stderr).toBe(EXIT_CODE.TOO_MANY_FILES);
      expect(stderr).toMatch(/^tcfs: .*open files.*ulimit -H?n.*\n$/u);
    }
    const { code, stderr } = await limited("32:384", [...words, ...secret]);
    expect(code, stderr).toBe(EXIT_CODE.OK);
    await mount.unmount();
  });

  test("that a daemon reaches later costs nothing: it goes on once it may open files again", async () => {
    await mount.mount();
    expect(await files.tryToWrite("before", 2 * MIB)).toBeUndefined();
    await run("prlimit", ["--pid", String(mount.pid), "--nofile=3:4096"]);
    await writeFile(join(mount.mountPoint, "unsynced"), "of before it could open files again");
    expect(await firstRefusal(files)).toBe("ENFILE");

    await run("prlimit", ["--pid", String(mount.pid), "--nofile=4096:4096"]);
    await eventually(
      "writes succeed again",
      PATIENCE_MS,
      async () => (await files.tryToWrite("after", 2 * MIB)) === undefined,
    );
    await files.expectRight();
    await mount.remount();
    await files.expectRight();
    expect(await run("cat", [join(mount.mountPoint, "unsynced")])).toBe("of before it could open files again");
  });
});

/** Packs that are open still take some. */
async function firstRefusal(files: SyncedFiles): Promise<string | undefined> {
  for (let i = 0; i < 100; i++) {
    const refused = await files.tryToWrite(`little${String(i)}`, 2 * MIB);
    if (refused !== undefined) return refused;
  }
  return undefined;
}
