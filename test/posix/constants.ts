/** Numbers of the Linux system call interface (x86-64 and arm64 agree on all of these but O_DIRECT and O_DIRECTORY). */
import { constants } from "node:fs";

const isArm = process.arch === "arm64";

export const {
  O_RDONLY,
  O_WRONLY,
  O_RDWR,
  O_CREAT,
  O_EXCL,
  O_TRUNC,
  O_APPEND,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_SYNC,
  O_DSYNC,
  O_DIRECT,
  O_NOATIME,
  S_IFIFO,
  S_IFCHR,
  S_IFBLK,
  S_IFSOCK,
  S_IFREG,
  S_IFDIR,
  S_IFLNK,
} = constants;
export const O_PATH = 0o10000000;
export const O_TMPFILE = 0o20000000 | (isArm ? 0o40000 : 0o200000);
export const O_NONBLOCK = constants.O_NONBLOCK;

export const S_IFMT = 0o170000;
export const S_ISGID = 0o2000;
export const S_ISVTX = 0o1000;

export const SEEK_SET = 0;
export const SEEK_CUR = 1;
export const SEEK_END = 2;
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;

export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_SYMLINK_FOLLOW = 0x400;

export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;

export const FALLOC_KEEP_SIZE = 1;
export const FALLOC_PUNCH_HOLE = 2;
export const FALLOC_COLLAPSE_RANGE = 8;
export const FALLOC_ZERO_RANGE = 16;

export const F_GETLK = 5;
export const F_SETLK = 6;
export const F_SETLKW = 7;
export const F_OFD_SETLK = 37;
export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;
export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const LOCK_UN = 8;

export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const PROT_EXEC = 4;
export const MAP_SHARED = 1;
export const MAP_PRIVATE = 2;
export const SIGBUS = 7;

export const R_OK = 4;
export const W_OK = 2;
export const X_OK = 1;

export const DT_FIFO = 1;
export const DT_CHR = 2;
export const DT_DIR = 4;
export const DT_BLK = 6;
export const DT_REG = 8;
export const DT_LNK = 10;
export const DT_SOCK = 12;

/** Leaves an owner or group as it is. */
export const UNCHANGED = -1;
export const NAME_MAX = 255;
export const PATH_MAX = 4096;
