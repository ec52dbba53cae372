/** Numbers of the FUSE kernel protocol (linux/fuse.h, 7.31 to 7.45), as far as tcfs speaks it. Native byte order. */

export const PROTOCOL_MAJOR = 7;
/** Linux 5.4: the oldest kernel served. */
export const OLDEST_MINOR = 31;
export const NEWEST_MINOR = 45;

/** Payload of the largest WRITE and READ. */
export const MAX_WRITE_BYTES = 1024 * 1024;
/** The same in pages, whatever the page (4 KiB is the smallest). */
export const MAX_PAGES = 256;
/** The kernel takes this or what its own setting for the mount says, whichever is less. */
export const MAX_READAHEAD_BYTES = 1024 * 1024;
export const IN_HEADER_BYTES = 40;
export const OUT_HEADER_BYTES = 16;
/** The kernel wants room for headers and the largest WRITE; names and xattrs fit as well. */
export const REQUEST_BUFFER_BYTES = MAX_WRITE_BYTES + 4096;
/** Replies that are put together here are entries, attributes, symlinks and xattrs: 64 KiB at most. */
export const REPLY_BUFFER_BYTES = 128 * 1024;
export const NAME_MAX_BYTES = 255;

export const OPCODE = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  CREATE: 35,
  INTERRUPT: 36,
  DESTROY: 38,
  IOCTL: 39,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;

/** FUSE_INIT flags 0…31 (`flags`). */
export const INIT_FLAG = {
  ASYNC_READ: 1 << 0,
  EXPORT_SUPPORT: 1 << 4,
  BIG_WRITES: 1 << 5,
  DONT_MASK: 1 << 6,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  ASYNC_DIO: 1 << 15,
  NO_OPEN_SUPPORT: 1 << 17,
  PARALLEL_DIROPS: 1 << 18,
  POSIX_ACL: 1 << 20,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  NO_OPENDIR_SUPPORT: 1 << 24,
  EXPLICIT_INVAL_DATA: 1 << 25,
  HANDLE_KILLPRIV_V2: 1 << 28,
  SETXATTR_EXT: 1 << 29,
  INIT_EXT: 1 << 30,
} as const;

/** FUSE_INIT flags 32…63 (`flags2`), shifted right by 32. */
export const INIT_FLAG2 = {
  DIRECT_IO_ALLOW_MMAP: 1 << 4,
} as const;

/** fuse_setattr_in.valid */
export const SETATTR = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  KILL_SUIDGID: 1 << 11,
} as const;

/** A page of the cache, written back: no direct write, whatever the file's flags. */
export const WRITE_CACHE = 1 << 0;
export const WRITE_KILL_SUIDGID = 1 << 2;
export const OPEN_KEEP_CACHE = 1 << 1;
export const RENAME_NOREPLACE = 1 << 0;
export const RENAME_EXCHANGE = 1 << 1;
export const RENAME_WHITEOUT = 1 << 2;
export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;
export const SETXATTR_ACL_KILL_SGID = 1;
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

/** What fuse_out_header.error says when unique is 0. */
export const NOTIFY = { INVAL_INODE: 2, INVAL_ENTRY: 3 } as const;
