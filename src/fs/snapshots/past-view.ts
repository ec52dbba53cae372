/**
 * The tree as it was at a time, put together from all that is kept: the newest snapshot from then or before, the versions
 * and deleted files since, and what of the present is as it was. design/past.md, “At a time”, has the rules. Changes nothing.
 */
import { TcfsError } from "../../errors.ts";
import type { DentryRecord, DirectoryEntryRecord, ExtentPage, InodeRecord } from "../../format/records.ts";
import type { SnapshotRecord } from "../../format/snapshot-codec.ts";
import type { VersionRecord } from "../../format/version-codec.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../ids.ts";
import type { MetadataStore } from "../../metadata/metadata-store.ts";
import type { MetadataView } from "../../metadata/snapshot-store.ts";
import { isLater, type Timestamp } from "../../platform/clock.ts";
import { preciseIsoTime } from "../../platform/iso-time.ts";
import { isDirectoryMode, typeOf } from "../mode.ts";
import { storedPage } from "../versions/restorer.ts";
import { choosePast, wasThere, type PastChoice } from "./past-choice.ts";
import type { TreePath } from "./tree-path.ts";

export interface PastViewOptions {
  readonly live: MetadataStore;
  /** The newest from the time or before, if there is one. */
  readonly snapshot: SnapshotRecord | undefined;
  readonly time: Timestamp;
}

/** All that is known of one name of a directory. */
interface KnownName {
  readonly removed: readonly VersionRecord[];
  readonly present: DentryRecord | undefined;
  readonly before: DentryRecord | undefined;
}

/** Cookies of "." and ".." are below. */
const FIRST_COOKIE = 3n;
const NO_XATTRS: ReadonlyMap<Name, Uint8Array> = new Map();

export class PastView implements MetadataView {
  readonly #live: MetadataStore;
  readonly #snapshot: SnapshotRecord | undefined;
  readonly #base: MetadataView | undefined;
  readonly #time: Timestamp;
  /** Of inodes of which versions are kept; any other is chosen without. */
  readonly #versions = new Map<InodeNumber, VersionRecord[]>();
  /** Names that were looked up on the way to a path, by directory. */
  readonly #found = new Map<InodeNumber, Map<Name, DentryRecord | undefined>>();

  constructor({ live, snapshot, time }: PastViewOptions) {
    this.#live = live;
    this.#snapshot = snapshot;
    this.#base = snapshot && live.snapshots.view(snapshot);
    this.#time = snapshot !== undefined && isLater(snapshot.takenAt, time) ? snapshot.takenAt : time;
  }

