/**
 * What is known of directories, bounded in bytes: entries found, names known to be absent, and for a directory
 * that was listed or made in this session all its entries, in cookie order. Whole directories leave at a time, in two
 * generations as in generation-cache.ts. Holds nothing that cannot be read again: changes not yet committed have
 * their own layers.
 */
import type { DirectoryEntryRecord } from "../format/records.ts";
import type { Epoch, InodeNumber, Name } from "../ids.ts";

/** Estimated bytes of one entry: object, name, cookie, places in map and array. */
export const ENTRY_BYTES = 180;
const NODE_BYTES = 400;
/** A directory may take this share of the cache, unless it is the one large directory listed last. */
const LARGE_SHARE = 1 / 4;
/** Up to so many changes are put into a listing one by one; more are merged in one pass. */
const SPLICE_LIMIT = 32;
/** With more than this, and this share of the listing, a listing does not wait for its next reader to take them in. */
const HELD_CHANGES = 4096;
const HELD_CHANGES_SHARE = 1 / 4;

/** An entry whose cookie may not be computed yet: only a listing needs it. */
export class CachedDentry implements DirectoryEntryRecord {
  readonly name: Name;
  readonly ino: InodeNumber;
  readonly type: number;
  /** {@link NO_COOKIE} until a listing asks. */
  cookie: bigint;
  /** In which the record was written that says this; undefined until a batch has it. */
  epoch: Epoch | undefined;

  constructor(name: Name, ino: InodeNumber, type: number, cookie: bigint, epoch?: Epoch) {
    this.name = name;
    this.ino = ino;
    this.type = type;
    this.cookie = cookie;
    this.epoch = epoch;
  }
}

export const NO_COOKIE = -1n;

interface DirectoryNode {
  /** null: known to be absent. */
  readonly names: Map<Name, CachedDentry | null>;
  /** Whether a name that is not in `names` does not exist. */
  isComplete: boolean;
  /** Every entry in cookie order as of some moment, and the names changed since. */
  sorted: CachedDentry[] | undefined;
  readonly changed: Set<Name>;
  /** Whether this is the one directory that may exceed its share; its bytes do not count. */
  isLarge: boolean;
}

type Generation = Map<InodeNumber, DirectoryNode>;

export class DirectoryCache {
  readonly #limitBytes: number;
  readonly #cookieOf: (directory: InodeNumber, name: Name) => bigint;
  #young: Generation = new Map();
  #old: Generation = new Map();
  #youngBytes = 0;
  #large: InodeNumber | undefined;
  /* The directory asked last, which is most often the one asked next. */
  #lastDirectory: InodeNumber | undefined;
  #lastNode: DirectoryNode | undefined;

  constructor(limitBytes: number, cookieOf: (directory: InodeNumber, name: Name) => bigint) {
    this.#limitBytes = limitBytes;
    this.#cookieOf = cookieOf;
  }

  /** @returns null where the name is known to be absent, undefined where nothing is known. */
  find(directory: InodeNumber, name: Name): CachedDentry | null | undefined {
    const node = this.#node(directory);
    if (node === undefined) return undefined;
    const found = node.names.get(name);
    return found === undefined && node.isComplete ? null : found;
  }

  /** What was read from the database. */
  learn(directory: InodeNumber, name: Name, dentry: CachedDentry | null): void {
    const node = this.#node(directory) ?? this.#add(directory, newNode(false));
    node.names.set(name, dentry);
    this.#grow(directory, node);
  }

  /** What has changed; null: deleted. @returns What was there before, as {@link find} says it. */
  change(directory: InodeNumber, name: Name, dentry: CachedDentry | null): CachedDentry | null | undefined {
    const node = this.#node(directory) ?? this.#add(directory, newNode(false));
    const found = node.names.get(name);
    const before = found === undefined && node.isComplete ? null : found;
    if (dentry === null && node.isComplete) node.names.delete(name);
    else node.names.set(name, dentry);
    if (node.sorted !== undefined) this.#noteChanged(directory, node, node.sorted, name);
    this.#grow(directory, node);
    return before;
  }

