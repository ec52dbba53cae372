/**
 * The filesystem as the kernel protocol drives it: POSIX meaning on inode numbers, no paths, no bytes of the wire.
 * `src/fuse` calls these. A method that returns plainly is answered at once; a promise is answered when it settles,
 * and does not hold up other requests. Failures are thrown (or rejected) as TcfsError.
 */
import type { BorrowedBytes } from "../borrowed-bytes.ts";
import type { InodeNumber, Name } from "../ids.ts";
import type { MaybePromise } from "../maybe-promise.ts";
import type { DiskSpace } from "../platform/disk.ts";
import type { Timestamp } from "../platform/clock.ts";

/** Who asks. Permission checks are the kernel's (default_permissions); this is for ownership and set-id rules. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** Register what to do when the kernel interrupts this request (FUSE_INTERRUPT); at most one. */
  onInterrupt(action: () => void): void;
}

export interface Attributes {
  readonly ino: InodeNumber;
  /** File type and permission bits, as st_mode. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly linkCount: number;
  /** Device number in the kernel's new_encode_dev form, for device files. */
  readonly deviceNumber: number;
  readonly lengthBytes: bigint;
  /** Bytes that data occupies (st_blocks × 512). */
  readonly allocatedBytes: bigint;
  readonly accessTime: Timestamp;
  readonly modifyTime: Timestamp;
  readonly changeTime: Timestamp;
  readonly birthTime: Timestamp;
  /** It changes without the kernel being told, which must ask each time. */
  readonly isVolatile?: true;
}

/** A time to set: a given one or the present. */
export type TimeChange = Timestamp | "now";

/** What setattr changes; absent means unchanged. */
export interface AttributeChanges {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly lengthBytes?: bigint;
  readonly accessTime?: TimeChange;
  readonly modifyTime?: TimeChange;
  /** FATTR_KILL_SUIDGID: clear set-id bits as for a write by an unprivileged process. */
  readonly clearSetId?: boolean;
}

/** mode carries the type and the permission bits as asked, the umask not yet applied (FUSE_DONT_MASK). */
export interface NodeRequest {
  readonly mode: number;
  readonly umask: number;
  readonly deviceNumber: number;
}

export interface DirectoryEntry {
  readonly name: Name;
  readonly ino: InodeNumber;
  /** Type bits of st_mode, shifted right by 12 (DT_*). */
  readonly type: number;
  /** Where to go on after this entry. Unsigned 63 bit, never 0. */
  readonly cookie: bigint;
}

export interface RenameFlags {
  readonly noReplace: boolean;
  readonly exchange: boolean;
  readonly whiteout: boolean;
}

export interface XattrFlags {
  readonly create: boolean;
  readonly replace: boolean;
  /** FUSE_SETXATTR_ACL_KILL_SGID. */
  readonly clearSetGid: boolean;
}

export interface ReadOptions {
  /** O_NOATIME: the access time stays as it is. */
  readonly keepsAccessTime: boolean;
}

export interface FileSystemStatistics {
  readonly space: DiskSpace;
  readonly inodeCount: number;
}

export interface FileSystemOperations {
  /** Set while no request can be answered for certain: all wait for it. Never rejects. */
  readonly unready: Promise<void> | undefined;
  /** Find a name. Undefined is a negative entry (the kernel may cache it). Counts one kernel reference. */
  lookup(parent: InodeNumber, name: Name): MaybePromise<Attributes | undefined>;
  /** The kernel drops `count` references; at zero an unlinked inode's data goes. Never fails. */
  forget(ino: InodeNumber, count: number): void;
  getAttributes(ino: InodeNumber): MaybePromise<Attributes>;
  setAttributes(ino: InodeNumber, changes: AttributeChanges, caller: Caller): MaybePromise<Attributes>;
  readSymlink(ino: InodeNumber): MaybePromise<Uint8Array>;

