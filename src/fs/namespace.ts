/** Names: making, finding, moving and removing dentries. Every method is one atomic, synchronous step. */
import { copyOf } from "../bytes.ts";
import { TcfsError } from "../errors.ts";
import type { InodeRecord } from "../format/records.ts";
import type { InodeNumber, Name } from "../ids.ts";
import { ROOT_INODE } from "../ids.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import type { Inodes } from "./inodes.ts";
import { MAX_LINK_COUNT, MAX_NAME_BYTES, MAX_SYMLINK_BYTES } from "./limits.ts";
import { S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_ISGID, isDirectoryMode, typeOf } from "./mode.ts";
import type { Caller, NodeRequest, RenameFlags } from "./operations.ts";
import type { VersionKeeper } from "./versions/version-keeper.ts";
import type { Xattrs } from "./xattrs.ts";

/** A place for a name. */
export interface Place {
  readonly parent: InodeNumber;
  readonly name: Name;
}

/** One side of a rename: the place with what is there. */
interface Side extends Place {
  readonly directory: InodeRecord;
  readonly inode: InodeRecord;
}

export class Namespace {
  readonly #metadata: MetadataStore;
  readonly #inodes: Inodes;
  readonly #xattrs: Xattrs;
  readonly #versions: VersionKeeper;

  constructor(metadata: MetadataStore, inodes: Inodes, xattrs: Xattrs, versions: VersionKeeper) {
    this.#metadata = metadata;
    this.#inodes = inodes;
    this.#xattrs = xattrs;
    this.#versions = versions;
  }

  /**
   * @returns The inode of a name. "." and ".." are how a file handle (open_by_handle_at, NFS) is opened.
   * @throws TcfsError `TCFS_STALE` for a handle of what is gone.
   */
  find(parent: InodeNumber, name: Name): InodeRecord | undefined {
    if (name === ".") return this.#inodes.living(parent);
    if (name === "..") {
      const directory = this.#inodes.directory(parent);
      return this.#inodes.get(directory.parent === 0 ? ROOT_INODE : directory.parent);
    }
    return this.#named(parent, name);
  }

