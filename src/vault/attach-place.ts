/**
 * The directory in which an attach makes a vault: empty, or what an attach that was cut short left there, which is cleared.
 * It bears the mark `attaching` from before anything else until that file becomes `vault.json`, in one step (FORMAT.md §2):
 * so a directory with the mark holds nothing that the store does not have.
 */
import { chmod, lstat, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { TcfsError, isTcfsError } from "../errors.ts";
import { HEADER_NAME, hasHeader, hasHeaderCopy, noVault, writeHeaderCopy } from "../keys/header-file.ts";
import { type VaultHeader, formatHeader } from "../keys/header.ts";
import type { Disk } from "../platform/disk.ts";
import { lockDirectory, lockPath } from "../platform/file-lock.ts";

const MARK_NAME = "attaching";
/** For whoever is about to write the header. */
const LOCK_SECONDS = 30;
/** For the end of the process that held the mark: its lock goes a moment later than a process that is killed. */
const MARK_LOCK_SECONDS = 5;
/** What an attach makes, and what a replacement of it that was cut short leaves. */
const OWN_FILES =
  /^(?:attaching|store\.json|store\.packs|store\.lost|device|devices|credentials\.json|cache\.json)(?:\.new)?$/u;
/** A new vault's has no packs yet. */
const OWN_DIRECTORIES: Readonly<Record<string, RegExp>> = {
  meta: /^(?:\d+\.(?:ldb|log|dbtmp)|MANIFEST-\d+|CURRENT(?:\.new)?|LOCK|LOG|LOG\.old)$/u,
  journal: /^[01]$/u,
  packs: /^$/u,
};

/**
 * @returns Whether an attach may begin in it; nothing is changed.
 * @throws TcfsError `TCFS_VAULT_EXISTS`; `TCFS_NO_VAULT` for a vault that lost its header; `TCFS_USAGE` for anything else
 *   that is there.
 */
export async function requireAttachable(disk: Disk, directory: string): Promise<void> {
  if (await hasHeader(disk, directory))
    throw new TcfsError("TCFS_VAULT_EXISTS", `there is a vault in ${directory} already`);
  if (await hasHeaderCopy(disk, directory)) throw await noVault(disk, directory);
  const names = await disk.list(directory);
  if (names.length === 0) return;
  if (!names.includes(MARK_NAME)) {
    throw new TcfsError("TCFS_USAGE", `${directory} is not empty and holds no vault: choose another directory`);
  }
  await listOwn(disk, directory);
}

/** Held while the vault is made; gone with the process. */
export class AttachPlace implements AsyncDisposable {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #lock: AsyncDisposable;
  #isMade = false;

  private constructor(disk: Disk, directory: string, lock: AsyncDisposable) {
    this.#disk = disk;
    this.#directory = directory;
    this.#lock = lock;
  }

  /**
   * Make the directory, or clear what an attach left in it.
   * @throws TcfsError as {@link requireAttachable}; `TCFS_BUSY` while another process attaches there; what the disk throws.
   */
  static async begin(disk: Disk, directory: string): Promise<AttachPlace> {
    await disk.makeDirectories(directory);
    await chmod(directory, 0o700).catch(() => undefined); // one that was there; some filesystems have no modes
    await using _directory = await lockHeader(directory);
    await requireAttachable(disk, directory);
    const mark = join(directory, MARK_NAME);
    try {
      await (await disk.create(mark)).close();
    } catch (error) {
      if (!isTcfsError(error, "TCFS_EXISTS")) throw error;
    }
    await disk.syncDirectory(directory);
    const lock = await lockPath(mark, `is attaching a vault in ${directory}`, MARK_LOCK_SECONDS);
    try {
      await clear(disk, directory);
    } catch (error) {
      await lock[Symbol.asyncDispose]();
      throw error;
    }
    return new AttachPlace(disk, directory, lock);
  }

  /** All else is there and durable: the directory is a vault from now on. */
  async finish(header: VaultHeader): Promise<void> {
    const disk = this.#disk;
    const directory = this.#directory;
    await using _directory = await lockHeader(directory);
    const mark = join(directory, MARK_NAME);
    const file = await disk.openToWrite(mark); // in place, so that the lock is on it still
    try {
      await file.truncate(0);
      await file.write([formatHeader(header)], 0);
      await file.sync();
    } finally {
      await file.close();
    }
    await disk.syncDirectory(directory);
    await disk.rename(mark, join(directory, HEADER_NAME));
    this.#isMade = true;
    await disk.syncDirectory(directory);
    await writeHeaderCopy(disk, directory, header);
    await disk.syncDirectory(dirname(directory));
  }

  /** Without {@link finish} nothing stays but the directory; what cannot be taken away is left to the next attach. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (!this.#isMade) await this.#abandon().catch(() => undefined); // what led here is the failure to tell
    } finally {
      await this.#lock[Symbol.asyncDispose]();
    }
  }

  async #abandon(): Promise<void> {
    await using _directory = await lockHeader(this.#directory);
    await clear(this.#disk, this.#directory);
    await this.#disk.syncDirectory(this.#directory);
    await this.#disk.remove(join(this.#directory, MARK_NAME));
  }
}

function lockHeader(directory: string): Promise<AsyncDisposable> {
  return lockDirectory(directory, "is changing the vault's header", LOCK_SECONDS);
}

interface OwnThings {
  readonly files: readonly string[];
  readonly directories: readonly string[];
}

/** @returns Paths of what an attach made. @throws TcfsError `TCFS_USAGE` if there is anything else, which it then names. */
async function listOwn(disk: Disk, directory: string): Promise<OwnThings> {
  const files: string[] = [];
  const directories: string[] = [];
  for (const name of await disk.list(directory)) {
    const path = join(directory, name);
    const inside = OWN_DIRECTORIES[name];
    if (inside === undefined) {
      await requireOwn(path, OWN_FILES.test(name), "file");
      files.push(path);
      continue;
    }
    await requireOwn(path, true, "directory");
    for (const inner of await disk.list(path)) {
      await requireOwn(join(path, inner), inside.test(inner), "file");
      files.push(join(path, inner));
    }
    directories.push(path);
  }
  return { files, directories };
}

async function requireOwn(path: string, isOwnName: boolean, kind: "file" | "directory"): Promise<void> {
  if (isOwnName) {
    const entry = await lstat(path);
    if (kind === "file" ? entry.isFile() : entry.isDirectory()) return;
  }
  const message = `an attach that was cut short left this directory, but it did not make ${path}: take that away, or choose another directory`;
  throw new TcfsError("TCFS_USAGE", message);
}

/** Take away all that an attach made, but its mark; nothing at all where there is anything else. */
async function clear(disk: Disk, directory: string): Promise<void> {
  const { files, directories } = await listOwn(disk, directory);
  for (const path of files) if (path !== join(directory, MARK_NAME)) await disk.remove(path);
  for (const path of directories) await rmdir(path);
}
