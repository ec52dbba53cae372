/**
 * `npm run bench -- --store`: tcfs with a SeaweedFS on this machine beside the bare SDK with objects of the same lengths, in
 * alternating rounds; what an attach costs; and what the daemon's memory comes to while much waits to be uploaded.
 */
import { randomBytes, randomFillSync } from "node:crypto";
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statfsSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Failure, runQuietly } from "../lib/run.mjs";
import { ensureSeaweed, startSeaweed } from "../lib/seaweed.mjs";
import { BareClient } from "./bare-client.mjs";
import { median } from "./report.mjs";
import { stopping } from "./shell.mjs";
import { makeFiles, tableOf } from "./snapshots.mjs";
import { BenchVault, cpuSeconds } from "./vault.mjs";

const MIB = 2 ** 20;
/** As `src/replica/pack-uploader.ts` sends packs. */
const UPLOADS_AT_ONCE = 3;
/** As `src/replica/pack-fetcher.ts` asks for them. */
const READS_AT_ONCE = 8;
/** `src/cache/block-map.ts`: a random read fetches so much. */
const BLOCK_BYTES = 256 * 1024;
const READ_BYTES = 4096;
const SMALL_FILES = 1000;
const SMALL_BYTES = 64 * 1024;
const NEIGHBOURS = 100;
const WRITE_BYTES = 16 * MIB;
/** The rest waits for a step that has nothing to do with what is measured, such as one of access times. */
const CLEARED_BYTES = 256 * 1024;
const CLEAR_TRIES = 300;

/** @typedef {Awaited<ReturnType<typeof startSeaweed>>} Seaweed */
/** @typedef {{ transferMib: number, randomReads: number, attachCounts: readonly number[], backlogMib: number }} Sizes */
/** @typedef {{ method: string, kind: string, count: number, bytes: number }} Total */
/** @typedef {{ atMs: number, method: string, kind: string, bytes: number }} Request */
/** @typedef {{ kinds: { kind: string, bytes: number }[], requests: { totals: Total[], last: Request[] } }} Audit */

/**
 * @param {string} base
 * @param {{ store: Sizes, rounds: number }} options
 * @returns {Promise<string>} Tables in Markdown.
 */
export async function measureStore(base, { store: sizes, rounds }) {
  const { bavail, bsize } = statfsSync(base);
  if ((bavail * bsize) / MIB < 3 * sizes.backlogMib) {
    throw new Failure(`there is less than ${String(3 * sizes.backlogMib)} MiB free: try --quick, or --dir DIR`);
  }
  ensureSeaweed();
  const directory = join(base, "seaweed");
  mkdirSync(directory);
  const server = await startSeaweed({ directory, volumes: 0, volumeMib: 1024 });
  process.env["AWS_ACCESS_KEY_ID"] = server.credentials.accessKeyId;
  process.env["AWS_SECRET_ACCESS_KEY"] = server.credentials.secretAccessKey;
  try {
    const tables = [];
    tables.push(await measureTransfers(base, server, sizes, rounds));
    tables.push(await tableOf("after an attach", (record) => measureSmallFiles(base, server, record)));
    tables.push(await tableOf("inodes", (record) => measureAttach(base, server, sizes.attachCounts, record)));
    tables.push(await tableOf("backlog", (record) => measureBacklog(base, server, sizes.backlogMib, record)));
    return tables.join("\n\n");
  } finally {
    await server.stop();
  }
}

/**
 * @param {string} base
 * @param {Seaweed} server
 * @param {Sizes} sizes
 * @param {number} rounds
 */
async function measureTransfers(base, server, sizes, rounds) {
  /** @type {Map<string, { bare: number[], tcfs: number[] }>} */
  const rows = new Map();
  for (let round = 0; round < rounds; round++) {
    await transferOnce(base, server, sizes, round, (row, who, value) => {
      stopping.signal.throwIfAborted();
      const values = rows.get(row) ?? { bare: [], tcfs: [] };
      rows.set(row, values);
      values[who].push(value);
      console.log(`  round ${String(round + 1)}, ${row}, ${who}: ${value.toFixed(1)}`);
    });
  }
  return tableOf(`${String(sizes.transferMib)} MiB`, (record) => {
    for (const [row, { bare, tcfs }] of rows) {
      record(row, "bare SDK", median(bare));
      record(row, "tcfs", median(tcfs));
      record(row, "share, %", (100 * median(tcfs)) / median(bare));
    }
    return Promise.resolve();
  });
}