  /** A directory that did not exist before: whatever is not put into it from now on does not exist. */
  addNew(directory: InodeNumber): void {
    const node = this.#node(directory) ?? this.#add(directory, newNode(true));
    node.isComplete = true;
  }

  /** All entries in cookie order, where they are known. Borrowed until the next call that changes the directory. */
  list(directory: InodeNumber): readonly DirectoryEntryRecord[] | undefined {
    const node = this.#node(directory);
    if (node === undefined) return undefined;
    if (node.sorted !== undefined) {
      if (node.changed.size > 0) this.#applyChanges(directory, node, node.sorted);
      return node.sorted;
    }
    if (!node.isComplete) return undefined;
    node.sorted = [...node.names.values()].filter((dentry) => dentry !== null);
    for (const dentry of node.sorted) this.#needCookie(directory, dentry);
    node.sorted.sort(compareCookies);
    return node.sorted;
  }

  /**
   * Keep a listing just read and @returns it, in cookie order.
   * @param found - In cookie order; handed over.
   * @param added - In any order; none of `found`.
   * @param isComplete - False where a damaged entry is missing, so that looking for it is not answered "absent".
   */
  keepListing(
    directory: InodeNumber,
    found: CachedDentry[],
    added: CachedDentry[],
    isComplete: boolean,
  ): readonly DirectoryEntryRecord[] {
    this.#forget(directory);
    for (const dentry of added) this.#needCookie(directory, dentry);
    const sorted = added.length === 0 ? found : mergeSorted(found, added.sort(compareCookies));
    const node = newNode(isComplete);
    node.sorted = sorted;
    for (const dentry of sorted) node.names.set(dentry.name, dentry);
    if (this.#exceedsShare(node)) this.#makeLarge(directory, node);
    this.#add(directory, node);
    return sorted;
  }

  /** Forget everything. */
  clear(): void {
    this.#young = new Map();
    this.#old = new Map();
    this.#youngBytes = 0;
    this.#large = undefined;
    this.#lastDirectory = undefined;
    this.#lastNode = undefined;
  }

  #node(directory: InodeNumber): DirectoryNode | undefined {
    if (directory === this.#lastDirectory) return this.#lastNode;
    let node = this.#young.get(directory);
    if (node === undefined) {
      node = this.#old.get(directory);
      if (node === undefined) return undefined;
      this.#old.delete(directory);
      this.#add(directory, node);
    }
    this.#lastDirectory = directory;
    this.#lastNode = node;
    return node;
  }

  #add(directory: InodeNumber, node: DirectoryNode): DirectoryNode {
    this.#young.set(directory, node);
    this.#youngBytes += weigh(node);
    this.#lastDirectory = directory;
    this.#lastNode = node;
    this.#turn();
    return node;
  }

  #forget(directory: InodeNumber): void {
    const node = this.#young.get(directory);
    if (node !== undefined) this.#youngBytes = Math.max(0, this.#youngBytes - weigh(node));
    this.#young.delete(directory);
    this.#old.delete(directory);
    if (this.#large === directory) this.#large = undefined;
    this.#lastDirectory = undefined;
  }

