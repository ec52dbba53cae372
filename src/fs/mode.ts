/** File type and permission bits (sys/stat.h), and the rules by which set-id bits are lost. */

export const S_IFMT = 0o170000;
export const S_IFLNK = 0o120000;
const S_IFREG = 0o100000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
const S_IXGRP = 0o010;

export function isDirectoryMode(mode: number): boolean {
  return (mode & S_IFMT) === S_IFDIR;
}

export function isRegularMode(mode: number): boolean {
  return (mode & S_IFMT) === S_IFREG;
}

/** DT_* of a mode: its type bits. */
export function typeOf(mode: number): number {
  return (mode & S_IFMT) >> 12;
}

/** Without set-user-id and set-group-id; the latter stays where the group may not execute, for changes by its members. */
export function withoutSetId(mode: number, isByMember: boolean): number {
  const cleared = mode & ~S_ISUID;
  return (mode & S_IXGRP) === 0 && isByMember ? cleared : cleared & ~S_ISGID;
}
