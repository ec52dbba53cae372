/** When a version came to be, as people and the mount write it: sortable, in UTC. Pure. */
import type { VersionRecord } from "../../format/version-codec.ts";
import { millisecondsOf } from "../../platform/clock.ts";
import { preciseIsoTime } from "../../platform/iso-time.ts";

export interface LabelledVersion {
  readonly record: VersionRecord;
  /** `2026-11-22T07:30:05.123Z`; versions of one path that would have the same get `-2`, `-3` … behind it. */
  readonly label: string;
}

/** @param records - Of one path, oldest first. */
export function labelVersions(records: readonly VersionRecord[]): LabelledVersion[] {
  const counts = new Map<string, number>();
  return records.map((record) => {
    const time = preciseIsoTime(record.inode.changeTime);
    const count = (counts.get(time) ?? 0) + 1;
    counts.set(time, count);
    return { record, label: count === 1 ? time : `${time}-${count}` };
  });
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
  return versions.findLast(
    ({ record }) => millisecondsOf(record.inode.changeTime) <= wanted && wanted < millisecondsOf(record.keptAt),
  );
}
