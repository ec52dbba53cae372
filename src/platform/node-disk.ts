/**
 * The machine's disk over node:fs. Every call but `writeSync` runs on the thread pool; failures become `TcfsError` by errno.
 * Space is not reserved ahead (node:fs has no fallocate): whoever needs reserved room writes zeros and syncs them.
 */
import * as fs from "node:fs";
import { dirname } from "node:path";

import { TcfsError, type TcfsErrorCode, describeErrno, isTcfsError } from "../errors.ts";
import type { Disk, DiskFile, DiskSpace, DurableFile } from "./disk.ts";
import type { HeldDirectory } from "./held-directory.ts";

const CODE_OF_ERRNO: Readonly<Record<string, TcfsErrorCode>> = {
  ENOSPC: "TCFS_STORE_FULL",
  EDQUOT: "TCFS_STORE_FULL",
  EMFILE: "TCFS_TOO_MANY_FILES",
  ENFILE: "TCFS_TOO_MANY_FILES",
  ENOENT: "TCFS_NO_ENTRY",
  EEXIST: "TCFS_EXISTS",
  ENOTDIR: "TCFS_NOT_DIRECTORY",
  EISDIR: "TCFS_IS_DIRECTORY",
  EACCES: "TCFS_ACCESS",
  EPERM: "TCFS_NOT_PERMITTED",
  EROFS: "TCFS_READ_ONLY",
};

/** Pieces that one writev takes (IOV_MAX on Linux). */
const MAX_GATHERED_PIECES = 1024;

type Callback<T> = (error: NodeJS.ErrnoException | null, result: T) => void;

/** The one door from errno to error code: what is not in the table is a failing device. */
export function toTcfsError(error: NodeJS.ErrnoException, action: string, path: string): TcfsError {
  const code = CODE_OF_ERRNO[error.code ?? ""] ?? "TCFS_IO";
  return new TcfsError(code, `cannot ${action} ${path}: ${describeErrno(error)}`, { cause: error });
}

function call<T>(action: string, path: string, run: (done: Callback<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    run((error, result) => {
      if (error === null) resolve(result);
      else reject(toTcfsError(error, action, path));
    });
  });
}

/** For calls that only report success. */
async function perform(action: string, path: string, run: (done: fs.NoParamCallback) => void): Promise<void> {
  await call<undefined>(action, path, (done) => {
    run((error) => {
      done(error, undefined);
    });
  });
}

class NodeDiskFile implements DiskFile, DurableFile {
  readonly #fd: number;
  readonly #path: string;
  #isClosed = false;

  constructor(fd: number, path: string) {
    this.#fd = fd;
    this.#path = path;
  }

  get fd(): number {
    this.#assertOpen();
    return this.#fd;
  }

  async readInto(into: Uint8Array, offset: number): Promise<number> {
    let filled = 0;
    while (filled < into.length) {
      this.#assertOpen();
      const count = await call<number>("read", this.#path, (done) => {
        fs.read(this.#fd, into, filled, into.length - filled, offset + filled, done);
      });
      if (count === 0) break;
      filled += count;
    }
    return filled;
  }

  async write(pieces: readonly Uint8Array[], offset: number): Promise<void> {
    let rest = pieces.filter((piece) => piece.length > 0);
    let position = offset;
    while (rest.length > 0) {
      this.#assertOpen();
      const count = await this.#writeOnce(rest, position);
      if (count === 0) throw new TcfsError("TCFS_IO", `cannot write ${this.#path}: nothing was taken`);
      position += count;
      rest = dropLeading(rest, count);
    }
  }

  #writeOnce(pieces: readonly Uint8Array[], position: number): Promise<number> {
    const [first] = pieces;
    return call<number>("write", this.#path, (done) => {
      if (first !== undefined && pieces.length === 1) fs.write(this.#fd, first, 0, first.length, position, done);
      else fs.writev(this.#fd, pieces.slice(0, MAX_GATHERED_PIECES), position, done);
    });
  }

  writeSync(bytes: Uint8Array, offset: number): void {
    this.#assertOpen();
    let written = 0;
    while (written < bytes.length) {
      const count = this.#writeOnceSync(bytes, written, offset + written);
      if (count === 0) throw new TcfsError("TCFS_IO", `cannot write ${this.#path}: nothing was taken`);
      written += count;
    }
  }

  #writeOnceSync(bytes: Uint8Array, from: number, position: number): number {
    try {
      return fs.writeSync(this.#fd, bytes, from, bytes.length - from, position);
    } catch (error) {
      throw toTcfsError(error as NodeJS.ErrnoException, "write", this.#path);
    }
  }

  async sync(): Promise<void> {
    this.#assertOpen();
    await perform("sync", this.#path, (done) => {
      fs.fdatasync(this.#fd, done);
    });
  }

  async length(): Promise<number> {
    this.#assertOpen();
    const stats = await call<fs.Stats>("stat", this.#path, (done) => {
      fs.fstat(this.#fd, done);
    });
    return stats.size;
  }

  async truncate(lengthBytes: number): Promise<void> {
    this.#assertOpen();
    await perform("truncate", this.#path, (done) => {
      fs.ftruncate(this.#fd, lengthBytes, done);
    });
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await perform("close", this.#path, (done) => {
      fs.close(this.#fd, done);
    });
  }

  /** A descriptor's number is reused by others once closed: a late call must not reach them. */
  #assertOpen(): void {
    if (this.#isClosed) throw new TcfsError("TCFS_CLOSED", `${this.#path} is closed`);
  }
}

function dropLeading(pieces: readonly Uint8Array[], byteCount: number): Uint8Array[] {
  let toDrop = byteCount;
  const rest: Uint8Array[] = [];
  for (const piece of pieces) {
    if (toDrop >= piece.length) toDrop -= piece.length;
    else {
      rest.push(toDrop === 0 ? piece : piece.subarray(toDrop));
      toDrop = 0;
    }
  }
  return rest;
}

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_DSYNC } = fs.constants;

