/** The filesystems that are compared, each over the same kind of fresh ext4 volume. */
import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { hasCommand, ROOT } from "../lib/run.mjs";
import { run, tryRun } from "./shell.mjs";

/**
 * A filesystem under measurement.
 * @typedef {object} Kind
 * @property {string} name
 * @property {() => boolean} isAvailable
 * @property {(place: Place) => Promise<unknown>} create - Once, on an empty store.
 * @property {((place: Place) => Promise<unknown>) | undefined} mount - Undefined where the volume is itself what is measured.
 *
 * Where one run of one filesystem lives.
 * @typedef {object} Place
 * @property {string} store - The directory on the volume in which it keeps its data.
 * @property {string} mountPoint
 * @property {string} passphraseFile
 */

const TCFS = join(ROOT, "dist/cli/main.js");
/** In tcfs's vault: room put by, which holds nothing, and is made once, some seconds after the first mount. */
const PUT_BY = "reserve";
const PASSPHRASE = "correct horse battery staple";

/** @param {...string} args */
const tcfs = (...args) => run(process.execPath, [TCFS, ...args]);

/** @type {readonly Kind[]} */
export const KINDS = [
  { name: "ext4", isAvailable: () => true, create: () => Promise.resolve(), mount: undefined },
  {
    name: "tcfs",
    isAvailable: () => true,
    create: ({ store, passphraseFile }) =>
      tcfs("init", "--vault", store, "--passphrase-file", passphraseFile, "--recovery-file", `${passphraseFile}.words`),
    mount: ({ store, mountPoint, passphraseFile }) =>
      tcfs("mount", mountPoint, "--vault", store, "--passphrase-file", passphraseFile),
  },
  {
    name: "gocryptfs",
    isAvailable: () => hasCommand("gocryptfs"),
    // A cheap KDF: the time to unlock is not measured.
    create: ({ store, passphraseFile }) =>
      run("gocryptfs", ["-init", "-q", "-scryptn", "10", "-passfile", passphraseFile, store]),
    mount: ({ store, mountPoint, passphraseFile }) =>
      run("gocryptfs", ["-q", "-passfile", passphraseFile, store, mountPoint]),
  },
  {
    name: "securefs",
    isAvailable: () => hasCommand("securefs"),
    create: ({ store }) => run("securefs", ["create", "--pass", PASSPHRASE, store]),
    mount: ({ store, mountPoint }) => run("securefs", ["mount", "-b", "--pass", PASSPHRASE, store, mountPoint]),
  },
  {
    name: "bindfs",
    isAvailable: () => hasCommand("bindfs"),
    create: () => Promise.resolve(),
    mount: ({ store, mountPoint }) => run("bindfs", [store, mountPoint]),
  },
];

/** One filesystem on one fresh volume. Whoever opens it closes it; {@link Volume.close} may come at any point. */
export class Volume {
  /** @param {{ kind: Kind, base: string, imageBytes: number | undefined }} options - No image: plain directories in `base`. */
  constructor({ kind, base, imageBytes }) {
    this.kind = kind;
    this.imageBytes = imageBytes;
    this.image = join(base, "image");
    this.disk = join(base, "disk");
    /** @type {Place} */
    this.place = {
      store: join(this.disk, "store"),
      mountPoint: join(base, "mnt"),
      passphraseFile: join(base, "passphrase"),
    };
    /** Most memory that the serving processes have held, in bytes. */
    this.peakMemoryBytes = 0;
  }

  /** Where the measured files go. */
  get directory() {
    return this.kind.mount === undefined ? this.place.store : this.place.mountPoint;
  }

  async open() {
    mkdirSync(this.disk);
    mkdirSync(this.place.mountPoint);
    writeFileSync(this.place.passphraseFile, `${PASSPHRASE}\n`, { mode: 0o600 });
    if (this.imageBytes !== undefined) {
      await run("truncate", ["-s", String(this.imageBytes), this.image]);
      await run("mkfs.ext4", ["-q", "-F", "-E", "lazy_itable_init=1,nodiscard", this.image]);
      await this.#mountDisk();
    }
    mkdirSync(this.place.store, { mode: 0o700 });
    await this.kind.create(this.place);
    await this.kind.mount?.(this.place);
  }

