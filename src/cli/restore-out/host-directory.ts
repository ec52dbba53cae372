/**
 * Directories and files of the host, reached one step at a time from an open directory: `/proc/self/fd/N/name` is what
 * openat(2) does with N and name. No link that somebody puts into the way is ever followed, and nothing that is there is
 * written over. Calls wait: the command has nothing else to do.
 */
import {
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  unlinkSync,
} from "node:fs";
import type { BigIntStats } from "node:fs";
import { getSystemErrorName } from "node:util";
import { TcfsError } from "../../errors.ts";
import type { Name } from "../../ids.ts";
import { host } from "../../platform/host-binding.ts";

/** linux/fcntl.h; Node has no name for it. */
const O_PATH = 0o10000000;
const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR } = constants;

/** A failure of the host, with the errno's name as its code. */
class HostError extends Error {
  readonly code: string;

  constructor(code: string, call: string) {
    super(`${call}: ${code}`);
    this.code = code;
  }
}

/** @throws HostError for a call of {@link host} that failed. */
export function requireDone(result: number, call: string): void {
  if (result < 0) throw new HostError(getSystemErrorName(result), call);
}

/** @returns The errno's name of a failure of the host; undefined for any other failure. */
export function errnoOf(error: unknown): string | undefined {
  if (error instanceof TcfsError || !(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** An open directory. Whoever opens closes. */
export class HostDirectory implements Disposable {
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  #at(name: Name): Buffer {
    return Buffer.from(`/proc/self/fd/${this.fd}/${name}`, "latin1");
  }

  /** What has this name; undefined: nothing. */
  find(name: Name): BigIntStats | undefined {
    return lstatSync(this.#at(name), { bigint: true, throwIfNoEntry: false });
  }

  /** Make a directory 0700. */
  makeDirectory(name: Name): void {
    mkdirSync(this.#at(name), { mode: 0o700 });
  }

  /** Never one that a symlink leads to. */
  openDirectory(name: Name): HostDirectory {
    return new HostDirectory(openSync(this.#at(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  }

  /** Make a new file 0600 and open it for reading and writing. */
  createFile(name: Name): number {
    return openSync(this.#at(name), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  }

  openFile(name: Name): number {
    return openSync(this.#at(name), O_RDONLY | O_NOFOLLOW | constants.O_NONBLOCK);
  }

  /** A descriptor that stands for whatever has the name, itself; it can be read by nobody. */
  openPath(name: Name): number {
    return openSync(this.#at(name), O_PATH | O_NOFOLLOW);
  }

  /** @param target - One character for each byte. */
  makeSymlink(name: Name, target: string): void {
    symlinkSync(Buffer.from(target, "latin1"), this.#at(name));
  }

  readSymlink(name: Name): string {
    return readlinkSync(this.#at(name), "buffer").toString("latin1");
  }

  makeNode(name: Name, mode: number, device: number): void {
    requireDone(host.makeNode(this.fd, name, mode, device), "mknod");
  }

  /** Another name for the file of a descriptor. */
  link(fd: number, name: Name): void {
    requireDone(host.link(fd, this.fd, name), "link");
  }

  /** Never over what has the new name. */
  rename(from: Name, to: Name): void {
    const result = host.renameNew(this.fd, from, to);
    if (result >= 0) return;
    if (!["EINVAL", "ENOSYS", "ENOTSUP", "EOPNOTSUPP"].includes(getSystemErrorName(result)))
      requireDone(result, "rename");
    // This filesystem has no such rename: a hard link does not replace anything either.
    const fd = this.openPath(from);
    try {
      this.link(fd, to);
    } finally {
      closeSync(fd);
    }
    this.unlink(from);
  }

  unlink(name: Name): void {
    unlinkSync(this.#at(name));
  }

  /** One character for each byte. */
  list(): Name[] {
    return readdirSync(`/proc/self/fd/${this.fd}`, "buffer").map((name) => name.toString("latin1") as Name);
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

/** Call with a descriptor, and close it whatever happens. */
export function withDescriptor<T>(fd: number, action: (fd: number) => T): T {
  try {
    return action(fd);
  } finally {
    closeSync(fd);
  }
}
