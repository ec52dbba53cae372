/**
 * Decides what becomes a version (FORMAT.md §7.16): what a file held before its first change after a close, and what
 * loses its last name. Every decision is one synchronous step, in the same batch as the change itself.
 */
import { LRUCache } from "lru-cache";
import { TcfsError, isTcfsError } from "../../errors.ts";
import type { EmbeddedPages } from "../../format/version-codec.ts";
import type { ExtentPage, InodeRecord } from "../../format/records.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../ids.ts";
import { type MaybePromise, andThen, settled } from "../../maybe-promise.ts";
import type { KeptState } from "../../metadata/version-store.ts";
import type { MetadataStore } from "../../metadata/metadata-store.ts";
import type { Clock } from "../../platform/clock.ts";
import { endPageOf } from "../contents.ts";
import type { FileTable } from "../file-table.ts";
import { S_IFLNK, S_IFMT, isDirectoryMode, isRegularMode } from "../mode.ts";

/** "on" or "off" for a file, or for all below a directory; the nearest one counts. */
export const VERSIONS_XATTR = "user.tcfs.versions" as Name;

/** Longer files share their pages with their versions instead of copying them: 4 MiB. */
const MAX_EMBEDDED_PAGES = 16;
/** So many versions of one file in a row, and then one for each pause: a log that is opened for each line. */
const BURST_COUNT = 16;
const BURST_PAUSE_MS = 10_000;
/** Files whose bursts are remembered, and directories that something was removed from. */
const REMEMBERED = 65_536;
/** A commit that a change waits for may find the file changed again by the defragmenter. */
const MAX_COMMITS = 3;

const NO_XATTRS: ReadonlyMap<Name, Uint8Array> = new Map();

export interface VersionKeeperOptions {
  readonly metadata: MetadataStore;
  readonly files: FileTable;
  readonly clock: Clock;
  /** Make everything acknowledged so far durable. */
  readonly commit: () => MaybePromise<void>;
}

/** @throws TcfsError `TCFS_INVALID` for a value that says nothing. */
export function checkVersionsXattr(value: Uint8Array): void {
  const text = Buffer.from(value).toString("latin1");
  if (text !== "on" && text !== "off") throw new TcfsError("TCFS_INVALID", `${VERSIONS_XATTR} is “on” or “off”`);
}

interface Place {
  readonly parent: InodeNumber;
  readonly name: Name;
}

interface Burst {
  left: number;
  atMs: number;
}

export class VersionKeeper {
  readonly #options: VersionKeeperOptions;
  /** Files changed since they were last closed; "new": never closed at all. */
  readonly #changed = new Map<InodeNumber, "new" | "changed">();
  readonly #bursts = new LRUCache<string, Burst>({ max: REMEMBERED });
  readonly #removedFrom = new LRUCache<InodeNumber, true>({ max: REMEMBERED });
  #lastRemovedFrom: InodeNumber | undefined;
  #isInsisting = false;
  /** Told when the next batch holds a version more. */
  onKept: () => void = () => undefined;

  constructor(options: VersionKeeperOptions) {
    this.#options = options;
  }

  /** A file was made: there is nothing older to keep until it is closed. */
  noteMade(inode: InodeRecord): void {
    if (isRegularMode(inode.mode)) this.#changed.set(inode.ino, "new");
  }

  /** close(2): what the file holds now is what the next change supersedes. */
  noteClosed(ino: InodeNumber): void {
    this.#changed.delete(ino);
  }

