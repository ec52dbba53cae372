/** A vault for the measurements of snapshots: opened in this process as the daemon opens it, or mounted by the command. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
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
/** @typedef {import("../../src/cli/open-vault.ts").OpenVault} OpenVault */

const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

export class SnapshotVault {
  #directory;
  #passphraseFile;
  /** @type {OpenVault | undefined} */
  #open;

  /** @param {string} base - A directory of its own. */
  constructor(base) {
    this.#directory = join(base, "vault");
    this.#passphraseFile = join(base, "passphrase");
    writeFileSync(this.#passphraseFile, "of no worth\n", { mode: 0o600 });
    this.#tcfs("init", "--recovery-file", join(base, "words"));
  }

  /** @returns {Promise<number>} Milliseconds, without what the passphrase takes. */
  async open() {
    /** @type {typeof import("../../src/cli/vault-access.ts")} */
    const { unlockVault } = await import(join(DIST, "cli/vault-access.js"));
    /** @type {typeof import("../../src/cli/settings.ts")} */
    const { readSettings } = await import(join(DIST, "cli/settings.js"));
    /** @type {typeof import("../../src/cli/open-vault.ts")} */
    const { OpenVault } = await import(join(DIST, "cli/open-vault.js"));
    const source = { passphraseFile: this.#passphraseFile, recoveryFile: undefined };
    const { header, key } = await unlockVault(this.#directory, source, readSettings());
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
   * @param {string} mountPoint
   * @param {(memoryMib: () => number) => void} work
   */
  mounted(mountPoint, work) {
    mkdirSync(mountPoint);
    const pidFile = `${mountPoint}.pid`;
    this.#tcfs("mount", mountPoint, "--pid-file", pidFile);
    try {
      const pid = readFileSync(pidFile, "utf8").trim();
      work(() => {
        const kib = /VmRSS:\s+(\d+)/u.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
        return Number(kib) / 1024;
      });
    } finally {
      this.#run(["umount", mountPoint]);
    }
  }

  /**
   * @param {string} command
   * @param {string[]} words
   */
  #tcfs(command, ...words) {
    this.#run([command, ...words, "--vault", this.#directory, "--passphrase-file", this.#passphraseFile]);
  }

  /** @param {readonly string[]} words */
  #run(words) {
    const { ok, output } = runQuietly(process.execPath, [COMMAND, ...words]);
    if (!ok) throw new Failure(`tcfs ${words[0] ?? ""} failed: ${output}`);
  }
}