/**
 * One vault, one prefix of bare objects as long as its packs: each measure of the one beside that of the other.
 * @param {string} base
 * @param {Seaweed} server
 * @param {Sizes} sizes
 * @param {number} round
 * @param {(row: string, who: "bare" | "tcfs", value: number) => void} record
 */
async function transferOnce(base, server, { transferMib, randomReads }, round, record) {
  const content = randomBytes(transferMib * MIB);
  const bare = new BareClient(server, `bare-${String(round)}`);
  await bare.prepare();
  const directory = join(base, `transfer-${String(round)}`);
  const vault = new BenchVault(directory);
  vault.unlocked("store", "set", urlOf(server, `transfer-${String(round)}`));
  /** @type {(bytes: number, tookMs: number) => number} */
  const speed = (bytes, tookMs) => (bytes / MIB / tookMs) * 1000;
  /** @type {(ours: () => unknown, theirs: () => unknown) => Promise<void>} */
  const alternately = async (ours, theirs) => {
    for (const work of round % 2 === 0 ? [theirs, ours] : [ours, theirs]) await work();
  };
  await vault.mounted(async (mount) => {
    vault.asked("wait");
    vault.asked("upload", "pause");
    writeFileSync(join(mount.directory, "data"), content);
    vault.asked("sync");
    const lengths = vault.packLengths();
    const bytes = lengths.reduce((sum, lengthBytes) => sum + lengthBytes, 0);
    const bodies = Buffer.concat([content, randomBytes(bytes - content.length)]);
    const row = `upload, ${String(UPLOADS_AT_ONCE)} at once, MiB/s`;
    const ours = () => {
      const before = mount.cpuSeconds();
      vault.asked("upload", "resume");
      vault.asked("wait");
      record("upload, CPU s per GiB", "tcfs", perGib(mount.cpuSeconds() - before, bytes));
      record(row, "tcfs", lastStepSpeed(auditOf(vault)));
    };
    const theirs = async () => {
      const before = ownCpuSeconds();
      record(row, "bare", speed(bytes, await bare.upload(bodies, lengths, UPLOADS_AT_ONCE)));
      record("upload, CPU s per GiB", "bare", perGib(ownCpuSeconds() - before, bytes));
    };
    await alternately(ours, theirs);
  });
  const sequential = "sequential read";
  await alternately(
    () =>
      mountedWithout(vault, (mount) => {
        const before = mount.cpuSeconds();
        const tookMs = readThrough(join(mount.directory, "data"), content);
        record(`${sequential}, CPU s per GiB`, "tcfs", perGib(mount.cpuSeconds() - before, content.length));
        for (const way of ["whole objects one by one", `${String(READS_AT_ONCE)} at once`])
          record(`${sequential}, MiB/s; bare: ${way}`, "tcfs", speed(content.length, tookMs));
      }),
    async () => {
      const before = ownCpuSeconds();
      const alone = await bare.download(1);
      record(`${sequential}, CPU s per GiB`, "bare", perGib(ownCpuSeconds() - before, content.length));
      const together = await bare.download(READS_AT_ONCE);
      record(`${sequential}, MiB/s; bare: whole objects one by one`, "bare", speed(content.length, alone));
      record(`${sequential}, MiB/s; bare: ${String(READS_AT_ONCE)} at once`, "bare", speed(content.length, together));
    },
  );
  const row = `4 KiB at random, reads/s; bare: GETs of ${String(BLOCK_BYTES / 1024)} KiB`;
  await alternately(
    () =>
      mountedWithout(vault, ({ directory }) => {
        const tookMs = readAtRandom(join(directory, "data"), content, randomReads);
        record(row, "tcfs", (randomReads * 1000) / tookMs);
      }),
    async () => {
      const tookMs = await bare.readRanges(randomReads, BLOCK_BYTES, Math.random);
      record(row, "bare", (randomReads * 1000) / tookMs);
    },
  );
  bare.close();
  rmSync(directory, { recursive: true });
}

/** That the processors gave this process so far. */
function ownCpuSeconds() {
  return cpuSeconds("self").own;
}

/**
 * @param {number} amount
 * @param {number} bytes
 */
function perGib(amount, bytes) {
  return (amount * 1024 * MIB) / bytes;
}

/**
 * Requests and time of what people do first on a new machine.
 * @param {string} base
 * @param {Seaweed} server
 * @param {import("./snapshots.mjs").Record} record
 */
