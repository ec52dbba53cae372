import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { EXIT_CODE } from "../../src/cli/exit-codes.ts";
import type { CheckReport } from "../../src/fs/check.ts";
import { mountTcfs } from "../support/tcfs-mount.ts";

const MIB = 1024 * 1024;

/** A bit in the middle of every pack. */
function damagePacks(vault: string): void {
  const packs = join(vault, "packs");
  for (const name of readdirSync(packs, { recursive: true, encoding: "utf8" }).filter((path) => path.length === 35)) {
    const bytes = readFileSync(join(packs, name));
    const middle = Math.floor(bytes.length / 2);
    bytes[middle] = (bytes[middle] ?? 0) ^ 1;
    writeFileSync(join(packs, name), bytes);
  }
}

describe("tcfs check", () => {
  test("says that all is well, then names what is damaged, in a mounted vault and without a mount", async () => {
    await using mount = await mountTcfs();
    const secrets = ["--vault", mount.vaultDirectory, "--passphrase-file", join(mount.controlDirectory, "passphrase")];
    const parts = Array.from({ length: MIB / 32 }, (_, index) => createHash("sha256").update(String(index)).digest());
    await writeFile(join(mount.mountPoint, "photo.jpg"), Buffer.concat(parts));
    const well = await mount.tcfs(["check", "-m", mount.mountPoint]);
    expect(well.code, well.stderr).toBe(EXIT_CODE.OK);
    expect(well.stdout).toMatch(/^2 names, 0 versions and \d+ chunks? \(1\.0 MiB\) checked: no damage\n$/u);
    await mount.unmount();
    damagePacks(mount.vaultDirectory);
    const alone = await mount.tcfs(["check", ...secrets, "--json"]);
    expect(alone.code, alone.stderr).toBe(EXIT_CODE.CORRUPT);
    const { damages } = JSON.parse(alone.stdout) as CheckReport;
    expect(new Set(damages.map(({ path, what }) => `${what} ${path}`))).toEqual(new Set(["content photo.jpg"]));
    await mount.mount();
    const beside = await mount.tcfs(["check", "--vault", mount.vaultDirectory]);
    expect(beside.code, beside.stderr).toBe(EXIT_CODE.CORRUPT);
    expect(beside.stdout).toContain("photo.jpg: content: ");
  });
});
