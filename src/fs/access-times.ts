/** When a read moves an access time: the rules of mount(8), for the reads that the kernel's caches let through. */
import type { InodeRecord } from "../format/records.ts";
import { isLater, type Timestamp } from "../platform/clock.ts";
import { isDirectoryMode } from "./mode.ts";

export interface AccessTimes {
  /** relatime: the first read after a change, and one a day; strictatime: every one; noatime. */
  readonly mode: "relative" | "strict" | "none";
  /** False is nodiratime. */
  readonly ofDirectories: boolean;
}

export const RELATIVE_ACCESS_TIMES: AccessTimes = { mode: "relative", ofDirectories: true };

const DAY_SECONDS = 24 * 60 * 60;

/** @returns Whether a read of `inode` at `now` is to be noted. */
export function isAccessNoted(inode: InodeRecord, now: Timestamp, { mode, ofDirectories }: AccessTimes): boolean {
  if (mode === "none" || (!ofDirectories && isDirectoryMode(inode.mode))) return false;
  if (mode === "strict") return true;
  const { accessTime, modifyTime, changeTime } = inode;
  const isNews = !isLater(accessTime, modifyTime) || !isLater(accessTime, changeTime);
  return isNews || now.seconds - accessTime.seconds >= DAY_SECONDS;
}
