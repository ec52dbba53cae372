/**
 * Objects as files of a directory (`file:///…`): a disk, a NAS. An object appears whole or not at all, flushed before it
 * has its name: temporary file, fsync, link or rename, fsync of the directory. A lock file guards compare and replace.
 */
import { createHash, randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, link, mkdir, open, opendir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { TcfsError, type TcfsErrorCode, describeErrno } from "../errors.ts";
import {
  type ByteRange,
  type GetOptions,
  type ObjectPart,
  type ObjectStore,
  type ObjectVersion,
  type StoredObject,
  partBytesOf,
  requireLength,
  requireObjectName,
  settleConflict,
} from "./object-store.ts";

/** Holds unfinished files and the lock; no name of an object begins with a dot. */
const WORK_NAME = ".tcfs-work";
const LOCK_NAME = "lock";
/** Compare and replace takes milliseconds: a lock as old as this was left by a crash. */
const STALE_LOCK_MS = 30_000;
/** What is replaced by comparison is small: roots and lists of devices. */
const MAX_REPLACED_BYTES = 16 * 1024 * 1024;
const LOCK_TRIES = 400;
const LOCK_PAUSE_MS = 25;

export class DirectoryStore implements ObjectStore {
  readonly place: string;
  readonly #root: string;
  /** Of the directory: where its drive is not mounted any more, another one stands there. */
  readonly #inode: bigint;

  private constructor(root: string, inode: bigint) {
    this.#root = root;
    this.#inode = inode;
    this.place = root;
  }

  /**
   * @param root - Absolute.
   * @param create - Make the directory where its parent is there. Not to be asked for later on: a disk that is not
   *   mounted would look like an empty store.
   * @throws TcfsError `TCFS_REMOTE_MISSING`, `TCFS_REMOTE_DENIED`, `TCFS_REMOTE_UNAVAILABLE`
   */
  static async open(root: string, { create }: { readonly create: boolean }): Promise<DirectoryStore> {
    return telling(root, async () => {
      if (create) {
        await mkdir(root, { mode: 0o700 }).catch((error: unknown) => {
          if (codeOf(error) !== "EEXIST") throw error;
        });
      }
      const found = await stat(root, { bigint: true });
      if (!found.isDirectory()) throw new TcfsError("TCFS_REMOTE_MISSING", `${root} is no directory`);
      return new DirectoryStore(root, found.ino);
    });
  }

  get(name: string, { maxBytes, signal }: GetOptions): Promise<StoredObject | undefined> {
    return this.#telling(name, signal, async () => {
      const content = await this.#withFile(name, async (file) => {
        const { size } = await file.stat();
        requireLength(name, size, maxBytes);
        return readExactly(name, file, { offset: 0, lengthBytes: size });
      });
      return content && { content, version: versionOf(content) };
    });
  }

  getRange(name: string, range: ByteRange, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    return this.#telling(name, signal, () => this.#withFile(name, (file) => readExactly(name, file, range)));
  }

  getPart(name: string, range: ByteRange, signal?: AbortSignal): Promise<ObjectPart | undefined> {
    return this.#telling(name, signal, () =>
      this.#withFile(name, async (file) => {
        const { size: objectBytes } = await file.stat();
        const part = { offset: range.offset, lengthBytes: partBytesOf(name, range, objectBytes) };
        return { content: await readExactly(name, file, part), objectBytes };
      }),
    );
  }

  head(name: string, signal?: AbortSignal): Promise<number | undefined> {
    return this.#telling(name, signal, () => this.#withFile(name, async (file) => (await file.stat()).size));
  }

  put(name: string, content: Uint8Array, signal?: AbortSignal): Promise<ObjectVersion> {
    return this.#telling(name, signal, () => this.#place(name, content, (from, to) => rename(from, to)));
  }

  putIfAbsent(name: string, content: Uint8Array, signal?: AbortSignal): Promise<ObjectVersion> {
    return this.#telling(name, signal, async () => {
      try {
        return await this.#place(name, content, (from, to) => link(from, to));
      } catch (error) {
        if (codeOf(error) !== "EEXIST") throw error;
        return await this.#settleConflict(name, content);
      }
    });
  }

  putIfMatch(name: string, content: Uint8Array, version: ObjectVersion, signal?: AbortSignal): Promise<ObjectVersion> {
    return this.#telling(name, signal, () =>
      this.#locked(async (isStillHeld) => {
        const present = await this.get(name, { maxBytes: MAX_REPLACED_BYTES, signal });
        if (present?.version !== version) return settleConflict(name, content, (options) => this.get(name, options));
        return this.#place(name, content, async (from, to) => {
          if (!(await isStillHeld())) throw new TcfsError("TCFS_REMOTE_CONFLICT", "the store's lock was taken away");
          await rename(from, to);
        });
      }),
    );
  }

  delete(name: string, signal?: AbortSignal): Promise<void> {
    return this.#telling(name, signal, async () => {
      await this.#requireRoot();
      await rm(this.#path(name), { force: true });
    });
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncGenerator<string> {
    const names = await this.#telling(prefix, signal, () => this.#listBelow(prefix.replace(/\/$/u, "")));
    yield* names;
  }

  async close(): Promise<void> {
    // Nothing is kept open.
  }

  async #listBelow(directory: string): Promise<string[]> {
    const names: string[] = [];
    await this.#requireRoot();
    try {
      for await (const entry of await opendir(join(this.#root, directory))) {
        if (entry.name.startsWith(".")) continue;
        const name = `${directory}/${entry.name}`;
        if (entry.isDirectory()) names.push(...(await this.#listBelow(name)));
        else names.push(name);
      }
    } catch (error) {
      if (codeOf(error) !== "ENOENT") throw error;
    }
    return names;
  }

  /** @throws TcfsError `TCFS_REMOTE_UNAVAILABLE` while another directory stands there; ENOENT while there is none. */
  async #requireRoot(): Promise<void> {
    const { ino } = await stat(this.#root, { bigint: true });
    if (ino === this.#inode) return;
    const message = `${this.#root} is another directory than it was: is its drive mounted?`;
    throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", message);
  }

  #path(name: string): string {
    requireObjectName(name);
    return join(this.#root, name);
  }

  /** @returns Undefined where there is no such file. */
  async #withFile<T>(name: string, use: (file: FileHandle) => Promise<T>): Promise<T | undefined> {
    let file: FileHandle;
    try {
      file = await open(this.#path(name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (error) {
      if (codeOf(error) !== "ENOENT") throw error;
      await this.#requireRoot(); // not there at all is another thing
      return undefined;
    }
    try {
      return await use(file);
    } finally {
      await file.close();
    }
  }

  /** @param name - Gives the finished file its name. */
  async #place(
    name: string,
    content: Uint8Array,
    giveName: (from: string, to: string) => Promise<void>,
  ): Promise<ObjectVersion> {
    const path = this.#path(name);
    const work = join(this.#root, WORK_NAME);
    const temporary = join(work, randomBytes(12).toString("hex"));
    await this.#requireRoot();
    await makeDirectories(this.#root, work);
    await makeDirectories(this.#root, dirname(path));
    try {
      await writeFlushed(temporary, content);
      await giveName(temporary, path);
    } finally {
      await rm(temporary, { force: true }).catch(() => undefined); // what led here is the failure to tell
    }
    await flushDirectory(dirname(path));
    return versionOf(content);
  }

  async #settleConflict(name: string, content: Uint8Array): Promise<ObjectVersion> {
    const version = await settleConflict(name, content, (options) => this.get(name, options));
    await flushDirectory(dirname(this.#path(name))); // whoever placed it may not have yet
    return version;
  }

  /** One at a time among all processes and machines. @param use - Asks, before it acts, whether the lock is still its. */
  async #locked<T>(use: (isStillHeld: () => Promise<boolean>) => Promise<T>): Promise<T> {
    await this.#requireRoot();
    await makeDirectories(this.#root, join(this.#root, WORK_NAME));
    const path = join(this.#root, WORK_NAME, LOCK_NAME);
    const token = randomBytes(16).toString("hex");
    await this.#takeLock(path, token);
    const isStillHeld = async (): Promise<boolean> => (await readFile(path, "latin1").catch(() => "")) === token;
    try {
      return await use(isStillHeld);
    } finally {
      if (await isStillHeld()) await rm(path, { force: true });
    }
  }

  async #takeLock(path: string, token: string): Promise<void> {
    const mine = `${path}-${token}`;
    await writeFlushed(mine, Buffer.from(token, "latin1"));
    try {
      for (let attempt = 0; attempt < LOCK_TRIES; attempt++) {
        try {
          await link(mine, path);
          return;
        } catch (error) {
          if (codeOf(error) !== "EEXIST") throw error;
        }
        await breakStaleLock(path, mine);
        await sleep(LOCK_PAUSE_MS * (0.5 + Math.random()));
      }
    } finally {
      await rm(mine, { force: true });
    }
    throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", `the lock ${path} is held by another tcfs`);
  }

  async #telling<T>(name: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    if (signal?.aborted === true) throw new TcfsError("TCFS_CANCELLED", "a request to the store was given up");
    return await telling(`object ${name} in ${this.#root}`, work);
  }
}

/**
 * A crash left the lock if it is old, by the file server's own clock: that of `mine`, just written. Renamed away first, so
 * that of two who find it stale only one takes a lock away.
 */
async function breakStaleLock(path: string, mine: string): Promise<void> {
  try {
    const [held, now] = await Promise.all([stat(path), stat(mine)]);
    if (now.ctimeMs - held.mtimeMs < STALE_LOCK_MS && held.mtimeMs - now.ctimeMs < STALE_LOCK_MS) return;
    await rename(path, `${mine}-stale`);
    await rm(`${mine}-stale`, { force: true });
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw error; // given back meanwhile
  }
}

async function readExactly(name: string, file: FileHandle, { offset, lengthBytes }: ByteRange): Promise<Uint8Array> {
  const into = new Uint8Array(lengthBytes);
  let filled = 0;
  while (filled < lengthBytes) {
    const { bytesRead } = await file.read(into, filled, lengthBytes - filled, offset + filled);
    if (bytesRead === 0) throw new TcfsError("TCFS_CORRUPT", `object ${name} ends early`);
    filled += bytesRead;
  }
  return into;
}

async function writeFlushed(path: string, content: Uint8Array): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** @param path - Below `root`, which must be there already. Each new name is flushed. */
async function makeDirectories(root: string, path: string): Promise<void> {
  if (path === root) return;
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    if (codeOf(error) === "EEXIST") return;
    if (codeOf(error) !== "ENOENT" || dirname(path) === root) throw error;
    await makeDirectories(root, dirname(path));
    await makeDirectories(root, path);
    return;
  }
  await flushDirectory(dirname(path));
}

async function flushDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function versionOf(content: Uint8Array): ObjectVersion {
  return createHash("sha256").update(content).digest("hex") as ObjectVersion;
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error ? String(error.code) : undefined;
}

const CODES: Readonly<Record<string, TcfsErrorCode>> = {
  ENOSPC: "TCFS_REMOTE_FULL",
  EDQUOT: "TCFS_REMOTE_FULL",
  EACCES: "TCFS_REMOTE_DENIED",
  EPERM: "TCFS_REMOTE_DENIED",
  EROFS: "TCFS_REMOTE_DENIED",
  ELOOP: "TCFS_CORRUPT",
  ENOENT: "TCFS_REMOTE_MISSING",
  ENOTDIR: "TCFS_REMOTE_MISSING",
};

async function telling<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof TcfsError || error instanceof RangeError) throw error;
    const code = CODES[codeOf(error) ?? ""] ?? "TCFS_REMOTE_UNAVAILABLE";
    throw new TcfsError(code, `${what}: ${describeErrno(error)}`, { cause: error });
  }
}
