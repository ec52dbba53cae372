/**
 * Writes a snapshot's entries into a directory of the host. Files come under a name of their own, 0600, and get their name
 * when they are whole; directories are 0700 until all that is in them is there. What fails is told, and the rest goes on.
 */
import { closeSync, constants, fstatSync, ftruncateSync, readSync, writeSync } from "node:fs";
import type { BigIntStats } from "node:fs";
import { TcfsError, isTcfsError } from "../../errors.ts";
import { S_IFLNK, S_IFMT, isDirectoryMode, isRegularMode } from "../../fs/mode.ts";
import type { SnapshotEntry } from "../../fs/snapshots/snapshot-reader.ts";
import type { TreePath } from "../../fs/snapshots/tree-path.ts";
import type { Name } from "../../ids.ts";
import type { SnapshotSource } from "../snapshot-source.ts";
import { type AttributeOptions, giveAttributes } from "./attributes.ts";
import type { HostDirectory } from "./host-directory.ts";
import { errnoOf, withDescriptor } from "./host-directory.ts";
import { LinkedFiles } from "./linked-files.ts";
import { MARKER_NAME } from "./marker.ts";
import type { CopyReport } from "./report.ts";
import type { Choice, Selection } from "./selection.ts";

const { S_IFREG, S_IFCHR, S_IFBLK } = constants;
/** Zeros of this length are left out as a hole; ext4's and xfs's unit. */
const HOLE_BYTES = 4096;
const ZEROS = Buffer.alloc(HOLE_BYTES);
/** Filesystems keep times to one of these, in nanoseconds: ext4, NTFS, NFS and others, FAT. */
const TIME_UNITS = [1n, 100n, 1000n, 1_000_000n, 1_000_000_000n, 2_000_000_000n];
/** Nothing else will succeed either. */
const ENDING = ["ENOSPC", "EDQUOT", "EROFS", "EIO"];

export interface CopyOptions {
  readonly source: SnapshotSource;
  readonly target: HostDirectory;
  readonly selection: Selection;
  readonly report: CopyReport;
  readonly attributes: AttributeOptions;
  /** Devices are made too. */
  readonly keepsDevices: boolean;
  /** In the names of files that are not whole. */
  readonly token: string;
  /** What is there may be from an earlier run. */
  readonly isResumed: boolean;
  /** Whether a file of the right length and time can be taken for whole; else it is read. */
  readonly isTrusted: boolean;
  readonly signal: AbortSignal;
}

/** A directory of the snapshot, made outside once something is to be put into it. */
interface Place {
  readonly path: TreePath;
  readonly choice: Choice;
  readonly open: () => HostDirectory;
}

export class CopyOut {
  readonly #options: CopyOptions;
  readonly #linked: LinkedFiles;

  constructor(options: CopyOptions) {
    this.#options = options;
    this.#linked = new LinkedFiles(options.target);
  }

  /** @throws TcfsError `TCFS_STORE_FULL`, `TCFS_IO`, `TCFS_CANCELLED`, `TCFS_DAEMON_ENDED`: what ends it all. */
  async run(root: SnapshotEntry): Promise<void> {
    const { target, selection } = this.#options;
    await this.#fill(root, { path: [], choice: selection.choose([], true, "none"), open: () => target });
  }

