/** Kernel requests as typed values: layouts of linux/fuse.h, one decoder per opcode. Knows no filesystem. */
import { constants } from "node:fs";
import { TcfsError } from "../errors.ts";
import type { AttributeChanges, NodeRequest, RenameFlags, TimeChange, XattrFlags } from "../fs/operations.ts";
import type { InodeNumber, Name } from "../ids.ts";
import {
  OPCODE,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  SEEK_DATA,
  SEEK_HOLE,
  SETATTR,
  SETXATTR_ACL_KILL_SGID,
  WRITE_CACHE,
  WRITE_KILL_SUIDGID,
  XATTR_CREATE,
  XATTR_REPLACE,
} from "./protocol.ts";
import type { RequestBuffer, RequestHeader } from "./request-buffer.ts";

export interface InitRequest {
  readonly kind: "init";
  readonly major: number;
  readonly minor: number;
  readonly flags: number;
  readonly flags2: number;
}

/** Requests that say nothing beyond their header. */
type BareKind =
  | "getAttributes"
  | "getStatx"
  | "readSymlink"
  | "open"
  | "statistics"
  | "flush"
  | "sync"
  | "syncAll"
  | "release"
  | "destroy"
  | "ioctl"
  | "unknown";

/** One type for each kind, so that a switch tells them apart. */
type Each<K extends string, Fields> = K extends string ? { readonly kind: K } & Fields : never;

/** What the kernel asks. The inode it asks about is in the header; views of the request are marked. */
export type Request =
  | InitRequest
  | Each<"lookup" | "unlink" | "removeDirectory" | "removeXattr", { readonly name: Name }>
  | { readonly kind: "forget"; readonly forgets: readonly { readonly ino: InodeNumber; readonly count: number }[] }
  | Each<BareKind, unknown>
  | { readonly kind: "setAttributes"; readonly changes: AttributeChanges }
  | Each<"makeNode" | "makeDirectory" | "create", { readonly name: Name; readonly node: NodeRequest }>
  | { readonly kind: "makeTemporaryFile"; readonly node: NodeRequest }
  | { readonly kind: "makeSymlink"; readonly name: Name; readonly target: Uint8Array }
  | {
      readonly kind: "rename";
      readonly name: Name;
      readonly newParent: InodeNumber;
      readonly newName: Name;
      readonly flags: RenameFlags;
    }
  /** The header's inode is the directory that gets the name. */
  | { readonly kind: "link"; readonly ino: InodeNumber; readonly name: Name }
  /** `isDirect`: past the page cache (O_DIRECT). */
  | {
      readonly kind: "read";
      readonly offset: bigint;
      readonly lengthBytes: number;
      readonly isDirect: boolean;
      readonly keepsAccessTime: boolean;
    }
  /** `data` is a view. */
  | {
      readonly kind: "write";
      readonly offset: bigint;
      readonly data: Uint8Array;
      readonly clearSetId: boolean;
      readonly sync: boolean;
      readonly isDirect: boolean;
    }
  | {
      readonly kind: "readDirectory";
      readonly cookie: bigint;
      readonly lengthBytes: number;
      readonly withAttributes: boolean;
      readonly keepsAccessTime: boolean;
    }
  | {
      readonly kind: "setXattr";
      readonly name: Name;
      readonly value: Uint8Array;
      readonly flags: XattrFlags;
    }
  /** `lengthBytes` 0 asks for the length alone. */
  | { readonly kind: "getXattr"; readonly name: Name; readonly lengthBytes: number }
  | { readonly kind: "listXattrs"; readonly lengthBytes: number }
  | { readonly kind: "interrupt"; readonly uniqueLow: number; readonly uniqueHigh: number }
  | { readonly kind: "allocate"; readonly mode: number; readonly offset: bigint; readonly lengthBytes: bigint }
  /** `offset` as the caller gave it: it may be negative. */
  | { readonly kind: "seek"; readonly offset: bigint; readonly whence: "data" | "hole" }
  | {
      readonly kind: "copyRange";
      readonly offset: bigint;
      readonly toIno: InodeNumber;
      readonly toOffset: bigint;
      readonly lengthBytes: bigint;
      /** COPY_FILE_RANGE_64: the answer has 64 bits, not 32. */
      readonly isWide: boolean;
    };

export type RequestKind = Request["kind"];

/** COPY_FILE_RANGE answers in 32 bits; the kernel itself caps at a whole number of pages below 2^32. */
const MAX_NARROW_COPY_BYTES = 0xff_f0_00_00n;
const MAX_OFFSET = 2n ** 63n - 1n;
const MAX_FORGETS = 65536;

