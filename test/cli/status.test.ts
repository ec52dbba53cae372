import { describe, expect, test } from "vitest";
import { TcfsError } from "../../src/errors.ts";
import { describeProblem, formatBytes, formatStatus, formatStatusJson, ratio } from "../../src/vault/status.ts";
import type { VaultStatus } from "../../src/vault/status.ts";

const unmounted: VaultStatus = {
  vault: "/v",
  vaultId: "00",
  createdAt: "2026-11-22T00:00:00.000Z",
  mounted: false,
  mountPoint: null,
  readOnly: null,
  pid: null,
  daemonMemoryBytes: null,
  mountedAt: null,
  pendingRequests: null,
  figures: null,
};

const mounted: VaultStatus = {
  ...unmounted,
  mounted: true,
  mountPoint: "/m",
  readOnly: true,
  pid: 7,
  daemonMemoryBytes: 3 * 2 ** 20,
  mountedAt: "2026-11-22T00:00:01.000Z",
  pendingRequests: 0,
  figures: {
    logicalBytes: 4096,
    uniqueBytes: 2048,
    storedBytes: 1024,
    dedupRatio: 2,
    compressionRatio: 2,
    inodeCount: 3,
    packCount: 1,
    inlineBytes: 0,
    dirtyBytes: 5,
    dirtyRecordCount: 1,
    problem: null,
    cacheBytes: 0,
    lastCommit: { number: 9, time: "2026-11-22T00:00:02.000Z" },
    engine: "native",
    snapshotPolicy: {
      policy: "hourly=24,daily=7",
      isDamaged: false,
      automaticCount: 12,
      surplusCount: 0,
      nextDueAt: "2100-01-01T00:00:00Z",
    },
    store: null,
    keyRotation: null,
    versions: { count: 12, bytes: 2048, trashCount: 0, trashBytes: 0 },
  },
};

describe("the status", () => {
  test("has the same keys in JSON, mounted or not", () => {
    const keys = (status: VaultStatus) => Object.keys(JSON.parse(formatStatusJson(status)) as object);
    expect(keys(unmounted)).toEqual(keys(mounted));
    expect(keys(mounted)).toContain("pid");
  });

  test("is told in lines", () => {
    expect(formatStatus(unmounted)).toMatch(/not mounted\n.*locked/u);
    expect(formatStatus(mounted)).toMatch(/\/m \(read-only\)\n.*pid 7, 3\.0 MiB[^]*deduplication 2\.00 ×/u);
  });
});

test("the status tells why changes do not reach the disk, in one line, and what to do", () => {
  const cause = new TcfsError("TCFS_IO", "cannot create directory /v/packs/00: ENOENT\nmounted at      /forged");
  const failed = describeProblem(new TcfsError("TCFS_IO", "the volume takes no more", { cause }));
  expect(failed).toMatch(/ENOENT.*unmount, and mount again/su);
  const { figures } = mounted;
  const lines = formatStatus({ ...mounted, figures: figures && { ...figures, problem: failed } }).split("\n");
  expect(lines).toContainEqual(expect.stringMatching(/^problem {9}cannot create directory .* \| mounted at/u));
  const full = describeProblem(new TcfsError("TCFS_STORE_FULL", "the disk is full"));
  expect(full).toBe("the disk is full; goes on by itself when there is room");
});

test.each([
  [0, "0 B"],
  [1023, "1023 B"],
  [1024, "1.0 KiB"],
  [1.5 * 2 ** 30, "1.5 GiB"],
  [2 ** 60, "1024.0 PiB"],
])("%i bytes are %s", (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test("a ratio of nothing is none", () => {
  expect(ratio(0, 5)).toBeNull();
  expect(ratio(5, 0)).toBeNull();
  expect(ratio(1, 3)).toBe(0.333);
});
