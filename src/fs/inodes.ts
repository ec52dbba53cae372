/** Inode records by number: finding, making, timing, counting the kernel's references, and the end of an inode. */
import { TcfsError } from "../errors.ts";
import { INODE_NUMBER_LIMIT, type InodeRecord } from "../format/records.ts";
import type { Epoch, InodeNumber } from "../ids.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import type { Clock, Timestamp } from "../platform/clock.ts";
import { endPageOf } from "./contents.ts";
import type { FileTable } from "./file-table.ts";
import { isDirectoryMode, isRegularMode } from "./mode.ts";
import type { Attributes, Caller } from "./operations.ts";
import { ReferenceCounts } from "./reference-counts.ts";

export interface InodesOptions {
  readonly metadata: MetadataStore;
  readonly files: FileTable;
  readonly clock: Clock;
}

export class Inodes {
  readonly #metadata: MetadataStore;
  readonly #files: FileTable;
  readonly #clock: Clock;
  readonly #references = new ReferenceCounts();
  /** Going, but their data stays in use. */
  readonly #kept = new Set<InodeNumber>();

  constructor(options: InodesOptions) {
    this.#metadata = options.metadata;
    this.#files = options.files;
    this.#clock = options.clock;
  }

  /** @throws TcfsError `TCFS_STALE` for a number that names nothing. */
  get(ino: InodeNumber): InodeRecord {
    const inode = this.#metadata.getInode(ino);
    if (inode === undefined) throw new TcfsError("TCFS_STALE", `inode ${ino} does not exist`);
    return inode;
  }

  /**
   * What a file handle names. The kernel asks only when it does not know the inode, so nobody has it open: one without
   * a name is about to go.
   * @throws TcfsError `TCFS_STALE`.
   */
  living(ino: InodeNumber): InodeRecord {
    const inode = this.get(ino);
    if (inode.linkCount === 0) throw new TcfsError("TCFS_STALE", `inode ${ino} has no name any more`);
    return inode;
  }

  /** @throws TcfsError `TCFS_NOT_DIRECTORY` if it is none. */
  directory(ino: InodeNumber): InodeRecord {
    const inode = this.get(ino);
    if (!isDirectoryMode(inode.mode)) throw new TcfsError("TCFS_NOT_DIRECTORY", `inode ${ino} is not a directory`);
    return inode;
  }

  /** A directory that still has a name: nothing can be made in a removed one. */
  livingDirectory(ino: InodeNumber): InodeRecord {
    const inode = this.directory(ino);
    if (inode.linkCount === 0) throw new TcfsError("TCFS_NO_ENTRY", `directory ${ino} was removed`);
    return inode;
  }

