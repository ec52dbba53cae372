/**
 * A snapshot read from outside of any mount, piece by piece: entries with all that belongs to them, and data. The answers
 * are JSON, so that a daemon can give them over its control socket.
 */
import { copyLoan } from "../../borrowed-bytes.ts";
import { TcfsError, isTcfsError } from "../../errors.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../ids.ts";
import type { MetadataView } from "../../metadata/snapshot-store.ts";
import type { Timestamp } from "../../platform/clock.ts";
import { isDirectoryMode } from "../mode.ts";
import type { Attributes, Caller } from "../operations.ts";
import type { PastView } from "./past-view.ts";
import type { SnapshotTree } from "./snapshot-tree.ts";
import { type TreePath, followTreePath, parseTreePath } from "./tree-path.ts";

/** An entry of a snapshot. Names and targets have one character for each byte. */
export interface SnapshotEntry {
  readonly name: string;
  readonly ino: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly linkCount: number;
  /** In the kernel's new_encode_dev form. */
  readonly deviceNumber: number;
  /** Decimal: it may not fit into a number. */
  readonly lengthBytes: string;
  readonly allocatedBytes: number;
  readonly accessTime: Timestamp;
  readonly modifyTime: Timestamp;
  readonly target?: string;
  /** Names, and values in base64. */
  readonly xattrs?: readonly (readonly [string, string])[];
  /** Of the tree at a time: which state this is, in words; and what {@link SnapshotReader.read} is to be told. */
  readonly origin?: { readonly words: string; readonly token: string };
}

export interface SnapshotPathAnswer {
  /** Tells this snapshot from another of the same name; of a time, that of the snapshot beneath, or 0. */
  readonly epoch: number;
  /** The root and each step down to the path. */
  readonly entries: readonly SnapshotEntry[];
}

export interface SnapshotListAnswer {
  readonly entries: readonly SnapshotEntry[];
  /** Where to go on; undefined at the end. */
  readonly next?: string;
}

/** Undefined data: only zeros come from the offset asked for to this one, where there may be data again. */
export interface SnapshotDataAnswer {
  readonly offset: string;
  /** Base64. */
  readonly data?: string;
}

/** An answer ends when it has so much, a little more or less. */
const ANSWER_BYTES = 512 * 1024;
const ENTRY_BYTES = 300;
/** The most that is read at once. */
const MAX_DATA_BYTES = 1024 * 1024;
const FROM_START = "0";
/** Sees the names of all xattrs. */
const CALLER: Caller = { uid: 0, gid: 0, pid: 0, onInterrupt: () => undefined };

export interface SnapshotReaderOptions {
  readonly view: MetadataView;
  /** The same as a filesystem. */
  readonly tree: SnapshotTree;
  readonly epoch: number;
  /** Throws `TCFS_NO_ENTRY` for a path that is not in it, with near ones. */
  readonly find: (path: TreePath) => Promise<void>;
  /** Of the tree at a time, part of which is the present one: it may change while it is read. */
  readonly past?: {
    readonly view: PastView;
    readonly commit: () => Promise<void>;
    /** Not while a restore changes everything: what is between two states is none. */
    readonly whileStill: <T>(read: () => Promise<T>) => Promise<T>;
  };
}

export class SnapshotReader {
  readonly #options: SnapshotReaderOptions;
  readonly #tree: SnapshotTree;

  constructor(options: SnapshotReaderOptions) {
    this.#options = options;
    this.#tree = options.tree;
  }

  /** @throws TcfsError `TCFS_NO_ENTRY` for a path that is not in it, with near ones. */
  find(text: string): Promise<SnapshotPathAnswer> {
    return this.#whileStill(() => this.#find(text));
  }

