/** Room that is put by: made where there is plenty, given up by halves, never taken by ordinary writes. */
import { stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { TcfsError } from "../../src/errors.ts";
import { DiskReserve } from "../../src/fs/disk-reserve.ts";
import { RESERVED_BYTES } from "../../src/fs/limits.ts";
import { SpaceGuard } from "../../src/fs/space-guard.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { FaultyDisk } from "../chunkstore/faulty-disk.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const MIB = 2 ** 20;
const WANTED_BYTES = 10 * MIB;
const PLENTY = 16 * WANTED_BYTES;
const neverStopped = new AbortController().signal;

test("is made of real blocks where there is plenty, and not where it would be a great share of what is left", async () => {
  const { reserve, lengthBytes, path } = await setUp();
  await reserve.restore(PLENTY - 1, neverStopped);
  expect(await lengthBytes()).toBeUndefined();
  expect(reserve.missingBytes).toBe(0);
  await reserve.restore(PLENTY, neverStopped);
  expect(await lengthBytes()).toBe(WANTED_BYTES);
  expect((await stat(path)).blocks * 512).toBeGreaterThanOrEqual(WANTED_BYTES);
  expect(reserve.missingBytes).toBe(0);
});

test("is given up by halves, which are missing until they are made again, in later sessions too", async () => {
  const { reserve, lengthBytes, open, given } = await setUp();
  await reserve.restore(PLENTY, neverStopped);
  expect(await reserve.giveUp()).toBe(true);
  expect(await lengthBytes()).toBe(WANTED_BYTES / 2);
  const next = await open();
  expect(next.missingBytes).toBe(WANTED_BYTES / 2);
  expect(await next.giveUp()).toBe(true);
  expect(await lengthBytes()).toBe(0);
  expect(await next.giveUp()).toBe(false);
  expect(given).toEqual([WANTED_BYTES / 2, WANTED_BYTES / 2]);
  const last = await open();
  expect(last.missingBytes).toBe(WANTED_BYTES);
  await last.restore(0, neverStopped);
  expect(await lengthBytes()).toBe(WANTED_BYTES);
});

test("is left alone, and its room given back, by a disk that fills up while it is made", async () => {
  const { reserve, lengthBytes, disk } = await setUp();
  disk.fail("write", "TCFS_STORE_FULL");
  await reserve.restore(PLENTY, neverStopped);
  expect(await lengthBytes()).toBeUndefined();
  expect(reserve.missingBytes).toBe(0);
  await reserve.restore(PLENTY, neverStopped);
  await reserve.giveUp();
  disk.fail("sync", "TCFS_STORE_FULL");
  await reserve.restore(PLENTY, neverStopped);
  expect(await lengthBytes()).toBe(WANTED_BYTES / 2);
  expect(reserve.missingBytes).toBe(WANTED_BYTES / 2);
});

test("stops being made when the volume closes or room is needed, and what is there counts", async () => {
  const { reserve, lengthBytes, disk } = await setUp();
  const stop = new AbortController();
  let writes = 0;
  disk.before = (action) => {
    if (action === "write" && ++writes === 1) stop.abort();
  };
  await reserve.restore(PLENTY, stop.signal);
  expect(await lengthBytes()).toBe(4 * MIB);
  expect(reserve.missingBytes).toBe(6 * MIB);
  let giving: Promise<boolean> | undefined;
  disk.before = (action) => {
    if (action === "write") giving ??= reserve.giveUp();
  };
  await reserve.restore(PLENTY, neverStopped);
  expect(await giving).toBe(true);
  expect(await lengthBytes()).toBe(3 * MIB);
  expect(reserve.missingBytes).toBe(7 * MIB);
});

test("opens what finds no room with what is put by, half by half, and tells of the lack when all is gone", async () => {
  const { reserve, given } = await setUp();
  await reserve.restore(PLENTY, neverStopped);
  let failures = 2;
  const open = (): Promise<string> => {
    if (failures-- > 0) return Promise.reject(new TcfsError("TCFS_STORE_FULL", "made to fail"));
    return Promise.resolve("open");
  };
  expect(await reserve.opening(open)).toBe("open");
  expect(given).toHaveLength(2);
  failures = 1;
  await expect(reserve.opening(open)).rejects.toThrow("made to fail");
  const damaged = (): Promise<string> => Promise.reject(new TcfsError("TCFS_CORRUPT", "damaged"));
  await reserve.restore(PLENTY, neverStopped);
  await expect(reserve.opening(damaged)).rejects.toThrow("damaged");
  expect(given).toHaveLength(2);
});

test("one that a copy made longer, shorter or left out does no harm", async () => {
  const { reserve, open, path } = await setUp();
  await reserve.restore(PLENTY, neverStopped);
  await truncate(path, 3 * WANTED_BYTES);
  const longer = await open();
  expect(longer.missingBytes).toBe(0);
  expect(await longer.giveUp()).toBe(true);
  await truncate(path, 5);
  expect((await open()).missingBytes).toBe(WANTED_BYTES - 5);
});

test("ordinary writes get nothing of what was given up, and it is made again once there is plenty beside it", async () => {
  const { reserve, disk, directory, lengthBytes } = await setUp();
  await reserve.restore(PLENTY, neverStopped);
  const onFull = vi.fn(() => Promise.resolve(false));
  disk.availableBytes = RESERVED_BYTES - 1;
  const space = await SpaceGuard.open({ disk, clock: systemClock, directory, reserve, heldBytes: () => 0, onFull });
  await expect(space.admit(1)).rejects.toMatchObject({ code: "TCFS_STORE_FULL" });
  expect(await space.useReserve()).toBe(true);
  disk.availableBytes += WANTED_BYTES / 2;
  await expect(space.admit(1)).rejects.toMatchObject({ code: "TCFS_STORE_FULL" });
  expect(space.space.availableBytes).toBe(0);
  await space.putBy(neverStopped);
  expect(await lengthBytes()).toBe(WANTED_BYTES / 2);
  disk.availableBytes = RESERVED_BYTES + 64 * MIB + WANTED_BYTES / 2 + 1;
  await space.refresh();
  expect(space.lackingBytes).toBe(0);
  await space.putBy(neverStopped);
  expect(await lengthBytes()).toBe(WANTED_BYTES);
});

test("is kept where it is not the disk that is full but the bound of the packs", async () => {
  const { reserve, disk, directory, lengthBytes } = await setUp();
  await reserve.restore(PLENTY, neverStopped);
  const room = {
    maxBytes: MIB,
    freeBytes: 0,
    awaitRoom: () => Promise.resolve(false),
    relieve: () => Promise.resolve(),
  };
  const [heldBytes, onFull] = [() => 0, () => Promise.resolve(false)];
  const space = await SpaceGuard.open({ disk, clock: systemClock, directory, room, reserve, heldBytes, onFull });
  expect(await space.useReserve()).toBe(false);
  expect(await lengthBytes()).toBe(WANTED_BYTES);
});

async function setUp() {
  const directory = await temporaryDirectory("reserve");
  onTestFinished(() => directory[Symbol.asyncDispose]());
  const disk = new FaultyDisk(new NodeDisk());
  const path = join(directory.path, "reserve");
  const given: number[] = [];
  const open = (): Promise<DiskReserve> =>
    DiskReserve.open({
      disk,
      directory: directory.path,
      random: systemRandom,
      wantedBytes: WANTED_BYTES,
      onGivenUp: (bytes) => given.push(bytes),
    });
  const lengthBytes = (): Promise<number | undefined> =>
    stat(path).then(
      ({ size }) => size,
      () => undefined,
    );
  return { reserve: await open(), open, disk, directory: directory.path, path, lengthBytes, given };
}
