/** What people are told of a vault and its store: rows of `tcfs status`, and the bar of `tcfs wait`. */
import { expect, test } from "vitest";
import { formatProgress } from "../../src/cli/commands/wait.ts";
import type { ReplicaStatus } from "../../src/replica/replica-status.ts";
import { storeRows } from "../../src/vault/status.ts";

const MIB = 2 ** 20;
const UPLOADING: ReplicaStatus = {
  url: "s3://vault/first",
  activity: "uploading",
  backlogBytes: 30 * MIB,
  backlogPacks: 2,
  backlogFiles: 7,
  oldestSince: "2026-11-22T10:00:00.000Z",
  uploadedBytes: 10 * MIB,
  bytesPerSecond: 2 * MIB,
  limitBytesPerSecond: 4 * MIB,
  maxAgeSeconds: 60,
  lastRoot: { number: 3, time: "2026-11-22T09:59:00.000Z", commit: 12 },
  lastError: "the store does not answer",
  deadObjects: 2,
  deadBytes: MIB,
  deletedObjects: 0,
  keepDeletedSeconds: 7 * 24 * 3600,
  collectionProblem: "the store refuses to delete",
  lostPacks: [{ pack: "ab".repeat(16), kind: "missing" }],
};

test("status tells backlog, age, speed, time to go, the last root, the last error, what is lost and what is to go", () => {
  const rows = Object.fromEntries(storeRows(UPLOADING));
  expect(rows).toEqual({
    store: "s3://vault/first (uploading)",
    "not yet there": "30.0 MiB in 2 packs, 7 files, the oldest since 2026-11-22T10:00:00.000Z",
    upload: "2.0 MiB/s (limited to 4.0 MiB/s), about 15 s to go",
    "last root": "3, commit 12, 2026-11-22T09:59:00.000Z",
    "store error": "the store does not answer",
    lost: expect.stringContaining(
      `1 pack, which neither this disk nor the store has whole: ${"ab".repeat(16)}`,
    ) as string,
    "to be deleted":
      "2 objects (1.0 MiB) that the store needs no more, each 1w after it became so; not now: the store refuses to delete",
  });
});

test("status says of what is not known that it is not", () => {
  const unknown = { lastRoot: null, lastError: null, bytesPerSecond: null, limitBytesPerSecond: null };
  const nothing = {
    backlogBytes: 0,
    backlogPacks: 0,
    backlogFiles: null,
    oldestSince: null,
    deadObjects: 0,
    lostPacks: [],
  };
  expect(Object.fromEntries(storeRows({ ...UPLOADING, ...unknown, ...nothing, activity: "paused" }))).toEqual({
    store: "s3://vault/first (paused)",
    "not yet there": "0 B in 0 packs",
    upload: "not known yet",
    "last root": "none yet",
  });
});

test("the bar fills as the backlog goes, and what is added meanwhile lengthens it", () => {
  const bar = { totalBytes: 0 };
  const drawn = (backlogBytes: number): string => {
    const [, filled = "", empty = ""] =
      /^\[(#*)(-*)\]/u.exec(formatProgress({ ...UPLOADING, backlogBytes }, bar)) ?? [];
    return `${String(Math.round((100 * filled.length) / (filled.length + empty.length)))} %`;
  };
  expect([40, 30, 20].map((mebibytes) => drawn(mebibytes * MIB))).toEqual(["0 %", "25 %", "50 %"]);
  expect([80, 40, 0].map((mebibytes) => drawn(mebibytes * MIB))).toEqual(["0 %", "50 %", "100 %"]);
  expect(formatProgress({ ...UPLOADING, lastError: null }, bar)).toContain(
    "uploading: 30.0 MiB to go, 2.0 MiB/s, about 15 s to go",
  );
  expect(formatProgress(UPLOADING, bar)).toContain("(the store does not answer)");
});