  /* Each of these counts one kernel reference on the inode that it returns. */
  makeNode(parent: InodeNumber, name: Name, request: NodeRequest, caller: Caller): MaybePromise<Attributes>;
  makeDirectory(parent: InodeNumber, name: Name, request: NodeRequest, caller: Caller): MaybePromise<Attributes>;
  makeSymlink(parent: InodeNumber, name: Name, target: Uint8Array, caller: Caller): MaybePromise<Attributes>;
  link(ino: InodeNumber, newParent: InodeNumber, newName: Name, caller: Caller): MaybePromise<Attributes>;
  /** An unnamed file in `parent` (O_TMPFILE), link count 0. */
  makeTemporaryFile(parent: InodeNumber, request: NodeRequest, caller: Caller): MaybePromise<Attributes>;

  unlink(parent: InodeNumber, name: Name, caller: Caller): MaybePromise<void>;
  removeDirectory(parent: InodeNumber, name: Name, caller: Caller): MaybePromise<void>;
  rename(
    from: { readonly parent: InodeNumber; readonly name: Name },
    to: { readonly parent: InodeNumber; readonly name: Name },
    flags: RenameFlags,
    caller: Caller,
  ): MaybePromise<void>;

  /** At most `lengthBytes` from `offset`; fewer only at the end of the file. */
  read(
    ino: InodeNumber,
    offset: bigint,
    lengthBytes: number,
    caller: Caller,
    options?: ReadOptions,
  ): MaybePromise<BorrowedBytes>;
  /** @param data - The kernel's buffer: lent until this returns (not until the promise settles). */
  write(
    ino: InodeNumber,
    offset: bigint,
    data: Uint8Array,
    options: { readonly clearSetId: boolean; readonly sync: boolean },
    caller: Caller,
  ): MaybePromise<number>;
  /** close(2): reports an earlier failure of this file's data. May come several times per open, or never. */
  flush(ino: InodeNumber): MaybePromise<void>;
  /** fsync(2) and fdatasync(2), files and directories. */
  sync(ino: InodeNumber, caller: Caller): MaybePromise<void>;
  /** syncfs(2). */
  syncAll(): MaybePromise<void>;
  /** fallocate(2); `mode` as in linux/falloc.h. */
  allocate(ino: InodeNumber, mode: number, offset: bigint, lengthBytes: bigint, caller: Caller): MaybePromise<void>;
  /** SEEK_DATA and SEEK_HOLE. @throws `TCFS_NO_OFFSET` past the last. */
  seek(ino: InodeNumber, offset: bigint, whence: "data" | "hole"): MaybePromise<bigint>;
  /** copy_file_range(2): shares chunks. Resolves to the bytes copied. */
  copyRange(
    from: { readonly ino: InodeNumber; readonly offset: bigint },
    to: { readonly ino: InodeNumber; readonly offset: bigint },
    lengthBytes: bigint,
    caller: Caller,
  ): MaybePromise<bigint>;

  /**
   * Entries after `cookie` (0: from the start), in cookie order, "." and ".." included, until `take` says false.
   * With `withAttributes` each entry but "." and ".." that `take` accepts counts one kernel reference.
   */
  readDirectory(
    ino: InodeNumber,
    cookie: bigint,
    withAttributes: boolean,
    take: (entry: DirectoryEntry, attributes: Attributes | undefined) => boolean,
    options?: ReadOptions,
  ): MaybePromise<void>;

  /** Undefined where there is none: the kernel asks for `security.capability` of every file it writes. */
  getXattr(ino: InodeNumber, name: Name): MaybePromise<Uint8Array | undefined>;
  setXattr(ino: InodeNumber, name: Name, value: Uint8Array, flags: XattrFlags, caller: Caller): MaybePromise<void>;
  /** Names of the `trusted` namespace are root's alone to see. */
  listXattrs(ino: InodeNumber, caller: Caller): MaybePromise<readonly Name[]>;
  removeXattr(ino: InodeNumber, name: Name, caller: Caller): MaybePromise<void>;
  statistics(): MaybePromise<FileSystemStatistics>;
}
