/**
 * The whole mount: live inodes and those of snapshots, told apart by their numbers; and the gate that holds requests
 * back while a rollback changes everything at once. Live requests pass with one comparison.
 */
import { type BorrowedBytes, copyLoan, lend } from "../../borrowed-bytes.ts";
import { copyOf } from "../../bytes.ts";
import { TcfsError } from "../../errors.ts";
import { INODE_NUMBER_LIMIT } from "../../format/records.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../ids.ts";
import { type MaybePromise, andThen, isPromise } from "../../maybe-promise.ts";
import type {
  AttributeChanges,
  Attributes,
  Caller,
  DirectoryEntry,
  FileSystemOperations,
  FileSystemStatistics,
  NodeRequest,
  ReadOptions,
  RenameFlags,
  XattrFlags,
} from "../operations.ts";
import type { VersionTree } from "../versions/version-tree.ts";
import { SNAPSHOTS_DIRECTORY, SNAPSHOTS_NAME, VERSIONS_DIRECTORY, VERSIONS_NAME, isBelowVersions } from "./numbers.ts";
import { refuse } from "./read-only-operations.ts";
import type { SnapshotForest } from "./snapshot-forest.ts";

/** How a virtual directory shows at the root: `hidden` can be reached by name but is not listed. */
export type VirtualShown = "listed" | "hidden" | "none";

/** What is at the root besides live entries. */
export interface VirtualDirectories {
  readonly forest: SnapshotForest;
  readonly snapshotsShown: VirtualShown;
  readonly versions: VersionTree;
  readonly versionsShown: VirtualShown;
}

/** Follow all entries of the root. */
const LAST_COOKIE = 2n ** 63n - 1n;
const DT_DIR = 4;

interface Place {
  readonly parent: InodeNumber;
  readonly name: Name;
}

export class RoutedOperations implements FileSystemOperations {
  readonly #live: FileSystemOperations;
  readonly #forest: SnapshotForest;
  readonly #versions: VersionTree;
  readonly #shown: ReadonlyMap<Name, VirtualShown>;
  /** Live requests that wait for something. */
  #waiting = 0;
  #onIdle: (() => void) | undefined;
  /** Opens when live requests may go on. */
  #gate: Promise<void> | undefined;

