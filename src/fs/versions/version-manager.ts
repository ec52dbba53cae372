/** Versions of an open volume: listed and brought back by path. One change at a time, and none beside a restore of a snapshot. */
import { TcfsError } from "../../errors.ts";
import type { VersionKind, VersionPolicy, VersionRecord } from "../../format/version-codec.ts";
import type { DirectoryEntryRecord } from "../../format/records.ts";
import type { InodeNumber, Name } from "../../ids.ts";
import type { MetadataStore } from "../../metadata/metadata-store.ts";
import { preciseIsoTime } from "../../platform/iso-time.ts";
import type { KernelCaches } from "../snapshots/kernel-caches.ts";
import { NO_KERNEL } from "../snapshots/kernel-caches.ts";
import type { VolumeParts } from "../volume-parts.ts";
import { type LabelledVersion, findVersion, labelVersions } from "./version-labels.ts";
import { directoriesAt, hintOf, isLiving, joinPath, splitPath } from "./version-paths.ts";
import { Restorer } from "./restorer.ts";
import { thinOut } from "./thinning.ts";
import { Trash, type TrashFigures, type TrashRestored } from "./trash.ts";
import { type VersionCleaner, isInTrash } from "./version-cleaner.ts";

export interface VersionManagerOptions {
  readonly parts: VolumeParts;
  /** Nothing that it runs runs beside a rollback, or beside another. */
  readonly inTurn: <T>(action: () => Promise<T>) => Promise<T>;
  readonly cleaner: VersionCleaner;
}

/** What is told of a version. Times are ISO 8601, UTC. */
export interface VersionFigures {
  /** Names it: `PATH@time`. Since when the file held this. */
  readonly time: string;
  /** Until when. */
  readonly until: string;
  readonly kind: VersionKind;
  readonly bytes: number;
}

/** All that is kept, as of the last commit. Bytes as of each version's own, chunks shared with others counted again. */
export interface StoredVersions {
  /** Of files that were changed or replaced, and what was brought back from the trash. */
  readonly count: number;
  readonly bytes: number;
  /** Files, symlinks and directories. */
  readonly trashCount: number;
  readonly trashBytes: number;
}

export interface Subdirectory {
  readonly name: Name;
  readonly ino: InodeNumber;
  /** As it was, if it was removed. */
  readonly removed: VersionRecord | undefined;
}

const DT_DIR = 4;
const DT_REG = 8;

export class VersionManager {
  readonly #options: VersionManagerOptions;
  readonly #restorer: Restorer;
  readonly #trash: Trash;
  #figures: { readonly commit: number; readonly stored: StoredVersions } | undefined;
  kernel: KernelCaches = NO_KERNEL;

  constructor(options: VersionManagerOptions) {
    this.#options = options;
    this.#restorer = new Restorer(options.parts, () => this.kernel);
    this.#trash = new Trash(options.parts, this.#restorer);
  }

