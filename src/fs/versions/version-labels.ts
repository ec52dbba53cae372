/** When a version came to be, as people and the mount write it: sortable, in UTC. Pure. */
import type { VersionRecord } from "../../format/version-codec.ts";
import type { Timestamp } from "../../platform/clock.ts";

/** What a Date holds. */
const MAX_DATE_SECONDS = 8.64e12;

export interface LabelledVersion {
  readonly record: VersionRecord;
  /** `2026-11-22T07:30:05.123Z`; versions of one path that would have the same get `-2`, `-3` … behind it. */
  readonly label: string;
}

/** @param records - Of one path, oldest first. */
export function labelVersions(records: readonly VersionRecord[]): LabelledVersion[] {
  const counts = new Map<string, number>();
  return records.map((record) => {
    const time = formatTime(record.inode.changeTime);
    const count = (counts.get(time) ?? 0) + 1;
    counts.set(time, count);
    return { record, label: count === 1 ? time : `${time}-${count}` };
  });
}

/** To the millisecond; a time beyond what a date holds stands still at its end. */
export function formatTime({ seconds, nanoseconds }: Timestamp): string {
  const reachable = Math.min(Math.max(seconds, -MAX_DATE_SECONDS), MAX_DATE_SECONDS);
  return new Date(reachable * 1000 + (reachable === seconds ? Math.floor(nanoseconds / 1e6) : 0)).toISOString();
}

/**
 * @param time - A label, the beginning of exactly one, or any time that Date understands: then the version that was there.
 * @returns Undefined where there is none.
 */
export function findVersion(versions: readonly LabelledVersion[], time: string): LabelledVersion | undefined {
  const exact = versions.find(({ label }) => label === time);
  if (exact !== undefined) return exact;
  const begun = versions.filter(({ label }) => label.startsWith(time));
  if (begun.length === 1) return begun[0];
  const wanted = Date.parse(time);
  if (Number.isNaN(wanted)) return undefined;
  return versions.findLast(({ record }) => msOf(record.inode.changeTime) <= wanted && wanted < msOf(record.keptAt));
}

function msOf({ seconds, nanoseconds }: Timestamp): number {
  return seconds * 1000 + nanoseconds / 1e6;
}
