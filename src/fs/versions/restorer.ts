/** Brings versions back as files of their own: built nameless, then named in one step. Chunks are shared, no bytes copied. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { TcfsError } from "../../errors.ts";
import type { VersionRecord } from "../../format/version-codec.ts";
import { EXTENT_PAGE_BYTES, type ExtentPage, type InodeRecord } from "../../format/records.ts";
import { isZeroChunk } from "../../format/zero-chunk.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../ids.ts";
import type { MetadataStore } from "../../metadata/metadata-store.ts";
import { endPageOf } from "../contents.ts";
import { MAX_WAITING_RECORDS } from "../limits.ts";
import { S_IFDIR, isDirectoryMode, isRegularMode } from "../mode.ts";
import type { Caller } from "../operations.ts";
import type { KernelCaches } from "../snapshots/kernel-caches.ts";
import { quote } from "../snapshots/near-names.ts";
import type { VolumeParts } from "../volume-parts.ts";
import { joinPath } from "./version-paths.ts";

/** Pages that are taken over between two turns of the event loop. */
const PAGES_PER_TURN = 128;
/** What a restored file may take on the disk besides its pages, and a page. */
const FILE_BYTES = 4096;
const PAGE_RECORD_BYTES = 1024;
const NEW_DIRECTORY = { mode: S_IFDIR | 0o755, umask: 0, deviceNumber: 0 };

/** Where a file is to go. */
interface Vacancy {
  readonly parent: InodeNumber;
  readonly name: Name;
  /** For a person. */
  readonly path: string;
  readonly mayReplace: boolean;
}

export class Restorer {
  readonly #parts: VolumeParts;
  readonly #kernel: () => KernelCaches;

  constructor(parts: VolumeParts, kernel: () => KernelCaches) {
    this.#parts = parts;
    this.#kernel = kernel;
  }

  /**
   * @param names - From the root down, the file's own last. Directories that are missing are made.
   * @param mayReplace - Whether a file that is there goes, and becomes a version itself.
   * @param removed - Removed directories by their paths, as they were.
   * @throws TcfsError `TCFS_EXISTS`, `TCFS_IS_DIRECTORY`, `TCFS_NOT_DIRECTORY`, `TCFS_STORE_FULL`
   */
  async restoreFile(
    record: VersionRecord,
    names: readonly Name[],
    mayReplace: boolean,
    removed?: ReadonlyMap<string, VersionRecord>,
  ): Promise<void> {
    const { inodes, namespace, versions, committer } = this.#parts;
    const name = names.at(-1);
    if (name === undefined) throw new TcfsError("TCFS_USAGE", "the root cannot be replaced");
    const directory = await this.directory(names.slice(0, -1), removed);
    const place: Vacancy = { parent: directory, name, path: joinPath(names), mayReplace };
    this.#checkVacant(place);
    const file = await this.#build(record);
    try {
      await versions.settleForGood({ parent: directory, name });
      this.#checkVacant(place);
      versions.insisting(() => {
        namespace.adopt(file.ino, { parent: directory, name });
      });
    } catch (error) {
      inodes.remove(inodes.get(file.ino));
      throw error;
    } finally {
      committer.noteChange();
    }
    await this.#tell(directory, name);
  }

