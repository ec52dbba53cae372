/** Directory entries from a cookie on: ".", "..", then the dentries in the order of their cookies. */
import type { DirectoryEntryRecord } from "../format/records.ts";
import type { InodeNumber, Name } from "../ids.ts";
import type { Attributes, DirectoryEntry } from "./operations.ts";

const DT_DIR = 4;
const SELF_COOKIE = 1n;
const PARENT_COOKIE = 2n;

export interface ReadEntriesOptions {
  readonly self: InodeNumber;
  readonly parent: InodeNumber;
  /** Where the last reader stopped; 0 at the start. */
  readonly cookie: bigint;
  readonly attributes: (ino: InodeNumber) => Attributes | undefined;
  /** @returns Whether there is room for more. */
  readonly take: (entry: DirectoryEntry, attributes: Attributes | undefined) => boolean;
}

/** Hand over entries until `take` refuses one. */
export function readEntries(entries: readonly DirectoryEntryRecord[], options: ReadEntriesOptions): void {
  const { self, parent, cookie, attributes, take } = options;
  if (cookie < SELF_COOKIE && !take({ name: "." as Name, ino: self, type: DT_DIR, cookie: SELF_COOKIE }, undefined))
    return;
  if (
    cookie < PARENT_COOKIE &&
    !take({ name: ".." as Name, ino: parent, type: DT_DIR, cookie: PARENT_COOKIE }, undefined)
  )
    return;
  for (let index = firstAfter(entries, cookie); index < entries.length; index++) {
    const entry = entries[index] as DirectoryEntryRecord;
    if (!take(entry, attributes(entry.ino))) return;
  }
}

function firstAfter(entries: readonly DirectoryEntryRecord[], cookie: bigint): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((entries[middle] as DirectoryEntryRecord).cookie > cookie) high = middle;
    else low = middle + 1;
  }
  return low;
}
