/** Shell completion, by bash itself and the script that `tcfs completion` prints. */
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { run } from "../support/run.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { COMMAND } from "./fixtures.ts";

/** Words of a line of which the last one is being typed; what bash would offer for it, one a line, empty for paths. */
const SCRIPT = `
eval "$(tcfs completion)"
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_tcfs_yargs_completions
printf '%s\\n' "\${COMPREPLY[@]}"
`;

test("offers commands, flags to whoever begins one, and leaves paths to the shell", async () => {
  await using directory = await temporaryDirectory("completion");
  const bin = join(directory.path, "bin");
  await mkdir(bin);
  await writeFile(join(bin, "tcfs"), `#!/bin/sh\nexec "${process.execPath}" "${COMMAND}" "$@"\n`);
  await chmod(join(bin, "tcfs"), 0o755);
  const env = { ...process.env, SHELL: "/bin/bash", PATH: `${bin}:${process.env["PATH"] ?? ""}` };
  const offered = async (...words: string[]): Promise<string[]> => {
    const lines = await run("bash", ["-c", SCRIPT, "bash", "tcfs", ...words], { env });
    return lines.split("\n").filter((line) => line !== "");
  };
  expect(await offered("um")).toEqual(["umount"]);
  expect(await offered("key", "re")).toEqual(expect.arrayContaining(["remove", "reseal"]));
  expect(await offered("mount", "--pass")).toEqual(["--passphrase-file"]);
  expect(await offered("mount", "")).toEqual([]);
  expect(await offered("mount", "m", "--vault", "")).toEqual([]);
});
