/**
 * `npm start` as a script runs it: no terminal, a home of its own. In a copy of the checkout, so that whatever it finds to
 * be built is built there.
 */
import { chmod, cp, mkdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findMount } from "../../src/cli/mounts/mount-table.ts";
import { Cleanup } from "../support/cleanup.ts";
import { unmountAnyway } from "../support/loop-ext4.ts";
import { attempt, type RunResult } from "../support/run.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const PARTS = ["package.json", "package-lock.json", "tsconfig.json", "scripts", "src", "native", "dist"];

describe("npm start without a terminal", () => {
  const cleanup = new Cleanup();
  let home = "";
  let checkout = "";
  let mountPoint = "";

  beforeAll(async () => {
    const { path } = cleanup.use(await temporaryDirectory("start"));
    home = join(path, "home");
    checkout = join(path, "checkout");
    mountPoint = join(path, "my vault");
    await mkdir(home);
    await mkdir(checkout);
    for (const part of PARTS) await cp(join(ROOT, part), join(checkout, part), { recursive: true });
    await symlink(join(ROOT, "node_modules"), join(checkout, "node_modules"));
    cleanup.add(() => unmountAnyway(mountPoint));
  });
  afterAll(() => cleanup[Symbol.asyncDispose]());

  /** With nothing of this run's environment: npm has its own variables there. */
  const npm = (program: "npm" | "npx", words: readonly string[], cwd = checkout): Promise<RunResult> => {
    const paths = [`HOME=${home}`, `XDG_DATA_HOME=${home}/data`, `XDG_CONFIG_HOME=${home}/config`];
    const environment = [`PATH=${process.env["PATH"] ?? ""}`, ...paths, "npm_config_offline=true"];
    return attempt("env", ["-i", ...environment, program, ...words], { cwd });
  };
  const start = (...words: readonly string[]): Promise<RunResult> => npm("npm", ["start", "--", ...words]);

  test("makes a vault with a random passphrase that it keeps for its owner alone, mounts it, and says where all is", async () => {
    const { code, stdout, stderr } = await start(mountPoint);
    expect(code, stdout + stderr).toBe(0);
    expect(stdout).toContain(`${home}/data/tcfs/default is mounted at ${mountPoint}`);
    for (const pattern of [/passphrase is in (\S+) \(only you can read it\)/u, /recovery words are in (\S+): write/u]) {
      const [, file = ""] = pattern.exec(stdout) ?? [];
      expect(file, stdout).toContain(`${home}/config/tcfs/`);
      expect((await stat(file)).mode & 0o777).toBe(0o600);
      expect(stdout).not.toContain((await readFile(file, "utf8")).trim());
    }
    expect(stdout).toContain(`npx tcfs umount '${mountPoint}'`);
    expect(stdout).toContain(`npx tcfs status '${mountPoint}'`); // without it, it would be the default vault's
    expect(findMount(mountPoint)?.type).toBe("fuse.tcfs");
    await writeFile(join(mountPoint, "kept"), "over mounts");
  });

  test("says that it is mounted the second time, and how to go on is what it said: npx tcfs", async () => {
    const again = await start(mountPoint);
    expect(again.code, again.stderr).toBe(0);
    expect(again.stdout).toContain(`Already mounted at ${mountPoint}.`);
    const status = await npm("npx", ["tcfs", "status", mountPoint]);
    expect(status.code, status.stderr).toBe(0);
    const umount = await npm("npx", ["tcfs", "umount", mountPoint]);
    expect(umount.code, umount.stderr).toBe(0);
    expect(findMount(mountPoint)).toBeUndefined();
  });

  test("takes the kept passphrase later, and a mount point from where one stands", async () => {
    const { code, stdout, stderr } = await npm(
      "npm",
      ["--prefix", checkout, "start", "--", "my vault"],
      join(checkout, ".."),
    );
    expect(code, stdout + stderr).toBe(0);
    expect(await readFile(join(mountPoint, "kept"), "utf8")).toBe("over mounts");
    expect((await npm("npx", ["tcfs", "umount", mountPoint])).code).toBe(0);
  });

  test("takes another vault and passphrase, and asks nobody for one that it was not given", async () => {
    const secret = join(home, "secret");
    await writeFile(secret, "swordfish\n", { mode: 0o600 });
    const words = ["--vault", join(home, "other"), mountPoint];
    const { code, stdout, stderr } = await start(...words, "--passphrase-file", secret);
    expect(code, stdout + stderr).toBe(0);
    expect(stdout).not.toContain("passphrase is in");
    expect((await npm("npx", ["tcfs", "umount", mountPoint])).code).toBe(0);
    expect(await start(...words)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("give --passphrase-file") as string,
    });
    await chmod(secret, 0o644);
    const unsafe = await start(...words, "--passphrase-file", secret);
    expect(unsafe.code, unsafe.stderr).toBe(10);
  });

  test("tells of a wrong command line in a sentence, and mounts nothing", async () => {
    await writeFile(join(home, "file"), "");
    expect(await start("--help")).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("choose the mount point") as string,
    });
    for (const [words, sentence] of [
      [["a", "b"], "one mount point at most"],
      [["--nonsense"], "nonsense"],
      [["--vault"], "vault"],
      [[join(home, "file")], "not a directory"],
      [[join(home, "file", "below")], "cannot be created"],
    ] as const) {
      const { code, stderr } = await start(...words);
      expect(code, words.join(" ")).not.toBe(0);
      expect(stderr).toMatch(new RegExp(`^tcfs: .*${sentence}`, "mu"));
      expect(stderr).not.toMatch(/^ +at /mu);
    }
  });
});