  /** Unmount, drop the kernel's caches, mount again. */
  async makeCold() {
    await this.#unmount();
    await run("sync", []);
    writeFileSync("/proc/sys/vm/drop_caches", "3");
    if (this.kind.mount === undefined && this.imageBytes !== undefined) await this.#mountDisk();
    await this.kind.mount?.(this.place);
  }

  /**
   * Unmount, see what the store holds, mount again.
   * @returns {Promise<{ apparentBytes: number, diskBytes: number }>}
   */
  async measureStore() {
    if (this.kind.mount !== undefined) await this.#unmount();
    await run("sync", []);
    const where = [`--exclude=${join(this.place.store, PUT_BY)}`, this.place.store];
    const apparent = await run("du", ["-s", "--apparent-size", "--block-size=1", ...where]);
    const disk = await run("du", ["-s", "--block-size=1", ...where]);
    await this.kind.mount?.(this.place);
    return { apparentBytes: Number.parseInt(apparent.output), diskBytes: Number.parseInt(disk.output) };
  }

  /** Unmount and delete everything; also after a failure half-way. */
  async close() {
    this.#noteMemory();
    for (const path of [this.place.mountPoint, this.disk]) await unmountForGood(path);
    for (const path of [this.place.mountPoint, this.disk, this.image, this.place.passphraseFile]) {
      rmSync(path, { recursive: true, force: true });
    }
    rmSync(`${this.place.passphraseFile}.words`, { force: true });
  }

  #mountDisk() {
    return run("mount", ["-o", "loop,noinit_itable", this.image, this.disk]);
  }

  async #unmount() {
    this.#noteMemory();
    if (this.kind.mount === undefined) {
      if (this.imageBytes !== undefined) await run("umount", [this.disk]);
      return;
    }
    const servers = serversOf(this.place.mountPoint);
    if (this.kind.name === "tcfs") await tcfs("umount", this.place.mountPoint);
    else await run("umount", [this.place.mountPoint]);
    // A serving process may go on writing after umount has returned.
    while (servers.some(isAlive)) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  #noteMemory() {
    let bytes = 0;
    for (const pid of serversOf(this.place.mountPoint)) {
      const peak = /VmHWM:\s*(\d+) kB/.exec(readIfAny(`/proc/${pid}/status`) ?? "")?.[1];
      bytes += Number(peak ?? 0) * 1024;
    }
    this.peakMemoryBytes = Math.max(this.peakMemoryBytes, bytes);
  }
}

/** @param {string} path */
async function unmountForGood(path) {
  if (!isMountPoint(path)) return;
  const servers = serversOf(path);
  await tryRun("umount", [path]);
  if (isMountPoint(path)) await tryRun("umount", ["-l", path]);
  const deadline = Date.now() + 10_000;
  while (servers.some(isAlive) && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
  for (const pid of servers.filter(isAlive)) process.kill(Number(pid), "SIGKILL");
}

/** @param {string} path */
function isMountPoint(path) {
  return (readIfAny("/proc/self/mounts") ?? "").split("\n").some((line) => line.split(" ")[1] === path);
}

/**
 * @param {string} mountPoint
 * @returns {string[]} Process ids of those that have /dev/fuse open and the mount point among their arguments.
 */
function serversOf(mountPoint) {
  return readdirSync("/proc").filter(
    (entry) => /^\d+$/.test(entry) && entry !== String(process.pid) && holdsFuse(entry) && names(entry, mountPoint),
  );
}

/**
 * @param {string} pid
 * @param {string} path
 */
function names(pid, path) {
  const words = (readIfAny(`/proc/${pid}/cmdline`) ?? "").split("\0");
  return words.some((word) => word === path || word.endsWith(`=${path}`));
}

/** @param {string} pid */
function holdsFuse(pid) {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === "/dev/fuse");
  } catch {
    return false;
  }
}

/** @param {string} pid */
function isAlive(pid) {
  const state = /^State:\s*(\S)/m.exec(readIfAny(`/proc/${pid}/status`) ?? "")?.[1];
  return state !== undefined && state !== "Z";
}

/** @param {string} path */
function readIfAny(path) {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}
