/** FUSE_INIT: what tcfs takes of what the kernel offers. Pure. */
import type { InitRequest } from "./decode.ts";
import {
  INIT_FLAG,
  INIT_FLAG2,
  MAX_PAGES,
  MAX_READAHEAD_BYTES,
  MAX_WRITE_BYTES,
  NEWEST_MINOR,
  OLDEST_MINOR,
  PROTOCOL_MAJOR,
} from "./protocol.ts";

/** What was agreed; the fields of fuse_init_out. */
export interface Agreement {
  readonly major: number;
  readonly minor: number;
  readonly maxReadaheadBytes: number;
  readonly flags: number;
  readonly flags2: number;
  readonly maxBackgroundCount: number;
  readonly congestionThresholdCount: number;
  readonly maxWriteBytes: number;
  readonly timeGranularityNanoseconds: number;
  readonly maxPageCount: number;
  /** Whether SETXATTR has its longer form. */
  readonly hasLongSetxattr: boolean;
}

/**
 * Not among them, and why: WRITEBACK_CACHE reorders writes and would break the prefix promise; AUTO_INVAL_DATA drops
 * the page cache although nobody but this kernel changes files; POSIX_LOCKS and FLOCK_LOCKS, because the kernel's own
 * locks are exactly right for one mount; ATOMIC_O_TRUNC, because OPEN is never sent (NO_OPEN_SUPPORT).
 */
const WANTED =
  INIT_FLAG.ASYNC_READ |
  INIT_FLAG.EXPORT_SUPPORT |
  INIT_FLAG.BIG_WRITES |
  INIT_FLAG.DONT_MASK |
  INIT_FLAG.DO_READDIRPLUS |
  INIT_FLAG.READDIRPLUS_AUTO |
  INIT_FLAG.ASYNC_DIO |
  INIT_FLAG.NO_OPEN_SUPPORT |
  INIT_FLAG.PARALLEL_DIROPS |
  INIT_FLAG.POSIX_ACL |
  INIT_FLAG.MAX_PAGES |
  INIT_FLAG.CACHE_SYMLINKS |
  INIT_FLAG.NO_OPENDIR_SUPPORT |
  INIT_FLAG.EXPLICIT_INVAL_DATA |
  INIT_FLAG.HANDLE_KILLPRIV_V2 |
  INIT_FLAG.SETXATTR_EXT |
  INIT_FLAG.INIT_EXT;

const WANTED2 = INIT_FLAG2.DIRECT_IO_ALLOW_MMAP;

const MAX_BACKGROUND_COUNT = 64;

/**
 * @returns What to answer; `"again"` when the kernel speaks a newer major version and must ask anew with ours;
 *   undefined when it is older than any that tcfs serves.
 */
export function negotiate(offer: InitRequest): Agreement | "again" | undefined {
  if (offer.major > PROTOCOL_MAJOR) return "again";
  if (offer.major < PROTOCOL_MAJOR || offer.minor < OLDEST_MINOR) return undefined;
  const flags = offer.flags & WANTED;
  const maxPageCount = (flags & INIT_FLAG.MAX_PAGES) === 0 ? 32 : MAX_PAGES;
  return {
    major: PROTOCOL_MAJOR,
    minor: Math.min(offer.minor, NEWEST_MINOR),
    maxReadaheadBytes: MAX_READAHEAD_BYTES,
    flags,
    flags2: (flags & INIT_FLAG.INIT_EXT) === 0 ? 0 : offer.flags2 & WANTED2,
    maxBackgroundCount: MAX_BACKGROUND_COUNT,
    congestionThresholdCount: (MAX_BACKGROUND_COUNT * 3) / 4,
    maxWriteBytes: Math.min(MAX_WRITE_BYTES, maxPageCount * 4096),
    timeGranularityNanoseconds: 1,
    maxPageCount,
    hasLongSetxattr: (flags & INIT_FLAG.SETXATTR_EXT) !== 0,
  };
}