  /** One entry more, or one changed: an overestimate, which ages the cache a little early. */
  #grow(directory: InodeNumber, node: DirectoryNode): void {
    if (node.isLarge) return;
    this.#youngBytes += ENTRY_BYTES;
    if (this.#exceedsShare(node)) {
      this.#youngBytes = Math.max(0, this.#youngBytes - weigh(node));
      if (node.sorted === undefined) startAfresh(node);
      else this.#makeLarge(directory, node);
    }
    this.#turn();
  }

  /** Names that come and go must not pile up in a directory that nobody lists again. */
  #noteChanged(directory: InodeNumber, node: DirectoryNode, sorted: CachedDentry[], name: Name): void {
    node.changed.add(name);
    if (node.changed.size > HELD_CHANGES + sorted.length * HELD_CHANGES_SHARE) {
      this.#applyChanges(directory, node, sorted);
    }
  }

  #exceedsShare(node: DirectoryNode): boolean {
    return weigh(node) > this.#limitBytes * LARGE_SHARE;
  }

  /** Reading a large directory asks for its listing again and again: one such listing stays, however large. */
  #makeLarge(directory: InodeNumber, node: DirectoryNode): void {
    if (this.#large !== undefined) this.#forget(this.#large);
    this.#large = directory;
    node.isLarge = true;
  }

  #turn(): void {
    if (this.#youngBytes <= this.#limitBytes / 2) return;
    this.#old = this.#young;
    this.#young = new Map();
    this.#youngBytes = 0;
    if (this.#lastDirectory === undefined || this.#lastNode === undefined) return;
    this.#young.set(this.#lastDirectory, this.#lastNode);
    this.#old.delete(this.#lastDirectory);
    this.#youngBytes = weigh(this.#lastNode);
  }

  #needCookie(directory: InodeNumber, dentry: CachedDentry): void {
    if (dentry.cookie === NO_COOKIE) dentry.cookie = this.#cookieOf(directory, dentry.name);
  }

  #applyChanges(directory: InodeNumber, node: DirectoryNode, sorted: CachedDentry[]): void {
    const added: CachedDentry[] = [];
    for (const name of node.changed) {
      const dentry = node.names.get(name);
      if (dentry === undefined || dentry === null) continue;
      this.#needCookie(directory, dentry);
      added.push(dentry);
    }
    if (node.changed.size <= SPLICE_LIMIT) {
      for (const name of node.changed) removeByName(sorted, name, this.#cookieOf(directory, name));
      for (const dentry of added) sorted.splice(firstAtLeast(sorted, dentry.cookie), 0, dentry);
    } else {
      const kept = sorted.filter((dentry) => !node.changed.has(dentry.name));
      node.sorted = mergeSorted(kept, added.sort(compareCookies));
    }
    node.changed.clear();
  }
}

/** Merge two arrays in cookie order. */
function mergeSorted(left: readonly CachedDentry[], right: readonly CachedDentry[]): CachedDentry[] {
  const merged: CachedDentry[] = [];
  let at = 0;
  for (const dentry of right) {
    for (let next = left[at]; next !== undefined && next.cookie <= dentry.cookie; next = left[at]) {
      merged.push(next);
      at++;
    }
    merged.push(dentry);
  }
  for (; at < left.length; at++) merged.push(left[at] as CachedDentry);
  return merged;
}

/** In cookie order. */
export function compareCookies(left: DirectoryEntryRecord, right: DirectoryEntryRecord): number {
  return left.cookie < right.cookie ? -1 : left.cookie > right.cookie ? 1 : 0;
}

function newNode(isComplete: boolean): DirectoryNode {
  return { names: new Map(), isComplete, sorted: undefined, changed: new Set(), isLarge: false };
}

function startAfresh(node: DirectoryNode): void {
  node.names.clear();
  node.isComplete = false;
}

function weigh(node: DirectoryNode): number {
  return node.isLarge ? 0 : NODE_BYTES + node.names.size * ENTRY_BYTES;
}

/** @returns The index of the first entry whose cookie is not below `cookie`. */
function firstAtLeast(sorted: readonly CachedDentry[], cookie: bigint): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] as CachedDentry).cookie < cookie) low = middle + 1;
    else high = middle;
  }
  return low;
}

function removeByName(sorted: CachedDentry[], name: Name, cookie: bigint): void {
  for (let index = firstAtLeast(sorted, cookie); sorted[index]?.cookie === cookie; index++) {
    if (sorted[index]?.name !== name) continue;
    sorted.splice(index, 1);
    return;
  }
}
