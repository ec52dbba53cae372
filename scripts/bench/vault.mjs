/** A vault to measure: opened in this process as the daemon opens it, or mounted by the command. */
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Failure, ROOT, runQuietly } from "../lib/run.mjs";

const DIST = join(ROOT, "dist");
const COMMAND = join(DIST, "cli/main.js");
const FILE = { mode: 0o100644, umask: 0, deviceNumber: 0 };
const DIRECTORY = { mode: 0o040755, umask: 0, deviceNumber: 0 };
const CALLER = { uid: 0, gid: 0, pid: 1, onInterrupt: () => undefined };
const ROOT_INODE = /** @type {Ino} */ (1);

/** @typedef {import("../../src/ids.ts").InodeNumber} Ino */
/** @typedef {import("../../src/ids.ts").Name} Name */
/** @typedef {import("../../src/vault/open-vault.ts").OpenVault} OpenVault */
/**
 * @typedef {object} Mount
 * @property {string} directory
 * @property {(field: "VmRSS" | "VmHWM" | "RssAnon") => number} memoryMib - Of the daemon.
 * @property {() => number} cpuSeconds - That the processors gave the daemon so far.
 */

const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

/** Of the clock in /proc: what sysconf(_SC_CLK_TCK) is on every Linux. */
const TICKS_PER_SECOND = 100;

/**
 * @param {string} pid
 * @returns {{ own: number, children: number }} Of a process, and of its children that have ended (proc_pid_stat(5)).
 */
export function cpuSeconds(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [user = 0, system = 0, childUser = 0, childSystem = 0] = fields.slice(11, 15).map(Number);
  return { own: (user + system) / TICKS_PER_SECOND, children: (childUser + childSystem) / TICKS_PER_SECOND };
}

export class BenchVault {
  /** @type {string} */
  #directory;
  /** @type {string} */
  #mountPoint;
  /** @type {string} */
  #passphraseFile;
  /** @type {OpenVault | undefined} */
  #open;

  /**
   * A new one, or another copy of one that has a store.
   * @param {string} base - A directory of its own, made here.
   * @param {{ attachTo?: string }} [options] - `attachTo`: the store's URL.
   */
  constructor(base, { attachTo } = {}) {
    mkdirSync(base);
    this.#directory = join(base, "vault");
    this.#mountPoint = join(base, "mount");
    this.#passphraseFile = join(base, "passphrase");
    writeFileSync(this.#passphraseFile, "of no worth\n", { mode: 0o600 });
    if (attachTo === undefined) this.unlocked("init", "--recovery-file", join(base, "words"));
    else this.unlocked("attach", attachTo);
  }

  /** @returns {Promise<number>} Milliseconds, without what the passphrase takes. */
  async open() {
    /** @type {typeof import("../../src/cli/access/vault-access.ts")} */
    const { unlockVault } = await import(join(DIST, "cli/vault-access.js"));
    /** @type {typeof import("../../src/cli/settings.ts")} */
    const { readSettings } = await import(join(DIST, "cli/settings.js"));
    /** @type {typeof import("../../src/vault/open-vault.ts")} */
    const { OpenVault } = await import(join(DIST, "cli/open-vault.js"));
    const source = { passphraseFile: this.#passphraseFile, recoveryFile: undefined };
    const { header, key } = await unlockVault(this.#directory, source, readSettings({ ...process.env }));
    const from = performance.now();
    this.#open = await OpenVault.open({
      directory: this.#directory,
      header,
      key,
      isReadOnly: false,
      isNew: false,
      accessTimes: { mode: "relative", ofDirectories: true },
      snapshotsShown: "hidden",
      versionsShown: "hidden",
      logger: SILENT,
    });
    const tookMs = performance.now() - from;
    key.wipe();
    return tookMs;
  }

  async close() {
    await this.#open?.close();
    this.#open = undefined;
  }

  get volume() {
    if (this.#open === undefined) throw new Failure("the vault is not open");
    return this.#open.volume;
  }

  get snapshots() {
    return this.volume.snapshots;
  }

  /** @param {string} name */
  async makeDirectory(name, parent = ROOT_INODE) {
    const { operations } = this.volume;
    const { ino } = await operations.makeDirectory(parent, /** @type {Name} */ (name), DIRECTORY, CALLER);
    operations.forget(ino, 1);
    return ino;
  }

  /**
   * @param {Ino} directory
   * @param {string} name
   */
  async makeFile(directory, name) {
    const { operations } = this.volume;
    const { ino } = await operations.makeNode(directory, /** @type {Name} */ (name), FILE, CALLER);
    operations.forget(ino, 1);
    return ino;
  }

  /**
   * @param {Ino} directory
   * @param {string} name
   */
  async unlink(directory, name) {
    await this.volume.operations.unlink(directory, /** @type {Name} */ (name), CALLER);
  }

  /**
   * @param {Ino} ino
   * @param {number} offset
   * @param {Uint8Array} bytes
   */
  async write(ino, offset, bytes) {
    await this.volume.operations.write(ino, BigInt(offset), bytes, { clearSetId: false, sync: false }, CALLER);
  }

  /**
   * @param {Ino} ino
   * @param {number} mode
   */
  async chmod(ino, mode) {
    await this.volume.operations.setAttributes(ino, { mode }, CALLER);
  }

  /** @param {Ino} ino */
  async fsync(ino) {
    await this.volume.operations.sync(ino, CALLER);
  }

  async sync() {
    await this.volume.operations.syncAll();
  }

  /**
   * A real mount in a daemon of its own, unmounted at the end. The vault must be closed.
   * @param {(mount: Mount) => unknown} work - May be asynchronous.
   * @returns {Promise<number>} Milliseconds until it was mounted.
   */
  async mounted(work) {
    mkdirSync(this.#mountPoint, { recursive: true });
    const pidFile = `${this.#mountPoint}.pid`;
    const from = performance.now();
    this.unlocked("mount", this.#mountPoint, "--pid-file", pidFile);
    const tookMs = performance.now() - from;
    try {
      const pid = readFileSync(pidFile, "utf8").trim();
      const memoryMib = (/** @type {"VmRSS" | "VmHWM" | "RssAnon"} */ field) => {
        const kib = new RegExp(`${field}:\\s+(\\d+)`, "u").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
        return Number(kib) / 1024;
      };
      await work({ directory: this.#mountPoint, memoryMib, cpuSeconds: () => cpuSeconds(pid).own });
    } finally {
      this.#run(["umount", this.#mountPoint]);
    }
    return tookMs;
  }

  /**
   * A command that may need a secret.
   * @param {string[]} words
   */
  unlocked(...words) {
    return this.#run([...words, "--vault", this.#directory, "--passphrase-file", this.#passphraseFile]);
  }

  /**
   * One that the daemon answers.
   * @param {string[]} words
   * @returns {string} What it printed.
   */
  asked(...words) {
    return this.#run([...words, "--vault", this.#directory]);
  }

  /** @returns {number[]} Of the packs on the disk. */
  packLengths() {
    const packs = join(this.#directory, "packs");
    const names = readdirSync(packs, { recursive: true, encoding: "utf8" });
    return names.map((name) => statSync(join(packs, name))).flatMap((found) => (found.isFile() ? [found.size] : []));
  }

  /** @param {readonly string[]} words */
  #run(words) {
    const { ok, output } = runQuietly(process.execPath, ["--no-warnings", COMMAND, ...words]);
    if (!ok) throw new Failure(`tcfs ${words[0] ?? ""} failed: ${output}`);
    return output;
  }
}
