/** The check of a whole volume: real packs and records, damaged on the disk. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { formatReport } from "../../src/cli/commands/check.ts";
import { TcfsError } from "../../src/errors.ts";
import type { CheckReport } from "../../src/fs/check.ts";
import { type InodeNumber, type Name, ROOT_INODE } from "../../src/ids.ts";
import { RecordReader } from "../../src/metadata/record-reader.ts";
import { SnapshotView } from "../../src/metadata/snapshot-view.ts";
import { noise } from "../crypto/fixtures.ts";
import { TestVault } from "./fixtures/test-vault.ts";
import { Driver } from "./fixtures/versions-driver.ts";

const LARGE_BYTES = 600_000;
const caller = { uid: 0, gid: 0, pid: 1, onInterrupt: (): void => undefined };
const OPTIONS = { clearSetId: false, sync: false };

async function make(vault: TestVault, parent: InodeNumber, name: string, content: Uint8Array): Promise<InodeNumber> {
  const request = { mode: 0o100644, umask: 0, deviceNumber: 0 };
  const { operations } = vault.volume;
  const { ino } = await operations.makeNode(parent, name as Name, request, caller);
  await operations.write(ino, 0n, content, OPTIONS, caller);
  return ino;
}

async function makeDirectory(vault: TestVault, name: string): Promise<InodeNumber> {
  const request = { mode: 0o040755, umask: 0, deviceNumber: 0 };
  return (await vault.volume.operations.makeDirectory(ROOT_INODE, name as Name, request, caller)).ino;
}

const check = (vault: TestVault): Promise<CheckReport> => vault.volume.check(new AbortController().signal);

/** Flip one bit in each 60,000 bytes of every pack. */
async function damagePacks(vault: TestVault): Promise<void> {
  const packs = join(vault.directory, "packs");
  for (const name of (await readdir(packs, { recursive: true })).filter((found) => found.length === 35)) {
    const bytes = await readFile(join(packs, name));
    for (let at = 30_000; at < bytes.length; at += 60_000) bytes[at] = (bytes[at] ?? 0) ^ 1;
    await writeFile(join(packs, name), bytes);
  }
}

