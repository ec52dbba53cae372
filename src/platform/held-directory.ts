/**
 * A directory that is held open: whatever is done beneath its path is done in this very directory (`/proc/self/fd/N`),
 * wherever it was moved, and never in another one that came into its place.
 */
import * as fs from "node:fs";

import { TcfsError, isErrno } from "../errors.ts";
import type { Clock } from "./clock.ts";

/** Looking costs 2 µs. Nobody moves a directory and makes another one in less time than this. */
const LOOK_INTERVAL_MS = 5;
/**
 * Directories that this process holds: of one that it has open already a lock of fcntl(2) keeps nobody out, and LevelDB
 * looks at paths, which differ here.
 */
const HELD = new Set<string>();

export class HeldDirectory {
  readonly #path: string;
  readonly #fd: number;
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #identity: fs.BigIntStats;
  #lookedMs = -Infinity;
  #isClosed = false;

  private constructor(path: string, fd: number, clock: Pick<Clock, "monotonicMs">) {
    this.#path = path;
    this.#fd = fd;
    this.#clock = clock;
    this.#identity = fs.fstatSync(fd, { bigint: true });
  }

  /** @param path - Absolute, of a directory. @throws TcfsError `TCFS_VAULT_IN_USE` if this process holds it, `TCFS_IO` */
  static open(path: string, clock: Pick<Clock, "monotonicMs">): HeldDirectory {
    const directory = HeldDirectory.#open(path, clock);
    if (HELD.has(directory.#name)) {
      fs.closeSync(directory.#fd);
      throw new TcfsError("TCFS_VAULT_IN_USE", `this process has ${path} open already`);
    }
    HELD.add(directory.#name);
    return directory;
  }

  static #open(path: string, clock: Pick<Clock, "monotonicMs">): HeldDirectory {
    let fd: number | undefined;
    try {
      fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
      return new HeldDirectory(path, fd, clock);
    } catch (cause) {
      if (fd !== undefined) fs.closeSync(fd);
      throw new TcfsError("TCFS_IO", `cannot open ${path}: ${cause instanceof Error ? cause.message : ""}`, { cause });
    }
  }

  /** The same for whatever path leads to it. */
  get #name(): string {
    return `${this.#identity.dev}:${this.#identity.ino}`;
  }

  /** @returns What a system call reaches `path` by; paths that do not lie in the directory as they are. */
  locate(path: string): string {
    if (path !== this.#path && !path.startsWith(`${this.#path}/`)) return path;
    if (this.#isClosed) throw new TcfsError("TCFS_CLOSED", `${this.#path} is closed`);
    return `/proc/self/fd/${this.#fd}/.${path.slice(this.#path.length)}`;
  }

  /**
   * Whoever confirms something asks this first: what is written still reaches the directory, but its user sees another
   * one, and may give this one away. A path that cannot be looked at proves nothing.
   * @throws TcfsError `TCFS_IO` if the path names another directory now, or none.
   */
  assertInPlace(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#lookedMs < LOOK_INTERVAL_MS) return;
    const found = this.#look();
    if (found === undefined)
      throw new TcfsError("TCFS_IO", `the vault directory is not at ${this.#path} any more: it was moved away`);
    const { dev, ino } = this.#identity;
    if (found !== "unknown" && (found.dev !== dev || found.ino !== ino)) {
      const message = `another directory is at ${this.#path} now: the vault's was moved away`;
      throw new TcfsError("TCFS_IO", message);
    }
    this.#lookedMs = nowMs;
  }

  #look(): fs.BigIntStats | "unknown" | undefined {
    try {
      return fs.statSync(this.#path, { bigint: true, throwIfNoEntry: false });
    } catch (error) {
      return isErrno(error, "ENOTDIR") ? undefined : "unknown";
    }
  }

  /** Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    HELD.delete(this.#name);
    fs.closeSync(this.#fd);
  }
}
