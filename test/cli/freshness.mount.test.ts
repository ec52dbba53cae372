/** `--tpm-freshness` as its user sees it: an older vault directory or bucket is told of, and taken only if that is said. */
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SoftwareTpm, swtpmIsMissing } from "../support/swtpm.ts";
import { CommandLine } from "./fixtures.ts";

describe.skipIf(swtpmIsMissing !== undefined)("--tpm-freshness", () => {
  test("refuses an older vault directory and an older bucket, and a machine that does not know the vault", async () => {
    await using line = await CommandLine.make();
    await using tpm = await SoftwareTpm.make();
    const words = ["--recovery-file", join(line.directory, "words")]; // no Argon2: there are many commands
    const mount = ["mount", line.mountPoint, "--vault", line.vault, ...words, "--pid-file", line.pidFile];
    const here = [...mount, "--tcti", tpm.tcti];
    const store = join(line.directory, "store");
    const url = `file://${store}`;
    await line.expect("OK", ["store", "set", url, "--vault", line.vault, ...words]);

    await line.expect("OK", [...here, "--tpm-freshness"]);
    await writeFile(join(line.mountPoint, "a"), "a");
    await line.expect("OK", ["umount", line.mountPoint, "--wait"]);
    // The TPM is told of a new key before the old one is given up, and takes it for the same vault.
    const rotated = await line.expect("OK", [
      "key",
      "rotate",
      "--vault",
      line.vault,
      ...words,
      "--yes",
      "--tcti",
      tpm.tcti,
    ]);
    expect(rotated.stdout).toContain("0 objects left under epoch 1");
    const olderVault = join(line.directory, "older-vault");
    const olderStore = join(line.directory, "older-store");
    await cp(line.vault, olderVault, { recursive: true });
    await cp(store, olderStore, { recursive: true });

    // Once asked for, it is looked at without being asked for.
    await line.expect("OK", here);
    await writeFile(join(line.mountPoint, "b"), "b");
    await line.expect("OK", ["umount", line.mountPoint, "--wait"]);
    const newerVault = join(line.directory, "newer-vault");
    await cp(line.vault, newerVault, { recursive: true });

    await rm(line.vault, { recursive: true });
    await cp(olderVault, line.vault, { recursive: true });
    const refused = await line.expect("STALE_STATE", here);
    expect(refused.stderr).toMatch(
      /older state of the vault: commits \d+ to \d+, the last known at 20.*, are missing.*--accept-older takes it/u,
    );
    await line.expect("STALE_STATE", [...here, "--read-only"]);

    await rm(store, { recursive: true });
    await cp(olderStore, store, { recursive: true });
    const copy = join(line.directory, "copy");
    const attach = ["attach", url, "--vault", copy, ...words, "--tcti", tpm.tcti];
    expect((await line.expect("STALE_STATE", [...attach, "--tpm-freshness"])).stderr).toMatch(/are missing/u);
    await line.expect("OK", [...attach, "--tpm-freshness", "--accept-older"]);

    // What was accepted is the newest state from then on: the one that was it before is newer still, and opens.
    await line.expect("OK", [...here, "--accept-older"]);
    expect(await readFile(join(line.mountPoint, "a"), "utf8")).toBe("a");
    await line.umount();
    await line.expect("OK", here);
    await line.umount();

    await tpm.tool("clear", "-c", "p");
    expect((await line.expect("STALE_STATE", here)).stderr).toMatch(/does not remember the vault: it was cleared/u);
    await line.expect("OK", [...here, "--accept-older"]);
    await line.umount();
    await tpm.stop();
    expect((await line.expect("NO_TPM", here)).stderr).toMatch(/cannot be checked/u);
    await line.expect("OK", [...here, "--no-tpm-freshness"]);
    await line.umount();
    await line.expect("OK", here);
    await line.umount();
  });
});
