/** The filesystem's operations: puts names, inodes, contents, xattrs and commits together for `src/fuse`. */
import type { BorrowedBytes } from "../borrowed-bytes.ts";
import { copyOf } from "../bytes.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { InodeRecord } from "../format/records.ts";
import type { InodeNumber, Name } from "../ids.ts";
import { ROOT_INODE } from "../ids.ts";
import { type MaybePromise, andThen, isPromise } from "../maybe-promise.ts";
import type { Timestamp } from "../platform/clock.ts";
import { type AccessTimes, isAccessNoted } from "./access-times.ts";
import { checkRange } from "./contents.ts";
import { readEntries } from "./directory-reader.ts";
import { attributesOf, isMember, requireRegular, withinReach } from "./inodes.ts";
import { untilInterrupted } from "./interrupt.ts";
import { CHANGE_BYTES, MAX_FILE_BYTES, MAX_SHARED_BYTES, MAX_WAITING_RECORDS } from "./limits.ts";
import { S_IFDIR, S_IFMT, isDirectoryMode, isRegularMode, withoutSetId } from "./mode.ts";
import type { Place } from "./namespace.ts";
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
  TimeChange,
  XattrFlags,
} from "./operations.ts";
import { ReadAhead } from "./read-ahead.ts";
import { inSteps, pausesFor } from "./steps.ts";
import { type FileState, STATE_XATTR } from "./local-copies.ts";
import { VERSIONS_XATTR, checkVersionsXattr } from "./versions/version-keeper.ts";
import type { VolumeParts } from "./volume-parts.ts";

/** linux/falloc.h */
const FALLOC_KEEP_SIZE = 0x01;
const FALLOC_PUNCH_HOLE = 0x02;
const FALLOC_ZERO_RANGE = 0x10;

export class VolumeOperations implements FileSystemOperations {
  readonly #parts: VolumeParts;
  /** May change while the volume is open. */
  accessTimes: AccessTimes;
  /** Tells where a regular file's contents are: of a vault with a store. */
  onStateAsked: (ino: InodeNumber) => Promise<FileState | undefined> = () => Promise.resolve(undefined);
  readonly #readAhead: ReadAhead;
  #onModeChange: (ino: InodeNumber) => Promise<void> = () => Promise.resolve();
  #notice: Promise<void> | undefined;

  constructor(parts: VolumeParts) {
    this.#parts = parts;
    this.accessTimes = parts.accessTimes;
    this.#readAhead = new ReadAhead(parts.contents);
  }

  /** @param listener - Told of inodes whose mode changed without the kernel having asked for it. Never rejects. */
  set onModeChange(listener: (ino: InodeNumber) => Promise<void>) {
    this.#onModeChange = listener;
  }

  get unready(): Promise<void> | undefined {
    return this.#parts.metadata.reopening;
  }