  get #metadata(): MetadataStore {
    return this.#options.parts.metadata;
  }

  get policy(): VersionPolicy {
    return this.#metadata.versions.policy;
  }

  /** @throws TcfsError `TCFS_READ_ONLY`, and what a commit throws. */
  async setPolicy(policy: VersionPolicy): Promise<void> {
    this.#requireWritable();
    this.#metadata.versions.setPolicy(policy);
    await this.#options.parts.committer.commit();
    await this.#options.cleaner.clean();
  }

  /** Versions of what is or was at a path, oldest first. @throws TcfsError `TCFS_USAGE`, `TCFS_CORRUPT`, `TCFS_IO` */
  async versionsOf(path: string): Promise<LabelledVersion[]> {
    const names = splitPath(path);
    const name = names.pop();
    if (name === undefined) throw new TcfsError("TCFS_USAGE", "the root has no versions");
    await this.commit();
    const found: VersionRecord[] = [];
    for (const directory of await directoriesAt(this.#metadata, names)) {
      found.push(...(await this.versionsAt(directory, name)));
    }
    return labelVersions(this.#current(sorted(found)));
  }

  /** Without what the policy no longer keeps, though it may not be dropped yet. @param records - Oldest first. */
  #current(records: readonly VersionRecord[]): VersionRecord[] {
    const aging = records.filter((record) => !isInTrash(record));
    const dropped = new Set(thinOut(aging, this.policy, this.#options.parts.clock.now().seconds));
    return records.filter((record) => !dropped.has(record));
  }

  /** Versions of one name of a directory, living or removed, of what the last commit holds; in no order. */
  async versionsAt(directory: InodeNumber, name: Name): Promise<VersionRecord[]> {
    const { versions } = this.#metadata;
    const ofName = (await versions.ofName(directory, name)).filter(({ kind }) => kind !== "directory");
    const files = new Set(ofName.map(({ inode }) => inode.ino));
    const present = isLiving(this.#metadata, directory) ? this.#metadata.getDentry(directory, name) : undefined;
    if (present !== undefined) files.add(present.ino);
    return [...ofName, ...(await versions.ofFiles(files))];
  }

  /** As {@link versionsAt}, as they are shown: oldest first, with their labels. */
  async labelledAt(directory: InodeNumber, name: Name): Promise<LabelledVersion[]> {
    return labelVersions(this.#current(sorted(await this.versionsAt(directory, name))));
  }

  /** All versions in a directory, living or removed, by name. */
  async versionsIn(directory: InodeNumber): Promise<(LabelledVersion & { readonly name: Name })[]> {
    const { metadata } = this.#options.parts;
    const byName = new Map<Name, Set<InodeNumber>>();
    const found = new Map<InodeNumber | Name, VersionRecord[]>();
    const add = (name: Name, ino: InodeNumber): void => {
      byName.set(name, (byName.get(name) ?? new Set()).add(ino));
    };
    for (const { name, ino, type } of await this.#present(directory)) if (type === DT_REG) add(name, ino);
    for (const record of await metadata.versions.ofDirectory(directory)) {
      if (record.kind === "directory") continue;
      add(record.name, record.inode.ino);
      found.set(record.name, [...(found.get(record.name) ?? []), record]);
    }
    const files = new Set([...byName.values()].flatMap((inodes) => [...inodes]));
    for (const record of await metadata.versions.ofFiles(files)) {
      found.set(record.inode.ino, [...(found.get(record.inode.ino) ?? []), record]);
    }
    return [...byName].flatMap(([name, inodes]) => {
      const records = [...(found.get(name) ?? []), ...[...inodes].flatMap((ino) => found.get(ino) ?? [])];
      return labelVersions(this.#current(sorted(records))).map((version) => ({ ...version, name }));
    });
  }

  async #present(directory: InodeNumber): Promise<readonly DirectoryEntryRecord[]> {
    return isLiving(this.#metadata, directory) ? this.#metadata.listDirectory(directory) : [];
  }

  /** Directories that are in a directory, and those that were where none is any more: the last one of each name. */
  async subdirectories(directory: InodeNumber): Promise<Subdirectory[]> {
    const found = new Map<Name, Subdirectory>();
    for (const record of (await this.#metadata.versions.ofDirectory(directory)).sort(byVersion)) {
      const { name, inode, kind } = record;
      if (kind === "directory") found.set(name, { name, ino: inode.ino, removed: record });
    }
    for (const { name, ino, type } of await this.#present(directory)) {
      if (type === DT_DIR) found.set(name, { name, ino, removed: undefined });
    }
    return [...found.values()];
  }

  async subdirectory(directory: InodeNumber, name: Name): Promise<Subdirectory | undefined> {
    const dentry = isLiving(this.#metadata, directory) ? this.#metadata.getDentry(directory, name) : undefined;
    if (dentry?.type === DT_DIR) return { name, ino: dentry.ino, removed: undefined };
    const removed = (await this.#metadata.versions.ofName(directory, name)).findLast(
      ({ kind }) => kind === "directory",
    );
    return removed && { name, ino: removed.inode.ino, removed };
  }

  /** @param time - As {@link findVersion} takes it. @throws TcfsError `TCFS_NO_ENTRY` */
  async versionAt(path: string, time: string): Promise<VersionRecord> {
    const versions = await this.versionsOf(path);
    const found = findVersion(versions, time);
    if (found !== undefined) return found.record;
    const hint = versions.length === 0 ? "it has none" : `the last one is ${versions.at(-1)?.label ?? ""}`;
    throw new TcfsError("TCFS_NO_ENTRY", `there is no version “${time}” of ${path}: ${hint}`);
  }

  async list(path: string): Promise<VersionFigures[]> {
    const versions = await this.versionsOf(path);
    if (versions.length === 0) await this.#requirePath(path);
    return versions.map(({ record, label }) => figuresOf(record, label));
  }

  /**
   * Make a version the present content of its path, or of another; what is there becomes a version in turn.
   * @throws TcfsError `TCFS_NO_ENTRY`, `TCFS_IS_DIRECTORY`, `TCFS_STORE_FULL` and what a commit throws.
   */
  restore(path: string, time: string, to: string | undefined): Promise<VersionFigures> {
    this.#requireWritable();
    return this.#options.inTurn(async () => {
      const record = await this.versionAt(path, time);
      await this.#restorer.restoreFile(record, splitPath(to ?? path), true);
      await this.#options.parts.committer.commit();
      return figuresOf(record, preciseIsoTime(record.inode.changeTime));
    });
  }

  /** Walks all versions, unless nothing was committed since the last time. */
  async figures(): Promise<StoredVersions> {
    const { commit } = this.#metadata.volume;
    if (this.#figures?.commit !== commit) this.#figures = { commit, stored: await this.#count() };
    return this.#figures.stored;
  }

  async #count(): Promise<StoredVersions> {
    const stored = { count: 0, bytes: 0, trashCount: 0, trashBytes: 0 };
    for await (const records of this.#metadata.versions.all()) {
      for (const record of records) {
        const isTrash = isInTrash(record);
        if (record.isDropped || (record.kind === "directory" && !isTrash)) continue;
        stored[isTrash ? "trashCount" : "count"]++;
        stored[isTrash ? "trashBytes" : "bytes"] += record.inode.allocatedBytes;
      }
    }
    return stored;
  }

  async listTrash(): Promise<TrashFigures[]> {
    await this.commit();
    return this.#trash.list();
  }

  /** As {@link Trash.restore}. */
  restoreTrash(path: string, to: string | undefined): Promise<TrashRestored> {
    this.#requireWritable();
    return this.#options.inTurn(async () => {
      await this.#options.parts.committer.commit();
      return this.#trash.restore(path, to);
    });
  }

  /** Give up what was deleted so long ago, or longer. */
  async emptyTrash(olderThanSeconds: number): Promise<{ readonly files: number; readonly bytes: number }> {
    this.#requireWritable();
    await this.commit();
    return this.#options.cleaner.emptyTrash(this.#options.parts.clock.now().seconds - olderThanSeconds);
  }

  /** What is read of versions is what the last commit holds. */
  async commit(): Promise<void> {
    const { isReadOnly, committer } = this.#options.parts;
    if (!isReadOnly && committer.failure === undefined) await committer.commit();
  }

  /** @throws TcfsError `TCFS_NO_ENTRY` where there is nothing at a path. */
  async #requirePath(path: string): Promise<void> {
    const names = splitPath(path);
    const name = names.at(-1) as Name;
    const directories = await directoriesAt(this.#metadata, names.slice(0, -1));
    const isIn = (directory: InodeNumber): boolean =>
      isLiving(this.#metadata, directory) && this.#metadata.getDentry(directory, name) !== undefined;
    if (directories.some(isIn)) return;
    const beside = new Set<Name>();
    for (const directory of directories) {
      for (const other of await this.#present(directory)) beside.add(other.name);
      for (const other of await this.#metadata.versions.ofDirectory(directory)) beside.add(other.name);
    }
    const hint = hintOf(names, beside, ".versions in the mount");
    throw new TcfsError("TCFS_NO_ENTRY", `${joinPath(names)}: there is no such file, nor a version of one: ${hint}`);
  }

  #requireWritable(): void {
    if (this.#options.parts.isReadOnly) throw new TcfsError("TCFS_READ_ONLY", "the volume is open read-only");
  }
}

function sorted(records: VersionRecord[]): VersionRecord[] {
  const unique = new Map(records.map((record) => [record.version, record]));
  return [...unique.values()].sort(byVersion);
}

function byVersion(left: VersionRecord, right: VersionRecord): number {
  return left.version - right.version;
}

function figuresOf(record: VersionRecord, time: string): VersionFigures {
  const { kind, inode, keptAt } = record;
  return { time, until: preciseIsoTime(keptAt), kind, bytes: Number(inode.lengthBytes) };
}