/**
 * Decode the request that `buffer` began with.
 * @param hasLongSetxattr - Whether SETXATTR_EXT was negotiated.
 * @throws {@link TcfsError} `TCFS_INVALID` or `TCFS_NAME_TOO_LONG` if it is malformed; nothing else.
 */
export function decodeRequest(buffer: RequestBuffer, header: RequestHeader, hasLongSetxattr: boolean): Request {
  if (header.opcode === OPCODE.SETXATTR) return decodeSetxattr(buffer, hasLongSetxattr ? 16 : 8);
  return DECODERS.get(header.opcode)?.(buffer, header) ?? UNKNOWN;
}

const UNKNOWN: Request = { kind: "unknown" };

function constant(kind: BareKind): () => Request {
  const request: Request = { kind };
  return () => request;
}

function named(kind: "lookup" | "unlink" | "removeDirectory" | "removeXattr"): Decoder {
  return (buffer) => ({ kind, name: buffer.name(0) });
}

type Decoder = (buffer: RequestBuffer, header: RequestHeader) => Request;

const DECODERS: ReadonlyMap<number, Decoder> = new Map<number, Decoder>([
  [OPCODE.LOOKUP, named("lookup")],
  [OPCODE.GETATTR, constant("getAttributes")],
  [OPCODE.READ, decodeRead],
  [OPCODE.WRITE, decodeWrite],
  [OPCODE.FORGET, decodeForget],
  [OPCODE.BATCH_FORGET, decodeBatchForget],
  [OPCODE.SETATTR, decodeSetattr],
  [OPCODE.STATX, constant("getStatx")],
  [OPCODE.READLINK, constant("readSymlink")],
  [OPCODE.SYMLINK, decodeSymlink],
  [OPCODE.MKNOD, decodeMknod],
  [OPCODE.MKDIR, decodeMkdir],
  [OPCODE.CREATE, (buffer) => ({ kind: "create", node: creation(buffer), name: buffer.name(16) })],
  [OPCODE.TMPFILE, (buffer) => ({ kind: "makeTemporaryFile", node: creation(buffer) })],
  [OPCODE.UNLINK, named("unlink")],
  [OPCODE.RMDIR, named("removeDirectory")],
  [OPCODE.RENAME, (buffer) => decodeRename(buffer, 8)],
  [OPCODE.RENAME2, (buffer) => decodeRename(buffer, 16)],
  [OPCODE.LINK, decodeLink],
  [OPCODE.STATFS, constant("statistics")],
  [OPCODE.OPEN, constant("open")],
  [OPCODE.OPENDIR, constant("open")],
  [OPCODE.RELEASE, constant("release")],
  [OPCODE.RELEASEDIR, constant("release")],
  [OPCODE.FLUSH, constant("flush")],
  [OPCODE.FSYNC, constant("sync")],
  [OPCODE.FSYNCDIR, constant("sync")],
  [OPCODE.SYNCFS, constant("syncAll")],
  [OPCODE.GETXATTR, decodeGetxattr],
  [OPCODE.LISTXATTR, decodeListxattr],
  [OPCODE.REMOVEXATTR, named("removeXattr")],
  [OPCODE.INIT, decodeInit],
  [OPCODE.READDIR, (buffer) => decodeReaddir(buffer, false)],
  [OPCODE.READDIRPLUS, (buffer) => decodeReaddir(buffer, true)],
  [OPCODE.INTERRUPT, decodeInterrupt],
  [OPCODE.DESTROY, constant("destroy")],
  [OPCODE.IOCTL, constant("ioctl")],
  [OPCODE.FALLOCATE, decodeFallocate],
  [OPCODE.LSEEK, decodeLseek],
  [OPCODE.COPY_FILE_RANGE, (buffer) => decodeCopyRange(buffer, false)],
  [OPCODE.COPY_FILE_RANGE_64, (buffer) => decodeCopyRange(buffer, true)],
]);

/** fuse_read_in: fh, offset, size, read_flags, lock_owner, flags, padding. */
function decodeRead(buffer: RequestBuffer): Request {
  buffer.expect(40);
  const openFlags = buffer.u32(32);
  return {
    kind: "read",
    offset: offsetAt(buffer, 8),
    lengthBytes: buffer.u32(16),
    isDirect: (openFlags & constants.O_DIRECT) !== 0,
    keepsAccessTime: (openFlags & constants.O_NOATIME) !== 0,
  };
}

/**
 * Synchronous writes are followed by an FSYNC (generic_write_sync in the kernel's fuse_cache_write_iter, tried on 6.18),
 * so one commit serves a write that was split. Only asynchronous direct I/O (aio) has no such step.
 */
const ASYNCHRONOUS_SYNC = constants.O_DSYNC | constants.O_DIRECT;

