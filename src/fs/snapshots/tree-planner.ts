/**
 * Compares trees of the present with a snapshot and plans what makes them what they were. Outside of these trees nothing
 * changes: a file that has other names there and differs, or was moved there, stays as it is, and the tree gets one of its
 * own that shares its chunks. All else keeps its inode number. Reads both states and changes none.
 */
import { TcfsError } from "../../errors.ts";
import { isSamePage } from "../../format/extent-codec.ts";
import type { DentryRecord, InodeRecord } from "../../format/records.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../ids.ts";
import type { MetadataStore } from "../../metadata/metadata-store.ts";
import type { MetadataView } from "../../metadata/snapshot-store.ts";
import { endPageOf } from "../contents.ts";
import { isRegularMode } from "../mode.ts";
import type { ChangedPlaces } from "./changed-places.ts";
import { type ChangeKind, type ChangedField, type TreeChange, isSameXattrs, letterOf } from "./diff.ts";
import { LiveNames, type TreeRoot, countNames } from "./live-names.ts";
import { DIRECTORY_TYPE, type TreePath, followTreePath, showTreePath } from "./tree-path.ts";
import type { AttachedEntry, DetachedEntry, PlannedInode, Target, TreePlan } from "./tree-plan.ts";

/** Differences that one plan holds: it is applied in one step, in memory, so that a crash leaves all of it or nothing. */
const MAX_DIFFERENCES = 250_000;

export interface TreePlannerOptions {
  readonly live: MetadataStore;
  readonly view: MetadataView;
  /** Where the two may differ; undefined: not known, everything is compared. */
  readonly changed: ChangedPlaces | undefined;
  /** None within another, none empty. */
  readonly paths: readonly TreePath[];
}

const NO_BYTES = new Uint8Array(0);
const NO_XATTRS: ReadonlyMap<Name, Uint8Array> = new Map();

interface PendingDirectory {
  readonly target: Target;
  /** Its number in the snapshot. */
  readonly ino: InodeNumber;
  readonly path: string;
}

/** What makes an inode of the present what it was. */
interface Difference {
  readonly record: InodeRecord;
  readonly xattrs: ReadonlyMap<Name, Uint8Array>;
  readonly pages: PlannedInode["pages"];
  readonly fields: readonly ChangedField[];
  /** Times, of which only those of files are told. */
  readonly isTouched: boolean;
}

/**
 * @throws TcfsError `TCFS_NOT_DIRECTORY` if something stands where a path leads through; `TCFS_USAGE` if more differs than
 *   one step can change; `TCFS_CORRUPT` for what cannot be read.
 */
export function planTrees(options: TreePlannerOptions): Promise<TreePlan> {
  return new TreePlanner(options).plan();
}

