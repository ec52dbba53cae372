/**
 * The virtual directory `.versions`: the tree's directories, those that were removed too, with the versions of their
 * files in them as `NAME@TIME`. Read-only. The kernel keeps nothing of its names: it asks each time.
 */
import { LRUCache } from "lru-cache";
import type { BorrowedBytes } from "../../borrowed-bytes.ts";
import type { ChunkStore } from "../../chunkstore/chunk-store.ts";
import { TcfsError } from "../../errors.ts";
import type { DirectoryEntryRecord, InodeRecord } from "../../format/records.ts";
import type { VersionRecord } from "../../format/version-codec.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../ids.ts";
import type { MaybePromise } from "../../maybe-promise.ts";
import type { MetadataStore } from "../../metadata/metadata-store.ts";
import { Contents } from "../contents.ts";
import { readEntries } from "../directory-reader.ts";
import { FileTable } from "../file-table.ts";
import { attributesOf, requireRegular } from "../inodes.ts";
import { S_IFDIR, typeOf } from "../mode.ts";
import type { Attributes, Caller, DirectoryEntry, FileSystemOperations, FileSystemStatistics } from "../operations.ts";
import { ReadAhead } from "../read-ahead.ts";
import {
  VERSIONS_DIRECTORY,
  isVersionNumber,
  versionDirectory,
  versionFile,
  withinVersions,
} from "../snapshots/numbers.ts";
import { ReadOnlyOperations } from "../snapshots/read-only-operations.ts";
import type { VersionManager } from "./version-manager.ts";

/** Listings kept for the requests that go on with them, in entries. */
const LISTING_ENTRIES = 64 * 1024;
/** Cookies of "." and ".." are below; those of directories' versions before those of files. */
const FIRST_COOKIE = 3n;
const FILE_COOKIE = 2n ** 41n;
/** Hard links to one file in one directory that have cookies of their own. */
const LINKS = 1024n;
const READ_ONLY = 0o555;

export interface VersionTreeOptions {
  readonly metadata: MetadataStore;
  readonly chunks: ChunkStore;
  readonly manager: VersionManager;
  readonly statistics: () => MaybePromise<FileSystemStatistics>;
}

interface KnownFile {
  readonly record: VersionRecord;
  /** As of the version, under its number. */
  readonly inode: InodeRecord;
  references: number;
}