  async #fill(directory: SnapshotEntry, place: Place): Promise<void> {
    const { source, selection, signal } = this.#options;
    for await (const entry of source.list(directory.ino)) {
      if (signal.aborted) throw new TcfsError("TCFS_CANCELLED", "interrupted");
      const path = [...place.path, entry.name as Name];
      const choice = selection.choose(path, isDirectoryMode(entry.mode), place.choice);
      if (choice === "none") continue;
      await this.#guarded(path, () =>
        isDirectoryMode(entry.mode)
          ? this.#directory(entry, { ...place, path, choice })
          : this.#leaf(entry, path, place.open()),
      );
    }
  }

  /** What one entry's failure is, and what is the end of all. */
  async #guarded(path: TreePath, action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      const errno = errnoOf(error);
      if (
        isTcfsError(error) &&
        error.code !== "TCFS_CORRUPT" &&
        error.code !== "TCFS_STALE" &&
        error.code !== "TCFS_EXISTS"
      )
        throw error;
      if (!isTcfsError(error) && errno === undefined) throw error;
      if (errno !== undefined && ENDING.includes(errno)) throw endOf(errno, error);
      this.#options.report.fail(path, explain(error));
    }
  }

  async #directory(entry: SnapshotEntry, { path, choice, open }: Place): Promise<void> {
    const { report, attributes } = this.#options;
    let made: HostDirectory | undefined;
    const openThis = (): HostDirectory => (made ??= this.#openDirectory(entry, path, open()));
    try {
      if (choice === "all") openThis();
      await this.#fill(entry, { path, choice, open: openThis });
      if (made === undefined) return;
      giveAttributes(made.fd, entry, attributes);
      report.directory();
    } finally {
      made?.[Symbol.dispose]();
    }
  }

  #openDirectory(entry: SnapshotEntry, path: TreePath, parent: HostDirectory): HostDirectory {
    const name = nameOf(path);
    const isThere = this.#options.isResumed && parent.find(name) !== undefined;
    if (!isThere) parent.makeDirectory(name);
    const directory = parent.openDirectory(name);
    const { uid } = fstatSync(directory.fd);
    if (uid === process.geteuid?.() || (isThere && uid === entry.uid)) return directory;
    directory[Symbol.dispose]();
    throw new TcfsError("TCFS_EXISTS", "somebody else put a directory there");
  }

  async #leaf(entry: SnapshotEntry, path: TreePath, parent: HostDirectory): Promise<void> {
    const { report, isResumed } = this.#options;
    const name = nameOf(path);
    if (path.length === 1 && name === MARKER_NAME)
      throw new TcfsError("TCFS_EXISTS", "the restore needs this name itself");
    const present = parent.find(name);
    if (present !== undefined) {
      const isWhole = isResumed && (await this.#isWhole(entry, present, parent, name));
      if (!isWhole) throw new TcfsError("TCFS_EXISTS", "something else is there, and is left alone");
      this.#removePartial(entry, parent);
      this.#linked.note(entry, path, present);
      report.skip();
      return;
    }
    if (this.#linked.link(entry, parent, name)) report.link();
    else if (isRegularMode(entry.mode)) await this.#file(entry, path, parent);
    else this.#special(entry, name, parent);
    const made = parent.find(name);
    if (made !== undefined) this.#linked.note(entry, path, made);
  }

  async #file(entry: SnapshotEntry, path: TreePath, parent: HostDirectory): Promise<void> {
    const { report, attributes, isResumed } = this.#options;
    const partial = this.#partialName(entry);
    if (isResumed) this.#removePartial(entry, parent);
    const fd = parent.createFile(partial);
    try {
      await this.#write(entry, fd);
      giveAttributes(fd, entry, attributes);
      parent.rename(partial, nameOf(path));
      const [written, named] = [fstatSync(fd, { bigint: true }), parent.find(nameOf(path))];
      if (named?.ino !== written.ino || named.dev !== written.dev) {
        throw new TcfsError("TCFS_EXISTS", "somebody put something else there meanwhile");
      }
    } catch (error) {
      this.#removePartial(entry, parent);
      throw error;
    } finally {
      closeSync(fd);
    }
    report.file();
  }

  async #write(entry: SnapshotEntry, fd: number): Promise<void> {
    const { source, signal, report } = this.#options;
    const lengthBytes = BigInt(entry.lengthBytes);
    ftruncateSync(fd, Number(lengthBytes));
    for await (const { offset, data } of source.data(entry)) {
      if (signal.aborted) throw new TcfsError("TCFS_CANCELLED", "interrupted");
      for (const { start, end } of dataRuns(data)) writeAll(fd, data.subarray(start, end), offset + BigInt(start));
      report.progress(data.length);
    }
  }

  /** Symlinks, FIFOs, sockets, devices. What was made is taken up by a descriptor, and refused if it is another's. */
  #special(entry: SnapshotEntry, name: Name, parent: HostDirectory): void {
    const { attributes, report, keepsDevices } = this.#options;
    const type = entry.mode & S_IFMT;
    if ((type === S_IFCHR || type === S_IFBLK) && !keepsDevices) {
      report.leaveOut("devices were left out: --keep-devices makes them");
      return;
    }
    if (type === S_IFLNK) parent.makeSymlink(name, entry.target ?? "");
    else parent.makeNode(name, type | 0o600, entry.deviceNumber);
    withDescriptor(parent.openPath(name), (fd) => {
      const { mode, uid, nlink } = fstatSync(fd);
      if ((mode & S_IFMT) !== type || uid !== process.geteuid?.() || nlink !== 1) {
        throw new TcfsError("TCFS_EXISTS", "somebody put something else there meanwhile");
      }
      giveAttributes(fd, entry, attributes);
    });
    report.other();
  }

  /** Whether an earlier run made it: names come last, so what has its name, kind, length and time has its data too. */
  async #isWhole(entry: SnapshotEntry, present: BigIntStats, parent: HostDirectory, name: Name): Promise<boolean> {
    if (Number(present.mode) >> 12 !== entry.mode >> 12) return false;
    if ((entry.mode & S_IFMT) === S_IFLNK) return parent.readSymlink(name) === entry.target;
    if ((entry.mode & S_IFMT) !== S_IFREG) return true;
    if (present.size !== BigInt(entry.lengthBytes) || !isSameTime(present.mtimeNs, entry)) return false;
    if (this.#options.isTrusted || (await this.#hasContent(entry, parent, name))) return true;
    parent.unlink(name); // ours, and lost its data in a power cut
    return false;
  }

  async #hasContent(entry: SnapshotEntry, parent: HostDirectory, name: Name): Promise<boolean> {
    const fd = parent.openFile(name);
    try {
      let position = 0n;
      for await (const { offset, data } of this.#options.source.data(entry)) {
        if (!isZeroBetween(fd, position, offset)) return false;
        if (Buffer.compare(readAt(fd, offset, data.length), data) !== 0) return false;
        position = offset + BigInt(data.length);
      }
      return isZeroBetween(fd, position, BigInt(entry.lengthBytes));
    } finally {
      closeSync(fd);
    }
  }

  #partialName({ ino }: SnapshotEntry): Name {
    return `.tcfs-partial-${this.#options.token}-${ino}` as Name;
  }

  #removePartial(entry: SnapshotEntry, parent: HostDirectory): void {
    const name = this.#partialName(entry);
    if (parent.find(name)?.isFile() === true) parent.unlink(name);
  }
}

