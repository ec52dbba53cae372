/**
 * Inode numbers in the mount (FORMAT.md §7.12): live ones, then 2^40 for each snapshot's slot, then `.snapshots`, then
 * directories as they are below `.versions`, then versions.
 */
import { INODE_NUMBER_LIMIT } from "../../format/records.ts";
import { MAX_SNAPSHOT_SLOT } from "../../format/snapshot-codec.ts";
import { VERSION_NUMBER_LIMIT, type VersionNumber } from "../../format/version-keys.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../ids.ts";

/** The virtual directory at the root. */
export const SNAPSHOTS_NAME = ".snapshots" as Name;
export const SNAPSHOTS_DIRECTORY = ((MAX_SNAPSHOT_SLOT + 1) * INODE_NUMBER_LIMIT + 1) as InodeNumber;

/** The virtual directory of versions at the root, and what is below it. */
export const VERSIONS_NAME = ".versions" as Name;
const BELOW_VERSIONS = (MAX_SNAPSHOT_SLOT + 1) * INODE_NUMBER_LIMIT + VERSION_NUMBER_LIMIT;
const VERSION_FILES = BELOW_VERSIONS + VERSION_NUMBER_LIMIT;
export const VERSIONS_DIRECTORY = versionDirectory(ROOT_INODE);

/** The number below `.versions` of a directory, living or removed. */
export function versionDirectory(ino: InodeNumber): InodeNumber {
  return (BELOW_VERSIONS + ino) as InodeNumber;
}

/** The number in the mount of a version. */
export function versionFile(version: VersionNumber): InodeNumber {
  return (VERSION_FILES + version) as InodeNumber;
}

/** Whether a number is `.versions` or below it. */
export function isBelowVersions(ino: InodeNumber): boolean {
  return ino >= BELOW_VERSIONS;
}

/** Whether a number is a version's, and not a directory's. */
export function isVersionNumber(ino: InodeNumber): boolean {
  return ino >= VERSION_FILES;
}

/** The inode of a directory below `.versions`. */
export function withinVersions(ino: InodeNumber): InodeNumber {
  return (ino - BELOW_VERSIONS) as InodeNumber;
}

/** The slot of the snapshot that a number belongs to. */
export function slotOf(ino: InodeNumber): number {
  return Math.floor(ino / INODE_NUMBER_LIMIT);
}

/** The number within the snapshot. */
export function numberWithin(ino: InodeNumber): InodeNumber {
  return (ino % INODE_NUMBER_LIMIT) as InodeNumber;
}

/** The number in the mount of a snapshot's inode. */
export function numberOutside(slot: number, ino: InodeNumber): InodeNumber {
  return (slot * INODE_NUMBER_LIMIT + ino) as InodeNumber;
}

/** A snapshot's name as the kernel has it: one character for each byte of its UTF-8. */
export function entryName(snapshotName: string): Name {
  return Buffer.from(snapshotName).toString("latin1") as Name;
}
