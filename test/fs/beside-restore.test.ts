/** Who reads beside a restore of everything, and is not held back by it: sees one state, and leaves no other behind. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, onTestFinished, test, vi } from "vitest";
import { ROOT_INODE, type Name } from "../../src/ids.ts";
import { make, write } from "./fixtures/files.ts";
import { afterBatches } from "./fixtures/restore-batches.ts";
import { TestVault } from "./fixtures/test-vault.ts";
import { Driver } from "./fixtures/versions-driver.ts";

const PAGE_BYTES = 256 * 1024;

async function openVault(stepRecords: number): Promise<TestVault> {
  const vault = await TestVault.create({ stepRecords });
  onTestFinished(() => vault[Symbol.asyncDispose]());
  return vault;
}

test("a directory whose listing outlasts a restore is known as it was restored", async () => {
  const driver = new Driver(await openVault(8192));
  const { vault } = driver;
  const directory = await driver.directory("photos");
  for (let count = 0; count < 20; count++) await driver.save(`photo ${count}`, "kept", directory);
  await vault.volume.snapshots.take("s", "");
  await driver.rename("photo 7", "photo of a cat", directory, directory);
  await driver.reopen("reopen");
  const { database } = vault.metadata;
  const scan = database.scan.bind(database);
  let restored = (): void => undefined;
  const isRestored = new Promise<void>((resolve) => {
    restored = resolve;
  });
  vi.spyOn(database, "scan").mockImplementationOnce(async (...range) => {
    await scan(...range);
    await isRestored; // a slow disk
  });
  const listing = Promise.resolve(vault.metadata.listDirectory(directory));
  await vault.volume.snapshots.restore("s");
  restored();
  expect((await listing).map(({ name }) => name)).toContain("photo 7");
  expect(await driver.find("photo 7", directory)).toBeDefined();
  expect(await driver.find("photo of a cat", directory)).toBeUndefined();
});

test("a directory that is listed between two batches of a restore is not taken for damaged", async () => {
  const driver = new Driver(await openVault(1));
  const { vault } = driver;
  for (let count = 0; count < 20; count++) await driver.save(`photo ${count}`, "kept");
  await vault.volume.snapshots.take("s", "");
  for (let count = 0; count < 20; count++) await driver.unlink(`photo ${count}`);
  await driver.reopen("reopen");
  const listings: Promise<{ readonly length: number }>[] = [];
  afterBatches(vault, 1, () => {
    for (let count = 0; count < 3; count++) listings.push(Promise.resolve(vault.metadata.listDirectory(ROOT_INODE)));
  });
  await vault.volume.snapshots.restore("s");
  expect((await Promise.all(listings)).map(({ length }) => length)).toEqual([20, 20, 20]);
});

test("what is read as of a time while a restore changes it is refused rather than mixed of two states", async () => {
  const vault = await openVault(1);
  const { snapshots } = vault.volume;
  const ino = await make(vault, "film" as Name, "");
  const filmOf = (letter: string): Buffer => Buffer.alloc(8 * PAGE_BYTES, letter);
  await write(vault, ino, 0, filmOf("o"));
  await snapshots.take("s", "");
  await write(vault, ino, 0, filmOf("n"));
  await vault.reopen();
  const reader = vault.volume.snapshots.reader({ at: new Date(Date.now() + 60_000).toISOString() });
  const { entries } = await reader.find("film");
  const { origin } = entries.at(-1) ?? {};
  const reads: Promise<string>[] = [];
  const read = async (page: number): Promise<string> => {
    const offset = BigInt(page * PAGE_BYTES);
    try {
      const { data = "" } = await reader.read(ino, offset, 1, origin?.token);
      return Buffer.from(data, "base64").toString();
    } catch (error) {
      return (error as { readonly code: string }).code;
    }
  };
  afterBatches(vault, 1, () => {
    for (let page = 0; page < 8; page++) reads.push(read(page));
  });
  await vault.volume.snapshots.restore("s");
  expect(await Promise.all(reads)).toEqual(Array.from({ length: 8 }, () => "TCFS_STALE"));
});

test("the kernel is told of what a restore changed a few notices at a time: each keeps a thread of the pool waiting", async () => {
  const driver = new Driver(await openVault(8192));
  const { vault } = driver;
  const directory = await driver.directory("photos");
  for (let count = 0; count < 40; count++) await driver.save(`photo ${count}`, "kept", directory);
  await vault.volume.snapshots.take("s", "");
  for (let count = 0; count < 40; count++) await driver.unlink(`photo ${count}`, directory);
  const told = new Set<unknown>();
  let [waiting, mostWaiting] = [0, 0];
  const tell = async (what: unknown): Promise<void> => {
    mostWaiting = Math.max(mostWaiting, ++waiting);
    await nextTurn();
    waiting--;
    told.add(what);
  };
  vault.volume.kernel = {
    forgetAttributes: tell,
    forgetInode: tell,
    forgetEntry: (parent, name) => tell(`${parent}/${name}`),
  };
  await vault.volume.snapshots.restore("s");
  for (let count = 0; count < 40; count++) expect(told).toContain(`${directory}/photo ${count}`);
  expect(mostWaiting).toBeLessThanOrEqual(2);
});