/** Flip one bit in the middle of the only pack that there is. */
async function damagePack(vault: TestVault): Promise<void> {
  const packs = join(vault.directory, "packs");
  const names = (await readdir(packs, { recursive: true })).filter((name) => name.length === 35);
  expect(names).toHaveLength(1);
  const path = join(packs, names[0] ?? "");
  const bytes = await readFile(path);
  bytes[300_000] = (bytes[300_000] ?? 0) ^ 1;
  await writeFile(path, bytes);
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("a check", () => {
  it("of a sound volume finds nothing, and has read all of it, what is not committed yet too", async () => {
    await using vault = await TestVault.create();
    const directory = await makeDirectory(vault, "d");
    await make(vault, directory, "large", noise("large", LARGE_BYTES));
    await make(vault, ROOT_INODE, "small", noise("small", 10));
    expect(await check(vault)).toEqual({
      names: 4,
      versions: 0,
      chunks: 2,
      bytes: LARGE_BYTES + 10,
      damageCount: 0,
      damages: [],
    });
  });

  it("names each path that a damaged chunk is in, snapshots' too, and reads past what is cached", async () => {
    await using vault = await TestVault.create();
    const { operations, snapshots } = vault.volume;
    const directory = await makeDirectory(vault, "d");
    const ino = await make(vault, directory, "f\u00c3\u00bc", noise("large", LARGE_BYTES));
    await operations.link(ino, ROOT_INODE, "hard" as Name, caller);
    await snapshots.take("s", "");
    await operations.unlink(ROOT_INODE, "hard" as Name, caller);
    await make(vault, ROOT_INODE, "good", noise("other", 10));
    await operations.syncAll();
    (await operations.read(ino, 0n, LARGE_BYTES, caller)).release();
    await damagePack(vault);
    const report = await check(vault);
    const paths = report.damages.map(({ path, what }) => `${what} ${path}`).sort();
    expect(paths).toEqual(["content .snapshots/s/d/fü", "content .snapshots/s/hard", "content d/fü"]);
    expect(report.damageCount).toBe(3);
    expect(formatReport(report)).toMatch(
      /^d\/fü: content: .*\n.*\n.*\n8 names, 0 versions and 1 chunk \(10 B\) checked: 3 damaged$/u,
    );
  });

  it("reads versions and what is in the trash, and names the damaged ones as .versions does", async () => {
    const driver = await Driver.open();
    const { vault } = driver;
    const directory = await driver.directory("d");
    await driver.save("long", noise("long", 5_000_000), directory);
    await driver.save("deleted", noise("deleted", LARGE_BYTES), directory);
    await driver.operations.syncAll();
    await driver.write("long", 4_900_000, noise("end", 10), directory);
    await driver.close("long", directory);
    await driver.save("long", "short", directory);
    await driver.unlink("deleted", directory);
    await driver.operations.syncAll();
    const sound = await check(vault);
    expect(sound).toMatchObject({ names: 3, versions: 3, damageCount: 0 });
    expect(sound.bytes).toBeGreaterThan(5_000_000 + LARGE_BYTES);
    await damagePacks(vault);
    const labels = (await vault.volume.versions.versionsOf("d/long")).map(({ label }) => `.versions/d/long@${label}`);
    const deleted = await vault.volume.versions.versionsOf("d/deleted");
    const expected = [`.versions/d/deleted@${deleted[0]?.label ?? ""}`, ...labels];
    const { damages } = await check(vault);
    expect([...new Set(damages.map(({ path }) => path))].sort()).toEqual(expected.sort());
    expect(damages.every(({ what }) => what === "content")).toBe(true);
    await vault.reopen();
    expect((await check(vault)).damageCount).toBe(damages.length);
  });

  it("tells of a version's record that does not open", async () => {
    const driver = await Driver.open();
    await driver.save("f", "first");
    await driver.save("f", "second");
    await driver.operations.syncAll();
    vi.spyOn(RecordReader.prototype, "storedVersion").mockImplementation(() => {
      throw new TcfsError("TCFS_CORRUPT", "version 3 does not verify");
    });
    expect((await check(driver.vault)).damages).toEqual([
      { path: ".versions", what: "version", message: "version 3 does not verify" },
    ]);
  });

  it.each([
    ["getInode", "inode"],
    ["getXattrs", "attributes"],
    ["getExtentPage", "content"],
    ["extentPages", "content"],
  ] as const)("tells of a record that %s cannot read, and goes on", async (method, what) => {
    await using vault = await TestVault.create();
    const ino = await make(vault, ROOT_INODE, "bad", noise("bad", 10));
    await make(vault, ROOT_INODE, "good", noise("good", 20));
    const original = Reflect.get(SnapshotView.prototype, method) as (...args: unknown[]) => unknown;
    vi.spyOn(SnapshotView.prototype, method).mockImplementation(function (this: unknown, ...args: unknown[]) {
      if (args[0] === ino) throw new TcfsError("TCFS_CORRUPT", "made to be damaged");
      return original.apply(this, args) as never;
    });
    const report = await check(vault);
    expect(report.damages).toEqual([{ path: "bad", what, message: "made to be damaged" }]);
    expect(report.chunks).toBeGreaterThanOrEqual(1);
  });

  it("tells of a name whose inode is missing, but not of one that was removed meanwhile", async () => {
    await using vault = await TestVault.create();
    const [bad, gone] = [
      await make(vault, ROOT_INODE, "bad", noise("1", 10)),
      await make(vault, ROOT_INODE, "gone", noise("2", 10)),
    ];
    const getInode = Reflect.get(SnapshotView.prototype, "getInode");
    vi.spyOn(SnapshotView.prototype, "getInode").mockImplementation(function (this: SnapshotView, ino) {
      return ino === bad || ino === gone ? undefined : getInode.call(this, ino);
    });
    const getDentry = Reflect.get(SnapshotView.prototype, "getDentry");
    vi.spyOn(SnapshotView.prototype, "getDentry").mockImplementation(function (this: SnapshotView, directory, name) {
      return name === "gone" ? undefined : getDentry.call(this, directory, name);
    });
    const report = await check(vault);
    expect(report.damages.map(({ path, what }) => `${what} ${path}`)).toEqual(["inode bad"]);
  });

  it("ends when it is told to", async () => {
    await using vault = await TestVault.create();
    for (let index = 0; index < 100; index++) await make(vault, ROOT_INODE, `f${index}`, noise("x", 10));
    const stop = new AbortController();
    stop.abort();
    await expect(vault.volume.check(stop.signal)).rejects.toMatchObject({ code: "TCFS_INTERRUPTED" });
  });
});