  /** A fresh inode with the present time everywhere; the caller fills in the rest and puts it. */
  make(owner: { readonly mode: number; readonly uid: number; readonly gid: number }): InodeRecord {
    const { volume } = this.#metadata;
    const ino = volume.nextInode;
    if (ino >= INODE_NUMBER_LIMIT) throw new TcfsError("TCFS_STORE_FULL", "the vault has had all inodes that it can");
    volume.nextInode = (ino + 1) as InodeNumber;
    volume.inodeCount++;
    return blankInode(ino, volume.epoch, this.#clock.now(), owner);
  }

  /** The inode itself changed (mode, owner, links, xattrs): ctime. */
  touchChange(inode: InodeRecord): void {
    inode.changeTime = this.#clock.now();
    this.#metadata.putInode(inode);
  }

  /** Its contents changed: mtime and ctime. */
  touchContents(inode: InodeRecord): void {
    const now = this.#clock.now();
    inode.modifyTime = now;
    inode.changeTime = now;
    this.#metadata.putInode(inode);
  }

  /** The kernel got one more reference. */
  reference(inode: InodeRecord): Attributes {
    this.#references.add(inode.ino);
    return attributesOf(inode);
  }

  /** The kernel dropped references. @returns Whether the inode went with them. */
  forget(ino: InodeNumber, count: number): boolean {
    if (this.#references.drop(ino, count) > 0) return false;
    const inode = this.#metadata.getInode(ino);
    if (inode?.linkCount !== 0) return false;
    this.remove(inode);
    return true;
  }

  /** Whether the kernel knows it. */
  isReferenced(ino: InodeNumber): boolean {
    return this.#references.has(ino);
  }

  /** The last name is gone: an orphan as long as the kernel refers to it, then nothing. */
  dropIfUnlinked(inode: InodeRecord): void {
    if (inode.linkCount > 0) return;
    if (this.#references.has(inode.ino)) this.#metadata.addOrphan(inode.ino);
    else this.#erase(inode);
  }

  /** Delete an orphan with all it holds. */
  remove(inode: InodeRecord): void {
    this.#metadata.removeOrphan(inode.ino);
    this.#erase(inode);
  }

  /** A version keeps what an inode holds that loses its last name: its data stays in use when it goes. */
  noteKept(inode: InodeRecord): void {
    this.#kept.add(inode.ino);
  }

  #erase(inode: InodeRecord): void {
    const { volume, versions } = this.#metadata;
    volume.inodeCount--;
    volume.allocatedBytes -= inode.allocatedBytes;
    if (!this.#kept.delete(inode.ino)) this.#files.noteReleased(inode.allocatedBytes);
    this.#files.delete(inode.ino, versions.sharesPages(inode.ino) ? undefined : endPageOf(inode.lengthBytes));
    this.#metadata.deleteInode(inode.ino);
  }
}

/** Whether a caller is in the inode's group. Of supplementary groups the kernel tells nothing. Root (CAP_FSETID) counts as one of any group. */
export function isMember({ uid, gid }: Caller, inode: InodeRecord): boolean {
  return uid === 0 || gid === inode.gid;
}

/** @throws TcfsError `TCFS_IS_DIRECTORY`, `TCFS_INVALID` unless it is a regular file. */
export function requireRegular(inode: InodeRecord): InodeRecord {
  if (isDirectoryMode(inode.mode)) throw new TcfsError("TCFS_IS_DIRECTORY", `inode ${inode.ino} is a directory`);
  if (!isRegularMode(inode.mode)) throw new TcfsError("TCFS_INVALID", `inode ${inode.ino} is not a regular file`);
  return inode;
}

/** @returns An inode with one name and the same time everywhere, nothing in it. */
export function blankInode(
  ino: InodeNumber,
  epoch: Epoch,
  now: Timestamp,
  owner: { readonly mode: number; readonly uid: number; readonly gid: number },
): InodeRecord {
  return {
    ino,
    epoch,
    ...owner,
    linkCount: 1,
    deviceNumber: 0,
    lengthBytes: 0n,
    allocatedBytes: 0,
    accessTime: now,
    modifyTime: now,
    changeTime: now,
    birthTime: now,
    entryCount: 0,
    parent: 0,
    hasXattrs: false,
    loggedCommit: 0,
    symlinkTarget: undefined,
  };
}

/** @returns What the kernel is told; a copy. */
export function attributesOf(inode: InodeRecord): Attributes {
  const isDirectory = isDirectoryMode(inode.mode);
  return {
    ino: inode.ino,
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    linkCount: inode.linkCount,
    deviceNumber: inode.deviceNumber,
    lengthBytes: isDirectory ? BigInt(inode.entryCount) : inode.lengthBytes,
    allocatedBytes: BigInt(inode.allocatedBytes),
    accessTime: inode.accessTime,
    modifyTime: inode.modifyTime,
    changeTime: inode.changeTime,
    birthTime: inode.birthTime,
  };
}

/** The kernel lets any 64 bit number of seconds through; what no record holds is brought to the nearest that one does. */
export function withinReach({ seconds, nanoseconds }: Timestamp): Timestamp {
  const reachable = Math.min(Math.max(seconds, Number.MIN_SAFE_INTEGER), Number.MAX_SAFE_INTEGER);
  return { seconds: reachable, nanoseconds };
}