async function measureSmallFiles(base, server, record) {
  const [first, second] = [join(base, "small"), join(base, "small-copy")];
  const url = urlOf(server, "small");
  const vault = new BenchVault(first);
  vault.unlocked("store", "set", url);
  await vault.mounted((mount) => {
    for (let n = 0; n < SMALL_FILES; n++) {
      const directory = join(mount.directory, String(Math.floor(n / NEIGHBOURS)));
      mkdirSync(directory, { recursive: true });
      writeFileSync(join(directory, String(n)), randomBytes(SMALL_BYTES));
    }
    vault.asked("wait");
  });
  const copy = new BenchVault(second, { attachTo: url });
  copy.asked("upload", "pause");
  await copy.mounted(({ directory }) => {
    /** @type {(row: string, work: () => unknown) => void} */
    const measured = (row, work) => {
      const before = fetchedOf(auditOf(copy));
      const from = performance.now();
      work();
      record(row, "ms", performance.now() - from);
      const after = fetchedOf(auditOf(copy));
      record(row, "requests", after.count - before.count);
      record(row, "MiB fetched", (after.bytes - before.bytes) / MIB);
    };
    const pathOf = (/** @type {number} */ n) => join(directory, String(Math.floor(n / NEIGHBOURS)), String(n));
    const size = `${String(SMALL_BYTES / 1024)} KiB`;
    measured(`\`ls -lR\` of ${String(SMALL_FILES)} files`, () => runQuietly("ls", ["-lR", directory]));
    measured(`the first file of ${size}`, () => readFileSync(pathOf(0)));
    measured(`the other ${String(NEIGHBOURS - 1)} of its directory`, () => {
      for (let n = 1; n < NEIGHBOURS; n++) readFileSync(pathOf(n));
    });
    measured("one file of each other directory", () => {
      for (let n = NEIGHBOURS; n < SMALL_FILES; n += NEIGHBOURS) readFileSync(pathOf(n));
    });
    measured(`\`tcfs warm\` of all, ${String((SMALL_FILES * SMALL_BYTES) / MIB)} MiB`, () => copy.asked("warm", "/"));
  });
  for (const directory of [first, second]) rmSync(directory, { recursive: true });
}

/**
 * @param {string} base
 * @param {Seaweed} server
 * @param {readonly number[]} counts
 * @param {import("./snapshots.mjs").Record} record
 */
async function measureAttach(base, server, counts, record) {
  for (const count of counts) {
    const [first, second] = [join(base, `attach-${String(count)}`), join(base, `attach-${String(count)}-copy`)];
    const url = urlOf(server, `attach-${String(count)}`);
    const row = count.toLocaleString("en");
    const vault = new BenchVault(first);
    await vault.open();
    await makeFiles(vault, count);
    await vault.close();
    vault.unlocked("store", "set", url);
    await vault.mounted(() => {
      const from = performance.now();
      vault.asked("wait");
      record(row, "first upload, s", (performance.now() - from) / 1000);
      const bytes = auditOf(vault).kinds.reduce((sum, kind) => sum + kind.bytes, 0);
      record(row, "store, MiB", bytes / MIB);
    });
    const from = performance.now();
    const before = cpuSeconds("self").children;
    const copy = new BenchVault(second, { attachTo: url });
    record(row, "attach, s", (performance.now() - from) / 1000);
    record(row, "CPU s", cpuSeconds("self").children - before);
    const tookMs = await copy.mounted(({ memoryMib }) => {
      record(row, "memory then, MiB", memoryMib("VmHWM"));
    });
    record(row, "mount, s", tookMs / 1000);
    for (const directory of [first, second]) rmSync(directory, { recursive: true });
  }
}

/**
 * @param {string} base
 * @param {Seaweed} server
 * @param {number} mib
 * @param {import("./snapshots.mjs").Record} record
 */
