/** Pages that a long file shares with its versions: what becomes of them when the file, the versions or both go. */
import { expect, test } from "vitest";
import type { VersionRecord } from "../../src/format/version-codec.ts";
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
