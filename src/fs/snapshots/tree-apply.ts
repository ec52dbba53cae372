/**
 * Puts a plan into effect, as one synchronous step: whatever commits next has all of it. Everything is committed before,
 * and nothing was changed since the plan was made.
 */
import type { InodeRecord } from "../../format/records.ts";
import type { InodeNumber, Name } from "../../ids.ts";
import type { Timestamp } from "../../platform/clock.ts";
import { blankInode } from "../inodes.ts";
import { isDirectoryMode } from "../mode.ts";
import type { VolumeParts } from "../volume-parts.ts";
import { DIRECTORY_TYPE } from "./tree-path.ts";
import type { AttachedEntry, DetachedEntry, PlannedInode, Target, TreePlan } from "./tree-plan.ts";

type ApplyParts = Pick<VolumeParts, "metadata" | "inodes" | "contents" | "clock">;

/** What the kernel may have cached. */
export interface AppliedChanges {
  readonly inodes: ReadonlySet<InodeNumber>;
  readonly entries: readonly { readonly directory: InodeNumber; readonly name: Name }[];
}

/** @throws TcfsError for what cannot be read; the planner has read all of it already. */
export function applyTrees(plan: TreePlan, parts: ApplyParts): AppliedChanges {
  return new TreeApplication(parts).apply(plan);
}

class TreeApplication {
  readonly #parts: ApplyParts;
  readonly #now: Timestamp;
  readonly #touched = new Map<InodeNumber, InodeRecord>();
  readonly #orphans = new Set<InodeNumber>();
  /** Directories that have no name at the moment; their link count is as if they had one. */
  readonly #unnamed = new Set<InodeNumber>();
  #outside: ReadonlySet<InodeNumber> = new Set();
  readonly #entries: { directory: InodeNumber; name: Name }[] = [];

  constructor(parts: ApplyParts) {
    this.#parts = parts;
    this.#now = parts.clock.now();
  }

  apply({ detached, attached, inodes, outside }: TreePlan): AppliedChanges {
    this.#outside = outside;
    for (const planned of inodes) this.#summon(planned);
    for (const entry of detached) this.#detach(entry);
    for (const entry of attached) this.#attach(entry);
    for (const planned of inodes) this.#restore(planned);
    for (const inode of this.#touched.values()) this.#finish(inode);
    return { inodes: new Set(this.#touched.keys()), entries: this.#entries };
  }

  /** Have an inode for each that is to be: one of the present, or a blank one without a name. */
  #summon({ target, record }: PlannedInode): void {
    const { metadata } = this.#parts;
    const present = target.number === undefined ? undefined : metadata.getInode(target.number);
    if (present !== undefined) {
      if (present.linkCount === 0) this.#orphans.add(present.ino);
      this.#enter(present);
      return;
    }
    const { volume } = metadata;
    if (target.number === undefined) {
      target.number = volume.nextInode;
      volume.nextInode = (volume.nextInode + 1) as InodeNumber;
    }
    const { mode, uid, gid } = record;
    const inode = blankInode(target.number, volume.epoch, this.#now, { mode, uid, gid });
    inode.linkCount = 0;
    volume.inodeCount++;
    this.#enter(inode);
  }

  #enter(inode: InodeRecord): void {
    this.#touched.set(inode.ino, inode);
    if (inode.linkCount > 0 || !isDirectoryMode(inode.mode)) return;
    inode.linkCount = 2;
    this.#unnamed.add(inode.ino);
  }

  #detach({ directory, name }: DetachedEntry): void {
    const { metadata } = this.#parts;
    const dentry = metadata.getDentry(directory, name);
    if (dentry === undefined) throw new RangeError(`directory ${directory} changed since the plan was made`);
    metadata.deleteDentry(directory, name);
    this.#noteEntry(directory, name, -1, dentry.type);
    const child = this.#touch(dentry.ino);
    if (dentry.type === DIRECTORY_TYPE) this.#unnamed.add(child.ino);
    else child.linkCount--;
  }

  #attach({ directory, name, child: target, type }: AttachedEntry): void {
    const parent = numberOf(directory);
    const child = this.#touch(numberOf(target));
    this.#parts.metadata.putDentry(parent, { name, ino: child.ino, type });
    this.#noteEntry(parent, name, 1, type);
    if (type === DIRECTORY_TYPE) this.#unnamed.delete(child.ino);
    else child.linkCount++;
    child.parent = parent;
  }

  #noteEntry(directory: InodeNumber, name: Name, count: 1 | -1, type: number): void {
    const inode = this.#touch(directory);
    inode.entryCount += count;
    if (type === DIRECTORY_TYPE) inode.linkCount += count;
    if (this.#outside.has(directory)) inode.modifyTime = this.#now;
    this.#entries.push({ directory, name });
  }

  #touch(ino: InodeNumber): InodeRecord {
    let inode = this.#touched.get(ino);
    if (inode === undefined) {
      inode = this.#parts.inodes.get(ino);
      this.#touched.set(ino, inode);
    }
    return inode;
  }

  #restore({ target, record, xattrs, pages }: PlannedInode): void {
    const { metadata, contents } = this.#parts;
    const inode = this.#touch(numberOf(target));
    for (const { page, extents } of pages) contents.replacePage(inode, page, extents);
    inode.lengthBytes = record.lengthBytes;
    const { mode, uid, gid, deviceNumber, accessTime, modifyTime, birthTime, symlinkTarget } = record;
    Object.assign(inode, { mode, uid, gid, deviceNumber, accessTime, modifyTime, birthTime, symlinkTarget });
    if (inode.hasXattrs || xattrs.size > 0) metadata.putXattrs(inode.ino, new Map(xattrs));
    inode.hasXattrs = xattrs.size > 0;
  }

  /** The record is put; an inode that lost its last name goes, or waits for who has it open. */
  #finish(inode: InodeRecord): void {
    const { metadata, inodes } = this.#parts;
    if (this.#unnamed.has(inode.ino)) inode.linkCount = 0;
    if (inode.linkCount > 0 && this.#orphans.has(inode.ino)) metadata.removeOrphan(inode.ino);
    inode.changeTime = this.#now;
    metadata.putInode(inode);
    inodes.dropIfUnlinked(inode);
  }
}

function numberOf({ number }: Target): InodeNumber {
  if (number === undefined) throw new RangeError("a target without an inode");
  return number;
}
