/** What `tcfs status` tells: figures as JSON with stable keys (README), and as lines for a person. */
import { counted } from "../counted.ts";
import type { TcfsError } from "../errors.ts";
import type { PolicyFigures } from "../fs/snapshots/automatic-snapshots.ts";
import type { StoredVersions } from "../fs/versions/version-manager.ts";
import { describeLost } from "../replica/lost-packs.ts";
import type { ReplicaStatus } from "../replica/replica-status.ts";
import { formatDuration } from "./durations.ts";
import { type RotationStatus, formatRotation } from "./rotation-status.ts";

/** What only an open vault knows. Bytes are exact; times are ISO 8601. */
export interface VaultFigures {
  /** Bytes of all files' data, holes not counted, before deduplication and compression. */
  readonly logicalBytes: number;
  /** Bytes of the distinct chunks before compression. */
  readonly uniqueBytes: number;
  /** Bytes that sealed chunks take on the disk. */
  readonly storedBytes: number;
  /** logicalBytes / uniqueBytes; null while empty. */
  readonly dedupRatio: number | null;
  /** uniqueBytes / storedBytes; null while empty. */
  readonly compressionRatio: number | null;
  readonly inodeCount: number;
  readonly packCount: number;
  /** Stored bytes that still ride in the metadata. */
  readonly inlineBytes: number;
  /** Acknowledged bytes that are not yet on the disk. */
  readonly dirtyBytes: number;
  readonly dirtyRecordCount: number;
  /** Why changes do not reach the disk, and what to do; null while they do. */
  readonly problem: string | null;
  readonly cacheBytes: number;
  readonly lastCommit: { readonly number: number; readonly time: string };
  readonly engine: "native" | "portable";
  readonly versions: StoredVersions;
  /** Of automatic snapshots. */
  readonly snapshotPolicy: PolicyFigures;
  /** Null where there is no store, or nothing follows the vault there now. */
  readonly store: ReplicaStatus | null;
  /** Null while none is under way. */
  readonly keyRotation: RotationStatus | null;
}

/** What only a running daemon knows. */
export interface DaemonFigures {
  readonly mountPoint: string;
  readonly readOnly: boolean;
  readonly pid: number;
  readonly daemonMemoryBytes: number;
  readonly mountedAt: string;
  /** Requests of the kernel that wait for an answer. */
  readonly pendingRequests: number;
}

export interface VaultStatus {
  readonly vault: string;
  readonly vaultId: string;
  readonly createdAt: string;
  readonly mounted: boolean;
  readonly mountPoint: string | null;
  readonly readOnly: boolean | null;
  readonly pid: number | null;
  readonly daemonMemoryBytes: number | null;
  readonly mountedAt: string | null;
  readonly pendingRequests: number | null;
  /** Null if no daemon runs and no secret was given. */
  readonly figures: VaultFigures | null;
}

/** The JSON that scripts read: one flat object. Keys are never renamed; figures that are not known are null. */
export function formatStatusJson(status: VaultStatus): string {
  const { figures, ...rest } = status;
  return JSON.stringify({ ...rest, ...(figures ?? UNKNOWN_FIGURES) }, null, 2);
}

export function formatStatus(status: VaultStatus): string {
  const { figures } = status;
  const rows: [string, string][] = [["vault", status.vault]];
  if (status.mounted) {
    rows.push(["mounted at", `${status.mountPoint ?? ""}${status.readOnly === true ? " (read-only)" : ""}`]);
    rows.push(["daemon", `pid ${status.pid}, ${formatBytes(status.daemonMemoryBytes ?? 0)} of memory`]);
  } else {
    rows.push(["mounted at", "not mounted"]);
  }
  if (figures === null) {
    rows.push(["figures", "locked: mount the vault, or give --passphrase-file"]);
  } else {
    const { lastCommit } = figures;
    rows.push(["files", `${counted(figures.inodeCount, "inode")}, ${formatBytes(figures.logicalBytes)}`]);
    rows.push(["stored", `${formatBytes(figures.storedBytes)} in ${counted(figures.packCount, "pack")}`]);
    rows.push([
      "saved",
      `deduplication ${formatRatio(figures.dedupRatio)}, compression ${formatRatio(figures.compressionRatio)}`,
    ]);
    rows.push([
      "not yet on disk",
      `${formatBytes(figures.dirtyBytes)}, ${counted(figures.dirtyRecordCount, "record")}`,
    ]);
    if (figures.problem !== null) rows.push(["problem", figures.problem]);
    rows.push(["cache", formatBytes(figures.cacheBytes)]);
    rows.push(["last commit", `${lastCommit.number}, ${lastCommit.time}`]);
    rows.push(["versions", formatVersions(figures.versions)]);
    rows.push(["policy", formatPolicyFigures(figures.snapshotPolicy)]);
    if (figures.store !== null) rows.push(...storeRows(figures.store));
    if (figures.keyRotation !== null) rows.push(["key rotation", formatRotation(figures.keyRotation)]);
  }
  return rows.map(([name, value]) => `${name.padEnd(16)}${value.replaceAll("\n", " | ")}`).join("\n");
}

