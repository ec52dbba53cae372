/**
 * `npm run bench -- --snapshots`: what snapshots cost. In this process, without a kernel in between, through the volume that
 * the daemon serves; memory alone is that of a real daemon.
 */
import { join } from "node:path";
import { runQuietly } from "../lib/run.mjs";
import { median } from "./report.mjs";
import { stopping } from "./shell.mjs";
import { BenchVault } from "./vault.mjs";

/** @typedef {import("../../src/ids.ts").InodeNumber} Ino */
/** @typedef {{ wallMs: number, cpuMs: number }} Cost */
/** @typedef {(row: string, column: string, value: number | Cost) => void} Record */

const PER_DIRECTORY = 1000;
const TIMES = 9;
const CREATED_FILES = 10_000;
const OVERWRITES = 2048;
const OVERWRITTEN_BYTES = 16 * 2 ** 20;
const SYNCED_WRITES = 200;
const BLOCK = new Uint8Array(4096).fill(0x61);
const SNAPSHOT_COUNTS = [0, 1, 100];
const CHANGE_COUNTS = [1, 100, 10_000];
const SPREAD_SNAPSHOTS = 100;
const SPREAD_CHANGES = 420;

/**
 * @param {string} base
 * @param {readonly number[]} inodeCounts
 * @returns {Promise<string>} Tables in Markdown.
 */
export async function measureSnapshots(base, inodeCounts) {
  const tables = [];
  tables.push(await tableOf("inodes", (record) => measureSizes(base, inodeCounts, record)));
  tables.push(await tableOf("snapshots", (record) => measureWrites(base, record)));
  tables.push(await tableOf("changed files", (record) => measureChanges(base, record)));
  return tables.join("\n\n");
}

/**
 * @param {string} heading
 * @param {(record: Record) => Promise<void>} measure
 */
export async function tableOf(heading, measure) {
  /** @type {Map<string, Map<string, number | Cost>>} */
  const rows = new Map();
  /** @type {Set<string>} */
  const columns = new Set();
  await measure((row, column, value) => {
    stopping.signal.throwIfAborted();
    columns.add(column);
    /** @type {Map<string, number | Cost>} */
    const cells = rows.get(row) ?? new Map();
    rows.set(row, cells);
    cells.set(column, value);
    console.log(`  ${row}, ${column}: ${cell(value)}`);
  });
  const line = (/** @type {readonly string[]} */ cells) => `| ${cells.join(" | ")} |`;
  const lines = [line([heading, ...columns]), `|---|${[...columns].map(() => "---:|").join("")}`];
  for (const [row, values] of rows) lines.push(line([row, ...[...columns].map((column) => cell(values.get(column)))]));
  return lines.join("\n");
}

/** @param {number | Cost} [value] - A cost shows what the processors took in brackets. */
function cell(value) {
  if (value === undefined) return "";
  return typeof value === "number" ? rounded(value) : `${rounded(value.wallMs)} (${rounded(value.cpuMs)})`;
}

/** @param {number} value */
function rounded(value) {
  return value.toFixed(value >= 10 ? 0 : 1);
}

/**
 * Time of a snapshot, of an opening, and memory, by the number of inodes.
 * @param {string} base
 * @param {readonly number[]} inodeCounts
 * @param {Record} record
 */
async function measureSizes(base, inodeCounts, record) {
  for (const count of inodeCounts) {
    const vault = new BenchVault(join(base, `inodes-${String(count)}`));
    await vault.open();
    const row = count.toLocaleString("en");
    const { directories } = await makeFiles(vault, count);
    const taken = [];
    for (let round = 0; round < TIMES; round++) {
      await vault.makeFile(/** @type {Ino} */ (directories[0]), `before-${String(round)}`);
      taken.push(await timed(() => vault.snapshots.take(`s${String(round)}`, "")));
    }
    record(row, "snapshot", median(taken));
    await vault.close();
    const opened = [];
    for (let round = 0; round < 3; round++) {
      opened.push(await vault.open());
      await vault.close();
    }
    record(row, "open", median(opened));
    await vault.mounted(({ directory, memoryMib }) => {
      record(row, "daemon after mount, MiB", memoryMib("VmRSS"));
      runQuietly("find", [directory, "-size", "+1"]);
      record(row, "after stat of all, MiB", memoryMib("VmRSS"));
      record(row, "of it no page cache, MiB", memoryMib("RssAnon"));
    });
  }
}

/**
 * Writing and creating, by the number of snapshots.
 * @param {string} base
 * @param {Record} record
 */
