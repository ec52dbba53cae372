/** A machine, or a container, without /dev/fuse: a /dev of our own in a mount namespace of our own. */
import { expect, test } from "vitest";
import { EXIT_CODE } from "../../src/cli/exit-codes.ts";
import { attempt } from "../support/run.ts";
import { COMMAND, CommandLine } from "./fixtures.ts";

/** What Node itself needs, and no more. */
const SCRIPT = `
mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9 && exec "$@"
`;

test("a machine without /dev/fuse is told of in a sentence, and nothing is left running", async () => {
  await using line = await CommandLine.make();
  const words = ["-m", "sh", "-c", SCRIPT, "sh", process.execPath, COMMAND, ...line.mountWords];
  const { code, stderr } = await attempt("unshare", words);
  expect(stderr).toMatch(/^tcfs: \/dev\/fuse cannot be opened \(ENOENT\)[^\n]*\n$/u);
  expect(code).toBe(EXIT_CODE.NO_DEVICE_ACCESS);
  await line.mount(); // the vault is free
  await line.umount();
});
