/** One snapshot, or the tree of a time, as a filesystem of its own, on the inode numbers that it had. Costs nothing until it is read. */
import type { BorrowedBytes } from "../../borrowed-bytes.ts";
import type { ChunkStore } from "../../chunkstore/chunk-store.ts";
import { TcfsError } from "../../errors.ts";
import type { DirectoryEntryRecord, InodeRecord, VolumeRecord } from "../../format/records.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../ids.ts";
import type { MaybePromise } from "../../maybe-promise.ts";
import type { MetadataView } from "../../metadata/snapshot-store.ts";
import { Contents } from "../contents.ts";
import { readEntries } from "../directory-reader.ts";
import { FileTable } from "../file-table.ts";
import { attributesOf, requireRegular } from "../inodes.ts";
import { MAX_NAME_BYTES } from "../limits.ts";
import { isDirectoryMode } from "../mode.ts";
import type { Attributes, Caller, DirectoryEntry, FileSystemOperations, FileSystemStatistics } from "../operations.ts";
import { ReadAhead } from "../read-ahead.ts";
import { ReadOnlyOperations } from "./read-only-operations.ts";

/** Listings that were read lately, for the requests that go on with them; shared by all snapshots. */
export interface ListingCache {
  get(key: string): readonly DirectoryEntryRecord[] | undefined;
  set(key: string, listing: readonly DirectoryEntryRecord[]): unknown;
  delete(key: string): unknown;
}

export interface SnapshotTreeOptions {
  /** Tells its listings from those of others. */
  readonly key: string;
  readonly inodeCount: number;
  readonly view: MetadataView;
  readonly chunks: ChunkStore;
  readonly listings: ListingCache;
  /** The volume's: its disk is the snapshot's too. */
  readonly volume: VolumeRecord;
  readonly statistics: () => MaybePromise<FileSystemStatistics>;
  /** The volume's {@link FileSystemOperations.unready}. */
  readonly unready: () => Promise<void> | undefined;
}

export class SnapshotTree extends ReadOnlyOperations implements FileSystemOperations {
  readonly #view: MetadataView;
  readonly #options: SnapshotTreeOptions;
  readonly #contents: Contents;
  readonly #readAhead: ReadAhead;

  constructor(options: SnapshotTreeOptions) {
    super();
    const { view, chunks, volume } = options;
    this.#view = view;
    this.#options = options;
    const metadata = {
      volume,
      getInode: view.getInode.bind(view),
      putInode: () => {
        throw new RangeError("a snapshot is never changed");
      },
      getExtentPage: view.getExtentPage.bind(view),
      extentPages: view.extentPages.bind(view),
    };
    this.#contents = new Contents({ files: new FileTable(view), metadata, chunks, onSealed: () => undefined });
    this.#readAhead = new ReadAhead(this.#contents);
  }

  get unready(): Promise<void> | undefined {
    return this.#options.unready();
  }

  #inode(ino: InodeNumber): InodeRecord {
    const inode = this.#view.getInode(ino);
    if (inode === undefined) throw new TcfsError("TCFS_STALE", `inode ${ino} is not in the snapshot`);
    return inode;
  }

  #directory(ino: InodeNumber): InodeRecord {
    const inode = this.#inode(ino);
    if (!isDirectoryMode(inode.mode)) throw new TcfsError("TCFS_NOT_DIRECTORY", `inode ${ino} is not a directory`);
    return inode;
  }

  #regular(ino: InodeNumber): InodeRecord {
    return requireRegular(this.#inode(ino));
  }

  lookup(parent: InodeNumber, name: Name): Attributes | undefined {
    const directory = this.#directory(parent);
    if (name === ".") return attributesOf(directory);
    if (name === "..") return attributesOf(this.#inode(parentOf(directory)));
    if (name.length > MAX_NAME_BYTES) throw new TcfsError("TCFS_NAME_TOO_LONG", "name longer than 255 bytes");
    const dentry = this.#view.getDentry(parent, name);
    return dentry === undefined ? undefined : attributesOf(this.#inode(dentry.ino));
  }

  getAttributes(ino: InodeNumber): Attributes {
    return attributesOf(this.#inode(ino));
  }

  readSymlink(ino: InodeNumber): Uint8Array {
    const target = this.#inode(ino).symlinkTarget;
    if (target === undefined) throw new TcfsError("TCFS_INVALID", "not a symlink");
    return target;
  }

  read(ino: InodeNumber, offset: bigint, lengthBytes: number): MaybePromise<BorrowedBytes> {
    const inode = this.#regular(ino);
    const result = this.#contents.read(inode, offset, lengthBytes);
    this.#readAhead.note(inode, offset, lengthBytes);
    return result;
  }

  seek(ino: InodeNumber, offset: bigint, whence: "data" | "hole"): Promise<bigint> {
    return this.#contents.seek(this.#regular(ino), offset, whence);
  }

  readDirectory(
    ino: InodeNumber,
    cookie: bigint,
    withAttributes: boolean,
    take: (entry: DirectoryEntry, attributes: Attributes | undefined) => boolean,
  ): MaybePromise<void> {
    const directory = this.#directory(ino);
    const attributes = (child: InodeNumber): Attributes | undefined => {
      const inode = withAttributes ? this.#view.getInode(child) : undefined;
      return inode === undefined ? undefined : attributesOf(inode);
    };
    const options = { self: ino, parent: parentOf(directory), cookie, attributes, take };
    const key = this.#listingKey(ino);
    const known = directory.linkCount === 0 ? [] : this.#options.listings.get(key);
    if (known !== undefined) {
      readEntries(known, options);
      return;
    }
    return this.#view.listDirectory(ino).then((listing) => {
      this.#options.listings.set(key, listing);
      readEntries(listing, options);
    });
  }

  /** Of a tree that is not frozen: the next reader from the start sees a directory as it is then. */
  forgetListing(ino: InodeNumber): void {
    this.#options.listings.delete(this.#listingKey(ino));
  }

  #listingKey(ino: InodeNumber): string {
    return `${this.#options.key}/${ino}`;
  }

  getXattr(ino: InodeNumber, name: Name): Uint8Array | undefined {
    return this.#inode(ino).hasXattrs ? this.#view.getXattrs(ino).get(name) : undefined;
  }

  listXattrs(ino: InodeNumber, caller: Caller): readonly Name[] {
    const names = this.#inode(ino).hasXattrs ? [...this.#view.getXattrs(ino).keys()] : [];
    return caller.uid === 0 ? names : names.filter((name) => !name.startsWith("trusted."));
  }

  async statistics(): Promise<FileSystemStatistics> {
    const { space } = await this.#options.statistics();
    return { space, inodeCount: this.#options.inodeCount };
  }
}

function parentOf(directory: InodeRecord): InodeNumber {
  return directory.parent === 0 ? ROOT_INODE : directory.parent;
}