async function measureWrites(base, record) {
  const vault = new BenchVault(join(base, "writes"));
  await vault.open();
  const { files, directories } = await makeFiles(vault, CREATED_FILES);
  const old = /** @type {Ino} */ (directories[0]);
  const large = await vault.makeFile(old, "large");
  for (let at = 0; at < OVERWRITTEN_BYTES; at += BLOCK.length) await vault.write(large, at, BLOCK);
  await vault.sync();
  let taken = 0;
  for (const count of SNAPSHOT_COUNTS) {
    for (; taken < count; taken++) {
      for (let n = 0; n < 100; n++) await vault.chmod(at(files, taken * 100 + n), 0o600 + (taken % 8));
      await vault.snapshots.take(`s${String(taken)}`, "");
    }
    const row = String(count);
    const create = await repeated(3, async (round) => {
      for (let n = 0; n < CREATED_FILES; n++) await vault.makeFile(old, `${row}-${String(round)}-${String(n)}`);
      await vault.sync();
    });
    record(row, "create 10,000 files", create);
    const overwrite = await repeated(3, async (round) => {
      for (let n = 0; n < OVERWRITES; n++) await vault.write(large, ((n * 7919 + round) % 4096) * 4096, BLOCK);
      await vault.sync();
    });
    record(row, "overwrite 2,048 × 4 KiB", overwrite);
    const synced = await repeated(3, async () => {
      for (let n = 0; n < SYNCED_WRITES; n++) {
        await vault.write(large, n * 4096, BLOCK);
        await vault.fsync(large);
      }
    });
    record(row, "200 synced writes", synced);
    record(row, "delete 10,000 files", await measureDeletes(vault, old, row, count > 0));
  }
  await vault.close();
}

/**
 * Deleting files that the newest snapshot has, where there is one: it takes the place of an older one, so that there are
 * as many as before.
 * @param {BenchVault} vault
 * @param {Ino} directory
 * @param {string} row
 * @param {boolean} isKept
 * @returns {Promise<Cost>} Medians.
 */
async function measureDeletes(vault, directory, row, isKept) {
  const { snapshots } = vault;
  const rounds = [];
  for (let round = 0; round < 3; round++) {
    const names = Array.from({ length: CREATED_FILES }, (_, n) => `${row}-${String(round)}-${String(n)}`);
    if (isKept) {
      await snapshots.forget(["s0"], false);
      await snapshots.cleared();
      await snapshots.take("s0", "");
    }
    const remove = async () => {
      for (const name of names) await vault.unlink(directory, name);
      await vault.sync();
    };
    rounds.push(await repeated(1, remove));
  }
  return { wallMs: median(rounds.map((each) => each.wallMs)), cpuMs: median(rounds.map((each) => each.cpuMs)) };
}

/**
 * Diff, rollback and forgetting, by how much changed; at last across many snapshots.
 * @param {string} base
 * @param {Record} record
 */
async function measureChanges(base, record) {
  const vault = new BenchVault(join(base, "changes"));
  await vault.open();
  const { files } = await makeFiles(vault, 100_000);
  for (const count of CHANGE_COUNTS) {
    const name = `before-${String(count)}`;
    await vault.snapshots.take(name, "");
    for (let n = 0; n < count; n++) await vault.chmod(at(files, n * 7), 0o640);
    await measureReturn(vault, name, count.toLocaleString("en"), record);
  }
  await vault.snapshots.take("oldest", "");
  for (let taken = 0; taken < SPREAD_SNAPSHOTS; taken++) {
    for (let n = 0; n < SPREAD_CHANGES; n++) await vault.chmod(at(files, (taken * SPREAD_CHANGES + n) * 3), 0o604);
    await vault.snapshots.take(`s${String(taken)}`, "");
  }
  const spread = `${(SPREAD_SNAPSHOTS * SPREAD_CHANGES).toLocaleString("en")}, over ${String(SPREAD_SNAPSHOTS)} snapshots`;
  await measureReturn(vault, "oldest", spread, record);
  await vault.close();
}

/**
 * @param {BenchVault} vault
 * @param {string} name
 * @param {string} row
 * @param {Record} record
 */
async function measureReturn(vault, name, row, record) {
  const { snapshots } = vault;
  const once = (/** @type {() => Promise<unknown>} */ work) => repeated(1, work);
  record(row, "diff", await once(() => snapshots.diff(name, undefined)));
  record(row, "restore", await once(() => snapshots.restore(name)));
  record(row, "undo", await once(() => snapshots.undo()));
  record(row, "forget", await once(() => snapshots.forget([name], false)));
  record(row, "clearing away", await once(() => snapshots.cleared()));
}

/**
 * @param {BenchVault} vault
 * @param {number} count
 */
export async function makeFiles(vault, count) {
  const files = [];
  const directories = [];
  while (files.length < count) {
    const directory = await vault.makeDirectory(`d${String(directories.length)}`);
    directories.push(directory);
    for (let n = 0; n < PER_DIRECTORY && files.length < count; n++)
      files.push(await vault.makeFile(directory, `f${String(n)}`));
    stopping.signal.throwIfAborted();
  }
  await vault.sync();
  return { files, directories };
}

/**
 * @param {readonly Ino[]} files
 * @param {number} index
 */
function at(files, index) {
  return /** @type {Ino} */ (files[index % files.length]);
}

/** @param {() => unknown} work */
async function timed(work) {
  const from = performance.now();
  await work();
  return performance.now() - from;
}

/**
 * @param {number} count
 * @param {(round: number) => Promise<unknown>} work
 * @returns {Promise<Cost>} Medians; CPU of all threads of this process.
 */
async function repeated(count, work) {
  const walls = [];
  const processors = [];
  for (let round = 0; round < count; round++) {
    const before = process.cpuUsage();
    walls.push(await timed(() => work(round)));
    const { user, system } = process.cpuUsage(before);
    processors.push((user + system) / 1000);
  }
  return { wallMs: median(walls), cpuMs: median(processors) };
}