  #named(parent: InodeNumber, name: Name): InodeRecord | undefined {
    this.#inodes.directory(parent);
    if (name.length > MAX_NAME_BYTES) throw new TcfsError("TCFS_NAME_TOO_LONG", "name longer than 255 bytes");
    const dentry = this.#metadata.getDentry(parent, name);
    return dentry === undefined ? undefined : this.#inodes.get(dentry.ino);
  }

  #existing({ parent, name }: Place): InodeRecord {
    const inode = this.#named(parent, name);
    if (inode === undefined) throw new TcfsError("TCFS_NO_ENTRY", `no such name in directory ${parent}`);
    return inode;
  }

  #vacant({ parent, name }: Place): InodeRecord {
    const directory = this.#inodes.livingDirectory(parent);
    checkName(name);
    if (this.#metadata.getDentry(parent, name) !== undefined) {
      throw new TcfsError("TCFS_EXISTS", `the name exists in directory ${parent}`);
    }
    return directory;
  }

  #enter(directory: InodeRecord, name: Name, inode: InodeRecord): void {
    this.#metadata.putDentry(directory.ino, { name, ino: inode.ino, type: typeOf(inode.mode) });
    inode.parent = directory.ino;
    directory.entryCount++;
    if (isDirectoryMode(inode.mode)) directory.linkCount++;
    this.#inodes.touchContents(directory);
  }

  #withdraw(directory: InodeRecord, name: Name, inode: InodeRecord): void {
    this.#metadata.deleteDentry(directory.ino, name);
    directory.entryCount--;
    if (isDirectoryMode(inode.mode)) directory.linkCount--;
    this.#inodes.touchContents(directory);
  }

  #child(directory: InodeRecord, request: NodeRequest, caller: Caller): InodeRecord {
    const isGroupInherited = (directory.mode & S_ISGID) !== 0;
    const isSetGidInherited = isGroupInherited && isDirectoryMode(request.mode);
    const inode = this.#inodes.make({
      mode: request.mode | (isSetGidInherited ? S_ISGID : 0),
      uid: caller.uid,
      gid: isGroupInherited ? directory.gid : caller.gid,
    });
    inode.deviceNumber = request.deviceNumber;
    if ((request.mode & S_IFMT) !== S_IFLNK) this.#xattrs.inherit(directory, inode, request.umask);
    return inode;
  }

  /** Regular files, fifos, sockets, devices. */
  makeNode(place: Place, request: NodeRequest, caller: Caller): InodeRecord {
    const directory = this.#vacant(place);
    const inode = this.#child(directory, request, caller);
    this.#metadata.putInode(inode);
    this.#versions.noteMade(inode);
    this.#enter(directory, place.name, inode);
    return inode;
  }

  makeDirectory(place: Place, request: NodeRequest, caller: Caller): InodeRecord {
    const directory = this.#vacant(place);
    if (directory.linkCount >= MAX_LINK_COUNT) throw new TcfsError("TCFS_TOO_MANY_LINKS", "too many subdirectories");
    const inode = this.#child(directory, { ...request, mode: (request.mode & 0o7777) | S_IFDIR }, caller);
    inode.linkCount = 2;
    inode.parent = directory.ino;
    this.#metadata.putInode(inode);
    this.#enter(directory, place.name, inode);
    return inode;
  }

  /** @param target - Copied. */
  makeSymlink(place: Place, target: Uint8Array, caller: Caller): InodeRecord {
    if (target.length === 0) throw new TcfsError("TCFS_NO_ENTRY", "empty symlink target");
    if (target.length > MAX_SYMLINK_BYTES) throw new TcfsError("TCFS_NAME_TOO_LONG", "symlink target too long");
    const directory = this.#vacant(place);
    const inode = this.#child(directory, { mode: S_IFLNK | 0o777, umask: 0, deviceNumber: 0 }, caller);
    inode.symlinkTarget = copyOf(target);
    inode.lengthBytes = BigInt(target.length);
    this.#metadata.putInode(inode);
    this.#enter(directory, place.name, inode);
    return inode;
  }

  /** An unnamed file: an orphan until it is linked. */
  makeTemporaryFile(parent: InodeNumber, request: NodeRequest, caller: Caller): InodeRecord {
    const inode = this.#child(this.#inodes.livingDirectory(parent), request, caller);
    inode.linkCount = 0;
    this.#metadata.putInode(inode);
    this.#versions.noteMade(inode);
    this.#metadata.addOrphan(inode.ino);
    return inode;
  }

  link(ino: InodeNumber, place: Place): InodeRecord {
    const inode = this.#inodes.get(ino);
    if (isDirectoryMode(inode.mode)) throw new TcfsError("TCFS_NOT_PERMITTED", "directories have one name");
    if (inode.linkCount >= MAX_LINK_COUNT) throw new TcfsError("TCFS_TOO_MANY_LINKS", "too many links");
    const directory = this.#vacant(place);
    if (inode.linkCount === 0) this.#metadata.removeOrphan(ino);
    inode.linkCount++;
    this.#inodes.touchChange(inode);
    this.#enter(directory, place.name, inode);
    return inode;
  }

  /** Give a nameless file a name; a file that has it loses it, as by a rename. */
  adopt(ino: InodeNumber, place: Place): void {
    const inode = this.#inodes.get(ino);
    const directory = this.#inodes.livingDirectory(place.parent);
    checkName(place.name);
    const dentry = this.#metadata.getDentry(place.parent, place.name);
    if (dentry !== undefined) this.#displace(inode, { ...place, directory, inode: this.#inodes.get(dentry.ino) });
    this.#metadata.removeOrphan(ino);
    inode.linkCount = 1;
    this.#enter(directory, place.name, inode);
    this.#inodes.touchChange(inode);
  }

  unlink(place: Place): void {
    const directory = this.#inodes.directory(place.parent);
    const inode = this.#existing(place);
    if (isDirectoryMode(inode.mode)) throw new TcfsError("TCFS_IS_DIRECTORY", "unlink of a directory");
    this.#withdraw(directory, place.name, inode);
    this.#unlinkInode(inode, place, "deleted");
  }

  removeDirectory(place: Place): void {
    const directory = this.#inodes.directory(place.parent);
    const inode = this.#existing(place);
    if (!isDirectoryMode(inode.mode)) throw new TcfsError("TCFS_NOT_DIRECTORY", "rmdir of something else");
    if (inode.entryCount > 0) throw new TcfsError("TCFS_NOT_EMPTY", `directory ${inode.ino} is not empty`);
    this.#withdraw(directory, place.name, inode);
    this.#unlinkInode(inode, place, "deleted");
  }

  #unlinkInode(inode: InodeRecord, place: Place, kind: "deleted" | "replaced"): void {
    if (this.#versions.removed(inode, place, kind)) this.#inodes.noteKept(inode);
    inode.linkCount = isDirectoryMode(inode.mode) ? 0 : inode.linkCount - 1;
    this.#inodes.touchChange(inode);
    this.#inodes.dropIfUnlinked(inode);
  }

  rename(from: Place, to: Place, flags: RenameFlags, caller: Caller): void {
    const source = this.#side(from);
    const targetDirectory = this.#inodes.livingDirectory(to.parent);
    checkName(to.name);
    this.#checkNoLoop(source.inode, to.parent);
    const dentry = this.#metadata.getDentry(to.parent, to.name);
    if (flags.exchange) {
      if (dentry === undefined) throw new TcfsError("TCFS_NO_ENTRY", "nothing to exchange with");
      this.#exchange(source, this.#side(to));
      return;
    }
    if (dentry !== undefined) {
      if (flags.noReplace) throw new TcfsError("TCFS_EXISTS", "the new name exists");
      if (dentry.ino === source.inode.ino) return;
      this.#displace(source.inode, { ...to, directory: targetDirectory, inode: this.#inodes.get(dentry.ino) });
    }
    this.#withdraw(source.directory, from.name, source.inode);
    this.#enter(targetDirectory, to.name, source.inode);
    this.#inodes.touchChange(source.inode);
    if (flags.whiteout) this.makeNode(from, { mode: S_IFCHR, umask: 0, deviceNumber: 0 }, caller);
  }

  #side(place: Place): Side {
    checkName(place.name);
    return { ...place, directory: this.#inodes.directory(place.parent), inode: this.#existing(place) };
  }

  /** @throws TcfsError `TCFS_INVALID` if `directory` lies in `moved`. */
  #checkNoLoop(moved: InodeRecord, directory: InodeNumber): void {
    if (!isDirectoryMode(moved.mode)) return;
    for (let ino = directory; ino !== ROOT_INODE;) {
      if (ino === moved.ino) throw new TcfsError("TCFS_INVALID", "a directory cannot be moved into itself");
      const { parent } = this.#inodes.get(ino);
      if (parent === 0) return;
      ino = parent;
    }
  }

  /** Take away what a rename lands on. */
  #displace(moved: InodeRecord, target: Side): void {
    const isTargetDirectory = isDirectoryMode(target.inode.mode);
    if (isDirectoryMode(moved.mode) && !isTargetDirectory)
      throw new TcfsError("TCFS_NOT_DIRECTORY", "target is no directory");
    if (!isDirectoryMode(moved.mode) && isTargetDirectory)
      throw new TcfsError("TCFS_IS_DIRECTORY", "target is a directory");
    if (target.inode.entryCount > 0)
      throw new TcfsError("TCFS_NOT_EMPTY", `directory ${target.inode.ino} is not empty`);
    this.#withdraw(target.directory, target.name, target.inode);
    this.#unlinkInode(target.inode, target, "replaced");
  }

  #exchange(a: Side, b: Side): void {
    this.#checkNoLoop(b.inode, a.parent);
    if (a.inode.ino === b.inode.ino) return;
    this.#withdraw(a.directory, a.name, a.inode);
    this.#withdraw(b.directory, b.name, b.inode);
    this.#enter(a.directory, a.name, b.inode);
    this.#enter(b.directory, b.name, a.inode);
    this.#inodes.touchChange(a.inode);
    this.#inodes.touchChange(b.inode);
  }
}

/** @throws TcfsError for a name that no dentry may have. */
function checkName(name: Name): void {
  if (name.length > MAX_NAME_BYTES) throw new TcfsError("TCFS_NAME_TOO_LONG", "name longer than 255 bytes");
  if (name.length === 0 || name === "." || name === ".." || name.includes("/") || name.includes("\0")) {
    throw new TcfsError("TCFS_INVALID", "not a name");
  }
}
