/**
 * `npm run bench`: tcfs beside other filesystems, in alternating rounds, each on a fresh volume. What was mounted or made
 * is gone at the end, after a failure and after Ctrl-C too.
 */
import { existsSync, mkdtempSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { Failure, ROOT, runMain } from "../lib/run.mjs";
import { BENCH_NEEDS, UNLOCK_NEEDS, ensurePackages } from "../lib/system-packages.mjs";
import { setup } from "../setup.mjs";
import { readOptions, USAGE } from "./options.mjs";
import { formatTable, recordRun, recordTables } from "./report.mjs";
import { stopping } from "./shell.mjs";
import { measureSnapshots } from "./snapshots.mjs";
import { makeSources } from "./sources.mjs";
import { measureStore } from "./store.mjs";
import { Volume } from "./systems.mjs";
import { measureUnlock } from "./unlock.mjs";
import { WORKLOADS } from "./workloads.mjs";

const RAM_DISK = "/dev/shm";

await runMain(async () => {
  const options = readOptions();
  if (options === undefined) {
    console.log(USAGE);
    return 0;
  }
  if (options.isOfUnlock) ensurePackages(UNLOCK_NEEDS);
  if (process.getuid?.() !== 0) throw new Failure("the benchmark mounts volumes and drops caches: run it as root");
  ensurePackages(BENCH_NEEDS);
  if (options.kinds.some(({ name }) => name === "tcfs")) setup();
  const base = makeBase(options);
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM"])) process.on(signal, () => stopping.abort());
  try {
    if (options.isOfUnlock) return record("unlock", await measureUnlock(base), options);
    if (options.isOfStore) return record("store", await measureStore(base, options), options);
    if (options.isOfSnapshots) return record("snapshots", await measureSnapshots(base, options.inodeCounts), options);
    return await measure(base, options);
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
});

/** @param {import("./options.mjs").Options} options */
function makeBase({ directory, imageBytes }) {
  const parent = directory ?? RAM_DISK;
  if (!existsSync(parent)) throw new Failure(`${parent} is not there; give --dir DIR`);
  const { bavail, bsize } = statfsSync(parent);
  if (bavail * bsize < imageBytes) {
    const needed = `${String(Math.ceil(imageBytes / 2 ** 30))} GiB`;
    throw new Failure(`${parent} has less than ${needed} free; try --quick, or --dir DIR`);
  }
  return mkdtempSync(join(parent, "tcfs-bench-"));
}

/**
 * @param {"snapshots" | "unlock" | "store"} part - Of docs/PERFORMANCE.md.
 * @param {string} tables
 * @param {import("./options.mjs").Options} options
 */
function record(part, tables, { isRecorded }) {
  console.log(`\n${tables}`);
  if (isRecorded) recordTables(part, tables, commandLine());
  return 0;
}

/**
 * @param {string} base
 * @param {import("./options.mjs").Options} options
 */
async function measure(base, options) {
  console.log("making the data");
  const sources = await makeSources(base, options);
  const kinds = options.kinds.filter((kind) => {
    if (!kind.isAvailable()) console.log(`${kind.name} is not installed: left out`);
    return kind.isAvailable();
  });
  /** @type {import("./report.mjs").Results} */
  const results = new Map(kinds.map(({ name }) => [name, new Map()]));
  for (let round = 0; round < options.rounds; round++) {
    // Each round begins with another system, so that none is always first.
    const order = kinds.map((_, index) => kinds[(index + round) % kinds.length]);
    for (const kind of order) {
      if (kind === undefined) continue;
      console.log(`round ${String(round + 1)} of ${String(options.rounds)}: ${kind.name}`);
      await measureOne({ base, options, sources, kind, round, rows: results.get(kind.name) ?? new Map() });
      if (stopping.signal.aborted) {
        console.log("interrupted; nothing is recorded");
        return 130;
      }
    }
  }
  console.log(`\n${formatTable(results)}`);
  if (options.isRecorded) recordRun(results, describe(options, sources));
  return 0;
}

/** @param {{ base: string, options: import("./options.mjs").Options, sources: import("./sources.mjs").Sources, kind: import("./systems.mjs").Kind, round: number, rows: Map<string, number[]> }} run */
async function measureOne({ base, options, sources, kind, round, rows }) {
  const imageBytes = options.directory === undefined ? options.imageBytes : undefined;
  const volume = new Volume({ kind, base, imageBytes });
  /** @type {(row: string, value: number) => void} */
  const record = (row, value) => {
    rows.set(row, [...(rows.get(row) ?? []), value]);
    console.log(`  ${row.padEnd(16)} ${value.toFixed(2)}`);
  };
  try {
    await volume.open();
    for (const [group, work] of Object.entries(WORKLOADS)) {
      if (!options.groups.has(group) || stopping.signal.aborted) continue;
      await work({ volume, sources, sizes: options.sizes, seed: round + 1, record });
    }
    await volume.makeCold();
    if (options.groups.has("rss") && kind.mount !== undefined) record("rss_peak", volume.peakMemoryBytes / 2 ** 20);
  } catch (error) {
    // Ctrl-C reaches the programs that run, too: they fail, and that is not news.
    if (!stopping.signal.aborted) throw error;
  } finally {
    await volume.close();
  }
}

/**
 * @param {import("./options.mjs").Options} options
 * @param {import("./sources.mjs").Sources} sources
 * @returns {import("./report.mjs").Run}
 */
function describe(options, sources) {
  const mib = (/** @type {number} */ bytes) => `${String(Math.round(bytes / 2 ** 20))} MiB`;
  return {
    command: commandLine(),
    where: options.directory === undefined ? "a fresh ext4 image on tmpfs, by loop device" : "a directory on a disk",
    data:
      `${String(options.sizes.seqMib)} MiB random, ${String(options.sizes.textMib)} MiB text, ` +
      `${String(options.sizes.smallCount)} files of 4 KiB, a source tree of ${String(sources.treeFiles)} files ` +
      `(${mib(sources.treeBytes)}), a copy tree of ${String(sources.copyFiles)} files (${mib(sources.copyBytes)})`,
    rounds: options.rounds,
  };
}

function commandLine() {
  const args = process.argv.slice(2).map((argument) => argument.replace(ROOT, "."));
  return ["npm run bench", ...(args.length > 0 ? ["--", ...args] : [])].join(" ");
}