  /** Run a change once it is admitted; then see to its commit. */
  #change<T>(bytes: number, action: () => MaybePromise<T>): MaybePromise<T> {
    const { committer, space, metadata } = this.#parts;
    this.#checkWritable();
    const admission = bytes === 0 ? undefined : space.admit(bytes);
    if (admission === undefined && !committer.isOverfull && metadata.dirtyRecordCount < MAX_WAITING_RECORDS) {
      return this.#noted(action());
    }
    return this.#changeLater(admission, action);
  }

  /** See to the commit of a change made; of one that goes on, now and at its end. */
  #noted<T>(result: MaybePromise<T>): MaybePromise<T> {
    const { committer } = this.#parts;
    committer.noteChange();
    if (!isPromise(result)) return result;
    return result.then((value) => {
      committer.noteChange();
      return value;
    });
  }

  /** The same for a change of what a file holds: first that is kept, if it is to be. */
  #changeContents<T>(ino: InodeNumber, bytes: number, action: () => MaybePromise<T>): MaybePromise<T> {
    this.#checkWritable();
    return andThen(this.#parts.versions.supersede(ino), () => this.#change(bytes, action));
  }

  /** The same for a change by which a name may lose what it names. */
  #changeName(place: Place, bytes: number, action: () => void): MaybePromise<void> {
    this.#checkWritable();
    return andThen(this.#parts.versions.settle(place), () => this.#change(bytes, action));
  }

  async #changeLater<T>(admission: Promise<void> | undefined, action: () => MaybePromise<T>): Promise<T> {
    const { committer, metadata } = this.#parts;
    await admission;
    if (metadata.dirtyRecordCount >= MAX_WAITING_RECORDS) await committer.commit();
    while (committer.isOverfull) {
      if (committer.stall !== undefined) throw committer.stall;
      await committer.room();
    }
    this.#checkWritable();
    return this.#noted(action());
  }

  #checkWritable(): void {
    const { committer, isReadOnly } = this.#parts;
    if (isReadOnly) throw new TcfsError("TCFS_READ_ONLY", "the volume is mounted read-only");
    if (committer.failure !== undefined) throw committer.failure;
  }

  lookup(parent: InodeNumber, name: Name): Attributes | undefined {
    const inode = this.#parts.namespace.find(parent, name);
    return inode === undefined ? undefined : this.#parts.inodes.reference(inode);
  }

  forget(ino: InodeNumber, count: number): void {
    const { inodes, committer, versions } = this.#parts;
    this.#readAhead.forget(ino);
    try {
      if (inodes.forget(ino, count)) committer.noteChange();
      if (!inodes.isReferenced(ino)) versions.forget(ino);
    } catch (error) {
      if (!isTcfsError(error)) throw error; // an unreadable record: the orphan stays for the next mount
    }
  }

  getAttributes(ino: InodeNumber): Attributes {
    return attributesOf(this.#parts.inodes.get(ino));
  }

  setAttributes(ino: InodeNumber, changes: AttributeChanges, caller: Caller): MaybePromise<Attributes> {
    const { inodes, contents, committer } = this.#parts;
    if (changes.lengthBytes === undefined) {
      return this.#change(0, () => this.#applyChanges(inodes.get(ino), changes, caller));
    }
    const { lengthBytes } = changes;
    return this.#changeContents(ino, CHANGE_BYTES, () => {
      const inode = inodes.get(ino);
      if (isDirectoryMode(inode.mode)) throw new TcfsError("TCFS_IS_DIRECTORY", "truncate of a directory");
      if (!isRegularMode(inode.mode)) throw new TcfsError("TCFS_INVALID", "truncate of a special file");
      if (lengthBytes > MAX_FILE_BYTES) throw new TcfsError("TCFS_FILE_TOO_LARGE", "file too large");
      const cut = contents.truncate(inode, lengthBytes, pausesFor(caller, committer));
      if (cut === undefined) return this.#applyChanges(inode, changes, caller);
      return cut.then(() => this.#applyChanges(inodes.get(ino), changes, caller));
    });
  }

  #applyChanges(inode: InodeRecord, changes: AttributeChanges, caller: Caller): Attributes {
    const { inodes, xattrs, clock } = this.#parts;
    const now = clock.now();
    const isByMember = isMember(caller, inode);
    if (changes.uid !== undefined) inode.uid = changes.uid;
    if (changes.gid !== undefined) inode.gid = changes.gid;
    const isOwnerChanged = changes.uid !== undefined || changes.gid !== undefined;
    if (changes.mode !== undefined) {
      inode.mode = (inode.mode & S_IFMT) | (changes.mode & ~S_IFMT);
      xattrs.followMode(inode);
    }
    if ((isOwnerChanged || changes.clearSetId === true) && !isDirectoryMode(inode.mode)) {
      if (changes.mode === undefined) inode.mode = withoutSetId(inode.mode, isByMember);
      xattrs.dropCapabilities(inode);
    }
    const timeOf = (change: TimeChange): Timestamp => (change === "now" ? now : withinReach(change));
    if (changes.lengthBytes !== undefined) inode.modifyTime = now;
    if (changes.accessTime !== undefined) inode.accessTime = timeOf(changes.accessTime);
    if (changes.modifyTime !== undefined) inode.modifyTime = timeOf(changes.modifyTime);
    inodes.touchChange(inode);
    return attributesOf(inode);
  }

  readSymlink(ino: InodeNumber): Uint8Array {
    const inode = this.#parts.inodes.get(ino);
    const target = inode.symlinkTarget;
    if (target === undefined) throw new TcfsError("TCFS_INVALID", "not a symlink");
    this.#noteAccess(inode);
    return target;
  }

  makeNode(parent: InodeNumber, name: Name, request: NodeRequest, caller: Caller): MaybePromise<Attributes> {
    const { namespace, inodes } = this.#parts;
    if ((request.mode & S_IFMT) === S_IFDIR) throw new TcfsError("TCFS_NOT_PERMITTED", "mknod makes no directories");
    return this.#change(CHANGE_BYTES, () => inodes.reference(namespace.makeNode({ parent, name }, request, caller)));
  }

  makeDirectory(parent: InodeNumber, name: Name, request: NodeRequest, caller: Caller): MaybePromise<Attributes> {
    const { namespace, inodes } = this.#parts;
    return this.#change(CHANGE_BYTES, () =>
      inodes.reference(namespace.makeDirectory({ parent, name }, request, caller)),
    );
  }

  makeSymlink(parent: InodeNumber, name: Name, target: Uint8Array, caller: Caller): MaybePromise<Attributes> {
    const { namespace, inodes } = this.#parts;
    const copy = copyOf(target);
    return this.#change(CHANGE_BYTES, () => inodes.reference(namespace.makeSymlink({ parent, name }, copy, caller)));
  }

  link(ino: InodeNumber, newParent: InodeNumber, newName: Name): MaybePromise<Attributes> {
    const { namespace, inodes } = this.#parts;
    return this.#change(CHANGE_BYTES, () =>
      inodes.reference(namespace.link(ino, { parent: newParent, name: newName })),
    );
  }

  makeTemporaryFile(parent: InodeNumber, request: NodeRequest, caller: Caller): MaybePromise<Attributes> {
    const { namespace, inodes } = this.#parts;
    return this.#change(CHANGE_BYTES, () => inodes.reference(namespace.makeTemporaryFile(parent, request, caller)));
  }

  unlink(parent: InodeNumber, name: Name): MaybePromise<void> {
    return this.#changeName({ parent, name }, 0, () => {
      this.#parts.namespace.unlink({ parent, name });
    });
  }

  removeDirectory(parent: InodeNumber, name: Name): MaybePromise<void> {
    return this.#change(0, () => {
      this.#parts.namespace.removeDirectory({ parent, name });
    });
  }

  rename(
    from: { readonly parent: InodeNumber; readonly name: Name },
    to: { readonly parent: InodeNumber; readonly name: Name },
    flags: RenameFlags,
    caller: Caller,
  ): MaybePromise<void> {
    return this.#changeName(to, CHANGE_BYTES, () => {
      this.#parts.namespace.rename(from, to, flags, caller);
    });
  }

  #regular(ino: InodeNumber): InodeRecord {
    return requireRegular(this.#parts.inodes.get(ino));
  }

  read(
    ino: InodeNumber,
    offset: bigint,
    lengthBytes: number,
    _caller: Caller,
    options?: ReadOptions,
  ): MaybePromise<BorrowedBytes> {
    const inode = this.#regular(ino);
    this.#noteAccess(inode, options);
    const result = this.#parts.contents.read(inode, offset, lengthBytes);
    this.#readAhead.note(inode, offset, lengthBytes);
    return result;
  }

  /** Only what the kernel's caches let through is seen here. */
  #noteAccess(inode: InodeRecord, options?: ReadOptions): void {
    const { clock, metadata, committer, isReadOnly } = this.#parts;
    if (options?.keepsAccessTime === true || isReadOnly || committer.failure !== undefined) return;
    const now = clock.now();
    if (!isAccessNoted(inode, now, this.accessTimes)) return;
    inode.accessTime = now;
    metadata.putInode(inode);
    committer.noteChange();
  }

  write(
    ino: InodeNumber,
    offset: bigint,
    data: Uint8Array,
    options: { readonly clearSetId: boolean; readonly sync: boolean },
    caller: Caller,
  ): MaybePromise<number> {
    checkRange(offset, BigInt(data.length));
    const { committer, space } = this.#parts;
    this.#checkWritable();
    const kept = this.#parts.versions.supersede(ino);
    const admission = space.admit(data.length);
    if (kept === undefined && admission === undefined && !committer.isOverfull && !options.sync) {
      this.#writeNow(ino, offset, data, options.clearSetId ? caller : undefined);
      return this.#noticed(data.length);
    }
    const admitted = kept === undefined ? admission : Promise.all([kept, admission]);
    return this.#writeLater(ino, offset, copyOf(data), options, admitted, caller);
  }

  /** @param stranger - Whoever writes, if that clears set-id bits. */
  #writeNow(ino: InodeNumber, offset: bigint, data: Uint8Array, stranger: Caller | undefined): void {
    const { contents, inodes, xattrs, committer } = this.#parts;
    const inode = this.#regular(ino);
    xattrs.dropCapabilities(inode); // first: xattrs that do not verify must fail before anything has changed
    contents.write(inode, offset, data);
    if (stranger !== undefined) this.#clearSetId(inode, stranger);
    inodes.touchContents(inode);
    committer.noteChange();
  }

  async #writeLater(
    ino: InodeNumber,
    offset: bigint,
    data: Uint8Array,
    options: { readonly clearSetId: boolean; readonly sync: boolean },
    admission: Promise<unknown> | undefined,
    caller: Caller,
  ): Promise<number> {
    const { committer } = this.#parts;
    await untilInterrupted(admission, caller);
    while (committer.isOverfull) {
      if (committer.stall !== undefined) throw committer.stall;
      await untilInterrupted(committer.room(), caller);
    }
    this.#checkWritable();
    this.#writeNow(ino, offset, data, options.clearSetId ? caller : undefined);
    if (options.sync) await committer.sync();
    return this.#noticed(data.length);
  }

  flush(ino: InodeNumber): void {
    const { committer, files, versions } = this.#parts;
    versions.noteClosed(ino);
    const error = committer.failure ?? committer.stall;
    if (error !== undefined && files.find(ino) !== undefined) throw error;
  }

  sync(_ino: InodeNumber, caller: Caller): MaybePromise<void> {
    if (this.#parts.isReadOnly) return undefined;
    return untilInterrupted(this.#parts.committer.sync(), caller);
  }

  syncAll(): MaybePromise<void> {
    return this.#parts.isReadOnly ? undefined : this.#parts.committer.commit();
  }

  allocate(ino: InodeNumber, mode: number, offset: bigint, lengthBytes: bigint, caller: Caller): MaybePromise<void> {
    const keepsLength = (mode & FALLOC_KEEP_SIZE) !== 0;
    const kind = mode & ~FALLOC_KEEP_SIZE;
    if (lengthBytes <= 0n || offset < 0n) throw new TcfsError("TCFS_INVALID", "empty range");
    checkRange(offset, lengthBytes);
    if (kind === FALLOC_PUNCH_HOLE && keepsLength) return this.#punch(ino, offset, lengthBytes, caller);
    if (kind !== 0 && kind !== FALLOC_ZERO_RANGE) throw new TcfsError("TCFS_UNSUPPORTED", `fallocate mode ${mode}`);
    if (lengthBytes > BigInt(this.#parts.space.space.availableBytes)) {
      throw new TcfsError("TCFS_STORE_FULL", "the range is larger than the free space");
    }
    const allocateStep = (start: bigint, stepBytes: bigint): MaybePromise<void> =>
      this.#changeContents(ino, CHANGE_BYTES, () => {
        const { contents, inodes } = this.#parts;
        const inode = this.#regular(ino);
        const end = start + stepBytes;
        if (!keepsLength && end > inode.lengthBytes) inode.lengthBytes = end;
        const within = min(end, inode.lengthBytes) - start;
        if (within > 0n) {
          if (kind === FALLOC_ZERO_RANGE) contents.punchSmall(inode, start, within);
          contents.allocate(inode, start, within);
        }
        this.#dropPrivileges(inode, caller);
        inodes.touchContents(inode);
      });
    const pause = pausesFor(caller, this.#parts.committer);
    return this.#afterNotice(inSteps({ offset, lengthBytes }, pause, allocateStep));
  }

  /**
   * What the kernel does not ask for under HANDLE_KILLPRIV_V2: fallocate and copy_file_range clear set-id bits too,
   * unless root (CAP_FSETID) does it. The caller puts the inode.
   */
  #dropPrivileges(inode: InodeRecord, caller: Caller): void {
    if (caller.uid !== 0) this.#clearSetId(inode, caller);
    this.#parts.xattrs.dropCapabilities(inode);
  }

  /** The kernel does not look at the mode again after a write: left alone, it would go on to honour the old bits. */
  #clearSetId(inode: InodeRecord, caller: Caller): void {
    const cleared = withoutSetId(inode.mode, isMember(caller, inode));
    if (cleared === inode.mode) return;
    inode.mode = cleared;
    this.#notice = this.#onModeChange(inode.ino);
  }

  /** The answer waits until the kernel was told of a cleared set-id bit, so that nothing executes with it after. */
  #afterNotice<T>(result: MaybePromise<T>): MaybePromise<T> {
    return andThen(result, (value) => this.#noticed(value));
  }

  #noticed<T>(value: T): MaybePromise<T> {
    const notice = this.#notice;
    if (notice === undefined) return value;
    this.#notice = undefined;
    return notice.then(() => value);
  }

  #punch(ino: InodeNumber, offset: bigint, lengthBytes: bigint, caller: Caller): MaybePromise<void> {
    const punched = this.#changeContents(ino, 0, () => {
      const { contents, inodes, committer } = this.#parts;
      const inode = this.#regular(ino);
      const within = min(offset + lengthBytes, inode.lengthBytes) - offset;
      const touch = (): void => {
        const punched = inodes.get(ino);
        this.#dropPrivileges(punched, caller);
        inodes.touchContents(punched);
      };
      const pause = pausesFor(caller, committer);
      const punching = within > 0n ? contents.punch(inode, offset, within, pause) : undefined;
      return punching === undefined ? touch() : punching.then(touch);
    });
    return this.#afterNotice(punched);
  }

  seek(ino: InodeNumber, offset: bigint, whence: "data" | "hole"): Promise<bigint> {
    return this.#parts.contents.seek(this.#regular(ino), offset, whence);
  }

  async copyRange(
    from: { readonly ino: InodeNumber; readonly offset: bigint },
    to: { readonly ino: InodeNumber; readonly offset: bigint },
    lengthBytes: bigint,
    caller: Caller,
  ): Promise<bigint> {
    const { contents, committer, inodes } = this.#parts;
    const available = this.#regular(from.ino).lengthBytes - from.offset;
    const wanted = Number(min(min(lengthBytes, available), BigInt(MAX_SHARED_BYTES)));
    if (wanted <= 0) return 0n;
    checkRange(to.offset, BigInt(wanted));
    if (contents.isHeld(this.#regular(from.ino), from.offset, wanted)) await committer.commit();
    const shared = this.#changeContents(to.ino, CHANGE_BYTES, () => {
      const source = this.#regular(from.ino);
      const target = this.#regular(to.ino);
      const copied = Number(min(BigInt(wanted), source.lengthBytes - from.offset));
      if (copied <= 0) return 0n;
      contents.share(source, from.offset, target, to.offset, copied);
      this.#dropPrivileges(target, caller);
      inodes.touchContents(target);
      return BigInt(copied);
    });
    return this.#afterNotice(shared);
  }

  readDirectory(
    ino: InodeNumber,
    cookie: bigint,
    withAttributes: boolean,
    take: (entry: DirectoryEntry, attributes: Attributes | undefined) => boolean,
    options?: ReadOptions,
  ): MaybePromise<void> {
    const { metadata, inodes } = this.#parts;
    const directory = inodes.directory(ino);
    this.#noteAccess(directory, options);
    const parent = directory.parent === 0 ? ROOT_INODE : directory.parent;
    const attributes = (child: InodeNumber): Attributes | undefined => {
      const inode = withAttributes ? metadata.getInode(child) : undefined;
      return inode === undefined ? undefined : attributesOf(inode);
    };
    const accept = (entry: DirectoryEntry, known: Attributes | undefined): boolean => {
      if (!take(entry, known)) return false;
      if (known !== undefined) inodes.reference(inodes.get(entry.ino));
      return true;
    };
    const listing = directory.linkCount === 0 ? [] : metadata.listDirectory(ino);
    return andThen(listing, (entries) => {
      readEntries(entries, { self: ino, parent, cookie, attributes, take: accept });
    });
  }

  getXattr(ino: InodeNumber, name: Name): MaybePromise<Uint8Array | undefined> {
    const { xattrs, versions, inodes } = this.#parts;
    if (name === STATE_XATTR) return this.onStateAsked(ino).then((state) => state && Buffer.from(state));
    const value = xattrs.get(ino, name);
    return value === undefined && name === VERSIONS_XATTR ? versions.shown(inodes.get(ino)) : value;
  }

  setXattr(ino: InodeNumber, name: Name, value: Uint8Array, flags: XattrFlags): MaybePromise<void> {
    const copy = copyOf(value);
    if (name === STATE_XATTR) throw new TcfsError("TCFS_NOT_PERMITTED", `${name} only tells`);
    if (name === VERSIONS_XATTR) checkVersionsXattr(copy);
    return this.#change(CHANGE_BYTES + value.length, () => {
      this.#parts.xattrs.set(ino, name, copy, flags);
    });
  }

  listXattrs(ino: InodeNumber, caller: Caller): readonly Name[] {
    return this.#parts.xattrs.list(ino, caller.uid === 0);
  }

  removeXattr(ino: InodeNumber, name: Name): MaybePromise<void> {
    return this.#change(0, () => {
      this.#parts.xattrs.remove(ino, name);
    });
  }

  statistics(): MaybePromise<FileSystemStatistics> {
    const { space, metadata } = this.#parts;
    return space.refresh().then(() => ({ space: space.space, inodeCount: metadata.volume.inodeCount }));
  }
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