  /**
   * Look a path up: {@link getDentry} knows its steps from then on. What was a file there and was deleted before the time
   * is there with what it held last: whoever asks for it by its path wants that.
   */
  async load(path: TreePath): Promise<void> {
    let directory: InodeNumber = ROOT_INODE;
    for (const [index, name] of path.entries()) {
      const known = await this.#known(directory, name);
      await this.#loadVersions([known]);
      const isLast = index === path.length - 1;
      const found = (await this.#entry(directory, name, known)) ?? (isLast ? this.#lost(name, known) : undefined);
      const names = this.#found.get(directory) ?? new Map<Name, DentryRecord | undefined>();
      this.#found.set(directory, names.set(name, found));
      if (found === undefined) return;
      directory = found.ino;
    }
  }

  async #known(directory: InodeNumber, name: Name): Promise<KnownName> {
    const removed = await this.#live.versions.ofName(directory, name);
    const present = this.#isLiving(directory) ? this.#live.getDentry(directory, name) : undefined;
    return { removed, present, before: this.#base?.getDentry(directory, name) };
  }

  /** What a name named at the time. */
  async #entry(directory: InodeNumber, name: Name, known: KnownName): Promise<DentryRecord | undefined> {
    const { removed, present, before } = known;
    if (present !== undefined && this.#isUnchanged(directory)) return this.#chosen(name, present.ino);
    const next = removed.find(({ keptAt }) => isLater(keptAt, this.#time));
    if (next !== undefined && wasThere(next.inode, this.#time)) return this.#chosen(name, next.inode.ino);
    const last = removed.findLast((record) => !isLater(record.keptAt, this.#time) && !this.#isBeforeSnapshot(record));
    if (present !== undefined && this.#wasMade(present.ino, last)) {
      const isHere = present.ino === before?.ino || !(await this.#wasElsewhere(present.ino));
      if (isHere) return this.#chosen(name, present.ino);
    }
    if (last !== undefined) return last.kind === "replaced" ? this.#chosen(name, last.inode.ino) : undefined;
    if (before === undefined) return undefined;
    const hasGone = present?.ino !== before.ino && (this.#isUnchanged(directory) || this.#hasMoved(before.ino));
    return hasGone ? undefined : this.#chosen(name, before.ino);
  }

  /** What a name that was a file's named last before the time. */
  #lost(name: Name, { removed }: KnownName): DentryRecord | undefined {
    const last = removed.findLast(({ kind, keptAt }) => kind !== "directory" && !isLater(keptAt, this.#time));
    return last && this.#chosen(name, last.inode.ino);
  }

  #chosen(name: Name, ino: InodeNumber): DentryRecord | undefined {
    const inode = this.getInode(ino);
    return inode && { name, ino, type: typeOf(inode.mode) };
  }

  #isLiving(ino: InodeNumber): boolean {
    return (this.#live.getInode(ino)?.linkCount ?? 0) > 0;
  }

  /** Whether nothing was changed in a directory that is there since the time. */
  #isUnchanged(directory: InodeNumber): boolean {
    const inode = this.#live.getInode(directory);
    return inode !== undefined && inode.linkCount > 0 && !isLater(inode.changeTime, this.#time);
  }

  /** @param last - Removed from the same name before the time: what is older, and got the name after that, perhaps came later. */
  #wasMade(ino: InodeNumber, last: VersionRecord | undefined): boolean {
    const inode = this.#live.getInode(ino);
    if (inode === undefined) return false;
    const isBack = last?.kind === "deleted" && isLater(last.keptAt, inode.birthTime);
    if (isBack && isLater(inode.changeTime, this.#time)) return false;
    return this.#baseInode(ino) !== undefined || wasThere(inode, this.#time);
  }

  #baseInode(ino: InodeNumber): InodeRecord | undefined {
    const inode = this.#base?.getInode(ino);
    return inode !== undefined && inode.linkCount > 0 ? inode : undefined;
  }

  #isBeforeSnapshot({ version }: VersionRecord): boolean {
    return this.#snapshot !== undefined && version < this.#snapshot.nextInode;
  }

  /** Whether something that the snapshot has, and that is elsewhere now, was moved there before the time, for all that its times tell. */
  #hasMoved(ino: InodeNumber): boolean {
    const inode = this.#live.getInode(ino);
    if (inode === undefined || inode.linkCount === 0) return false;
    const places = [this.#baseInode(ino)?.parent ?? 0, inode.parent];
    return !isLater(inode.changeTime, this.#time) || places.some((place) => place !== 0 && this.#isUnchanged(place));
  }

  /** Whether an inode stood in the snapshot's place for it at the time, and was moved to where it is later. */
  async #wasElsewhere(ino: InodeNumber): Promise<boolean> {
    const parent = this.#baseInode(ino)?.parent ?? 0;
    if (parent === 0 || this.#hasMoved(ino)) return false;
    const place = (await this.#base?.listDirectory(parent))?.find((entry) => entry.ino === ino);
    if (place === undefined) return false;
    const { removed, present } = await this.#known(parent, place.name);
    const others = removed.filter((record) => !this.#isBeforeSnapshot(record) && record.inode.ino !== ino);
    if (others.some(({ inode }) => wasThere(inode, this.#time))) return false;
    const other = present === undefined || present.ino === ino ? undefined : this.#live.getInode(present.ino);
    return other === undefined || this.#baseInode(other.ino) !== undefined || !wasThere(other, this.#time);
  }

  getDentry(directory: InodeNumber, name: Name): DentryRecord | undefined {
    return this.#found.get(directory)?.get(name);
  }

  async listDirectory(directory: InodeNumber): Promise<DirectoryEntryRecord[]> {
    const names = await this.#namesIn(directory);
    await this.#loadVersions(names.values());
    const found = this.#found.get(directory);
    const entries: DentryRecord[] = [];
    for (const [name, known] of names) {
      const entry = found?.get(name) ?? (await this.#entry(directory, name, known));
      if (entry !== undefined) entries.push(entry);
    }
    entries.sort((left, right) => (left.name < right.name ? -1 : 1));
    return entries.map((entry, index) => ({ ...entry, cookie: FIRST_COOKIE + BigInt(index) }));
  }

  async #namesIn(directory: InodeNumber): Promise<Map<Name, KnownName>> {
    const names = new Map<Name, KnownName>();
    const add = (name: Name, more: Partial<KnownName>): void => {
      names.set(name, { removed: [], present: undefined, before: undefined, ...names.get(name), ...more });
    };
    const isThere = this.#baseInode(directory) !== undefined && !this.#isUnchanged(directory);
    for (const before of isThere ? ((await this.#base?.listDirectory(directory)) ?? []) : [])
      add(before.name, { before });
    const removed = await this.#live.versions.ofDirectory(directory);
    for (const record of removed.sort((left, right) => left.version - right.version)) {
      add(record.name, { removed: [...(names.get(record.name)?.removed ?? []), record] });
    }
    for (const present of this.#isLiving(directory) ? await this.#live.listDirectory(directory) : []) {
      add(present.name, { present });
    }
    return names;
  }

  /** Of all inodes that names may have named, in few walks. */
  async #loadVersions(names: Iterable<KnownName>): Promise<void> {
    const inodes = new Set<InodeNumber>();
    const records: VersionRecord[] = [];
    for (const { removed, present, before } of names) {
      for (const entry of [present, before]) if (entry !== undefined) inodes.add(entry.ino);
      for (const record of removed) inodes.add(record.inode.ino);
      records.push(...removed);
    }
    records.push(...(await this.#live.versions.ofFiles(inodes)));
    for (const ino of inodes) this.#versions.delete(ino);
    for (const record of records.sort((left, right) => left.version - right.version)) {
      const known = this.#versions.get(record.inode.ino);
      if (known === undefined) this.#versions.set(record.inode.ino, [record]);
      else known.push(record);
    }
  }

  #choose(ino: InodeNumber): PastChoice | undefined {
    const present = this.#live.getInode(ino);
    return choosePast({
      time: this.#time,
      versions: this.#versions.get(ino) ?? [],
      present: present !== undefined && present.linkCount > 0 ? present : undefined,
      snapshot: this.#baseInode(ino),
      snapshotNumber: this.#snapshot?.nextInode ?? 0,
    });
  }

  getInode(ino: InodeNumber): InodeRecord | undefined {
    return this.#choose(ino)?.inode;
  }

  getXattrs(ino: InodeNumber): ReadonlyMap<Name, Uint8Array> {
    const choice = this.#choose(ino);
    if (choice?.kind === "version") return choice.record.xattrs;
    return (choice?.kind === "snapshot" ? this.#base : this.#live)?.getXattrs(ino) ?? NO_XATTRS;
  }

  getExtentPage(ino: InodeNumber, page: number): ExtentPage {
    const choice = this.#choose(ino);
    if (choice?.kind === "version") return storedPage(this.#live, choice.record, page);
    return this.#stateOf(choice)?.getExtentPage(ino, page) ?? [];
  }

  async extentPages(ino: InodeNumber, fromPage: number, toPage: number): Promise<number[]> {
    const choice = this.#choose(ino);
    if (choice?.kind === "version") return this.#live.versions.pages(choice.record, fromPage, toPage);
    return this.#stateOf(choice)?.extentPages(ino, fromPage, toPage) ?? [];
  }

  /** @throws TcfsError `TCFS_READ_ONLY` for a present file of which writes are in the log still: nothing was committed. */
  #stateOf(choice: PastChoice | undefined): Pick<MetadataView, "getExtentPage" | "extentPages"> | undefined {
    if (choice?.kind === "snapshot") return this.#base;
    if ((choice?.inode.loggedCommit ?? 0) === 0) return this.#live;
    throw new TcfsError("TCFS_READ_ONLY", "its last writes are still to be stored: mount the vault for writing once");
  }

  /** Whether of a file nothing from the time or before is kept, though it was there: what this shows of it is newer. */
  isLater(ino: InodeNumber): boolean {
    const choice = this.#choose(ino);
    return choice !== undefined && choice.isLater && !isDirectoryMode(choice.inode.mode);
  }

  /** Where the state of an inode comes from, in words; and what is another as soon as it is another state. */
  origin(ino: InodeNumber): { readonly words: string; readonly token: string } {
    const choice = this.#choose(ino);
    const since = this.isLater(ino) ? ", changed since" : "";
    switch (choice?.kind) {
      case "version": {
        const { record, inode } = choice;
        const what = isInTrashKind(record) ? "trash" : "version";
        return { words: `${what} of ${preciseIsoTime(inode.changeTime)}${since}`, token: `version ${record.version}` };
      }
      case "present": {
        const { seconds, nanoseconds } = choice.inode.changeTime;
        return { words: `present${since}`, token: `present ${seconds}.${nanoseconds}` };
      }
      case "snapshot":
        return { words: `snapshot ${this.#snapshot?.name ?? ""}`, token: "snapshot" };
      case undefined:
        return { words: "nothing", token: "" };
    }
  }
}

function isInTrashKind({ kind }: VersionRecord): boolean {
  return kind === "deleted" || kind === "directory";
}
