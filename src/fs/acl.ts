/**
 * POSIX ACLs as the kernel passes them in xattrs (linux/posix_acl_xattr.h): u32 version 2, then entries
 * `u16 tag | u16 permissions | u32 id`, little-endian. The kernel checks access; this keeps ACL and mode in step.
 */
import { TcfsError } from "../errors.ts";
import type { Name } from "../ids.ts";

export const ACCESS_ACL = "system.posix_acl_access" as Name;
export const DEFAULT_ACL = "system.posix_acl_default" as Name;

const VERSION = 2;
const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;
/** As many entries as fit into the largest xattr. */
const MAX_ENTRIES = 8191;

/** linux/posix_acl.h */
export const TAG = { userObject: 0x01, user: 0x02, groupObject: 0x04, group: 0x08, mask: 0x10, other: 0x20 } as const;

interface AclEntry {
  readonly tag: number;
  readonly permissions: number;
  readonly id: number;
}

export type Acl = readonly AclEntry[];

/**
 * Decode and check an ACL.
 * @throws TcfsError `TCFS_INVALID` for anything the kernel's posix_acl_valid would refuse.
 */
export function decodeAcl(value: Uint8Array): Acl {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const count = (value.length - HEADER_BYTES) / ENTRY_BYTES;
  if (
    value.length < HEADER_BYTES ||
    view.getUint32(0, true) !== VERSION ||
    !Number.isInteger(count) ||
    count > MAX_ENTRIES
  ) {
    throw new TcfsError("TCFS_INVALID", "malformed ACL");
  }
  const acl: AclEntry[] = [];
  for (let index = 0; index < count; index++) {
    const at = HEADER_BYTES + index * ENTRY_BYTES;
    acl.push({
      tag: view.getUint16(at, true),
      permissions: view.getUint16(at + 2, true),
      id: view.getUint32(at + 4, true),
    });
  }
  if (acl.length > 0) checkAcl(acl);
  return acl;
}

function checkAcl(acl: Acl): void {
  const count = (tag: number): number => acl.filter((entry) => entry.tag === tag).length;
  const named = count(TAG.user) + count(TAG.group);
  const known = count(TAG.userObject) + count(TAG.groupObject) + count(TAG.other) + count(TAG.mask) + named;
  const isValid =
    known === acl.length &&
    count(TAG.userObject) === 1 &&
    count(TAG.groupObject) === 1 &&
    count(TAG.other) === 1 &&
    count(TAG.mask) <= 1 &&
    (named === 0 || count(TAG.mask) === 1) &&
    acl.every((entry) => entry.permissions <= 7);
  if (!isValid) throw new TcfsError("TCFS_INVALID", "ACL without its required entries, or with unknown ones");
}

/** @returns The xattr value; fresh memory. */
export function encodeAcl(acl: Acl): Uint8Array {
  const value = new Uint8Array(HEADER_BYTES + acl.length * ENTRY_BYTES);
  const view = new DataView(value.buffer);
  view.setUint32(0, VERSION, true);
  acl.forEach((entry, index) => {
    const at = HEADER_BYTES + index * ENTRY_BYTES;
    view.setUint16(at, entry.tag, true);
    view.setUint16(at + 2, entry.permissions, true);
    view.setUint32(at + 4, entry.id, true);
  });
  return value;
}

function permissionsOf(acl: Acl, tag: number): number | undefined {
  return acl.find((entry) => entry.tag === tag)?.permissions;
}

/** Whether the ACL says no more than nine permission bits can. */
export function isMinimalAcl(acl: Acl): boolean {
  return acl.every((entry) => entry.tag === TAG.userObject || entry.tag === TAG.groupObject || entry.tag === TAG.other);
}

/** @returns `mode` with the permission bits that the ACL implies (posix_acl_equiv_mode). */
export function modeFromAcl(acl: Acl, mode: number): number {
  const user = permissionsOf(acl, TAG.userObject) ?? 0;
  const group = permissionsOf(acl, TAG.mask) ?? permissionsOf(acl, TAG.groupObject) ?? 0;
  const other = permissionsOf(acl, TAG.other) ?? 0;
  return (mode & ~0o777) | (user << 6) | (group << 3) | other;
}

/** chmod on a file with an ACL (posix_acl_chmod): the group bits go to the mask where there is one. */
export function aclWithMode(acl: Acl, mode: number): Acl {
  const hasMask = permissionsOf(acl, TAG.mask) !== undefined;
  return acl.map((entry) => {
    if (entry.tag === TAG.userObject) return { ...entry, permissions: (mode >> 6) & 7 };
    if (entry.tag === TAG.other) return { ...entry, permissions: mode & 7 };
    if (entry.tag === (hasMask ? TAG.mask : TAG.groupObject)) return { ...entry, permissions: (mode >> 3) & 7 };
    return entry;
  });
}

/** What a new inode gets from its directory's default ACL (posix_acl_create). */
export function inheritAcl(acl: Acl, mode: number): { readonly mode: number; readonly access: Acl } {
  const hasMask = permissionsOf(acl, TAG.mask) !== undefined;
  const access = acl.map((entry) => {
    if (entry.tag === TAG.userObject) return { ...entry, permissions: entry.permissions & (mode >> 6) & 7 };
    if (entry.tag === TAG.other) return { ...entry, permissions: entry.permissions & mode & 7 };
    if (entry.tag === (hasMask ? TAG.mask : TAG.groupObject)) {
      return { ...entry, permissions: entry.permissions & (mode >> 3) & 7 };
    }
    return entry;
  });
  return { mode: modeFromAcl(access, mode), access };
}