async function measureBacklog(base, server, mib, record) {
  const directory = join(base, "backlog");
  const vault = new BenchVault(directory);
  vault.unlocked("store", "set", urlOf(server, "backlog"));
  vault.unlocked("cache", "--max-size", `${String(Math.ceil(mib * 1.2))}m`);
  await vault.mounted(async (mount) => {
    const note = (/** @type {string} */ row, /** @type {number} */ from) => {
      const { store } = /** @type {{ store: { backlogPacks: number } }} */ (
        JSON.parse(vault.asked("status", "--json"))
      );
      record(row, "packs", store.backlogPacks);
      record(row, "s", (performance.now() - from) / 1000);
      record(row, "memory, MiB", mount.memoryMib("VmRSS"));
      record(row, "most so far, MiB", mount.memoryMib("VmHWM"));
    };
    vault.asked("wait");
    note("none", performance.now());
    await server.kill();
    const written = performance.now();
    const buffer = Buffer.alloc(WRITE_BYTES);
    const file = openSync(join(mount.directory, "data"), "w");
    for (let at = 0; at < mib * MIB; at += buffer.length) writeSync(file, randomFillSync(buffer));
    closeSync(file);
    vault.asked("sync");
    note(`${String(mib)} MiB written, the server away`, written);
    await server.restart();
    const back = performance.now();
    vault.asked("wait");
    note("all uploaded", back);
  });
  rmSync(directory, { recursive: true });
}

/**
 * Mounted anew, with nothing of its packs on this disk.
 * @param {BenchVault} vault
 * @param {(mount: import("./vault.mjs").Mount) => void} work
 */
function mountedWithout(vault, work) {
  return vault.mounted(async (mount) => {
    for (let tries = 0; ; tries++) {
      try {
        const text = vault.unlocked("cache", "--clear", "--json");
        const { usedBytes } = /** @type {{ usedBytes: number }} */ (JSON.parse(text));
        if (usedBytes <= CLEARED_BYTES) break;
        throw new Failure(`the cache keeps ${String(usedBytes)} bytes: ${text}`);
      } catch (error) {
        if (!(error instanceof Failure) || tries === CLEAR_TRIES) throw error;
      }
      await sleep(100); // until the daemon has looked what the store has
    }
    work(mount);
  });
}

/**
 * @param {string} path
 * @param {Buffer} expected
 * @returns {number} Milliseconds.
 */
function readThrough(path, expected) {
  const pieces = Buffer.alloc(expected.length);
  const from = performance.now();
  const file = openSync(path, "r");
  for (let at = 0; at < pieces.length; at += MIB) readSync(file, pieces, at, MIB, at);
  const tookMs = performance.now() - from;
  closeSync(file);
  if (!pieces.equals(expected)) throw new Failure("tcfs gave other bytes than were written");
  return tookMs;
}

/**
 * @param {string} path
 * @param {Buffer} expected
 * @param {number} count
 * @returns {number} Milliseconds.
 */
function readAtRandom(path, expected, count) {
  const piece = Buffer.alloc(READ_BYTES);
  const file = openSync(path, "r");
  const from = performance.now();
  for (let n = 0; n < count; n++) {
    const at = Math.floor((Math.random() * expected.length) / READ_BYTES) * READ_BYTES;
    readSync(file, piece, 0, READ_BYTES, at);
    if (!piece.equals(expected.subarray(at, at + READ_BYTES)))
      throw new Failure("tcfs gave other bytes than were written");
  }
  const tookMs = performance.now() - from;
  closeSync(file);
  return tookMs;
}

/** @param {BenchVault} vault */
function auditOf(vault) {
  return /** @type {Audit} */ (JSON.parse(vault.asked("audit-leak", "--json")));
}

/** @param {Audit} audit - What was read of packs: the daemon asks for other things in its own time. */
function fetchedOf({ requests }) {
  const reads = requests.totals.filter(({ method, kind }) => kind === "packs" && /GET|HEAD/u.test(method));
  return reads.reduce((sum, { count, bytes }) => ({ count: sum.count + count, bytes: sum.bytes + bytes }), {
    count: 0,
    bytes: 0,
  });
}

/** @param {Audit} audit @returns {number} MiB per second, from the first of the last step's packs to its root. */
function lastStepSpeed({ requests }) {
  const puts = requests.last.filter(({ method }) => method === "PUT");
  const roots = puts.flatMap(({ kind }, index) => (kind === "root" ? [index] : []));
  const step = puts.slice((roots.at(-2) ?? -1) + 1, (roots.at(-1) ?? 0) + 1);
  const packs = step.filter(({ kind }) => kind === "packs");
  const bytes = packs.reduce((sum, put) => sum + put.bytes, 0);
  return (bytes / MIB / ((step.at(-1)?.atMs ?? 0) - (packs[0]?.atMs ?? 0))) * 1000;
}

/**
 * @param {Seaweed} server
 * @param {string} prefix
 */
function urlOf({ endpoint }, prefix) {
  return `s3://bench/${prefix}?endpoint=${endpoint}`;
}
