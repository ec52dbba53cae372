/** Which rights a file gets outside of the vault: never more for anybody than it gave within. Pure. */
import type { Acl } from "../../fs/acl.ts";
import { TAG, modeFromAcl } from "../../fs/acl.ts";

const SET_ID = 0o6000;
const PERMISSIONS = 0o777;
const ALL_BITS = 0o7777;

export interface Circumstances {
  /** Whether the file belongs to the user and group that it did in the vault. */
  readonly isOwnerKept: boolean;
  readonly isGroupKept: boolean;
  /** Whether set-user-id and set-group-id may stay. */
  readonly keepsSetId: boolean;
  /** The ACL that it had and cannot have here. */
  readonly lostAcl: Acl | undefined;
}

/** @returns Permission, set-id and sticky bits. */
export function rightsOutside(mode: number, circumstances: Circumstances): number {
  const { isOwnerKept, isGroupKept, keepsSetId, lostAcl } = circumstances;
  let bits = mode & ALL_BITS;
  // With an ACL the group's bits are its mask: without it they would be the group's own.
  if (lostAcl !== undefined) bits = (bits & modeWithoutNames(lostAcl, bits)) | (bits & ~PERMISSIONS);
  if (!isGroupKept || !isOwnerKept) {
    // Who was in the group may be among the others now, and the other way round.
    const both = (bits >> 3) & bits & 0o7;
    bits = (bits & ~0o077) | (both << 3) | both;
  }
  return keepsSetId ? bits : bits & ~SET_ID;
}

/** @returns Permission bits: the group gets the least that the ACL gives to it and to those it names, others likewise. */
function modeWithoutNames(acl: Acl, mode: number): number {
  const mask = (modeFromAcl(acl, mode) >> 3) & 0o7;
  const least = (tags: readonly number[], start: number): number =>
    acl.filter(({ tag }) => tags.includes(tag)).reduce((bits, { permissions }) => bits & permissions & mask, start);
  const others = least([TAG.user, TAG.group], mode & 0o7);
  return (mode & 0o700) | (least([TAG.user, TAG.group, TAG.groupObject], mask) << 3) | others;
}
