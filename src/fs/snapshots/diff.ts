/**
 * What changed between two states of the tree, by path. Costs what changed: the records that may differ, and the
 * listings of the directories that they are in.
 */
import { isSamePage } from "../../format/extent-codec.ts";
import type { InodeRecord } from "../../format/records.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../ids.ts";
import type { ChangedRecord, MetadataView } from "../../metadata/snapshot-store.ts";
import { isDirectoryMode, isRegularMode, typeOf } from "../mode.ts";

export type ChangeKind = "added" | "removed" | "renamed" | "changed";

/** What of an inode is another: what `changed` and `renamed` tell. */
export type ChangedField = "content" | "mode" | "owner" | "xattrs" | "target" | "times";

export interface TreeChange {
  readonly kind: ChangeKind;
  /** From the root, without a slash before it; names that are not UTF-8 with U+FFFD in them. */
  readonly path: string;
  /** The path before, if it was renamed. */
  readonly from?: string;
  /** As `find -type` calls it. */
  readonly type: string;
  readonly bytesBefore?: number;
  readonly bytesAfter?: number;
  readonly fields?: readonly ChangedField[];
}

interface InodeChange {
  readonly before: InodeRecord | undefined;
  readonly after: InodeRecord | undefined;
}

/** Inodes whose two states are kept until paths are looked for: about a kilobyte each. */
const HELD_INODES = 65_536;

interface Entry {
  readonly directory: InodeNumber;
  readonly name: Name;
  readonly ino: InodeNumber;
}

const TYPE_LETTERS: Readonly<Record<number, string>> = { 1: "p", 2: "c", 4: "d", 6: "b", 8: "f", 10: "l", 12: "s" };

/** @returns The changes, sorted by path. */
export async function diffTrees(
  records: AsyncIterable<ChangedRecord>,
  before: MetadataView,
  after: MetadataView,
): Promise<TreeChange[]> {
  const diff = new TreeDiff(before, after);
  for await (const record of records) diff.note(record);
  return diff.finish();
}

/**
 * Whether a program could tell the states apart, access times aside. Stops at the first difference: every change of an
 * inode, of its content or of its attributes gives it another change time.
 */
export async function isAnythingChanged(
  records: AsyncIterable<ChangedRecord>,
  before: MetadataView,
  after: MetadataView,
): Promise<boolean> {
  for await (const record of records) {
    if (record.kind === "dentry") return true;
    if (record.kind !== "inode") continue;
    const [old, now] = [before.getInode(record.ino), after.getInode(record.ino)];
    if ((old?.linkCount ?? 0) !== (now?.linkCount ?? 0)) return true;
    if (old !== undefined && now !== undefined && !isSameTime(old.changeTime, now.changeTime)) return true;
  }
  return false;
}

class TreeDiff {
  readonly #before: Tree;
  readonly #after: Tree;
  readonly #removed = new Map<string, Entry>();
  readonly #added = new Map<string, Entry>();
  /** Those that may have changed; beyond a number of them, what they are is read again. */
  readonly #inodes = new Map<InodeNumber, InodeChange | undefined>();
  readonly #xattrs = new Set<InodeNumber>();
  readonly #contents = new Set<InodeNumber>();

  constructor(before: MetadataView, after: MetadataView) {
    this.#before = new Tree(before);
    this.#after = new Tree(after);
  }

