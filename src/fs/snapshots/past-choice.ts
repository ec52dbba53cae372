/** Which kept state of a file is the one that it had at a time: a version, the present one, or a snapshot's. Pure. */
import type { InodeRecord } from "../../format/records.ts";
import type { VersionRecord } from "../../format/version-codec.ts";
import { isLater, type Timestamp } from "../../platform/clock.ts";
import { isDirectoryMode } from "../mode.ts";

export type PastChoice = {
  readonly inode: InodeRecord;
  /** From after the time: what there was then is kept nowhere. */
  readonly isLater: boolean;
} & ({ readonly kind: "present" | "snapshot" } | { readonly kind: "version"; readonly record: VersionRecord });

export interface PastCandidates {
  readonly time: Timestamp;
  /** All of the inode, in the order in which they were kept. */
  readonly versions: readonly VersionRecord[];
  /** As it is now; undefined where it has no name any more. */
  readonly present: InodeRecord | undefined;
  /** As the newest snapshot from the time or before has it. */
  readonly snapshot: InodeRecord | undefined;
  /** What was kept before that snapshot has lower numbers than this. */
  readonly snapshotNumber: number;
}

/**
 * What held at the time itself if that is kept, else the newest state before it; for want of both, of what was there, the
 * present one, or what it was when it was deleted.
 * @returns Undefined for what was made later.
 */
export function choosePast(candidates: PastCandidates): PastChoice | undefined {
  const { time, versions, present, snapshot, snapshotNumber } = candidates;
  const next = versions.find(({ keptAt }) => isLater(keptAt, time));
  if (next !== undefined && holdsAt(next.inode, time)) return ofVersion(next, false);
  const isPresent = next === undefined && present !== undefined && holdsAt(present, time);
  if (isPresent) return { kind: "present", inode: present, isLater: false };
  const last = versions.findLast(({ keptAt }) => !isLater(keptAt, time));
  const isNewer = last !== undefined && (snapshot === undefined || last.version >= snapshotNumber);
  if (isNewer) return ofVersion(last, false);
  if (snapshot !== undefined) return { kind: "snapshot", inode: snapshot, isLater: false };
  if (present !== undefined)
    return wasThere(present, time) ? { kind: "present", inode: present, isLater: true } : undefined;
  return next !== undefined && wasThere(next.inode, time) ? ofVersion(next, true) : undefined;
}

function ofVersion(record: VersionRecord, isLater: boolean): PastChoice {
  return { kind: "version", record, inode: record.inode, isLater };
}

/** Whether an inode was made by then. */
export function wasThere({ birthTime }: InodeRecord, time: Timestamp): boolean {
  return !isLater(birthTime, time);
}

/**
 * Whether what an inode holds is what it held then, as long as nothing was kept of it since. A file that was written no
 * more, by its modification time, may have got another mode or name since.
 */
function holdsAt(inode: InodeRecord, time: Timestamp): boolean {
  if (!isLater(inode.changeTime, time)) return true;
  return !isDirectoryMode(inode.mode) && !isLater(inode.modifyTime, time) && wasThere(inode, time);
}
