/** The built package on newer versions of Node, whose binaries come as npm packages. */
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { Cleanup } from "../support/cleanup.ts";
import { unmountAnyway } from "../support/loop-ext4.ts";
import { attempt, run } from "../support/run.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const COMMAND = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const INSTALL_TIMEOUT_MS = 600_000;
const PACKAGE = `node-linux-${process.arch}`;

/** Install one version of Node in `directory`. @returns Its binary, or why there is none. */
async function installNode(directory: string, version: string): Promise<{ node: string } | { reason: string }> {
  const parameters = [
    "install",
    "--prefix",
    directory,
    "--ignore-scripts",
    "--fetch-retries=5",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
  ];
  const result = await attempt("npm", [...parameters, `${PACKAGE}@${version}`], {
    timeoutMs: INSTALL_TIMEOUT_MS,
  }).catch((error: unknown) => ({ code: undefined, stderr: String(error) }));
  const node = join(directory, "node_modules", PACKAGE, "bin/node");
  if (result.code === 0 && existsSync(node)) return { node };
  return { reason: `${PACKAGE}@${version} could not be installed: ${result.stderr.trim().slice(0, 500)}` };
}

describe("the package that Node 20 built", () => {
  test.for(["22", "24"])("makes, mounts and reopens a vault on Node %s", async (version, context) => {
    await using cleanup = new Cleanup();
    const directory = cleanup.use(await temporaryDirectory(`node-${version}`)).path;
    const installed = await installNode(join(directory, "node"), version);
    if ("reason" in installed) {
      console.log(`skipped on Node ${version}: ${installed.reason}`);
      context.skip(installed.reason);
      return;
    }
    const { node } = installed;
    expect(await run(node, ["--version"])).toMatch(new RegExp(`^v${version}\\.`, "u"));
    const vault = join(directory, "vault");
    const mountPoint = join(directory, "mount");
    const passphraseFile = join(directory, "passphrase");
    await mkdir(mountPoint);
    await writeFile(passphraseFile, "a passphrase for one test\n", { mode: 0o600 });
    const unlock = ["--vault", vault, "--passphrase-file", passphraseFile];
    await run(node, [COMMAND, "init", ...unlock, "--recovery-file", join(directory, "words")]);
    cleanup.add(() => unmountAnyway(mountPoint));
    const contents = Buffer.alloc(3 * 2 ** 20, `Node ${version} `);
    await run(node, [COMMAND, "mount", mountPoint, ...unlock]);
    await writeFile(join(mountPoint, "file"), contents);
    await run(node, [COMMAND, "umount", mountPoint]);
    await run(node, [COMMAND, "mount", mountPoint, ...unlock]);
    expect(contents.equals(await readFile(join(mountPoint, "file")))).toBe(true);
    await run(node, [COMMAND, "umount", mountPoint]);
  });
});
