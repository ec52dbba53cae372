/** Gives a file outside what it had in the vault, its rights last; what cannot be given is noted. */
import { chmodSync, chownSync, fstatSync } from "node:fs";
import { getSystemErrorName } from "node:util";
import { ACCESS_ACL, type Acl, DEFAULT_ACL, decodeAcl } from "../../fs/acl.ts";
import { S_IFLNK, S_IFMT } from "../../fs/mode.ts";
import type { SnapshotEntry } from "../../fs/snapshots/snapshot-reader.ts";
import { host } from "../../platform/host-binding.ts";
import { errnoOf, requireDone } from "./host-directory.ts";
import { rightsOutside } from "./rights.ts";

const SET_ID = 0o6000;
const CAPABILITY = "security.capability";
const UNSUPPORTED = ["ENOTSUP", "EOPNOTSUPP", "EPERM", "EACCES", "ENOSPC", "E2BIG", "ERANGE", "EINVAL"];

export interface AttributeOptions {
  /** Keep set-id bits and file capabilities, whoever the file belongs to then. */
  readonly keepSetId: boolean;
  /** Told of each thing that was left out, in a few words. */
  readonly note: (what: string) => void;
}

interface Ownership {
  readonly isOwnerKept: boolean;
  readonly isGroupKept: boolean;
}

/**
 * Owner, xattrs, ACLs, mode and times, in an order in which nobody has more rights for a moment than at the end.
 * @param fd - Of the very file, whatever its name leads to by now; O_PATH for what is neither file nor directory.
 */
export function giveAttributes(fd: number, entry: SnapshotEntry, options: AttributeOptions): void {
  const { keepSetId, note } = options;
  const ownership = giveOwner(fd, entry);
  const isSame = ownership.isOwnerKept && ownership.isGroupKept;
  if (!isSame) note("owners were not kept: only root can give files away");
  if ((entry.mode & S_IFMT) === S_IFLNK) {
    if (entry.xattrs !== undefined) note("extended attributes of symlinks were left out");
  } else {
    const keepsSetId = keepSetId || (isSame && isRoot());
    const lostAcl = giveXattrs(fd, entry, { ...options, keepsCapabilities: keepsSetId, keepsAcls: isSame });
    const mode = rightsOutside(entry.mode, { ...ownership, keepsSetId, lostAcl });
    if ((entry.mode & ~mode & SET_ID) !== 0) note("set-id bits were left out: --keep-set-id keeps them");
    chmodSync(pathOf(fd), mode);
  }
  const { accessTime, modifyTime } = entry;
  const times = [accessTime.seconds, accessTime.nanoseconds, modifyTime.seconds, modifyTime.nanoseconds] as const;
  requireDone(host.setTimes(fd, ...times), "utimensat");
}

function pathOf(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** Root gives the file to whom it belonged; others give it to the group, if it is one of theirs. */
function giveOwner(fd: number, { uid, gid }: SnapshotEntry): Ownership {
  const before = fstatSync(fd);
  const isMember = isRoot() || (process.getgroups?.() ?? []).includes(gid);
  const wanted = { uid: isRoot() ? uid : before.uid, gid: isMember ? gid : before.gid };
  if (wanted.uid !== before.uid || wanted.gid !== before.gid) {
    try {
      chownSync(pathOf(fd), wanted.uid, wanted.gid);
    } catch (error) {
      if (!["EPERM", "EINVAL"].includes(errnoOf(error) ?? "")) throw error;
    }
  }
  const after = fstatSync(fd);
  return { isOwnerKept: after.uid === uid, isGroupKept: after.gid === gid };
}

/** @returns The access ACL, if it could not be given. */
function giveXattrs(
  fd: number,
  { xattrs = [] }: SnapshotEntry,
  options: AttributeOptions & { readonly keepsCapabilities: boolean; readonly keepsAcls: boolean },
): Acl | undefined {
  const { note, keepsCapabilities, keepsAcls } = options;
  let lostAcl: Acl | undefined;
  for (const [name, base64] of xattrs) {
    const value = Buffer.from(base64, "base64");
    const isAcl = name === ACCESS_ACL || name === DEFAULT_ACL;
    const isRefused = (isAcl && !keepsAcls) || (name === CAPABILITY && !keepsCapabilities);
    if (!isRefused && isGiven(fd, name, value)) continue;
    if (name === ACCESS_ACL) lostAcl = decodeAcl(value);
    note(isAcl ? "ACLs were left out" : `extended attributes were left out (${name.split(".", 1).join("")}.*)`);
  }
  return lostAcl;
}

/** @throws HostError unless it is given, or the target has no place for it. */
function isGiven(fd: number, name: string, value: Uint8Array): boolean {
  const result = host.setXattr(fd, name, value);
  if (result >= 0) return true;
  if (!UNSUPPORTED.includes(getSystemErrorName(result))) requireDone(result, "setxattr");
  return false;
}

function isRoot(): boolean {
  return process.geteuid?.() === 0;
}