class TreePlanner {
  readonly #options: TreePlannerOptions;
  #roots: readonly TreeRoot[] = [];
  #names!: LiveNames;
  #oldCounts: Promise<ReadonlyMap<InodeNumber, number>> | undefined;
  /** By number in the snapshot. */
  readonly #targets = new Map<InodeNumber, Target>();
  readonly #planned = new Set<Target>();
  /** Live inodes that stand for others of the snapshot. */
  readonly #adoptions = new Set<InodeNumber>();
  /** Live directories that have a place in the tree to be. */
  readonly #kept = new Set<InodeNumber>();
  readonly #pending: PendingDirectory[] = [];
  /** Live directories that lost their place, perhaps to get another one. */
  readonly #removed: { readonly ino: InodeNumber; readonly path: string }[] = [];
  readonly #plan = {
    detached: [] as DetachedEntry[],
    attached: [] as AttachedEntry[],
    inodes: [] as PlannedInode[],
    changes: [] as TreeChange[],
    trees: [] as TreePath[],
    outside: new Set<InodeNumber>(),
  };
  #count = 0;

  constructor(options: TreePlannerOptions) {
    this.#options = options;
  }

  async plan(): Promise<TreePlan> {
    const roots: TreeRoot[] = [];
    for (const path of this.#options.paths) {
      const root = await this.#root(path);
      if (root !== undefined) roots.push(root);
    }
    this.#roots = roots;
    this.#names = new LiveNames(this.#options.live, roots, this.#options.changed);
    for (const { directory, name, path, before, now } of roots) {
      await this.#entry(directory, name, path, before, now);
    }
    for (let next = this.#pending.pop(); next !== undefined; next = this.#pending.pop()) await this.#directory(next);
    for (let next = this.#removed.pop(); next !== undefined; next = this.#removed.pop()) await this.#erase(next);
    return this.#plan;
  }

  /** Follow a path in both states; directories that are missing on the way are planned. */
  async #root(path: TreePath): Promise<TreeRoot | undefined> {
    const { live, view } = this.#options;
    const [was, is] = [followTreePath(view, path), followTreePath(live, path)];
    const [before, now] = [was[path.length - 1], is[path.length - 1]];
    if (before === undefined && now === undefined) return undefined;
    const depth = path.length - 1;
    const last = is.at(-1);
    if (is.length > 0 && is.length <= depth && last?.type !== DIRECTORY_TYPE) {
      const [place, file] = [path, path.slice(0, is.length)].map(showTreePath);
      throw new TcfsError("TCFS_NOT_DIRECTORY", `“${file}” is no directory now: “${place}” cannot be put there`);
    }
    const lowest = is[Math.min(is.length, depth) - 1]?.ino ?? ROOT_INODE;
    let directory: Target = { number: lowest };
    this.#plan.outside.add(lowest);
    this.#plan.trees.push(path.slice(0, is.length + 1));
    for (let index = is.length; index < depth; index++) {
      const parent = was[index];
      const name = path[index];
      if (parent === undefined || name === undefined) throw new RangeError("a path that is in neither state");
      directory = await this.#parent(directory, name, parent, showTreePath(path.slice(0, index + 1)));
    }
    const name = path[depth];
    if (name === undefined) throw new RangeError("the root has no name");
    return { directory, name, path: showTreePath(path), before, now };
  }

  /** A directory above the trees that is missing: made as the snapshot has it, without what was in it. */
  async #parent(directory: Target, name: Name, { ino, type }: DentryRecord, path: string): Promise<Target> {
    const known = this.#targets.get(ino);
    if (known !== undefined) return known;
    // Its number is free, or in use by the directory that was moved away.
    const target = { number: isAlive(this.#options.live.getInode(ino)) ? undefined : ino };
    this.#targets.set(ino, target);
    this.#attach(directory, name, target, type);
    await this.#inode(target, ino, path, "added");
    return target;
  }

  async #entry(
    directory: Target,
    name: Name,
    path: string,
    before: DentryRecord | undefined,
    now: DentryRecord | undefined,
  ): Promise<void> {
    if (before === undefined) {
      if (now !== undefined) this.#remove(directory, name, path, now);
      return;
    }
    const isDirectory = before.type === DIRECTORY_TYPE;
    // A file as it was keeps its other names too, wherever they are.
    if (!isDirectory && now?.ino === before.ino && !(await this.#differs(before.ino))) return;
    const target = await this.#targetOf(before, now);
    const isInPlace = now !== undefined && now.ino === target.number;
    if (!isInPlace) {
      if (now !== undefined) this.#detach(directory, name, path, now);
      this.#attach(directory, name, target, before.type);
    }
    await this.#inode(target, before.ino, path, isInPlace ? undefined : now === undefined ? "added" : "changed");
    if (!isDirectory) return;
    if (target.number !== undefined) this.#kept.add(target.number);
    this.#pending.push({ target, ino: before.ino, path });
  }

  async #directory({ target, ino, path }: PendingDirectory): Promise<void> {
    const { live, view, changed } = this.#options;
    const { number } = target;
    const isThere = number !== undefined && isAlive(live.getInode(number));
    if (isThere && number === ino && changed?.hasDirectory(ino) === false) return;
    const present = new Map<Name, DentryRecord>();
    if (isThere) for (const entry of await live.listDirectory(number)) present.set(entry.name, entry);
    for (const entry of await view.listDirectory(ino)) {
      await this.#entry(target, entry.name, below(path, entry.name), entry, present.get(entry.name));
      present.delete(entry.name);
    }
    for (const entry of present.values()) this.#remove(target, entry.name, below(path, entry.name), entry);
  }

  /** All that is in a directory that is in the tree no more. */
  async #erase({ ino, path }: { readonly ino: InodeNumber; readonly path: string }): Promise<void> {
    if (this.#kept.has(ino)) return;
    for (const entry of await this.#options.live.listDirectory(ino)) {
      this.#remove({ number: ino }, entry.name, below(path, entry.name), entry);
    }
  }

  #remove(directory: Target, name: Name, path: string, now: DentryRecord): void {
    this.#note("removed", path, this.#options.live.getInode(now.ino), undefined);
    this.#detach(directory, name, path, now);
  }

  #detach(directory: Target, name: Name, path: string, now: DentryRecord): void {
    if (directory.number === undefined) throw new RangeError("a new directory has nothing in it");
    this.#plan.detached.push({ directory: directory.number, name });
    this.#weigh(1);
    if (now.type === DIRECTORY_TYPE) this.#removed.push({ ino: now.ino, path });
  }

  #attach(directory: Target, name: Name, child: Target, type: number): void {
    this.#plan.attached.push({ directory, name, child, type });
    this.#weigh(1);
  }

  /**
   * The inode that stands for one of the snapshot: itself, unless that would change what is outside, or it is gone and its
   * pages are still where a version has them.
   */
  async #targetOf(before: DentryRecord, now: DentryRecord | undefined): Promise<Target> {
    const { ino, type } = before;
    let target = this.#targets.get(ino);
    if (target === undefined) {
      const inode = this.#options.live.getInode(ino);
      const isOurs =
        !isAlive(inode) || (await (type === DIRECTORY_TYPE ? this.#names.isInside(ino) : this.#isOurs(inode)));
      const isFree = inode !== undefined || !this.#options.live.versions.sharesPages(ino);
      target = { number: isOurs && isFree ? ino : await this.#adopted(before, now) };
      this.#targets.set(ino, target);
    }
    return target;
  }

  /** What an earlier restore made in the same place can stay. */
  async #adopted({ type }: DentryRecord, now: DentryRecord | undefined): Promise<InodeNumber | undefined> {
    const { live, view } = this.#options;
    if (now?.type !== type || view.getInode(now.ino) !== undefined || this.#adoptions.has(now.ino)) return undefined;
    const inode = live.getInode(now.ino);
    if (inode === undefined) return undefined;
    if (type !== DIRECTORY_TYPE && (await this.#names.countInside(inode)) !== inode.linkCount) return undefined;
    this.#adoptions.add(now.ino);
    return now.ino;
  }

  /**
   * A file with names outside as well can get its old names in the tree again, but it cannot be changed. If it has none
   * here now, the others must be as many as they were: what was moved out has one more, and stays apart.
   */
  async #isOurs(inode: InodeRecord): Promise<boolean> {
    const insideCount = await this.#names.countInside(inode);
    if (insideCount === inode.linkCount) return true;
    if (insideCount === 0 && (await this.#countOutsideThen(inode.ino)) !== inode.linkCount) return false;
    return !(await this.#differs(inode.ino));
  }

  async #countOutsideThen(ino: InodeNumber): Promise<number> {
    const { view, changed } = this.#options;
    const linkCount = view.getInode(ino)?.linkCount ?? 0;
    if (linkCount < 2) return 0; // it is in the tree by this one
    this.#oldCounts ??= countNames(
      view,
      this.#roots.map(({ before }) => before),
      (file) => changed?.hasInode(file) !== false,
    );
    return linkCount - ((await this.#oldCounts).get(ino) ?? 0);
  }

  /** Whether a file of both states is another now. */
  async #differs(ino: InodeNumber): Promise<boolean> {
    const { live, changed } = this.#options;
    if (changed?.hasInode(ino) === false) return false;
    const { fields, isTouched } = await this.#difference(ino, live.getInode(ino));
    return isTouched || fields.length > 0;
  }

  /** @param kind - What is told of it; undefined: that it changed, if it did. */
  async #inode(target: Target, ino: InodeNumber, path: string, kind: ChangeKind | undefined): Promise<void> {
    const { live } = this.#options;
    const now = target.number === undefined ? undefined : live.getInode(target.number);
    const { fields, isTouched, ...rest } = await this.#difference(ino, now);
    const isSame = kind === undefined && fields.length === 0;
    if (!isSame) this.#note(kind ?? "changed", path, now, rest.record, fields);
    if (this.#planned.has(target) || (isSame && !isTouched)) return;
    this.#planned.add(target);
    this.#plan.inodes.push({ target, ...rest });
    this.#weigh(1 + rest.pages.length);
  }

  async #difference(ino: InodeNumber, now: InodeRecord | undefined): Promise<Difference> {
    const { live, view } = this.#options;
    const record = view.getInode(ino);
    if (record === undefined) throw new TcfsError("TCFS_CORRUPT", `inode ${ino} of the snapshot is missing`);
    const xattrs = record.hasXattrs ? view.getXattrs(ino) : NO_XATTRS;
    const isRegular = isRegularMode(record.mode);
    const pages = isRegular ? await this.#pages(record, now) : [];
    const fields: ChangedField[] = [];
    if (now === undefined) return { record, xattrs, pages, fields, isTouched: true };
    if (pages.length > 0 || (isRegular && now.lengthBytes !== record.lengthBytes)) fields.push("content");
    if (now.mode !== record.mode) fields.push("mode");
    if (now.uid !== record.uid || now.gid !== record.gid) fields.push("owner");
    const isSameLink = Buffer.compare(now.symlinkTarget ?? NO_BYTES, record.symlinkTarget ?? NO_BYTES) === 0;
    if (!isSameLink || now.deviceNumber !== record.deviceNumber) fields.push("target");
    if (!isSameXattrs(record, now, view, live)) fields.push("xattrs");
    return { record, xattrs, pages, fields, isTouched: !isSameTime(now, record) };
  }

  async #pages(record: InodeRecord, now: InodeRecord | undefined): Promise<PlannedInode["pages"]> {
    const { live, view, changed } = this.#options;
    const { ino } = record;
    const numbers = new Set<number>();
    if (now?.ino === ino && changed !== undefined) {
      for (const page of changed.pagesOf(ino)) numbers.add(page);
    } else {
      for (const page of await view.extentPages(ino, 0, endPageOf(record.lengthBytes))) numbers.add(page);
      for (const page of await this.#presentPages(ino, now)) numbers.add(page);
    }
    const pages: PlannedInode["pages"][number][] = [];
    for (const page of numbers) {
      const extents = view.getExtentPage(ino, page);
      const isAsItWas = now !== undefined && isSamePage(extents, live.getExtentPage(now.ino, page));
      if (!isAsItWas) pages.push({ page, extents });
    }
    return pages;
  }

  /** Of an inode that is gone: what is left of it for its versions, if it was long. That must not show again. */
  async #presentPages(ino: InodeNumber, now: InodeRecord | undefined): Promise<number[]> {
    const { live } = this.#options;
    if (now !== undefined) return live.extentPages(now.ino, 0, endPageOf(now.lengthBytes));
    return live.getInode(ino) === undefined ? live.extentPages(ino, 0, Number.MAX_SAFE_INTEGER) : [];
  }

  #note(
    kind: ChangeKind,
    path: string,
    now: InodeRecord | undefined,
    next: InodeRecord | undefined,
    fields: readonly ChangedField[] = [],
  ): void {
    const bytesBefore = kind === "added" ? undefined : fileBytes(now);
    const bytesAfter = fileBytes(next);
    this.#plan.changes.push({
      kind,
      path,
      type: letterOf(next ?? now),
      ...(bytesBefore === undefined ? {} : { bytesBefore }),
      ...(bytesAfter === undefined ? {} : { bytesAfter }),
      ...(fields.length === 0 || kind === "added" ? {} : { fields }),
    });
  }

  #weigh(count: number): void {
    this.#count += count;
    if (this.#count <= MAX_DIFFERENCES) return;
    const limit = MAX_DIFFERENCES.toLocaleString("en");
    const message = `more than ${limit} things differ there: restore parts of it, or the whole snapshot (without --path)`;
    throw new TcfsError("TCFS_USAGE", message);
  }
}

/** Whether it has a name. */
function isAlive(inode: InodeRecord | undefined): inode is InodeRecord {
  return inode !== undefined && inode.linkCount > 0;
}

function isSameTime(left: InodeRecord, right: InodeRecord): boolean {
  const [a, b] = [left.modifyTime, right.modifyTime];
  return a.seconds === b.seconds && a.nanoseconds === b.nanoseconds;
}

function fileBytes(inode: InodeRecord | undefined): number | undefined {
  return inode !== undefined && isRegularMode(inode.mode) ? Number(inode.lengthBytes) : undefined;
}

function below(path: string, name: Name): string {
  return `${path}/${showTreePath([name])}`;
}
