/** The work that is measured, one function a group of rows. Each leaves the volume as empty as it found it. */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { run as runToTheEnd, stopping } from "./shell.mjs";

/**
 * @typedef {object} Task
 * @property {import("./systems.mjs").Volume} volume
 * @property {import("./sources.mjs").Sources} sources
 * @property {Sizes} sizes
 * @property {number} seed - Same for all filesystems of a round, another each round.
 * @property {(row: string, value: number) => void} record
 *
 * @typedef {object} Sizes
 * @property {number} seqMib
 * @property {number} textMib
 * @property {number} randomCount
 * @property {number} fsyncCount
 * @property {number} smallCount
 * @property {number} transactions
 */

const MIB = 2 ** 20;

/** @type {Record<string, (task: Task) => Promise<void>>} */
export const WORKLOADS = { seq, text, fsync, small, tree, git, sqlite, copy };

/**
 * Run a program that Ctrl-C ends.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ input?: string, discard?: boolean }} [options]
 */
function run(command, args, options) {
  return runToTheEnd(command, args, { ...options, signal: stopping.signal });
}

/**
 * @param {Task} task
 * @param {string} op
 * @param {string} path
 * @param {number} [count]
 * @param {string[]} rest
 * @returns {Promise<Record<string, number>>}
 */
async function load({ sources, seed }, op, path, count = 0, ...rest) {
  const { output } = await run(sources.load, [op, path, String(count), String(seed), ...rest]);
  return /** @type {Record<string, number>} */ (JSON.parse(output));
}

/**
 * Run one operation of the load generator and record its rate.
 * @param {Task} task
 * @param {string} row
 * @param {string} op
 * @param {string} path
 * @param {number} [count]
 * @param {string[]} rest
 */
async function rate(task, row, op, path, count, ...rest) {
  task.record(row, (await load(task, op, path, count, ...rest))["rate"] ?? NaN);
}

/**
 * @param {Task} task
 * @param {string} row
 * @param {string} command
 * @param {readonly string[]} args
 */
async function seconds(task, row, command, args) {
  task.record(row, (await run(command, args, { discard: true })).seconds);
}

/** @param {Task} task */
async function seq(task) {
  const { volume, sizes } = task;
  const file = join(volume.directory, "random.bin");
  await rate(task, "seq_write", "write", file, sizes.seqMib);
  await volume.makeCold();
  await rate(task, "seq_read_cold", "seqread", file);
  await rate(task, "seq_read_warm", "seqread", file);
  await rate(task, "rand_read_warm", "randread", file, sizes.randomCount * 8);
  await volume.makeCold();
  await rate(task, "rand_read_cold", "randread", file, sizes.randomCount);
  await rate(task, "rand_write", "randwrite", file, sizes.randomCount);
  rmSync(file);
}

/** @param {Task} task */
async function text(task) {
  const file = join(task.volume.directory, "text.txt");
  await rate(task, "text_write", "write", file, task.sizes.textMib, task.sources.text);
  await task.volume.makeCold();
  await rate(task, "text_read_cold", "seqread", file);
  rmSync(file);
}

/** @param {Task} task */
async function fsync(task) {
  const file = join(task.volume.directory, "log");
  const { mean, p50, p99 } = await load(task, "fsync", file, task.sizes.fsyncCount);
  task.record("fsync_mean", mean ?? NaN);
  task.record("fsync_p50", p50 ?? NaN);
  task.record("fsync_p99", p99 ?? NaN);
  rmSync(file);
}

