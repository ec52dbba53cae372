/** Pages that a long file shares with its versions: what becomes of them when the file, the versions or both go. */
import { describe, expect, test } from "vitest";
import type { VersionRecord } from "../../src/format/version-codec.ts";
import { afterBatches } from "./fixtures/restore-batches.ts";
import { Driver, pattern } from "./fixtures/versions-driver.ts";

const MIB = 1024 * 1024;

async function liveChunks(driver: Driver): Promise<number> {
  return (await driver.vault.volume.collect(new AbortController().signal)).liveChunks;
}

test("a long file's pages are free once it and its versions are gone, whichever goes first", async () => {
  const driver = await Driver.open();
  await driver.save("first the file", pattern(6 * MIB, 1));
  await driver.unlink("first the file");
  await driver.save("first the version", pattern(6 * MIB, 2));
  await driver.write("first the version", 0, Buffer.from("changed"));
  await driver.operations.syncAll();
  const { versions } = driver.vault.metadata;
  const [version] = await versions.ofFile(await driver.ino("first the version"));
  versions.drop(version as VersionRecord);
  await driver.unlink("first the version");
  await driver.vault.volume.versions.emptyTrash(0);
  expect(await liveChunks(driver)).toBe(0);
});

/** With two versions: the second is all that keeps a page of the first. */
async function withTwoVersions(): Promise<{ driver: Driver; first: Buffer; records: VersionRecord[] }> {
  const driver = await Driver.open();
  const first = pattern(6 * MIB, 1);
  await driver.save("long", first);
  await driver.write("long", 0, Buffer.from("u"));
  await driver.close("long");
  await driver.write("long", 3 * MIB, Buffer.from("v"));
  await driver.operations.syncAll();
  const records = await driver.vault.metadata.versions.ofFile(await driver.ino("long"));
  return { driver, first, records };
}

test("a version stays as it was while a newer one is cleared away and the file is written", async () => {
  const { driver, first, records } = await withTwoVersions();
  const { versions } = driver.vault.metadata;
  const [older, newer] = records as [VersionRecord, VersionRecord];
  const page = 12; // at 3 MiB
  const before = versions.page(older, page);
  versions.drop(newer);
  expect(() => versions.page(newer, page)).toThrow(expect.objectContaining({ code: "TCFS_STALE" }));
  await driver.operations.syncAll();
  const steps = versions.clearing(() => false);
  for (let at = 0; (await steps.next()).done !== true; at++) {
    expect(versions.page(older, page)).toEqual(before);
    expect(await versions.pages(older, page, page + 1)).toEqual([page]);
    await driver.write("long", 3 * MIB, Buffer.from(`w${at}`));
    await driver.operations.syncAll();
  }
  const [found] = await driver.versions("long");
  expect(found?.equals(first)).toBe(true);
});

test("a version that is given up while a commit is under way is whole if a crash brings it back", async () => {
  const { driver, records } = await withTwoVersions();
  const { metadata } = driver.vault;
  const ino = await driver.ino("long");
  const newer = records[1] as VersionRecord;
  const page = 16;
  const before = metadata.versions.page(newer, page);
  const batch = metadata.freeze();
  batch.putExtentPage(ino, page, []);
  metadata.versions.drop(newer);
  await batch.commit();
  await driver.vault.crash();
  const [, found] = await driver.vault.metadata.versions.ofFile(ino);
  expect(driver.vault.metadata.versions.page(found as VersionRecord, page)).toEqual(before);
});

describe.each(["left with its inode", "moved to them"])(
  "a long file that was deleted, its pages %s for its versions",
  (where) => {
    test("comes back from a snapshot without what it held later", async () => {
      const driver = await Driver.open();
      const { snapshots, versions } = driver.vault.volume;
      const [then, later] = [pattern(2 * MIB, 1), pattern(6 * MIB, 2)];
      await driver.save("long", then);
      await snapshots.take("s", "");
      await driver.write("long", 2 * MIB, later);
      await driver.close("long");
      await driver.operations.syncAll();
      await driver.read("long"); // its pages are known
      await driver.unlink("long");
      if (where === "moved to them") await versions.setPolicy(versions.policy);
      await snapshots.restorePaths({ name: "s" }, ["/long"], false);
      await driver.operations.syncAll();
      await driver.truncate("long", 8 * MIB);
      const expected = Buffer.concat([then, Buffer.alloc(6 * MIB)]);
      expect((await driver.read("long")).equals(expected)).toBe(true);
      await driver.reopen("crash");
      expect((await driver.read("long")).equals(expected)).toBe(true);
      const found = await driver.versions("long");
      expect(found.some((content) => content.equals(Buffer.concat([then, later])))).toBe(true);
    });
  },
);

test("pages that a snapshot met on their way to versions do not come back with it", async () => {
  const driver = await Driver.open();
  const { snapshots, versions } = driver.vault.volume;
  const long = pattern(6 * MIB, 1);
  await driver.save("long", long);
  const ino = await driver.ino("long");
  await snapshots.take("before", "");
  await driver.write("long", 5 * MIB, pattern(3 * MIB, 2));
  await driver.unlink("long");
  await snapshots.take("after", "");
  await versions.emptyTrash(0);
  await versions.setPolicy({ ...versions.policy, isOff: true });
  await snapshots.restore("after");
  expect(await driver.vault.metadata.extentPages(ino, 0, 100)).toEqual([]);
  const names = (await snapshots.list()).map(({ name }) => name);
  await snapshots.forget(names, false);
  await snapshots.cleared();
  await versions.emptyTrash(0);
  expect(await liveChunks(driver)).toBe(0);
});

test.each([
  ["", 8192],
  [", in steps that fail in the middle and begin anew", 5],
])(
  "a long deleted file that a restore brought back, and its undo took away, leaves no pages%s",
  async (_, stepRecords) => {
    const driver = await Driver.open(0, { stepRecords });
    const { snapshots, versions } = driver.vault.volume;
    await driver.save("long", pattern(6 * MIB, 1));
    const ino = await driver.ino("long");
    await snapshots.take("s", "");
    await driver.unlink("long"); // its pages stay, for its version
    await snapshots.restore("s");
    await versions.emptyTrash(0);
    afterBatches(driver.vault, 3, () => {
      throw new Error("in the middle");
    });
    const undone = snapshots.undo();
    if (stepRecords > 100) await undone;
    else await expect(undone).rejects.toThrow("failed in the middle");
    await driver.reopen("reopen");
    const { volume, metadata } = driver.vault;
    expect(await driver.find("long")).toBeUndefined();
    expect(await metadata.extentPages(ino, 0, 100)).toEqual([]);
    const names = (await volume.snapshots.list()).map(({ name }) => name);
    await volume.snapshots.forget(names, false);
    await volume.snapshots.cleared();
    expect(await liveChunks(driver)).toBe(0);
  },
);