/** Why changes do not reach the disk: the cause, where there is one beneath what programs are told, and what to do. */
export function describeProblem(problem: TcfsError): string {
  const { cause, message } = problem;
  const why = cause instanceof Error ? cause.message : message;
  if (problem.code === "TCFS_TOO_MANY_FILES") return `${why}; goes on by itself when more files can be opened`;
  if (problem.code === "TCFS_STORE_FULL") return `${why}; goes on by itself when there is room`;
  return `${why}; nothing more is written: copy what is not on the disk yet out of the mount, unmount, and mount again`;
}

/** `hourly=24,daily=7; 12 automatic snapshots, the next at 2026-11-22T09:00:00Z if anything changes`. */
export function formatPolicyFigures(figures: PolicyFigures, nowMs = Date.now()): string {
  const { policy, isDamaged, automaticCount, nextDueAt } = figures;
  if (isDamaged) return "cannot be read; tcfs snapshot --policy sets it anew";
  const count = counted(automaticCount, "automatic snapshot");
  if (policy === null || nextDueAt === null) return automaticCount === 0 ? "none" : `none; ${count}`;
  const isDue = Date.parse(nextDueAt) <= nowMs;
  return `${policy}; ${count}, the next ${isDue ? "is due" : `at ${nextDueAt}`} if anything changes`;
}

/** `12 of files (3.1 MiB), 2 in the trash (4.0 KiB)`. */
function formatVersions({ count, bytes, trashCount, trashBytes }: StoredVersions): string {
  const trash = trashCount === 0 ? "none" : `${trashCount} (${formatBytes(trashBytes)})`;
  return `${count === 0 ? "none" : `${count} (${formatBytes(bytes)})`} of files, ${trash} in the trash`;
}

/** Names and words of `tcfs status`. */
export function storeRows(store: ReplicaStatus): [string, string][] {
  const { lastRoot, oldestSince, bytesPerSecond, limitBytesPerSecond } = store;
  const rows: [string, string][] = [["store", `${store.url} (${store.activity})`]];
  const since = oldestSince === null ? "" : `, the oldest since ${oldestSince}`;
  const files = store.backlogFiles === null ? "" : `, ${counted(store.backlogFiles, "file")}`;
  rows.push([
    "not yet there",
    `${formatBytes(store.backlogBytes)} in ${counted(store.backlogPacks, "pack")}${files}${since}`,
  ]);
  const limit = limitBytesPerSecond === null ? "" : ` (limited to ${formatBytes(limitBytesPerSecond)}/s)`;
  const speed = bytesPerSecond === null ? "not known yet" : `${formatBytes(bytesPerSecond)}/s`;
  rows.push(["upload", `${speed}${limit}${etaOf(store)}`]);
  rows.push([
    "last root",
    lastRoot === null ? "none yet" : `${lastRoot.number}, commit ${lastRoot.commit}, ${lastRoot.time}`,
  ]);
  if (store.lastError !== null) rows.push(["store error", store.lastError]);
  if (store.lostPacks.length > 0) rows.push(["lost", describeLost(store.lostPacks)]);
  if (store.deadObjects > 0) rows.push(["to be deleted", formatDead(store)]);
  return rows;
}

/** `12 objects (93.1 MiB) that the store needs no more, each 7d after it became so; not now: …`. */
function formatDead({ deadObjects, deadBytes, keepDeletedSeconds, collectionProblem }: ReplicaStatus): string {
  const what = `${counted(deadObjects, "object")} (${formatBytes(deadBytes)}) that the store needs no more`;
  const problem = collectionProblem === null ? "" : `; not now: ${collectionProblem}`;
  return `${what}, each ${formatDuration(keepDeletedSeconds)} after it became so${problem}`;
}

/** `, about 40 s to go`, while something moves and there is a speed to tell it from. */
export function etaOf({ backlogBytes, bytesPerSecond, activity }: ReplicaStatus): string {
  if (backlogBytes === 0 || bytesPerSecond === null || activity !== "uploading") return "";
  return `, about ${Math.ceil(backlogBytes / Math.max(1, bytesPerSecond))} s to go`;
}

/** `1.4 GiB`. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  const power = bytes < 1024 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), units.length - 1);
  const value = bytes / 1024 ** power;
  return `${power === 0 ? value : value.toFixed(1)} ${units[power]}`;
}

/** @returns numerator / denominator to three places; null where there is nothing to compare. */
export function ratio(numerator: number, denominator: number): number | null {
  return numerator === 0 || denominator === 0 ? null : Math.round((numerator / denominator) * 1000) / 1000;
}

function formatRatio(value: number | null): string {
  return value === null ? "–" : `${value.toFixed(2)} ×`;
}

const UNKNOWN_FIGURES: Readonly<Record<keyof VaultFigures, null>> = {
  logicalBytes: null,
  uniqueBytes: null,
  storedBytes: null,
  dedupRatio: null,
  compressionRatio: null,
  inodeCount: null,
  packCount: null,
  inlineBytes: null,
  dirtyBytes: null,
  dirtyRecordCount: null,
  problem: null,
  cacheBytes: null,
  lastCommit: null,
  engine: null,
  snapshotPolicy: null,
  store: null,
  keyRotation: null,
  versions: null,
};