/** @param {Task} task */
async function small(task) {
  const { volume, sizes } = task;
  const directory = join(volume.directory, "small");
  mkdirSync(directory);
  await rate(task, "small_create", "create", directory, sizes.smallCount);
  await volume.makeCold();
  await rate(task, "small_stat_cold", "stat", directory, sizes.smallCount);
  await rate(task, "small_stat", "stat", directory, sizes.smallCount);
  await volume.makeCold();
  await seconds(task, "small_ls_cold", "ls", ["-lR", directory]);
  await seconds(task, "small_ls", "ls", ["-lR", directory]);
  await volume.makeCold();
  await rate(task, "small_read_cold", "read", directory, sizes.smallCount);
  await rate(task, "small_read", "read", directory, sizes.smallCount);
  await rate(task, "small_rename", "rename", directory, sizes.smallCount);
  await rate(task, "small_delete", "delete", directory, sizes.smallCount);
  rmSync(directory, { recursive: true });
}

/** @param {Task} task */
async function tree(task) {
  const directory = join(task.volume.directory, "tree");
  mkdirSync(directory);
  await seconds(task, "tree_untar", "tar", ["-xf", task.sources.treeTar, "-C", directory]);
  await task.volume.makeCold();
  await seconds(task, "tree_grep_cold", "grep", grepArguments(directory));
  await seconds(task, "tree_grep", "grep", grepArguments(directory));
  await seconds(task, "tree_delete", "rm", ["-rf", directory]);
}

/**
 * @param {string} directory
 * @returns {string[]} Counts in every file; `LOAD` is in some file of any source tree, so that grep ends with 0.
 */
function grepArguments(directory) {
  return ["-rc", "-e", "LOAD", "-e", "include", directory];
}

/** @param {Task} task */
async function git(task) {
  const directory = join(task.volume.directory, "repository");
  mkdirSync(directory);
  await run("tar", ["-xf", task.sources.treeTar, "-C", directory]);
  const author = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"];
  const commands = [
    ["init", "-q"],
    ["add", "-A", "-f"],
    [...author, "commit", "-q", "-m", "all"],
  ];
  let total = 0;
  for (const args of commands) total += (await run("git", ["-C", directory, ...args], { discard: true })).seconds;
  task.record("git_commit", total);
  await task.volume.makeCold();
  await seconds(task, "git_status_cold", "git", ["-C", directory, "status", "--porcelain"]);
  await run("rm", ["-rf", directory]);
}

/** @param {Task} task */
async function sqlite(task) {
  const { volume, sizes } = task;
  for (const journal of ["wal", "delete"]) {
    const directory = join(volume.directory, `sqlite-${journal}`);
    mkdirSync(directory);
    const insert = "BEGIN; INSERT INTO t(v) VALUES (hex(randomblob(100))); COMMIT;\n";
    const input = `PRAGMA journal_mode=${journal}; PRAGMA synchronous=FULL; CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT);\n`;
    const result = await run("sqlite3", ["-batch", join(directory, "db")], {
      input: input + insert.repeat(sizes.transactions),
      discard: true,
    });
    task.record(`sqlite_${journal}`, sizes.transactions / result.seconds);
    rmSync(directory, { recursive: true });
  }
}

/** @param {Task} task */
async function copy(task) {
  const { volume, sources } = task;
  let before = await volume.measureStore();
  // Read once, so that every copy comes from memory.
  await run("sh", ["-c", 'tar -cf - "$1" | cat', "sh", sources.copyTree], { discard: true });
  for (const [name, suffix] of /** @type {const} */ ([
    ["first", ""],
    ["second", "_2nd"],
  ])) {
    const target = join(volume.directory, name);
    const copied = await run("cp", ["-a", sources.copyTree, target]);
    const flushed = await run("sync", ["-f", target]);
    task.record(`copy_${name}`, sources.copyBytes / MIB / (copied.seconds + flushed.seconds));
    const after = await volume.measureStore();
    task.record(`copy_stored${suffix}`, (100 * (after.apparentBytes - before.apparentBytes)) / sources.copyBytes);
    task.record(`copy_disk${suffix}`, (100 * (after.diskBytes - before.diskBytes)) / sources.copyBytes);
    before = after;
  }
  await run("rm", ["-rf", join(volume.directory, "first"), join(volume.directory, "second")]);
}