  #whileStill<T>(read: () => Promise<T>): Promise<T> {
    return this.#options.past === undefined ? read() : this.#options.past.whileStill(read);
  }

  async #find(text: string): Promise<SnapshotPathAnswer> {
    const path = parseTreePath(text);
    await this.#options.find(path);
    const dentries = followTreePath(this.#options.view, path);
    const entries = [{ name: "" as Name, ino: ROOT_INODE }, ...dentries].map(({ name, ino }) =>
      this.#entry(name, this.#tree.getAttributes(ino)),
    );
    return { epoch: this.#options.epoch, entries };
  }

  /** @param after - What an earlier answer says to go on with; {@link FROM_START} at first. */
  list(ino: InodeNumber, after: string): Promise<SnapshotListAnswer> {
    return this.#whileStill(() => this.#list(ino, after));
  }

  async #list(ino: InodeNumber, after: string): Promise<SnapshotListAnswer> {
    await this.#options.past?.commit();
    if (this.#options.past !== undefined && after === FROM_START) this.#tree.forgetListing(ino);
    const found: { readonly name: Name; readonly attributes: Attributes }[] = [];
    const state = { bytes: 0, next: after, isFull: false };
    await this.#tree.readDirectory(ino, BigInt(after), true, ({ name, cookie }, attributes) => {
      state.isFull = state.bytes >= ANSWER_BYTES;
      if (state.isFull) return false;
      state.next = String(cookie);
      if (name === "." || name === "..") return true;
      if (attributes === undefined) throw new TcfsError("TCFS_CORRUPT", `an entry of directory ${ino} has no inode`);
      found.push({ name, attributes });
      state.bytes += ENTRY_BYTES;
      return true;
    });
    const entries = found.map(({ name, attributes }) => this.#entry(name, attributes));
    return state.isFull ? { entries, next: state.next } : { entries };
  }

  /**
   * @param lengthBytes - At most {@link MAX_DATA_BYTES}.
   * @param token - Of the entry's origin, if it has one.
   * @throws TcfsError `TCFS_STALE` if the file is not in that state any more: no bytes of two states are mixed.
   */
  read(ino: InodeNumber, offset: bigint, lengthBytes: number, token?: string): Promise<SnapshotDataAnswer> {
    return this.#whileStill(async () => {
      this.#requireState(ino, token);
      const answer = await this.#read(ino, offset, lengthBytes);
      this.#requireState(ino, token);
      return answer;
    });
  }

  #requireState(ino: InodeNumber, token: string | undefined): void {
    if (this.#options.past?.view.origin(ino).token === token) return;
    throw new TcfsError("TCFS_STALE", "it was changed while it was read: the same command again takes what was kept");
  }

  async #read(ino: InodeNumber, offset: bigint, lengthBytes: number): Promise<SnapshotDataAnswer> {
    const loan = await this.#tree.read(ino, offset, Math.min(lengthBytes, MAX_DATA_BYTES));
    const data = Buffer.from(copyLoan(loan));
    if (!isZero(data)) return { offset: String(offset), data: data.toString("base64") };
    const end = offset + BigInt(data.length);
    const { lengthBytes: length } = this.#tree.getAttributes(ino);
    if (end >= length) return { offset: String(length) };
    try {
      return { offset: String(await this.#tree.seek(ino, end, "data")) };
    } catch (error) {
      if (!isTcfsError(error, "TCFS_NO_OFFSET")) throw error;
      return { offset: String(length) };
    }
  }

  #entry(name: Name, attributes: Attributes): SnapshotEntry {
    const { ino, mode, uid, gid, linkCount, deviceNumber, accessTime, modifyTime } = attributes;
    const isLink = (mode & 0o170000) === 0o120000;
    const names = this.#tree.listXattrs(ino, CALLER);
    return {
      name,
      ino,
      mode,
      uid,
      gid,
      linkCount,
      deviceNumber,
      lengthBytes: isDirectoryMode(mode) ? "0" : String(attributes.lengthBytes),
      allocatedBytes: Number(attributes.allocatedBytes),
      accessTime,
      modifyTime,
      ...(this.#options.past === undefined ? {} : { origin: this.#options.past.view.origin(ino) }),
      ...(isLink ? { target: Buffer.from(this.#tree.readSymlink(ino)).toString("latin1") } : {}),
      ...(names.length === 0 ? {} : { xattrs: names.map((xattr) => [xattr, this.#xattr(ino, xattr)] as const) }),
    };
  }

  #xattr(ino: InodeNumber, name: Name): string {
    return Buffer.from(this.#tree.getXattr(ino, name) ?? []).toString("base64");
  }
}

function isZero(bytes: Uint8Array): boolean {
  if (bytes.length === 0 || bytes[0] !== 0) return bytes.length === 0;
  return Buffer.compare(bytes.subarray(1), bytes.subarray(0, -1)) === 0;
}