  #checkVacant({ parent, name, path, mayReplace }: Vacancy): void {
    const { metadata, inodes } = this.#parts;
    const present = metadata.getDentry(parent, name);
    if (present === undefined) return;
    if (isDirectoryMode(inodes.get(present.ino).mode)) {
      throw new TcfsError("TCFS_EXISTS", `${quote(path)} is a directory now: --to says where the file goes instead`);
    }
    if (mayReplace) return;
    throw new TcfsError("TCFS_EXISTS", `there is another ${quote(path)} by now: --to says where this one goes instead`);
  }

  /** A nameless inode with all that the version holds: an orphan, which a crash in the middle takes away again. */
  async #build(record: VersionRecord): Promise<InodeRecord> {
    const { metadata, inodes, space, versions } = this.#parts;
    const endPage = isRegularMode(record.inode.mode) ? endPageOf(record.inode.lengthBytes) : 0;
    const pages = await metadata.versions.pages(record, 0, endPage);
    await space.admit(FILE_BYTES + pages.length * PAGE_RECORD_BYTES, false);
    const { mode, uid, gid } = record.inode;
    const made = inodes.make({ mode, uid, gid });
    made.linkCount = 0;
    made.lengthBytes = record.inode.lengthBytes;
    made.symlinkTarget = record.inode.symlinkTarget;
    this.#putMetadata(made, record);
    metadata.addOrphan(made.ino);
    versions.noteMade(made);
    try {
      await this.#takeOver(made.ino, record, pages);
    } catch (error) {
      inodes.remove(inodes.get(made.ino));
      throw error;
    }
    versions.noteClosed(made.ino);
    return inodes.get(made.ino);
  }

  async #takeOver(ino: InodeNumber, record: VersionRecord, pages: readonly number[]): Promise<void> {
    const { metadata, inodes, contents, committer } = this.#parts;
    for (const [index, page] of pages.entries()) {
      const inode = inodes.get(ino);
      contents.adopt(inode, page, storedPage(metadata, record, page));
      metadata.putInode(inode);
      if (index % PAGES_PER_TURN !== PAGES_PER_TURN - 1) continue;
      committer.noteChange();
      if (metadata.dirtyRecordCount >= MAX_WAITING_RECORDS || committer.isOverfull) await committer.commit();
      await nextTurn();
    }
  }

  /** Times, owner, mode and xattrs. Puts the inode. */
  #putMetadata(inode: InodeRecord, { inode: old, xattrs }: VersionRecord): void {
    const { metadata, inodes } = this.#parts;
    const { mode, uid, gid, accessTime, modifyTime, birthTime } = old;
    Object.assign(inode, { mode, uid, gid, accessTime, modifyTime, birthTime, hasXattrs: xattrs.size > 0 });
    if (xattrs.size > 0) metadata.putXattrs(inode.ino, new Map(xattrs));
    inodes.touchChange(inode);
  }

  /**
   * The directory of a path; made where it is missing, with what is known of the one that was there.
   * @throws TcfsError `TCFS_NOT_DIRECTORY`
   */
  async directory(
    names: readonly Name[],
    removed: ReadonlyMap<string, VersionRecord> | undefined,
  ): Promise<InodeNumber> {
    const { metadata, inodes, namespace, committer } = this.#parts;
    let parent = ROOT_INODE;
    for (const [index, name] of names.entries()) {
      const present = metadata.getDentry(parent, name);
      if (present !== undefined) {
        inodes.directory(present.ino);
        parent = present.ino;
        continue;
      }
      const above = inodes.get(parent);
      const caller: Caller = { uid: above.uid, gid: above.gid, pid: 0, onInterrupt: () => undefined };
      const made = namespace.makeDirectory({ parent, name }, NEW_DIRECTORY, caller);
      const known = removed?.get(names.slice(0, index + 1).join("/"));
      if (known !== undefined) {
        this.#putMetadata(made, known);
        metadata.versions.markRestored(known);
      }
      committer.noteChange();
      await this.#tell(parent, name);
      parent = made.ino;
    }
    return parent;
  }

  /** What is at a path now. */
  find(names: readonly Name[]): InodeNumber | undefined {
    let ino: InodeNumber | undefined = ROOT_INODE;
    for (const name of names) ino = ino === undefined ? undefined : this.#parts.metadata.getDentry(ino, name)?.ino;
    return ino;
  }

  /** Give a restored directory the times that it had, once all is in it again. */
  setTimes(names: readonly Name[], { inode: old }: VersionRecord): void {
    const { inodes } = this.#parts;
    const ino = this.find(names);
    if (ino === undefined) return;
    const directory = inodes.get(ino);
    if (!isDirectoryMode(directory.mode)) return;
    directory.modifyTime = old.modifyTime;
    directory.accessTime = old.accessTime;
    inodes.touchChange(directory);
  }

  async #tell(directory: InodeNumber, name: Name): Promise<void> {
    const kernel = this.#kernel();
    await kernel.forgetEntry(directory, name);
    await kernel.forgetInode(directory);
  }
}

/** A page of a version, as its file had it: one that is apart has zeros in the place of a hole. */
export function storedPage(
  { versions }: Pick<MetadataStore, "versions">,
  record: VersionRecord,
  page: number,
): ExtentPage {
  const extents = versions.page(record, page);
  const [first] = extents;
  const isZeros = first !== undefined && first.lengthBytes === EXTENT_PAGE_BYTES && isZeroChunk(first.chunk);
  return record.pages === undefined && isZeros ? [] : extents;
}
