/** Of what a restore changed, what the kernel may have cached: told once it is all done. */
import { ROOT_INODE, type InodeNumber, type Name } from "../../ids.ts";
import type { ChangedRecord } from "../../metadata/snapshot-store.ts";
import type { KernelCaches } from "./kernel-caches.ts";
import { SNAPSHOTS_NAME } from "./numbers.ts";
import type { AppliedChanges } from "./tree-apply.ts";

/**
 * The kernel is told of so few things at a time: each notice has a thread of the pool, and waits there for whoever lists or
 * changes the directory, or reads the file, who may wait for a thread of the pool.
 */
const NOTICES_IN_FLIGHT = 2;

export class ChangedCaches {
  readonly #inodes = new Set<InodeNumber>();
  readonly #entries: { readonly directory: InodeNumber; readonly name: Name }[] = [];
  count = 0;

  note(record: ChangedRecord): void {
    this.count++;
    if (record.kind !== "dentry") {
      this.#inodes.add(record.ino);
      return;
    }
    const { directory } = record;
    const name = (record.before ?? record.after)?.name;
    this.#inodes.add(directory);
    if (name !== undefined) this.#entries.push({ directory, name });
  }

  noteAll({ inodes, entries }: AppliedChanges): void {
    for (const ino of inodes) this.#inodes.add(ino);
    for (const entry of entries) this.#entries.push(entry);
  }

  async tell(kernel: KernelCaches): Promise<void> {
    await inGroups(this.#entries, ({ directory, name }) => kernel.forgetEntry(directory, name));
    await inGroups([...this.#inodes], (ino) => kernel.forgetInode(ino));
    await kernel.forgetEntry(ROOT_INODE, SNAPSHOTS_NAME);
  }
}

async function inGroups<T>(items: readonly T[], action: (item: T) => Promise<void>): Promise<void> {
  for (let start = 0; start < items.length; start += NOTICES_IN_FLIGHT) {
    await Promise.all(items.slice(start, start + NOTICES_IN_FLIGHT).map(action));
  }
}
