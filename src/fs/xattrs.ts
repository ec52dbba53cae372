/** Extended attributes, POSIX ACLs among them: storing an access ACL changes the mode, and the other way round. */
import { copyOf } from "../bytes.ts";
import { TcfsError } from "../errors.ts";
import type { InodeRecord } from "../format/records.ts";
import type { InodeNumber, Name } from "../ids.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import {
  ACCESS_ACL,
  DEFAULT_ACL,
  aclWithMode,
  decodeAcl,
  encodeAcl,
  inheritAcl,
  isMinimalAcl,
  modeFromAcl,
} from "./acl.ts";
import type { Inodes } from "./inodes.ts";
import { MAX_NAME_BYTES, MAX_XATTRS_BYTES, MAX_XATTR_BYTES } from "./limits.ts";
import { S_IFLNK, S_IFMT, S_ISGID, isDirectoryMode } from "./mode.ts";
import type { XattrFlags } from "./operations.ts";

/** Removed whenever contents or owner change (capabilities(7)). */
const CAPABILITY = "security.capability" as Name;
const NONE: ReadonlyMap<Name, Uint8Array> = new Map();
const NAMESPACES = ["user.", "trusted.", "security."];

export class Xattrs {
  readonly #metadata: MetadataStore;
  readonly #inodes: Inodes;

  constructor(metadata: MetadataStore, inodes: Inodes) {
    this.#metadata = metadata;
    this.#inodes = inodes;
  }

  #all(inode: InodeRecord): ReadonlyMap<Name, Uint8Array> {
    return inode.hasXattrs ? this.#metadata.getXattrs(inode.ino) : NONE;
  }

  #replace(inode: InodeRecord, xattrs: ReadonlyMap<Name, Uint8Array>): void {
    inode.hasXattrs = xattrs.size > 0;
    this.#metadata.putXattrs(inode.ino, xattrs);
    this.#inodes.touchChange(inode);
  }

  get(ino: InodeNumber, name: Name): Uint8Array | undefined {
    checkName(name);
    return this.#all(this.#inodes.get(ino)).get(name);
  }

  /** @param withTrusted - Whether names of the `trusted` namespace are among them. */
  list(ino: InodeNumber, withTrusted: boolean): Name[] {
    const names = [...this.#all(this.#inodes.get(ino)).keys()];
    return withTrusted ? names : names.filter((name) => !name.startsWith("trusted."));
  }

  /** @param value - Copied. */
  set(ino: InodeNumber, name: Name, value: Uint8Array, flags: XattrFlags): void {
    const inode = this.#inodes.get(ino);
    checkName(name);
    if (value.length > MAX_XATTR_BYTES) throw new TcfsError("TCFS_TOO_BIG", "extended attribute too large");
    if (name === ACCESS_ACL || name === DEFAULT_ACL) {
      this.#setAcl(inode, name, value, flags.clearSetGid);
      return;
    }
    const before = this.#all(inode);
    if (flags.create && before.has(name)) throw new TcfsError("TCFS_EXISTS", "extended attribute exists");
    if (flags.replace && !before.has(name)) throw new TcfsError("TCFS_NO_DATA", "no such extended attribute");
    const after = new Map(before).set(name, copyOf(value));
    if (sizeOf(after) > MAX_XATTRS_BYTES) throw new TcfsError("TCFS_STORE_FULL", "too many extended attributes");
    this.#replace(inode, after);
  }

  #setAcl(inode: InodeRecord, name: Name, value: Uint8Array, clearSetGid: boolean): void {
    if ((inode.mode & S_IFMT) === S_IFLNK) throw new TcfsError("TCFS_UNSUPPORTED", "symlinks have no ACL");
    const acl = decodeAcl(value);
    const after = new Map(this.#all(inode));
    if (name === DEFAULT_ACL) {
      if (!isDirectoryMode(inode.mode)) throw new TcfsError("TCFS_ACCESS", "only directories have a default ACL");
      if (acl.length === 0) after.delete(name);
      else after.set(name, copyOf(value));
    } else {
      if (acl.length > 0) inode.mode = modeFromAcl(acl, inode.mode);
      if (clearSetGid) inode.mode &= ~S_ISGID;
      if (acl.length === 0 || isMinimalAcl(acl)) after.delete(name);
      else after.set(name, copyOf(value));
    }
    this.#replace(inode, after);
  }

  remove(ino: InodeNumber, name: Name): void {
    const inode = this.#inodes.get(ino);
    const after = new Map(this.#all(inode));
    if (!after.delete(name)) {
      if (name === ACCESS_ACL || name === DEFAULT_ACL) return;
      throw new TcfsError("TCFS_NO_DATA", "no such extended attribute");
    }
    this.#replace(inode, after);
  }

  /** chmod: an access ACL follows the mode. The caller puts the inode. */
  followMode(inode: InodeRecord): void {
    if (!inode.hasXattrs) return;
    const value = this.#metadata.getXattrs(inode.ino).get(ACCESS_ACL);
    if (value === undefined) return;
    const acl = aclWithMode(decodeAcl(value), inode.mode);
    this.#metadata.putXattrs(inode.ino, new Map(this.#metadata.getXattrs(inode.ino)).set(ACCESS_ACL, encodeAcl(acl)));
  }

  /** Contents or owner change: file capabilities are lost. The caller puts the inode. */
  dropCapabilities(inode: InodeRecord): void {
    if (!inode.hasXattrs) return;
    const after = new Map(this.#metadata.getXattrs(inode.ino));
    if (!after.delete(CAPABILITY)) return;
    inode.hasXattrs = after.size > 0;
    this.#metadata.putXattrs(inode.ino, after);
  }

  /** Give a new inode what its directory's default ACL says, or else apply the umask. The caller puts the inode. */
  inherit(directory: InodeRecord, inode: InodeRecord, umask: number): void {
    const value = this.#all(directory).get(DEFAULT_ACL);
    if (value === undefined) {
      inode.mode &= ~umask;
      return;
    }
    const xattrs = new Map<Name, Uint8Array>();
    const { mode, access } = inheritAcl(decodeAcl(value), inode.mode);
    inode.mode = mode;
    if (!isMinimalAcl(access)) xattrs.set(ACCESS_ACL, encodeAcl(access));
    if (isDirectoryMode(inode.mode)) xattrs.set(DEFAULT_ACL, value);
    if (xattrs.size === 0) return;
    inode.hasXattrs = true;
    this.#metadata.putXattrs(inode.ino, xattrs);
  }
}

function checkName(name: Name): void {
  if (name.length > MAX_NAME_BYTES) throw new TcfsError("TCFS_RANGE", "extended attribute name too long");
  if (name === ACCESS_ACL || name === DEFAULT_ACL) return;
  const namespace = NAMESPACES.find((prefix) => name.startsWith(prefix));
  if (namespace === undefined) throw new TcfsError("TCFS_UNSUPPORTED", "unknown extended attribute namespace");
  if (name === namespace) throw new TcfsError("TCFS_INVALID", "an extended attribute without a name");
}

function sizeOf(xattrs: ReadonlyMap<Name, Uint8Array>): number {
  let bytes = 0;
  for (const [name, value] of xattrs) bytes += name.length + value.length;
  return bytes;
}