  /**
   * The contents of an inode are about to change: keep what they are, unless they changed since the last close.
   * @returns A promise where they must be stored first; it never rejects. What cannot be kept is not.
   */
  supersede(ino: InodeNumber): MaybePromise<void> {
    if (this.#changed.has(ino)) return undefined;
    return this.#supersede(ino, 0);
  }

  #supersede(ino: InodeNumber, commits: number): MaybePromise<void> {
    const inode = this.#wanted(ino);
    const mustWait = inode !== undefined && !this.#isSettled(ino) && commits < MAX_COMMITS;
    if (!mustWait) {
      this.#changed.set(ino, "changed");
      if (inode !== undefined && this.#isSettled(ino) && this.#takeTurn(String(ino))) this.#keepContents(inode);
      return undefined;
    }
    const goOn = (): MaybePromise<void> => (this.#changed.has(ino) ? undefined : this.#supersede(ino, commits + 1));
    const giveUp = (): MaybePromise<void> => {
      this.#changed.set(ino, "changed");
    };
    const stored = settled(
      this.#options.commit,
      () => goOn,
      () => giveUp,
    );
    return andThen(stored, (next) => next());
  }

  /** What cannot be read is not kept, and may be changed all the same: who empties a damaged file mends it. */
  #keepContents(inode: InodeRecord): void {
    try {
      this.#keep({ kind: "changed", directory: undefined, name: "" as Name }, inode);
    } catch (error) {
      if (!isTcfsError(error)) throw error;
    }
  }

  /** The file, if a change of its contents makes a version. */
  #wanted(ino: InodeNumber): InodeRecord | undefined {
    try {
      const inode = this.#options.metadata.getInode(ino);
      if (inode === undefined || !isRegularMode(inode.mode) || inode.lengthBytes === 0n) return undefined;
      if (inode.linkCount === 0 || !this.#mayTakeTurn(String(ino))) return undefined;
      return this.#isOn(inode, inode.parent) ? inode : undefined;
    } catch (error) {
      if (isTcfsError(error)) return undefined; // whoever wants to change it is told
      throw error;
    }
  }

  /** Before a name goes: what it names must be stored, if it is to be kept. As {@link supersede}. */
  settle({ parent, name }: Place): MaybePromise<void> {
    const { metadata, commit } = this.#options;
    try {
      const ino = this.#unsettled({ parent, name });
      if (ino === undefined) return undefined;
      const inode = metadata.getInode(ino);
      if (inode === undefined || !this.#isKeptWhenRemoved(inode, { parent, name }, "deleted")) return undefined;
    } catch (error) {
      if (isTcfsError(error)) return undefined;
      throw error;
    }
    const ignore = (): void => undefined; // it goes without being kept
    return settled(commit, ignore, ignore);
  }

  /**
   * Before a command replaces what a name names, for {@link insisting}.
   * @throws TcfsError `TCFS_BUSY` if it is written to all the time; what a commit throws.
   */
  async settleForGood(place: Place): Promise<void> {
    for (let commits = 0; this.#unsettled(place) !== undefined; commits++) {
      if (commits === MAX_COMMITS) throw new TcfsError("TCFS_BUSY", "the file in its place is being written to");
      await this.#options.commit();
    }
  }

  /** Within `action` every file that is replaced is kept, whatever the policy, its age and how often that was lately. */
  insisting<T>(action: () => T): T {
    this.#isInsisting = true;
    try {
      return action();
    } finally {
      this.#isInsisting = false;
    }
  }

  #unsettled({ parent, name }: Place): InodeNumber | undefined {
    const ino = this.#options.metadata.getDentry(parent, name)?.ino;
    return ino === undefined || this.#isSettled(ino) ? undefined : ino;
  }

  /**
   * An inode is about to lose its last name.
   * @returns Whether what it holds is kept.
   */
  removed(inode: InodeRecord, place: Place, kind: "deleted" | "replaced"): boolean {
    try {
      if (!this.#isSettled(inode.ino) || !this.#isKeptWhenRemoved(inode, place, kind)) return false;
      if (kind === "replaced" && !this.#isInsisting && !this.#takeTurn(`${place.parent}/${place.name}`)) return false;
      const isDirectory = isDirectoryMode(inode.mode);
      const { parent: directory, name } = place;
      if (!this.#keep({ kind: isDirectory ? "directory" : kind, directory, name }, inode)) return false;
    } catch (error) {
      if (isTcfsError(error)) return false; // what cannot be read goes as it went before there were versions
      throw error;
    }
    if (place.parent !== this.#lastRemovedFrom) this.#removedFrom.set(place.parent, true);
    this.#lastRemovedFrom = place.parent;
    return true;
  }

  #isKeptWhenRemoved(inode: InodeRecord, place: Place, kind: "deleted" | "replaced"): boolean {
    const isFile = isRegularMode(inode.mode);
    const isDirectory = isDirectoryMode(inode.mode);
    if (!isDirectory && inode.linkCount !== 1) return false;
    if (this.#isInsisting) return isFile && inode.lengthBytes > 0n;
    if (this.#changed.get(inode.ino) === "new" || !this.#isOn(inode, place.parent)) return false;
    if (kind === "replaced") return isFile && inode.lengthBytes > 0n;
    if (isDirectory) return !this.#isYoung(inode) || this.#removedFrom.has(inode.ino);
    return (isFile || (inode.mode & S_IFMT) === S_IFLNK) && !this.#isYoung(inode);
  }

  #isYoung({ birthTime }: InodeRecord): boolean {
    const { clock, metadata } = this.#options;
    const ageSeconds = clock.now().seconds - birthTime.seconds;
    return ageSeconds >= 0 && ageSeconds < metadata.versions.policy.minimumAgeSeconds;
  }

  /** Whether the vault, and the nearest directory that says something, have versions kept. */
  #isOn(inode: InodeRecord, directory: InodeNumber | 0): boolean {
    if (this.#options.metadata.versions.policy.isOff) return false;
    return this.#inherited(inode, directory) !== "off";
  }

  /** What {@link VERSIONS_XATTR} of an inode, or of the nearest directory above it that has one, says. */
  #inherited(inode: InodeRecord, directory: InodeNumber | 0): string | undefined {
    const { metadata } = this.#options;
    for (let at: InodeRecord | undefined = inode, above = directory; at !== undefined;) {
      const value = at.hasXattrs ? metadata.getXattrs(at.ino).get(VERSIONS_XATTR) : undefined;
      if (value !== undefined) return Buffer.from(value).toString("latin1");
      if (at.ino === ROOT_INODE || above === 0) return undefined;
      at = metadata.getInode(above);
      above = at?.parent ?? 0;
    }
    return undefined;
  }

  /** What getxattr(2) shows of an inode that has none of its own: what it has from above, if that says something. */
  shown(inode: InodeRecord): Uint8Array | undefined {
    const value = this.#inherited(inode, inode.parent);
    return value === undefined ? undefined : Uint8Array.from(Buffer.from(value, "latin1"));
  }

  /** Whether what the last commit holds of the contents is all there is. */
  #isSettled(ino: InodeNumber): boolean {
    return this.#options.files.find(ino)?.isClean ?? true;
  }

  #keep(place: Pick<KeptState, "kind" | "directory" | "name">, inode: InodeRecord): boolean {
    const { metadata, clock } = this.#options;
    if (inode.loggedCommit > 0) return false; // writes that cannot be read are missing in what is stored
    const endPage = isRegularMode(inode.mode) ? endPageOf(inode.lengthBytes) : 0;
    const pages = endPage <= MAX_EMBEDDED_PAGES ? this.#pagesOf(inode.ino, endPage) : undefined;
    const xattrs = inode.hasXattrs ? metadata.getXattrs(inode.ino) : NO_XATTRS;
    const { kind, directory, name } = place;
    const state = { kind, directory, name, keptAt: clock.now(), inode, xattrs, pages };
    if (metadata.versions.keep(state, endPage) === undefined) return false;
    this.onKept();
    return true;
  }

  #pagesOf(ino: InodeNumber, endPage: number): EmbeddedPages {
    const pages = new Map<number, ExtentPage>();
    for (let page = 0; page < endPage; page++) {
      const extents = this.#options.metadata.getExtentPage(ino, page);
      if (extents.length > 0) pages.set(page, extents);
    }
    return pages;
  }

  #mayTakeTurn(name: string): boolean {
    return this.#refilled(name).left >= 1;
  }

  #takeTurn(name: string): boolean {
    const burst = this.#refilled(name);
    if (burst.left < 1) return false;
    burst.left--;
    this.#bursts.set(name, burst);
    return true;
  }

  #refilled(name: string): Burst {
    const now = this.#options.clock.monotonicMs();
    const burst = this.#bursts.get(name) ?? { left: BURST_COUNT, atMs: now };
    burst.left = Math.min(BURST_COUNT, burst.left + (now - burst.atMs) / BURST_PAUSE_MS);
    burst.atMs = now;
    return burst;
  }

  /** The kernel forgot an inode: nobody has it open. */
  forget(ino: InodeNumber): void {
    this.#changed.delete(ino);
  }
}
