/** Requests that wait while the volume goes back to a snapshot. */
import { setTimeout } from "node:timers/promises";
import { expect, test } from "vitest";
import { copyLoan, lend } from "../../src/borrowed-bytes.ts";
import type { FileSystemOperations } from "../../src/fs/operations.ts";
import { RoutedOperations } from "../../src/fs/snapshots/routed-operations.ts";
import type { VersionTree } from "../../src/fs/versions/version-tree.ts";
import type { SnapshotForest } from "../../src/fs/snapshots/snapshot-forest.ts";
import type { InodeNumber } from "../../src/ids.ts";

const caller = { uid: 0, gid: 0, pid: 1, onInterrupt: (): void => undefined };
const FILE = 2 as InodeNumber;

test("a read that waited gives what was there before a write that waited behind it", async () => {
  const memory = Buffer.from("before");
  const live = {
    read: () => lend([memory]),
    write: (_ino: InodeNumber, _offset: bigint, data: Uint8Array) => {
      memory.set(data);
      return data.length;
    },
  } as unknown as FileSystemOperations;
  const operations = new RoutedOperations(live, {
    forest: {} as unknown as SnapshotForest,
    snapshotsShown: "none",
    versions: {} as unknown as VersionTree,
    versionsShown: "none",
  });
  let isHeld = true;
  const held = operations.whileHeld(async () => {
    while (isHeld) await setTimeout(1);
  });
  const reading = Promise.resolve(operations.read(FILE, 0n, 6, caller)).then((bytes) => copyLoan(bytes));
  const options = { clearSetId: false, sync: false };
  const writing = operations.write(FILE, 0n, Buffer.from("behind"), options, caller);
  isHeld = false;
  await held;
  expect(Buffer.from(await reading).toString()).toBe("before");
  expect(await writing).toBe(6);
  expect(memory.toString()).toBe("behind");
});
