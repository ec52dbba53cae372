/** The virtual directory `.snapshots` and all that is below it, on numbers of the mount. */
import type { BorrowedBytes } from "../../borrowed-bytes.ts";
import { LRUCache } from "lru-cache";
import type { ChunkStore } from "../../chunkstore/chunk-store.ts";
import { TcfsError } from "../../errors.ts";
import type { DirectoryEntryRecord } from "../../format/records.ts";
import type { SnapshotRecord } from "../../format/snapshot-codec.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../ids.ts";
import type { MaybePromise } from "../../maybe-promise.ts";
import type { MetadataStore } from "../../metadata/metadata-store.ts";
import type { MetadataView } from "../../metadata/snapshot-store.ts";
import { readEntries } from "../directory-reader.ts";
import { S_IFDIR, typeOf } from "../mode.ts";
import type { Attributes, Caller, DirectoryEntry, FileSystemOperations, FileSystemStatistics } from "../operations.ts";
import { SNAPSHOTS_DIRECTORY, entryName, numberOutside, numberWithin, slotOf } from "./numbers.ts";
import { ReadOnlyOperations } from "./read-only-operations.ts";
import { SnapshotTree, type SnapshotTreeOptions } from "./snapshot-tree.ts";

/** Entries of listings kept for the requests that go on with them: some 30 MB at most. */
const LISTING_ENTRIES = 128 * 1024;
const MODE = S_IFDIR | 0o555;
/** Cookies of "." and ".." are below. */
const FIRST_COOKIE = 3n;

export interface SnapshotForestOptions {
  readonly metadata: MetadataStore;
  readonly chunks: ChunkStore;
  readonly statistics: () => MaybePromise<FileSystemStatistics>;
}

