/** From "2 hours ago" to what the vault was like then. */
import { parseDate } from "chrono-node";
import { TcfsError } from "../errors.ts";
import type { SnapshotTime } from "../fs/snapshots/snapshot-manager.ts";

/**
 * @param text - ISO 8601, or English as people say it: "yesterday at 14:00", "2 hours ago"; without a zone in local time.
 * @throws TcfsError `TCFS_USAGE` if it is no time, or in the future.
 */
export function parseTime(text: string, now: Date): Date {
  const isIso = /^\d{4}-\d{2}-\d{2}T[\d:.]+(Z|[+-]\d{2}:?\d{2})$/u.test(text);
  const time = isIso ? new Date(text) : parseDate(text, now);
  if (time === null || Number.isNaN(time.getTime())) {
    const advice = "say it like “2 hours ago”, “yesterday 14:00”, “2026-11-20 14:00”";
    throw new TcfsError("TCFS_USAGE", `“${text}” is no time that is understood: ${advice}`);
  }
  if (time.getTime() > now.getTime()) {
    throw new TcfsError("TCFS_USAGE", `“${text}” is in the future: ${time.toISOString()}`);
  }
  return time;
}

/**
 * The newest source that is not later than a time. File versions will be sources beside the snapshots; whatever has a time
 * can be one.
 * @param sources - In any order; `takenAt` in ISO 8601.
 * @throws TcfsError `TCFS_NO_SNAPSHOT` if all are later, or there are none.
 */
export function sourceAt<T extends SnapshotTime>(sources: readonly T[], time: Date): T {
  const byAge = sources.toSorted((left, right) => Date.parse(left.takenAt) - Date.parse(right.takenAt));
  const found = byAge.findLast(({ takenAt }) => Date.parse(takenAt) <= time.getTime());
  if (found !== undefined) return found;
  const oldest = byAge[0];
  const what = oldest === undefined ? "there are no snapshots" : `the oldest is “${oldest.name}” of ${oldest.takenAt}`;
  throw new TcfsError("TCFS_NO_SNAPSHOT", `there is no snapshot from ${time.toISOString()} or before: ${what}`);
}