  note(record: ChangedRecord): void {
    switch (record.kind) {
      case "inode":
        this.#inodes.set(record.ino, this.#inodes.size < HELD_INODES ? record : undefined);
        return;
      case "xattrs":
        this.#xattrs.add(record.ino);
        return;
      case "extents":
        if (!isSamePage(record.before, record.after)) this.#contents.add(record.ino);
        return;
      case "dentry": {
        const { directory } = record;
        const noteIn = (entries: Map<string, Entry>, dentry: { name: Name; ino: InodeNumber } | undefined): void => {
          if (dentry !== undefined) entries.set(`${directory}/${dentry.name}`, { directory, ...dentry });
        };
        noteIn(this.#removed, record.before);
        noteIn(this.#added, record.after);
      }
    }
  }

  /** What an inode is in each state. */
  #inode(ino: InodeNumber): InodeChange {
    const known = this.#inodes.get(ino);
    return known ?? { before: this.#before.view.getInode(ino), after: this.#after.view.getInode(ino) };
  }

  async finish(): Promise<TreeChange[]> {
    const changes: TreeChange[] = [];
    const told = new Set<InodeNumber>();
    const added = new Map<InodeNumber, Entry[]>();
    for (const entry of this.#added.values()) added.set(entry.ino, [...(added.get(entry.ino) ?? []), entry]);
    for (const entry of this.#removed.values()) {
      const successor = added.get(entry.ino)?.shift();
      if (successor === undefined) changes.push(await this.#lost(entry));
      else changes.push(await this.#renamed(entry, successor, told));
    }
    for (const entry of [...added.values()].flat()) changes.push(await this.#gained(entry));
    for (const ino of this.#inodes.keys()) {
      if (told.has(ino)) continue;
      const change = await this.#changed(ino);
      if (change !== undefined) changes.push(change);
    }
    return changes.sort((left, right) => (left.path < right.path ? -1 : left.path > right.path ? 1 : 0));
  }

  async #lost(entry: Entry): Promise<TreeChange> {
    const inode = this.#inode(entry.ino).before;
    const path = await this.#before.pathOf(entry);
    return { kind: "removed", path, type: letterOf(inode), ...sizes(inode, undefined) };
  }

  async #gained(entry: Entry): Promise<TreeChange> {
    const inode = this.#inode(entry.ino).after;
    const path = await this.#after.pathOf(entry);
    return { kind: "added", path, type: letterOf(inode), ...sizes(undefined, inode) };
  }

  async #renamed(from: Entry, to: Entry, told: Set<InodeNumber>): Promise<TreeChange> {
    const { ino } = from;
    const { before: old, after: now } = this.#inode(ino);
    const fields = old === undefined || now === undefined ? [] : this.#fields(old, now);
    told.add(ino);
    return {
      kind: "renamed",
      path: await this.#after.pathOf(to),
      from: await this.#before.pathOf(from),
      type: letterOf(now),
      ...sizes(old, now),
      ...(fields.length === 0 ? {} : { fields }),
    };
  }

  async #changed(ino: InodeNumber): Promise<TreeChange | undefined> {
    const { before: old, after: now } = this.#inode(ino);
    if (old === undefined || now === undefined || old.linkCount === 0 || now.linkCount === 0) return undefined;
    const fields = this.#fields(old, now);
    if (fields.length === 0) return undefined;
    const path = await this.#after.pathOfInode(now);
    if (path === undefined) return undefined;
    return { kind: "changed", path, type: letterOf(now), ...sizes(old, now), fields };
  }

  /** A directory's times follow from what was made and removed in it; access times are no change. */
  #fields(old: InodeRecord, now: InodeRecord): ChangedField[] {
    const isTouched = !isSameTime(old.modifyTime, now.modifyTime);
    const isChanged = isTouched || !isSameTime(old.changeTime, now.changeTime);
    const isLonger = old.lengthBytes !== now.lengthBytes;
    const fields: ChangedField[] = [];
    // Where only the pieces of a file were put together anew, its times stay.
    if (isRegularMode(now.mode) && (isLonger || (isChanged && this.#contents.has(now.ino)))) fields.push("content");
    if (old.mode !== now.mode) fields.push("mode");
    if (old.uid !== now.uid || old.gid !== now.gid) fields.push("owner");
    if (this.#xattrs.has(now.ino) && !isSameXattrs(old, now, this.#before.view, this.#after.view))
      fields.push("xattrs");
    if (Buffer.compare(old.symlinkTarget ?? NO_BYTES, now.symlinkTarget ?? NO_BYTES) !== 0) fields.push("target");
    if (isTouched && !isDirectoryMode(now.mode) && !fields.includes("content")) fields.push("times");
    return fields;
  }
}

const NO_BYTES = new Uint8Array(0);

/** Names and paths of one state, with the listings read on the way. */
class Tree {
  readonly view: MetadataView;
  readonly #listings = new Map<InodeNumber, Promise<ReadonlyMap<InodeNumber, Name>>>();
  readonly #directories = new Map<InodeNumber, Promise<string>>();
  #walked: Promise<ReadonlyMap<InodeNumber, string>> | undefined;

  constructor(view: MetadataView) {
    this.view = view;
  }

  async pathOf({ directory, name }: { readonly directory: InodeNumber; readonly name: Name }): Promise<string> {
    return join(await this.#directoryPath(directory), name);
  }

  /** @returns One of the inode's paths; undefined if it has none. */
  async pathOfInode(inode: InodeRecord): Promise<string | undefined> {
    if (inode.ino === ROOT_INODE) return ".";
    if (isDirectoryMode(inode.mode)) return this.#directoryPath(inode.ino);
    const hint = inode.parent;
    if (hint !== 0 && isDirectoryMode(this.view.getInode(hint)?.mode ?? 0)) {
      const name = (await this.#names(hint)).get(inode.ino);
      if (name !== undefined) return this.pathOf({ directory: hint, name });
    }
    // It lost the name that the hint is about: look through everything, once.
    this.#walked ??= this.#walk();
    return (await this.#walked).get(inode.ino);
  }

  #directoryPath(ino: InodeNumber): Promise<string> {
    let path = this.#directories.get(ino);
    if (path === undefined) {
      path = this.#findDirectoryPath(ino);
      this.#directories.set(ino, path);
    }
    return path;
  }

  async #findDirectoryPath(ino: InodeNumber): Promise<string> {
    const parent = ino === ROOT_INODE ? 0 : (this.view.getInode(ino)?.parent ?? 0);
    if (parent === 0) return "";
    const name = (await this.#names(parent)).get(ino);
    return join(await this.#directoryPath(parent), name ?? ("?" as Name));
  }

  #names(directory: InodeNumber): Promise<ReadonlyMap<InodeNumber, Name>> {
    let names = this.#listings.get(directory);
    if (names === undefined) {
      names = this.view
        .listDirectory(directory)
        .then((entries) => new Map(entries.map(({ ino, name }) => [ino, name])));
      this.#listings.set(directory, names);
    }
    return names;
  }

  async #walk(): Promise<ReadonlyMap<InodeNumber, string>> {
    const paths = new Map<InodeNumber, string>();
    const directories: [InodeNumber, string][] = [[ROOT_INODE, ""]];
    for (let next = directories.pop(); next !== undefined; next = directories.pop()) {
      const [directory, path] = next;
      for (const { ino, name, type } of await this.view.listDirectory(directory)) {
        paths.set(ino, join(path, name));
        if (TYPE_LETTERS[type] === "d") directories.push([ino, join(path, name)]);
      }
    }
    return paths;
  }
}

function join(path: string, name: Name): string {
  const text = Buffer.from(name, "latin1").toString("utf8");
  return path === "" ? text : `${path}/${text}`;
}

/** How `find -type` calls what an inode is. */
export function letterOf(inode: InodeRecord | undefined): string {
  return TYPE_LETTERS[typeOf(inode?.mode ?? 0)] ?? "?";
}

function sizes(
  old: InodeRecord | undefined,
  now: InodeRecord | undefined,
): { readonly bytesBefore?: number; readonly bytesAfter?: number } {
  const bytesOf = (inode: InodeRecord | undefined): number | undefined =>
    inode !== undefined && isRegularMode(inode.mode) ? Number(inode.lengthBytes) : undefined;
  const [bytesBefore, bytesAfter] = [bytesOf(old), bytesOf(now)];
  return {
    ...(bytesBefore === undefined ? {} : { bytesBefore }),
    ...(bytesAfter === undefined ? {} : { bytesAfter }),
  };
}

function isSameTime(left: InodeRecord["modifyTime"], right: InodeRecord["modifyTime"]): boolean {
  return left.seconds === right.seconds && left.nanoseconds === right.nanoseconds;
}

export function isSameXattrs(
  old: InodeRecord,
  now: InodeRecord,
  before: Pick<MetadataView, "getXattrs">,
  after: Pick<MetadataView, "getXattrs">,
): boolean {
  const left = old.hasXattrs ? before.getXattrs(old.ino) : new Map<Name, Uint8Array>();
  const right = now.hasXattrs ? after.getXattrs(now.ino) : new Map<Name, Uint8Array>();
  if (left.size !== right.size) return false;
  for (const [name, value] of left) {
    const other = right.get(name);
    if (other === undefined || Buffer.compare(value, other) !== 0) return false;
  }
  return true;
}