export class VersionTree extends ReadOnlyOperations implements FileSystemOperations {
  readonly #options: VersionTreeOptions;
  readonly #contents: Contents;
  readonly #readAhead: ReadAhead;
  /** Versions that the kernel knows, by their number in the mount. */
  readonly #files = new Map<InodeNumber, KnownFile>();
  /** Removed directories that were come upon, by their inodes. */
  readonly #removed = new LRUCache<InodeNumber, VersionRecord>({ max: LISTING_ENTRIES });
  readonly #listings = new LRUCache<InodeNumber, readonly DirectoryEntryRecord[]>({
    maxSize: LISTING_ENTRIES,
    sizeCalculation: (listing) => listing.length + 1,
  });

  constructor(options: VersionTreeOptions) {
    super();
    this.#options = options;
    const { versions, volume } = options.metadata;
    const metadata = {
      volume,
      getInode: (ino: InodeNumber) => this.#files.get(ino)?.inode,
      putInode: () => {
        throw new RangeError("a version is never changed");
      },
      getExtentPage: (ino: InodeNumber, page: number) => versions.page(this.#file(ino).record, page),
      extentPages: (ino: InodeNumber, from: number, to: number) => versions.pages(this.#file(ino).record, from, to),
    };
    const files = new FileTable(metadata);
    this.#contents = new Contents({ files, metadata, chunks: options.chunks, onSealed: () => undefined });
    this.#readAhead = new ReadAhead(this.#contents);
  }

  get unready(): Promise<void> | undefined {
    return this.#options.metadata.reopening;
  }

  /** The virtual directory's own attributes. */
  get attributes(): Attributes {
    return this.getAttributes(VERSIONS_DIRECTORY);
  }

  /** @throws TcfsError `TCFS_STALE` */
  #file(ino: InodeNumber): KnownFile {
    const file = this.#files.get(ino);
    if (file === undefined) throw new TcfsError("TCFS_STALE", "the version is not known any more");
    return file;
  }

  /** A living directory, or one that was removed. @throws TcfsError `TCFS_NOT_DIRECTORY`, `TCFS_STALE` */
  #directory(ino: InodeNumber): { readonly inode: InodeRecord; readonly parent: InodeNumber } {
    if (isVersionNumber(ino)) throw new TcfsError("TCFS_NOT_DIRECTORY", "a version of a file");
    const within = withinVersions(ino);
    const removed = this.#removed.get(within);
    const inode = this.#options.metadata.getInode(within) ?? removed?.inode;
    if (inode === undefined) throw new TcfsError("TCFS_STALE", "the directory is not known any more");
    const parent = (inode.linkCount > 0 ? inode.parent : removed?.directory) ?? ROOT_INODE;
    return { inode, parent: parent === 0 ? ROOT_INODE : parent };
  }

  getAttributes(ino: InodeNumber): Attributes {
    if (isVersionNumber(ino)) return this.#attributesOfFile(this.#file(ino));
    const { committedAt } = this.#options.metadata.volume;
    const { inode } = this.#directory(ino);
    // Another time after each commit: so the kernel reads a listing anew that it has kept.
    const times = { modifyTime: committedAt, changeTime: committedAt };
    const mode = S_IFDIR | (inode.mode & READ_ONLY);
    return { ...attributesOf(inode), ino, mode, linkCount: 2, ...times, isVolatile: true };
  }

  #attributesOfFile({ inode }: KnownFile): Attributes {
    return { ...attributesOf(inode), linkCount: 1, isVolatile: true };
  }

  async lookup(parent: InodeNumber, name: Name): Promise<Attributes | undefined> {
    const { metadata, manager } = this.#options;
    if (name === ".") return this.getAttributes(parent);
    const directory = this.#directory(parent);
    if (name === "..") return this.getAttributes(versionDirectory(directory.parent));
    await manager.commit();
    const within = withinVersions(parent);
    const below = await manager.subdirectory(within, name);
    if (below !== undefined) {
      if (below.removed !== undefined) this.#removed.set(below.ino, below.removed);
      return this.getAttributes(versionDirectory(below.ino));
    }
    const cut = name.lastIndexOf("@");
    const versions = cut <= 0 ? [] : await manager.labelledAt(within, name.slice(0, cut) as Name);
    const found = versions.find(({ label }) => label === name.slice(cut + 1));
    // Not an entry that the kernel may remember as missing: what is not there yet may come.
    if (found === undefined) throw new TcfsError("TCFS_NO_ENTRY", `no such version in directory ${within}`);
    return this.#attributesOfFile(this.#reference(found.record, metadata.volume.nextInode));
  }

  #reference(record: VersionRecord, nextInode: number): KnownFile {
    if (record.version >= nextInode) throw new RangeError("a version from the future");
    const ino = versionFile(record.version);
    const known = this.#files.get(ino) ?? { record, inode: { ...record.inode, ino }, references: 0 };
    known.references++;
    this.#files.set(ino, known);
    return known;
  }

  override forget(ino?: InodeNumber, count = 0): void {
    const file = ino === undefined ? undefined : this.#files.get(ino);
    if (file === undefined || ino === undefined) return;
    file.references -= count;
    this.#readAhead.forget(ino);
    if (file.references <= 0) this.#files.delete(ino);
  }

  readSymlink(ino: InodeNumber): Uint8Array {
    const target = this.#file(ino).inode.symlinkTarget;
    if (target === undefined) throw new TcfsError("TCFS_INVALID", "not a symlink");
    return target;
  }

  read(ino: InodeNumber, offset: bigint, lengthBytes: number): MaybePromise<BorrowedBytes> {
    if (!isVersionNumber(ino)) throw new TcfsError("TCFS_IS_DIRECTORY", "a directory of versions");
    const inode = requireRegular(this.#file(ino).inode);
    const result = this.#contents.read(inode, offset, lengthBytes);
    this.#readAhead.note(inode, offset, lengthBytes);
    return result;
  }

  seek(ino: InodeNumber, offset: bigint, whence: "data" | "hole"): Promise<bigint> {
    return this.#contents.seek(requireRegular(this.#file(ino).inode), offset, whence);
  }

  async readDirectory(
    ino: InodeNumber,
    cookie: bigint,
    _withAttributes: boolean,
    take: (entry: DirectoryEntry, attributes: Attributes | undefined) => boolean,
  ): Promise<void> {
    const parent = versionDirectory(this.#directory(ino).parent);
    let entries = cookie === 0n ? undefined : this.#listings.get(ino);
    if (entries === undefined) {
      entries = await this.#list(withinVersions(ino));
      this.#listings.set(ino, entries);
    }
    const self = ino;
    readEntries(entries, {
      self,
      parent: ino === VERSIONS_DIRECTORY ? ROOT_INODE : parent,
      cookie,
      attributes: none,
      take,
    });
  }

  async #list(directory: InodeNumber): Promise<DirectoryEntryRecord[]> {
    const { manager } = this.#options;
    await manager.commit();
    const entries: DirectoryEntryRecord[] = [];
    for (const { name, ino, removed } of await manager.subdirectories(directory)) {
      if (removed !== undefined) this.#removed.set(ino, removed);
      const cookie = FIRST_COOKIE + BigInt(ino);
      entries.push({ name, ino: versionDirectory(ino), type: typeOf(S_IFDIR), cookie });
    }
    const links = new Map<number, bigint>();
    for (const { name, label, record } of await manager.versionsIn(directory)) {
      const link = links.get(record.version) ?? 0n;
      links.set(record.version, link + 1n);
      const cookie = FILE_COOKIE + BigInt(record.version) * LINKS + link;
      const entry = { name: `${name}@${label}` as Name, ino: versionFile(record.version) };
      entries.push({ ...entry, type: typeOf(record.inode.mode), cookie });
    }
    return entries.sort((left, right) => (left.cookie < right.cookie ? -1 : 1));
  }

  getXattr(ino: InodeNumber, name: Name): Uint8Array | undefined {
    return isVersionNumber(ino) ? this.#file(ino).record.xattrs.get(name) : undefined;
  }

  listXattrs(ino: InodeNumber, caller: Caller): readonly Name[] {
    const names = isVersionNumber(ino) ? [...this.#file(ino).record.xattrs.keys()] : [];
    return caller.uid === 0 ? names : names.filter((name) => !name.startsWith("trusted."));
  }

  statistics(): MaybePromise<FileSystemStatistics> {
    return this.#options.statistics();
  }
}

function none(): undefined {
  return undefined;
}
