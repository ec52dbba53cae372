/** Inode numbers in the mount (FORMAT.md §7.12): live ones, then 2^40 for each snapshot's slot, then `.snapshots`. */
import { INODE_NUMBER_LIMIT } from "../../format/records.ts";
import { MAX_SNAPSHOT_SLOT } from "../../format/snapshot-codec.ts";
import type { InodeNumber, Name } from "../../ids.ts";

/** The virtual directory at the root. */
export const SNAPSHOTS_NAME = ".snapshots" as Name;
export const SNAPSHOTS_DIRECTORY = ((MAX_SNAPSHOT_SLOT + 1) * INODE_NUMBER_LIMIT + 1) as InodeNumber;

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
