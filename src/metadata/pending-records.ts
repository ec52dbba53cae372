/**
 * Records that are durable in the journal and not yet in the database, in plaintext, the newest of each: laid over every
 * read of the database. Bounded by the journal's size.
 */
import { latin1Of } from "../bytes.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import type { KeyRange } from "../format/record-keys.ts";
import type { StoredEntry } from "./database.ts";

/** By key in latin1: strings of it sort as the keys do. */
type Changes = Map<string, RecordChange>;

/** Walks that look at every change before it is worth sorting them: as long as nothing changes, and no longer. */
const SCANS_BEFORE_SORTING = 4;

export class PendingRecords {
  #newest: Changes = new Map();
  /** Being written to the database, older than `newest`. */
  #leaving: Changes = new Map();
  /** All of both, the newest of each, in the order of the keys; undefined until it is worth it. */
  #sorted: readonly (readonly [string, RecordChange])[] | undefined;
  /** Since something changed. */
  #scanCount = 0;

  get count(): number {
    return this.#newest.size + this.#leaving.size;
  }

  get isEmpty(): boolean {
    return this.#newest.size === 0 && this.#leaving.size === 0;
  }

  add(changes: readonly RecordChange[]): void {
    this.#forgetOrder();
    for (const change of changes) this.#newest.set(latin1Of(change.key), change);
  }

  /** @returns The newest change of the record; undefined where the database has the word. */
  find(key: Uint8Array): RecordChange | undefined {
    if (this.isEmpty) return undefined;
    const name = latin1Of(key);
    return this.#newest.get(name) ?? this.#leaving.get(name);
  }

  /** Everything so far, to be written to the database; held here until {@link left}. What was begun before is in it. */
  leave(): readonly RecordChange[] {
    for (const [name, change] of this.#newest) this.#leaving.set(name, change);
    this.#newest = new Map();
    return [...this.#leaving.values()];
  }

  /** The database holds what {@link leave} gave. */
  left(): void {
    this.#forgetOrder();
    this.#leaving = new Map();
  }

  /** The present changes of a range, to lay over a walk that begins now. */
  over(range: KeyRange): WalkOverlay {
    if (this.#sorted === undefined && this.#scanCount++ < SCANS_BEFORE_SORTING)
      return new WalkOverlay(this.#scan(range));
    this.#sorted ??= [...new Map([...this.#leaving, ...this.#newest])].sort(byName);
    const [first, end] = [latin1Of(range.first), latin1Of(range.end)];
    const found: Changes = new Map();
    for (let at = countBefore(this.#sorted, ([name]) => name < first); ; at++) {
      const entry = this.#sorted[at];
      if (entry === undefined || entry[0] >= end) return new WalkOverlay(found);
      found.set(entry[0], entry[1]);
    }
  }

  #scan(range: KeyRange): Changes {
    const found: Changes = new Map();
    for (const changes of [this.#leaving, this.#newest]) {
      for (const [name, change] of changes) if (isWithin(change.key, range)) found.set(name, change);
    }
    return found;
  }

  #forgetOrder(): void {
    this.#sorted = undefined;
    this.#scanCount = 0;
  }
}

function byName([left]: readonly [string, unknown], [right]: readonly [string, unknown]): number {
  return left < right ? -1 : 1; // no two are the same
}

/** @param sorted - Those of which `isBefore` says so come first. @returns How many they are. */
function countBefore<T>(sorted: readonly T[], isBefore: (one: T) => boolean): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isBefore(sorted[middle] as T)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Merges changes into the entries of one walk, in the order of the keys. */
export class WalkOverlay {
  readonly #changes: Changes;
  readonly #sorted: readonly RecordChange[];
  #next = 0;

  constructor(changes: Changes) {
    this.#changes = changes;
    this.#sorted = [...changes.values()].sort((left, right) => Buffer.compare(left.key, right.key));
  }

  /** @param entries - The walk's next ones. @returns Them as they are now, with what comes before the last of them. */
  merge(entries: readonly StoredEntry[]): readonly StoredEntry[] {
    if (this.#sorted.length === 0) return entries;
    const merged: StoredEntry[] = [];
    for (const entry of entries) {
      this.#takeUntil(entry[0], merged);
      if (!this.#changes.has(latin1Of(entry[0]))) merged.push(entry);
    }
    return merged;
  }

  /** What comes after the walk's last entry. */
  rest(): readonly StoredEntry[] {
    const merged: StoredEntry[] = [];
    this.#takeUntil(undefined, merged);
    return merged;
  }

  /** @param entries - All that a range of the walk has, in order. @returns Them as they are now. */
  within(range: KeyRange, entries: readonly StoredEntry[]): readonly StoredEntry[] {
    let at = countBefore(this.#sorted, ({ key }) => Buffer.compare(key, range.first) < 0);
    let change = this.#sorted[at];
    if (change === undefined || Buffer.compare(change.key, range.end) >= 0) return entries;
    const merged = entries.filter(([key]) => !this.#changes.has(latin1Of(key)));
    for (; change !== undefined && Buffer.compare(change.key, range.end) < 0; change = this.#sorted[++at]) {
      if (change.value !== undefined) merged.push([change.key, change.value, true]);
    }
    return merged.sort(([left], [right]) => Buffer.compare(left, right));
  }

  #takeUntil(key: Uint8Array | undefined, into: StoredEntry[]): void {
    for (let change = this.#sorted[this.#next]; change !== undefined; change = this.#sorted[this.#next]) {
      if (key !== undefined && Buffer.compare(change.key, key) > 0) return;
      if (change.value !== undefined) into.push([change.key, change.value, true]);
      this.#next += 1;
    }
  }
}

function isWithin(key: Uint8Array, { first, end }: KeyRange): boolean {
  return Buffer.compare(key, first) >= 0 && Buffer.compare(key, end) < 0;
}
