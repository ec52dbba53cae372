/** The rows of the table: what is measured, in what unit, and which way is better. docs/PERFORMANCE.md explains them. */

/** @typedef {{ name: string, group: string, unit: string, better: "more" | "less" | "none" }} Row */

/** @type {readonly [group: string, unit: string, better: Row["better"], ...names: string[]][]} */
const TABLE = [
  ["seq", "MiB/s", "more", "seq_write", "seq_read_cold", "seq_read_warm"],
  ["seq", "IOPS", "more", "rand_read_cold", "rand_read_warm", "rand_write"],
  ["text", "MiB/s", "more", "text_write", "text_read_cold"],
  ["fsync", "us", "less", "fsync_mean", "fsync_p50", "fsync_p99"],
  ["small", "files/s", "more", "small_create", "small_stat_cold", "small_stat"],
  ["small", "s", "less", "small_ls_cold", "small_ls"],
  ["small", "files/s", "more", "small_read_cold", "small_read", "small_rename", "small_delete"],
  ["tree", "s", "less", "tree_untar", "tree_grep_cold", "tree_grep", "tree_delete"],
  ["git", "s", "less", "git_commit", "git_status_cold"],
  ["sqlite", "tx/s", "more", "sqlite_wal", "sqlite_delete"],
  ["copy", "MiB/s", "more", "copy_first", "copy_second"],
  ["copy", "%", "none", "copy_stored", "copy_stored_2nd", "copy_disk", "copy_disk_2nd"],
  ["rss", "MiB", "none", "rss_peak"],
];

/** @type {readonly Row[]} */
export const ROWS = TABLE.flatMap(([group, unit, better, ...names]) =>
  names.map((name) => ({ name, group, unit, better })),
);