export class NodeDisk implements Disk {
  readonly #locate: (path: string) => string;

  /** @param held - What lies beneath its path is reached through it. Borrowed. */
  constructor(held?: Pick<HeldDirectory, "locate">) {
    this.#locate = (path) => held?.locate(path) ?? path;
  }

  async #openFile(path: string, flags: number, action: string): Promise<NodeDiskFile> {
    const fd = await call<number>(action, path, (done) => {
      fs.open(this.#locate(path), flags, 0o600, done);
    });
    return new NodeDiskFile(fd, path);
  }

  create(path: string): Promise<DiskFile> {
    return this.#openFile(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, "create");
  }

  /** O_NONBLOCK: a FIFO in the place of a file must not hold up a thread; it reads as an empty file. */
  open(path: string): Promise<DiskFile> {
    return this.#openFile(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, "open");
  }

  openToWrite(path: string): Promise<DiskFile> {
    return this.#openFile(path, O_RDWR | O_NOFOLLOW, "open");
  }

  openDurable(path: string): Promise<DurableFile> {
    return this.#openFile(path, O_RDWR | O_DSYNC | O_NOFOLLOW, "open");
  }

  async readFile(path: string): Promise<Uint8Array | undefined> {
    try {
      return await call<Uint8Array>("read", path, (done) => {
        fs.readFile(this.#locate(path), done);
      });
    } catch (error) {
      if (error instanceof TcfsError && error.code === "TCFS_NO_ENTRY") return undefined;
      throw error;
    }
  }

  async replaceFile(path: string, content: Uint8Array): Promise<void> {
    const temporaryPath = `${path}.new`;
    await this.#removeIfPresent(temporaryPath);
    const file = await this.create(temporaryPath);
    try {
      try {
        await file.write([content], 0);
        await file.sync();
      } finally {
        await file.close();
      }
      await this.rename(temporaryPath, path);
    } catch (error) {
      await this.#removeIfPresent(temporaryPath);
      throw error;
    }
    await this.syncDirectory(dirname(path));
  }

  async #removeIfPresent(path: string): Promise<void> {
    await perform("remove", path, (done) => {
      fs.rm(this.#locate(path), { force: true }, done);
    });
  }

  async list(path: string): Promise<string[]> {
    try {
      const stats = await call<fs.Stats>("list", path, (done) => {
        fs.lstat(this.#locate(path), done);
      });
      if (stats.isSymbolicLink()) throw new TcfsError("TCFS_IO", `${path} is a symbolic link, which is not followed`);
      return await call<string[]>("list", path, (done) => {
        fs.readdir(this.#locate(path), done);
      });
    } catch (error) {
      if (error instanceof TcfsError && error.code === "TCFS_NO_ENTRY") return [];
      throw error;
    }
  }

  async makeDirectory(path: string): Promise<void> {
    try {
      await perform("create directory", path, (done) => {
        fs.mkdir(this.#locate(path), { mode: 0o700 }, done);
      });
    } catch (error) {
      if (!isTcfsError(error, "TCFS_EXISTS")) throw error;
    }
  }

  /** Not by Node's `recursive`: where a parent cannot be made for ENOENT (/proc, autofs) that tries for ever. */
  async makeDirectories(path: string): Promise<void> {
    try {
      await this.makeDirectory(path);
    } catch (error) {
      const parent = dirname(path);
      if (!isTcfsError(error, "TCFS_NO_ENTRY") || parent === path) throw error;
      await this.makeDirectories(parent);
      await this.makeDirectory(path);
    }
  }

  remove(path: string): Promise<void> {
    return perform("remove", path, (done) => {
      fs.unlink(this.#locate(path), done);
    });
  }

  rename(from: string, to: string): Promise<void> {
    return perform("replace", to, (done) => {
      fs.rename(this.#locate(from), this.#locate(to), done);
    });
  }

  async syncDirectory(path: string): Promise<void> {
    const directory = await this.#openFile(path, O_RDONLY | fs.constants.O_DIRECTORY, "open");
    try {
      const { fd } = directory;
      await perform("sync", path, (done) => {
        fs.fsync(fd, done);
      });
    } finally {
      await directory.close();
    }
  }

  async space(path: string): Promise<DiskSpace> {
    const stats = await call<fs.StatsFs>("stat", path, (done) => {
      fs.statfs(this.#locate(path), done);
    });
    return {
      totalBytes: stats.blocks * stats.bsize,
      freeBytes: stats.bfree * stats.bsize,
      availableBytes: stats.bavail * stats.bsize,
    };
  }
}
