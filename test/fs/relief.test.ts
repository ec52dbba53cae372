/** A disk that fills up: what is kept of the past gives way before a write is refused, and no more of it than has to. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, onTestFinished, test, vi } from "vitest";
import { DEFAULT_VERSION_POLICY } from "../../src/format/version-codec.ts";
import { RESERVED_BYTES } from "../../src/fs/limits.ts";
import { Relief } from "../../src/fs/relief.ts";
import type { Clock } from "../../src/platform/clock.ts";
import { SimulatedClock } from "../support/simulated-clock.ts";
import { TestVault } from "./fixtures/test-vault.ts";
import { Driver, pattern } from "./fixtures/versions-driver.ts";

const MIB = 1024 * 1024;
const FILE_BYTES = 4 * MIB;
const DELETED = ["oldest", "older", "newest"];

test("a write that finds no room has it once deleted files gave way, and succeeds", async () => {
  const { driver } = await open(MIB);
  await driver.write("new", 0, pattern(FILE_BYTES, 9));
  expect(await trashOf(driver)).toEqual([]);
  expect((await driver.read("new")).equals(pattern(FILE_BYTES, 9))).toBe(true);
});

test("a write is refused when there is nothing left to give up", async () => {
  const { driver } = await open(MIB);
  await expect(driver.write("new", 0, pattern(32 * MIB, 9))).rejects.toMatchObject({ code: "TCFS_STORE_FULL" });
  expect(await trashOf(driver)).toEqual([]);
});

test("a write that finds no room has it once what was deleted just now is collected", async () => {
  const { driver } = await open(MIB);
  await driver.vault.volume.versions.emptyTrash(0);
  await driver.vault.volume.versions.setPolicy({ ...DEFAULT_VERSION_POLICY, isOff: true });
  await driver.write("one", 0, pattern(FILE_BYTES, 5));
  await driver.operations.syncAll();
  await driver.write("two", 0, pattern(FILE_BYTES, 6));
  await driver.operations.syncAll();
  await expect(driver.write("too much", 0, pattern(32 * MIB, 7))).rejects.toMatchObject({ code: "TCFS_STORE_FULL" });
  await driver.unlink("one");
  await driver.unlink("two");
  await driver.write("third", 0, pattern(FILE_BYTES, 7));
  expect((await driver.read("third")).equals(pattern(FILE_BYTES, 7))).toBe(true);
});

test("a disk that is nearly full takes the oldest, and only what it lacks", async () => {
  const { driver } = await open(64 * MIB - FILE_BYTES - 1);
  for (const name of ["a", "b"]) {
    await driver.write(name, 0, Buffer.from("small"));
    await driver.operations.syncAll();
    await settled();
  }
  while ((await trashOf(driver)).length === DELETED.length) await settled();
  expect(await trashOf(driver)).toEqual(["newest"]);
});

test("a disk that is nearly full goes on taking what it lacks, though nothing changes any more", async () => {
  const many = Array.from({ length: 100 }, (_, index) => `small ${index}`);
  const { driver, clock } = await open(MIB, { names: many, lengthBytes: 10 });
  await driver.unlink("first");
  await driver.operations.syncAll();
  while ((await trashOf(driver)).length > 1) await clock.pass(1000, settled);
});

test("a write waits no longer than ten seconds while a restore has the turn", async () => {
  const { driver, clock } = await open(MIB);
  let release = (): void => undefined;
  const holding = driver.vault.volume.snapshots.inTurn(() => new Promise<void>((resolve) => (release = resolve)));
  const fromMs = clock.monotonicMs();
  let outcome: unknown;
  const writing = driver.write("new", 0, pattern(FILE_BYTES, 9)).then(
    () => (outcome = "written"),
    (error: unknown) => (outcome = error),
  );
  while (outcome === undefined) await clock.pass(1000, settled);
  await writing;
  expect(outcome).toMatchObject({ code: "TCFS_STORE_FULL" });
  expect(clock.monotonicMs() - fromMs).toBeGreaterThanOrEqual(10_000);
  release();
  await holding;
  await driver.write("new", 0, pattern(MIB, 9));
});

/** A volume with deleted files in the trash, three unless said otherwise, on a disk with so much room beyond the reserve. */
async function open(roomBytes: number, deleted = { names: DELETED, lengthBytes: FILE_BYTES }) {
  const clock = new SimulatedClock("2026-11-22T08:10:00Z");
  const vault = await TestVault.create({ clock, canFail: true });
  onTestFinished(() => vault[Symbol.asyncDispose]());
  await vault.volume.versions.setPolicy({ ...DEFAULT_VERSION_POLICY, minimumAgeSeconds: 0 });
  const driver = new Driver(vault);
  for (const [seed, name] of deleted.names.entries()) {
    await driver.save(name, pattern(deleted.lengthBytes, seed));
    await driver.operations.syncAll();
    await driver.unlink(name);
    clock.jump(60_000);
  }
  await driver.operations.syncAll();
  expect((await trashOf(driver)).toSorted()).toEqual(deleted.names.toSorted());
  const { chunks } = vault;
  const limitBytes = RESERVED_BYTES + roomBytes + chunks.statistics().storedBytes;
  const { disk } = vault;
  vi.spyOn(disk, "space").mockImplementation(() => {
    const availableBytes = limitBytes - chunks.statistics().storedBytes;
    return Promise.resolve({ totalBytes: limitBytes, freeBytes: availableBytes, availableBytes });
  });
  await clock.pass(1000, settled);
  await driver.write("first", 0, Buffer.from("x"));
  await driver.operations.syncAll();
  await settled(); // the disk was asked, and nothing was done yet
  expect((await trashOf(driver)).toSorted()).toEqual(deleted.names.toSorted());
  return { driver, clock };
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await nextTurn();
}

async function trashOf(driver: Driver): Promise<string[]> {
  return (await driver.vault.volume.versions.listTrash()).map(({ path }) => path).reverse();
}

test("relief goes on by itself though a timer comes a moment before its time", async () => {
  const timers: (() => void)[] = [];
  let nowMs = 0;
  let asked = 0;
  const relief = new Relief({
    clock: {
      monotonicMs: () => nowMs,
      after: (_delayMs: number, action: () => void) => {
        timers.push(action);
        return { cancel: () => timers.splice(timers.indexOf(action), 1) };
      },
    } as unknown as Clock,
    lackingBytes: () => 1,
    giveUp: () => Promise.resolve(++asked < 4 ? 1 : 0),
    mayCollect: () => false,
    collect: () => Promise.resolve(1),
    onRelief: () => undefined,
    onFailure: (error) => {
      throw error;
    },
  });
  relief.consider();
  await settled();
  for (let next = timers.pop(); next !== undefined; next = timers.pop()) {
    nowMs += 9999.1;
    next();
    await settled();
  }
  expect(asked).toBe(4);
  relief.close();
});
