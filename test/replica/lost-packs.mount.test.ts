/** A pack that this disk lost before it was sent, on a real mount: who is told of it, and how it ends. */
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { VaultFigures } from "../../src/vault/status.ts";
import { CommandLine } from "../cli/fixtures.ts";
import { noise } from "../crypto/fixtures.ts";
import { run } from "../support/run.ts";

const BYTES = 300_000;

test("a lost pack is told of by wait, status, check, attach and a rehearsal; the rest is in the store", async () => {
  await using line = await CommandLine.make();
  const url = `file://${join(line.directory, "store")}`;
  const packs = join(line.vault, "packs");
  const file = (name: string): string => join(line.mountPoint, name);
  await line.expect("OK", ["store", "set", url, ...line.unlock]);
  await line.mount();
  await line.uploads("pause");
  await writeFile(file("a"), noise("a", BYTES));
  await line.umount();
  await cp(packs, join(line.directory, "kept"), { recursive: true });
  await rm(packs, { recursive: true }); // all that "a" is in
  await line.mount();
  await writeFile(file("b"), noise("b", BYTES));
  await line.uploads("resume");

  const waited = await line.expect("CORRUPT", ["wait", line.mountPoint, "--timeout", "600"]);
  const names = waited.stderr.match(/\b[0-9a-f]{32}\b/gu) ?? [];
  expect(names.length).toBeGreaterThan(0);
  expect(waited.stderr).toMatch(/neither this disk nor the store has whole.*All else is in the store/u);
  const told = await line.expect("OK", ["status", line.mountPoint]);
  expect(told.stdout).toMatch(/^lost +\d packs?, which neither.*tcfs check tells which files$/mu);
  const status = JSON.parse((await line.expect("OK", ["status", "--json", line.mountPoint])).stdout) as VaultFigures;
  expect(status.store).toMatchObject({
    backlogBytes: 0,
    lastError: null,
    lostPacks: names.map((pack) => ({ pack, kind: "missing" })),
  });
  await expect(readFile(file("a"))).rejects.toMatchObject({ code: "EIO" });
  const xattr = ["--absolute-names", "--only-values", "-n", "user.tcfs.state", file("a")];
  expect(await run("getfattr", xattr)).toBe("lost");
  expect((await line.expect("CORRUPT", ["check", ...line.unlock])).stdout).toMatch(/^a: content: pack [0-9a-f]{32}/mu);
  const log = await readFile(join(line.vault, "daemon.log"), "utf8");
  expect(log).toMatch(/a pack is lost, neither on this disk nor in the store/u);
  expect(log).toMatch(/pack [0-9a-f]{32}: it is missing/u);
  const left = await line.expect("CORRUPT", ["umount", "--wait", line.mountPoint]); // and unmounts
  expect(left.stderr).toContain(names[0]);
  await line.expect("NOT_MOUNTED", ["wait", ...line.unlock.slice(0, 2)]);

  const rehearsal = ["rehearse-recovery", ...line.unlock, "--scratch", line.directory];
  expect((await line.expect("CORRUPT", rehearsal)).stdout).toMatch(/^lost already +\d packs?/mu);
  await using other = await CommandLine.make({ isBare: true });
  const unlock = ["--vault", other.vault, "--passphrase-file", line.passphraseFile];
  expect((await other.expect("OK", ["attach", url, ...unlock])).stderr).toContain(names[0]);
  await other.expect("OK", ["mount", other.mountPoint, ...unlock, "--pid-file", other.pidFile, "--read-only"]);
  expect(Buffer.compare(await readFile(join(other.mountPoint, "b")), noise("b", BYTES))).toBe(0);
  await expect(readFile(join(other.mountPoint, "a"))).rejects.toMatchObject({ code: "EIO" });
  await other.umount();

  await cp(join(line.directory, "kept"), packs, { recursive: true }); // somebody had a copy
  await line.mount();
  expect((await line.expect("OK", ["status", line.mountPoint])).stdout).toContain(names[0]); // not looked for yet
  await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
  expect((await line.expect("OK", ["status", line.mountPoint])).stdout).not.toContain(names[0]);
  expect(Buffer.compare(await readFile(file("a")), noise("a", BYTES))).toBe(0);
  await line.umount();
  expect((await line.expect("OK", rehearsal)).stdout).not.toContain("lost already");
});