function nameOf(path: TreePath): Name {
  const name = path.at(-1);
  if (name === undefined) throw new RangeError("the root has no name");
  return name;
}

function isSameTime(present: bigint, { modifyTime }: SnapshotEntry): boolean {
  const wanted = BigInt(modifyTime.seconds) * 1_000_000_000n + BigInt(modifyTime.nanoseconds);
  return TIME_UNITS.some((unit) => present === wanted - (wanted % unit));
}

/** The parts of a piece that are not zeros, by whole units. */
export function dataRuns(data: Uint8Array): { readonly start: number; readonly end: number }[] {
  const runs: { start: number; end: number }[] = [];
  for (let start = 0; start < data.length; start += HOLE_BYTES) {
    const end = Math.min(start + HOLE_BYTES, data.length);
    if (Buffer.compare(data.subarray(start, end), ZEROS.subarray(0, end - start)) === 0) continue;
    const last = runs.at(-1);
    if (last?.end === start) last.end = end;
    else runs.push({ start, end });
  }
  return runs;
}

function writeAll(fd: number, data: Uint8Array, offset: bigint): void {
  for (let done = 0; done < data.length;) {
    done += writeSync(fd, data, done, data.length - done, Number(offset) + done);
  }
}

function readAt(fd: number, offset: bigint, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  for (let done = 0; done < lengthBytes;) {
    const count = readSync(fd, bytes, done, lengthBytes - done, offset + BigInt(done));
    if (count === 0) break;
    done += count;
  }
  return bytes;
}

function isZeroBetween(fd: number, from: bigint, to: bigint): boolean {
  const step = 1024 * 1024;
  for (let offset = from; offset < to; offset += BigInt(step)) {
    const lengthBytes = Number(to - offset < BigInt(step) ? to - offset : BigInt(step));
    if (dataRuns(readAt(fd, offset, lengthBytes)).length > 0) return false;
  }
  return true;
}

function endOf(errno: string, cause: unknown): TcfsError {
  const isFull = errno === "ENOSPC" || errno === "EDQUOT";
  const why = isFull
    ? "there is no room left where it is restored to"
    : `the disk that it is restored to failed: ${errno}`;
  return new TcfsError(isFull ? "TCFS_STORE_FULL" : "TCFS_IO", why, { cause });
}

function explain(error: unknown): string {
  const errno = errnoOf(error);
  if (errno === "ELOOP" || errno === "ENOTDIR") return "something else is there (a symlink?), and is not followed";
  if (errno === "EEXIST") return "something else is there, and is left alone";
  return error instanceof Error ? error.message : String(error);
}