/** fuse_write_in: fh, offset, size, write_flags, lock_owner, flags, padding; then the data. */
function decodeWrite(buffer: RequestBuffer): Request {
  buffer.expect(40);
  const writeFlags = buffer.u32(20);
  const openFlags = buffer.u32(32);
  return {
    kind: "write",
    offset: offsetAt(buffer, 8),
    data: buffer.view(40, buffer.u32(16)),
    clearSetId: (writeFlags & WRITE_KILL_SUIDGID) !== 0,
    sync: (openFlags & ASYNCHRONOUS_SYNC) === ASYNCHRONOUS_SYNC,
    isDirect: (openFlags & constants.O_DIRECT) !== 0 && (writeFlags & WRITE_CACHE) === 0,
  };
}

function decodeForget(buffer: RequestBuffer, header: RequestHeader): Request {
  buffer.expect(8);
  return { kind: "forget", forgets: [{ ino: header.ino, count: buffer.u53(0) }] };
}

/** fuse_batch_forget_in: count, dummy; then pairs of nodeid and nlookup. */
function decodeBatchForget(buffer: RequestBuffer): Request {
  buffer.expect(8);
  const count = buffer.u32(0);
  if (count > MAX_FORGETS) throw new TcfsError("TCFS_INVALID", "the kernel forgets too much at once");
  buffer.expect(8 + 16 * count);
  const forgets = [];
  for (let offset = 8; offset < 8 + 16 * count; offset += 16) {
    forgets.push({ ino: buffer.ino(offset), count: buffer.u53(offset + 8) });
  }
  return { kind: "forget", forgets };
}

/** fuse_setattr_in: valid, padding, fh, size, lock_owner, atime, mtime, ctime, 3 × nsec, mode, unused, uid, gid. */
function decodeSetattr(buffer: RequestBuffer): Request {
  buffer.expect(88);
  const valid = buffer.u32(0);
  const isSet = (flag: number): boolean => (valid & flag) !== 0;
  const time = (now: number, seconds: number, nanoseconds: number): TimeChange =>
    isSet(now) ? "now" : { seconds: buffer.i53(seconds), nanoseconds: buffer.u32(nanoseconds) };
  return {
    kind: "setAttributes",
    changes: {
      ...(isSet(SETATTR.MODE) && { mode: buffer.u32(68) }),
      ...(isSet(SETATTR.UID) && { uid: buffer.u32(76) }),
      ...(isSet(SETATTR.GID) && { gid: buffer.u32(80) }),
      ...(isSet(SETATTR.SIZE) && { lengthBytes: offsetAt(buffer, 16) }),
      ...(isSet(SETATTR.ATIME) && { accessTime: time(SETATTR.ATIME_NOW, 32, 56) }),
      ...(isSet(SETATTR.MTIME) && { modifyTime: time(SETATTR.MTIME_NOW, 40, 60) }),
      ...(isSet(SETATTR.KILL_SUIDGID) && { clearSetId: true }),
    },
  };
}

function decodeSymlink(buffer: RequestBuffer): Request {
  const name = buffer.name(0);
  return { kind: "makeSymlink", name, target: buffer.text(name.length + 1) };
}

/** fuse_mknod_in: mode, rdev, umask, padding; name. */
function decodeMknod(buffer: RequestBuffer): Request {
  buffer.expect(16);
  const node = { mode: buffer.u32(0), deviceNumber: buffer.u32(4), umask: buffer.u32(8) };
  return { kind: "makeNode", node, name: buffer.name(16) };
}

/** fuse_mkdir_in: mode, umask; name. The kernel sends permission bits alone. */
function decodeMkdir(buffer: RequestBuffer): Request {
  buffer.expect(8);
  const mode = (buffer.u32(0) & ~constants.S_IFMT) | constants.S_IFDIR;
  return { kind: "makeDirectory", node: { mode, umask: buffer.u32(4), deviceNumber: 0 }, name: buffer.name(8) };
}

/** fuse_create_in: flags, mode, umask, open_flags. */
function creation(buffer: RequestBuffer): NodeRequest {
  buffer.expect(16);
  const mode = (buffer.u32(4) & ~constants.S_IFMT) | constants.S_IFREG;
  return { mode, umask: buffer.u32(8), deviceNumber: 0 };
}

