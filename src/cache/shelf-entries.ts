/** What a shelf holds, least recently used first, and the sums that its limit is kept by. */
import { formatPackId } from "../chunkstore/pack-format.ts";
import type { PackId } from "../ids.ts";
import type { PartialPack } from "./partial-pack.ts";
import type { Witnessed } from "./store-witness.ts";

export interface ShelfEntry extends Witnessed {
  /** On this disk. */
  bytes: number;
  /** The store's root names it, and the store was seen to have all of it. */
  isStored: boolean;
  isGrowing: boolean;
  /** Its file is being deleted. */
  isLeaving?: boolean;
  /** Undefined: all of it is in `packs`. */
  partial: PartialPack | undefined;
}

/** A pack of which nothing is known yet. */
export function newEntry(pack: PackId): ShelfEntry {
  return { pack, bytes: 0, isStored: false, isGrowing: false, partial: undefined, seenAtMs: Number.NEGATIVE_INFINITY };
}

export class ShelfEntries {
  readonly #entries = new Map<string, ShelfEntry>();
  /** Of all files. */
  usedBytes = 0;
  /** Of these, of packs that are stored. */
  storedBytes = 0;

  get count(): number {
    return this.#entries.size;
  }

  get(pack: PackId): ShelfEntry | undefined {
    return this.#entries.get(formatPackId(pack));
  }

  ofName(name: string): ShelfEntry | undefined {
    return this.#entries.get(name);
  }

  /** Least recently used first. */
  all(): ShelfEntry[] {
    return [...this.#entries.values()];
  }

  has(entry: ShelfEntry): boolean {
    return this.get(entry.pack) === entry;
  }

  add(entry: ShelfEntry): ShelfEntry {
    this.#entries.set(formatPackId(entry.pack), entry);
    this.usedBytes += entry.bytes;
    if (entry.isStored) this.storedBytes += entry.bytes;
    return entry;
  }

  remove(entry: ShelfEntry): void {
    if (!this.#entries.delete(formatPackId(entry.pack))) return;
    this.usedBytes -= entry.bytes;
    if (entry.isStored) this.storedBytes -= entry.bytes;
  }

  /** Change what an entry counts for. */
  change(entry: ShelfEntry, changes: Partial<Pick<ShelfEntry, "bytes" | "isStored" | "isGrowing" | "seenAtMs">>): void {
    const before = { bytes: entry.bytes, isStored: entry.isStored };
    Object.assign(entry, changes);
    if (!this.has(entry)) return;
    this.usedBytes += entry.bytes - before.bytes;
    this.storedBytes += (entry.isStored ? entry.bytes : 0) - (before.isStored ? before.bytes : 0);
  }

  /** It is the one used last. @returns Whether it is here. */
  touch(name: string): boolean {
    const entry = this.#entries.get(name);
    if (entry === undefined) return false;
    this.#entries.delete(name);
    this.#entries.set(name, entry);
    return true;
  }
}