  constructor(live: FileSystemOperations, virtual: VirtualDirectories) {
    this.#live = live;
    this.#forest = virtual.forest;
    this.#versions = virtual.versions;
    this.#shown = new Map([
      [SNAPSHOTS_NAME, virtual.snapshotsShown],
      [VERSIONS_NAME, virtual.versionsShown],
    ]);
  }

  /** What answers for a number that is no live one. */
  #below(ino: InodeNumber): SnapshotForest | VersionTree {
    return isBelowVersions(ino) ? this.#versions : this.#forest;
  }

  /** Whether this may be one of the virtual directories. */
  #isShown(parent: InodeNumber, name: Name): boolean {
    return parent === ROOT_INODE && (this.#shown.get(name) ?? "none") !== "none";
  }

  #virtual(name: Name): Attributes {
    return name === VERSIONS_NAME ? this.#versions.attributes : this.#forest.attributes;
  }

  get unready(): Promise<void> | undefined {
    return this.#live.unready;
  }

  /**
   * Hold live requests back, and call `action` once none is under way.
   * @throws whatever it throws; requests go on in any case.
   */
  async whileHeld<T>(action: () => Promise<T>): Promise<T> {
    while (this.#gate !== undefined) await this.#gate;
    let open = (): void => undefined;
    this.#gate = new Promise((resolve) => {
      open = resolve;
    });
    try {
      while (this.#waiting > 0) {
        await new Promise<void>((resolve) => {
          this.#onIdle = resolve;
        });
      }
      return await action();
    } finally {
      this.#gate = undefined;
      open();
    }
  }

  /** For whoever reads what is live without being the kernel: held back like live requests, and waited for like them. */
  async whileStill<T>(read: () => Promise<T>): Promise<T> {
    return this.#run(read);
  }

  /** Run a live request now, or once the gate is open. */
  #run<T>(request: () => MaybePromise<T>): MaybePromise<T> {
    if (this.#gate !== undefined) return this.#gate.then(() => this.#run(request));
    return this.#watched(request());
  }

  #watched<T>(result: MaybePromise<T>): MaybePromise<T> {
    if (!isPromise(result)) return result;
    this.#waiting++;
    const settled = (): void => {
      if (--this.#waiting > 0) return;
      this.#onIdle?.();
      this.#onIdle = undefined;
    };
    result.then(settled, settled);
    return result;
  }

  lookup(parent: InodeNumber, name: Name): MaybePromise<Attributes | undefined> {
    if (parent < INODE_NUMBER_LIMIT) {
      const isVirtual = this.#isShown(parent, name);
      return this.#run(() => {
        // A real entry of that name comes first: nothing that a user has is hidden.
        const found = this.#live.lookup(parent, name);
        return isVirtual && found === undefined ? this.#virtual(name) : found;
      });
    }
    const isTop = parent === SNAPSHOTS_DIRECTORY || parent === VERSIONS_DIRECTORY;
    if (isTop && name === "..") return this.#run(() => this.#live.lookup(ROOT_INODE, name));
    return this.#below(parent).lookup(parent, name);
  }

  forget(ino: InodeNumber, count: number): void {
    if (isBelowVersions(ino)) this.#versions.forget(ino, count);
    if (ino >= INODE_NUMBER_LIMIT) return;
    if (this.#gate === undefined) this.#live.forget(ino, count);
    else void this.#gate.then(() => this.forget(ino, count));
  }

  getAttributes(ino: InodeNumber): MaybePromise<Attributes> {
    if (ino >= INODE_NUMBER_LIMIT) return this.#below(ino).getAttributes(ino);
    return this.#gate === undefined ? this.#live.getAttributes(ino) : this.#run(() => this.#live.getAttributes(ino));
  }

  setAttributes(ino: InodeNumber, changes: AttributeChanges, caller: Caller): MaybePromise<Attributes> {
    return this.#change(ino, () => this.#live.setAttributes(ino, changes, caller));
  }

  readSymlink(ino: InodeNumber): MaybePromise<Uint8Array> {
    return ino >= INODE_NUMBER_LIMIT ? this.#below(ino).readSymlink(ino) : this.#run(() => this.#live.readSymlink(ino));
  }

  makeNode(parent: InodeNumber, name: Name, request: NodeRequest, caller: Caller): MaybePromise<Attributes> {
    return this.#make({ parent, name }, () => this.#live.makeNode(parent, name, request, caller));
  }

  makeDirectory(parent: InodeNumber, name: Name, request: NodeRequest, caller: Caller): MaybePromise<Attributes> {
    return this.#make({ parent, name }, () => this.#live.makeDirectory(parent, name, request, caller));
  }

  makeSymlink(parent: InodeNumber, name: Name, target: Uint8Array, caller: Caller): MaybePromise<Attributes> {
    const kept = this.#gate === undefined ? target : copyOf(target);
    return this.#make({ parent, name }, () => this.#live.makeSymlink(parent, name, kept, caller));
  }

  link(ino: InodeNumber, newParent: InodeNumber, newName: Name, caller: Caller): MaybePromise<Attributes> {
    if (ino >= INODE_NUMBER_LIMIT && newParent < INODE_NUMBER_LIMIT) throw crossDevice();
    return this.#make({ parent: newParent, name: newName }, () => this.#live.link(ino, newParent, newName, caller));
  }

  makeTemporaryFile(parent: InodeNumber, request: NodeRequest, caller: Caller): MaybePromise<Attributes> {
    return this.#change(parent, () => this.#live.makeTemporaryFile(parent, request, caller));
  }

  unlink(parent: InodeNumber, name: Name, caller: Caller): MaybePromise<void> {
    return this.#change(parent, () => {
      this.#refuseVirtual({ parent, name });
      return this.#live.unlink(parent, name, caller);
    });
  }

  removeDirectory(parent: InodeNumber, name: Name, caller: Caller): MaybePromise<void> {
    return this.#change(parent, () => {
      this.#refuseVirtual({ parent, name });
      return this.#live.removeDirectory(parent, name, caller);
    });
  }

  rename(from: Place, to: Place, flags: RenameFlags, caller: Caller): MaybePromise<void> {
    if (to.parent >= INODE_NUMBER_LIMIT) refuse();
    return this.#change(from.parent, () => {
      this.#refuseVirtual(from);
      this.#refuseVirtual(to);
      return this.#live.rename(from, to, flags, caller);
    });
  }

  read(
    ino: InodeNumber,
    offset: bigint,
    lengthBytes: number,
    caller: Caller,
    options?: ReadOptions,
  ): MaybePromise<BorrowedBytes> {
    if (ino >= INODE_NUMBER_LIMIT) return this.#below(ino).read(ino, offset, lengthBytes);
    if (this.#gate === undefined) return this.#run(() => this.#live.read(ino, offset, lengthBytes, caller, options));
    // Answered later than it is read: requests that waited with it may change the memory before that.
    return this.#run(() =>
      andThen(this.#live.read(ino, offset, lengthBytes, caller, options), (bytes) => lend([copyLoan(bytes)])),
    );
  }

  write(
    ino: InodeNumber,
    offset: bigint,
    data: Uint8Array,
    options: { readonly clearSetId: boolean; readonly sync: boolean },
    caller: Caller,
  ): MaybePromise<number> {
    const kept = this.#gate === undefined ? data : copyOf(data);
    return this.#change(ino, () => this.#live.write(ino, offset, kept, options, caller));
  }

  flush(ino: InodeNumber): MaybePromise<void> {
    return ino >= INODE_NUMBER_LIMIT ? undefined : this.#live.flush(ino);
  }

  sync(ino: InodeNumber, caller: Caller): MaybePromise<void> {
    return ino >= INODE_NUMBER_LIMIT ? undefined : this.#run(() => this.#live.sync(ino, caller));
  }

  syncAll(): MaybePromise<void> {
    return this.#run(() => this.#live.syncAll());
  }

  allocate(ino: InodeNumber, mode: number, offset: bigint, lengthBytes: bigint, caller: Caller): MaybePromise<void> {
    return this.#change(ino, () => this.#live.allocate(ino, mode, offset, lengthBytes, caller));
  }

  seek(ino: InodeNumber, offset: bigint, whence: "data" | "hole"): MaybePromise<bigint> {
    if (ino >= INODE_NUMBER_LIMIT) return this.#below(ino).seek(ino, offset, whence);
    return this.#run(() => this.#live.seek(ino, offset, whence));
  }

  copyRange(
    from: { readonly ino: InodeNumber; readonly offset: bigint },
    to: { readonly ino: InodeNumber; readonly offset: bigint },
    lengthBytes: bigint,
    caller: Caller,
  ): MaybePromise<bigint> {
    // The kernel then reads and writes, and deduplication shares the chunks.
    if (from.ino >= INODE_NUMBER_LIMIT && to.ino < INODE_NUMBER_LIMIT) throw crossDevice();
    return this.#change(to.ino, () => this.#live.copyRange(from, to, lengthBytes, caller));
  }

  readDirectory(
    ino: InodeNumber,
    cookie: bigint,
    withAttributes: boolean,
    take: (entry: DirectoryEntry, attributes: Attributes | undefined) => boolean,
    options?: ReadOptions,
  ): MaybePromise<void> {
    if (ino >= INODE_NUMBER_LIMIT) return this.#below(ino).readDirectory(ino, cookie, withAttributes, take);
    return this.#run(() => {
      if (ino === ROOT_INODE && [...this.#shown.values()].includes("listed"))
        return this.#readRoot(cookie, withAttributes, take, options);
      return this.#live.readDirectory(ino, cookie, withAttributes, take, options);
    });
  }

  /** The root with the virtual directories after all that is really there. */
  #readRoot(
    cookie: bigint,
    withAttributes: boolean,
    take: (entry: DirectoryEntry, attributes: Attributes | undefined) => boolean,
    options: ReadOptions | undefined,
  ): MaybePromise<void> {
    const listed = [...this.#shown].filter(([, shown]) => shown === "listed").map(([name]) => name);
    const cookieOf = (index: number): bigint => LAST_COOKIE - BigInt(listed.length - 1 - index);
    let isFull = false;
    const finish = (): void => {
      for (const [index, name] of listed.entries()) {
        if (isFull || cookie >= cookieOf(index) || !this.#isVirtual({ parent: ROOT_INODE, name })) continue;
        const attributes = this.#virtual(name);
        const entry = { name, ino: attributes.ino, type: DT_DIR, cookie: cookieOf(index) };
        isFull = !take(entry, withAttributes && attributes.isVolatile !== true ? attributes : undefined);
      }
    };
    if (cookie >= cookieOf(0)) {
      finish();
      return undefined;
    }
    const takeReal = (entry: DirectoryEntry, attributes: Attributes | undefined): boolean => {
      isFull = !take(entry, attributes);
      return !isFull;
    };
    const done = this.#live.readDirectory(ROOT_INODE, cookie, withAttributes, takeReal, options);
    return andThen(done, finish);
  }

  getXattr(ino: InodeNumber, name: Name): MaybePromise<Uint8Array | undefined> {
    return ino >= INODE_NUMBER_LIMIT
      ? this.#below(ino).getXattr(ino, name)
      : this.#run(() => this.#live.getXattr(ino, name));
  }

  setXattr(ino: InodeNumber, name: Name, value: Uint8Array, flags: XattrFlags, caller: Caller): MaybePromise<void> {
    const kept = this.#gate === undefined ? value : copyOf(value);
    return this.#change(ino, () => this.#live.setXattr(ino, name, kept, flags, caller));
  }

  listXattrs(ino: InodeNumber, caller: Caller): MaybePromise<readonly Name[]> {
    if (ino >= INODE_NUMBER_LIMIT) return this.#below(ino).listXattrs(ino, caller);
    return this.#run(() => this.#live.listXattrs(ino, caller));
  }

  removeXattr(ino: InodeNumber, name: Name, caller: Caller): MaybePromise<void> {
    return this.#change(ino, () => this.#live.removeXattr(ino, name, caller));
  }

  statistics(): MaybePromise<FileSystemStatistics> {
    return this.#live.statistics();
  }

  #change<T>(ino: InodeNumber, request: () => MaybePromise<T>): MaybePromise<T> {
    return ino >= INODE_NUMBER_LIMIT ? refuse() : this.#run(request);
  }

  #make(place: Place, request: () => MaybePromise<Attributes>): MaybePromise<Attributes> {
    return this.#change(place.parent, () => {
      if (this.#isVirtual(place)) throw new TcfsError("TCFS_EXISTS", "a virtual directory has this name");
      return request();
    });
  }

  #refuseVirtual(place: Place): void {
    if (this.#isVirtual(place)) throw new TcfsError("TCFS_NOT_PERMITTED", "a virtual directory stays");
  }

  /** Whether this is a virtual directory and no real entry stands in its place. */
  #isVirtual({ parent, name }: Place): boolean {
    if (!this.#isShown(parent, name)) return false;
    const found = this.#live.lookup(parent, name);
    if (found === undefined || isPromise(found)) return true;
    this.#live.forget(found.ino, 1);
    return false;
  }
}

function crossDevice(): TcfsError {
  return new TcfsError("TCFS_CROSS_DEVICE", "a snapshot shares nothing with what can be changed");
}