/** fuse_rename_in: newdir; fuse_rename2_in: newdir, flags, padding; then both names. */
function decodeRename(buffer: RequestBuffer, headBytes: number): Request {
  buffer.expect(headBytes);
  const flags = headBytes === 16 ? buffer.u32(8) : 0;
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) !== 0) {
    throw new TcfsError("TCFS_INVALID", "rename with an unknown flag");
  }
  const name = buffer.name(headBytes);
  return {
    kind: "rename",
    name,
    newParent: buffer.ino(0),
    newName: buffer.name(headBytes + name.length + 1),
    flags: {
      noReplace: (flags & RENAME_NOREPLACE) !== 0,
      exchange: (flags & RENAME_EXCHANGE) !== 0,
      whiteout: (flags & RENAME_WHITEOUT) !== 0,
    },
  };
}

function decodeLink(buffer: RequestBuffer): Request {
  buffer.expect(8);
  return { kind: "link", ino: buffer.ino(0), name: buffer.name(8) };
}

/** fuse_setxattr_in: size, flags, and if negotiated setxattr_flags, padding; then name and value. */
function decodeSetxattr(buffer: RequestBuffer, headBytes: number): Request {
  buffer.expect(headBytes);
  const flags = buffer.u32(4);
  const name = buffer.name(headBytes);
  return {
    kind: "setXattr",
    name,
    value: new Uint8Array(buffer.view(headBytes + name.length + 1, buffer.u32(0))),
    flags: {
      create: (flags & XATTR_CREATE) !== 0,
      replace: (flags & XATTR_REPLACE) !== 0,
      clearSetGid: headBytes === 16 && (buffer.u32(8) & SETXATTR_ACL_KILL_SGID) !== 0,
    },
  };
}

function decodeGetxattr(buffer: RequestBuffer): Request {
  buffer.expect(8);
  return { kind: "getXattr", lengthBytes: buffer.u32(0), name: buffer.name(8) };
}

function decodeListxattr(buffer: RequestBuffer): Request {
  buffer.expect(8);
  return { kind: "listXattrs", lengthBytes: buffer.u32(0) };
}

/** fuse_init_in: major, minor, max_readahead, flags, and since 7.36 flags2 and room to grow. */
function decodeInit(buffer: RequestBuffer): Request {
  buffer.expect(8);
  return {
    kind: "init",
    major: buffer.u32(0),
    minor: buffer.u32(4),
    flags: buffer.lengthBytes >= 16 ? buffer.u32(12) : 0,
    flags2: buffer.lengthBytes >= 20 ? buffer.u32(16) : 0,
  };
}

/** fuse_read_in; the offset is a cookie. */
function decodeReaddir(buffer: RequestBuffer, withAttributes: boolean): Request {
  buffer.expect(40);
  return {
    kind: "readDirectory",
    cookie: offsetAt(buffer, 8),
    lengthBytes: buffer.u32(16),
    withAttributes,
    keepsAccessTime: (buffer.u32(32) & constants.O_NOATIME) !== 0,
  };
}

function decodeInterrupt(buffer: RequestBuffer): Request {
  buffer.expect(8);
  return { kind: "interrupt", uniqueLow: buffer.u32(0), uniqueHigh: buffer.u32(4) };
}

/** fuse_fallocate_in: fh, offset, length, mode, padding. */
function decodeFallocate(buffer: RequestBuffer): Request {
  buffer.expect(28);
  return {
    kind: "allocate",
    offset: offsetAt(buffer, 8),
    lengthBytes: offsetAt(buffer, 16),
    mode: buffer.u32(24),
  };
}

/** fuse_lseek_in: fh, offset, whence, padding. The kernel asks for holes and data only, and checks no offset itself. */
function decodeLseek(buffer: RequestBuffer): Request {
  buffer.expect(20);
  const whence = buffer.u32(16);
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new TcfsError("TCFS_INVALID", "lseek whence is unknown");
  return { kind: "seek", offset: BigInt.asIntN(64, buffer.u64(8)), whence: whence === SEEK_DATA ? "data" : "hole" };
}

/** fuse_copy_file_range_in: fh_in, off_in, nodeid_out, fh_out, off_out, len, flags. */
function decodeCopyRange(buffer: RequestBuffer, isWide: boolean): Request {
  buffer.expect(56);
  const lengthBytes = offsetAt(buffer, 40);
  return {
    kind: "copyRange",
    offset: offsetAt(buffer, 8),
    toIno: buffer.ino(16),
    toOffset: offsetAt(buffer, 32),
    lengthBytes: isWide || lengthBytes < MAX_NARROW_COPY_BYTES ? lengthBytes : MAX_NARROW_COPY_BYTES,
    isWide,
  };
}

/** File offsets and lengths are loff_t: never negative. */
function offsetAt(buffer: RequestBuffer, offset: number): bigint {
  const value = buffer.u64(offset);
  if (value > MAX_OFFSET) throw new TcfsError("TCFS_INVALID", "a file offset is out of range");
  return value;
}
