/** The numbers that bound the filesystem's queues and sizes, with their reasons. */
import { EXTENT_PAGE_BYTES } from "../format/records.ts";

/** Largest file: what Linux's loff_t holds. */
export const MAX_FILE_BYTES = 2n ** 63n - 1n;

/** What one change of metadata may take on the disk, generously. */
export const CHANGE_BYTES = 4096;

/** Changed bytes in memory at which a commit starts by itself. */
export const COMMIT_HELD_BYTES = 32 * 1024 * 1024;

/** Changed bytes in memory at which writers wait. */
export const MAX_HELD_BYTES = 96 * 1024 * 1024;

/** Changed records at which a commit starts by itself: keeps the synchronous encoding of a freeze at a few ms. */
export const COMMIT_RECORD_COUNT = 8192;

/** Longest time an acknowledged change waits for a commit when nobody asks for one. */
export const COMMIT_DELAY_MS = 1000;

/** A commit of at most this much new data puts it into the metadata batch or the log: one device flush instead of two. */
export const INLINE_COMMIT_BYTES = 128 * 1024;

/** Most separate places whose bytes an fsync logs, INLINE_COMMIT_BYTES in all; with more it has everything stored. */
export const MAX_LOGGED_PARTS = 256;

/** Most extent pages (64 MiB of files) whose removal rides along with what an fsync logs. */
export const MAX_LOGGED_DELETIONS = 256;

/** Logged bytes at which everything is stored: far below what the journal holds, so that few of them reach LevelDB. */
export const MAX_LOG_BYTES = 1024 * 1024;

/** Full pages that make an eager sealing batch. */
export const STREAM_BATCH_PAGES = (4 * 1024 * 1024) / EXTENT_PAGE_BYTES;

/** Eager sealing batches of one file that are under way at once: one is named while others are sealed and written. */
export const STREAM_BATCHES_IN_FLIGHT = 3;

/** Bytes handed to the chunk store in one call of a commit. */
export const SEAL_BATCH_BYTES = 8 * 1024 * 1024;

/** Sealing calls of one commit that are under way at once: one per core of a small machine. */
export const SEALS_IN_FLIGHT = 2;

/** Pages that an operation looks at one by one; above, the stored ones are listed first. */
export const MAX_SCANNED_PAGES = 4096;

/** Pages (256 MiB) that one step of a large change handles before other requests have their turn: some ten milliseconds. */
export const STEP_PAGES = 1024;

/** Steps after which a large change waits for a commit, which handles all changed pages at once. */
export const STEPS_PER_COMMIT = 4;

/** Pages of a file that are deleted without knowing whether they are there: where that cannot be found out. */
export const MAX_BLIND_PAGES = 131_072;

/** Room on the vault's disk that users never get: commits, deletions and LevelDB (two logs and a table) need it. */
export const RESERVED_BYTES = 48 * 1024 * 1024;

/**
 * Put by in the vault directory for when others fill the disk, and given up by halves. LevelDB takes up to 33 MiB of a half
 * to open and to go on (a log that becomes a table, and a new log), the collector leaves 24 MiB alone and moves with the rest.
 */
export const RESERVE_BYTES = 128 * 1024 * 1024;

/** Longest symlink target: the kernel's PATH_MAX less its NUL. */
export const MAX_SYMLINK_BYTES = 4095;

/** Longest name, as in ext4 and NAME_MAX. */
export const MAX_NAME_BYTES = 255;

/** Largest xattr value (XATTR_SIZE_MAX) and the most that one inode's xattrs may take. */
export const MAX_XATTR_BYTES = 64 * 1024;
export const MAX_XATTRS_BYTES = 256 * 1024;

/** Hard links to one inode, as in ext4's limit for directories' subdirectories, far above it. */
export const MAX_LINK_COUNT = 2 ** 31;

/** Most that one copy_file_range call shares; the kernel asks again for the rest. */
export const MAX_SHARED_BYTES = 256 * 1024 * 1024;

/** Changed records in memory at which operations wait for a commit. */
export const MAX_WAITING_RECORDS = 65_536;

/** Files whose sequential reading is watched, and how far ahead of a reader chunks are fetched. */
export const READ_AHEAD_FILES = 64;
export const READ_AHEAD_BYTES = 2 * 1024 * 1024;

/** How far ahead of a reader what only the store has is brought to this disk at most, and how much at a time: about what one pack has of a file in one place. */
export const MAX_APPROACH_BYTES = 32 * 1024 * 1024;
export const APPROACH_STEP_BYTES = 4 * 1024 * 1024;

/** How many times what was read in order is brought ahead of its reader: after one megabyte all of a photo is on its way. */
export const APPROACH_TRUST = 4;