export class SnapshotForest extends ReadOnlyOperations implements FileSystemOperations {
  readonly #options: SnapshotForestOptions;
  readonly #trees = new Map<number, SnapshotTree>();
  readonly #listings = new LRUCache<string, readonly DirectoryEntryRecord[]>({
    maxSize: LISTING_ENTRIES,
    sizeCalculation: (listing) => listing.length + 1,
  });

  constructor(options: SnapshotForestOptions) {
    super();
    this.#options = options;
  }

  get unready(): Promise<void> | undefined {
    return this.#options.metadata.reopening;
  }

  /** A snapshot as a filesystem of its own. */
  tree(snapshot: SnapshotRecord): SnapshotTree {
    let tree = this.#trees.get(snapshot.slot);
    if (tree === undefined) {
      const { inodeCount, epoch } = snapshot;
      tree = this.treeOf(this.#options.metadata.snapshots.view(snapshot), { inodeCount, key: String(epoch) });
      this.#trees.set(snapshot.slot, tree);
    }
    return tree;
  }

  /** A view as a filesystem of its own, which is not shown here. */
  treeOf(view: MetadataView, about: Pick<SnapshotTreeOptions, "key" | "inodeCount">): SnapshotTree {
    const { metadata, chunks, statistics } = this.#options;
    const unready = (): Promise<void> | undefined => metadata.reopening;
    const listings = this.#listings;
    return new SnapshotTree({ ...about, view, chunks, volume: metadata.volume, statistics, listings, unready });
  }

  /** A snapshot was forgotten: its inodes are stale from now on. */
  drop({ slot }: SnapshotRecord): void {
    this.#trees.delete(slot);
  }

  /** @throws TcfsError `TCFS_STALE` if the snapshot is gone. */
  #treeOf(ino: InodeNumber): SnapshotTree {
    const slot = slotOf(ino);
    const known = this.#trees.get(slot);
    if (known !== undefined) return known;
    const snapshot = this.#options.metadata.snapshots.list().find((candidate) => candidate.slot === slot);
    if (snapshot === undefined) throw new TcfsError("TCFS_STALE", "the snapshot was forgotten");
    return this.tree(snapshot);
  }

  /** The virtual directory's own attributes. */
  get attributes(): Attributes {
    const { metadata } = this.#options;
    const snapshots = metadata.snapshots.list();
    const root = metadata.getInode(ROOT_INODE);
    const birthTime = root?.birthTime ?? metadata.volume.committedAt;
    const time = snapshots.at(-1)?.takenAt ?? birthTime;
    return {
      ino: SNAPSHOTS_DIRECTORY,
      mode: MODE,
      uid: root?.uid ?? 0,
      gid: root?.gid ?? 0,
      linkCount: 2 + snapshots.length,
      deviceNumber: 0,
      lengthBytes: BigInt(snapshots.length),
      allocatedBytes: 0n,
      accessTime: time,
      modifyTime: time,
      changeTime: time,
      birthTime,
    };
  }

  #rootOf(snapshot: SnapshotRecord): Attributes {
    const attributes = this.tree(snapshot).getAttributes(ROOT_INODE);
    return { ...attributes, ino: numberOutside(snapshot.slot, ROOT_INODE) };
  }

  lookup(parent: InodeNumber, name: Name): Attributes | undefined {
    if (parent === SNAPSHOTS_DIRECTORY) return this.#lookupSnapshot(name);
    if (name === ".." && numberWithin(parent) === ROOT_INODE) {
      this.#treeOf(parent);
      return this.attributes;
    }
    return outside(parent, this.#treeOf(parent).lookup(numberWithin(parent), name));
  }

  #lookupSnapshot(name: Name): Attributes | undefined {
    if (name === ".") return this.attributes;
    const { metadata } = this.#options;
    if (name === "..") throw new TcfsError("TCFS_STALE", "the root is elsewhere"); // the router knows
    const snapshot = metadata.snapshots.list().find((candidate) => entryName(candidate.name) === name);
    return snapshot === undefined ? undefined : this.#rootOf(snapshot);
  }

  getAttributes(ino: InodeNumber): Attributes {
    if (ino === SNAPSHOTS_DIRECTORY) return this.attributes;
    return outside(ino, this.#treeOf(ino).getAttributes(numberWithin(ino)));
  }

  readSymlink(ino: InodeNumber): Uint8Array {
    return this.#treeOf(ino).readSymlink(numberWithin(ino));
  }

  read(ino: InodeNumber, offset: bigint, lengthBytes: number): MaybePromise<BorrowedBytes> {
    if (ino === SNAPSHOTS_DIRECTORY) throw new TcfsError("TCFS_IS_DIRECTORY", "the directory of snapshots");
    return this.#treeOf(ino).read(numberWithin(ino), offset, lengthBytes);
  }

  seek(ino: InodeNumber, offset: bigint, whence: "data" | "hole"): Promise<bigint> {
    return this.#treeOf(ino).seek(numberWithin(ino), offset, whence);
  }

  readDirectory(
    ino: InodeNumber,
    cookie: bigint,
    withAttributes: boolean,
    take: (entry: DirectoryEntry, attributes: Attributes | undefined) => boolean,
  ): MaybePromise<void> {
    if (ino === SNAPSHOTS_DIRECTORY) {
      this.#readSnapshots(cookie, withAttributes, take);
      return;
    }
    const slot = slotOf(ino);
    return this.#treeOf(ino).readDirectory(numberWithin(ino), cookie, withAttributes, (entry, attributes) => {
      const isAboveRoot = entry.name === ".." && numberWithin(ino) === ROOT_INODE;
      const number = isAboveRoot ? SNAPSHOTS_DIRECTORY : numberOutside(slot, entry.ino);
      return take({ ...entry, ino: number }, attributes && { ...attributes, ino: number });
    });
  }

  #readSnapshots(
    cookie: bigint,
    withAttributes: boolean,
    take: (entry: DirectoryEntry, attributes: Attributes | undefined) => boolean,
  ): void {
    const snapshots = this.#options.metadata.snapshots.list();
    const entries = snapshots.map((snapshot) => ({
      name: entryName(snapshot.name),
      ino: numberOutside(snapshot.slot, ROOT_INODE),
      type: typeOf(MODE),
      cookie: BigInt(snapshot.epoch) + FIRST_COOKIE,
    }));
    readEntries(entries, {
      self: SNAPSHOTS_DIRECTORY,
      parent: ROOT_INODE,
      cookie,
      attributes: (child) => (withAttributes ? this.getAttributes(child) : undefined),
      take,
    });
  }

  getXattr(ino: InodeNumber, name: Name): Uint8Array | undefined {
    return ino === SNAPSHOTS_DIRECTORY ? undefined : this.#treeOf(ino).getXattr(numberWithin(ino), name);
  }

  listXattrs(ino: InodeNumber, caller: Caller): readonly Name[] {
    return ino === SNAPSHOTS_DIRECTORY ? [] : this.#treeOf(ino).listXattrs(numberWithin(ino), caller);
  }

  statistics(): MaybePromise<FileSystemStatistics> {
    return this.#options.statistics();
  }
}

/** The same attributes under the number that the mount shows, in the same snapshot as `beside`. */
function outside<T extends Attributes | undefined>(beside: InodeNumber, attributes: T): T {
  return attributes === undefined ? attributes : { ...attributes, ino: numberOutside(slotOf(beside), attributes.ino) };
}
