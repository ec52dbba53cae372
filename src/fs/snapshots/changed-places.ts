/**
 * Where a tree differs from a snapshot, found from the records that changed since: so that a comparison goes only where
 * something did. May name too much, never too little.
 */
import type { InodeRecord } from "../../format/records.ts";
import { ROOT_INODE, type InodeNumber } from "../../ids.ts";
import type { MetadataStore } from "../../metadata/metadata-store.ts";
import type { ChangedRecord, MetadataView } from "../../metadata/snapshot-store.ts";
import { isDirectoryMode } from "../mode.ts";

type Inodes = Pick<MetadataView, "getInode">;
/** A snapshot, or the present. */
type State = Pick<MetadataStore, "getInode" | "listDirectory">;

export class ChangedPlaces {
  /** Whose inode, xattrs or data may differ. */
  readonly #inodes = new Set<InodeNumber>();
  readonly #pages = new Map<InodeNumber, Set<number>>();
  /** Directories in or below which something may differ. */
  readonly #directories = new Set<InodeNumber>();
  /** A name of a changed inode could be anywhere. */
  #isEverywhere = false;

  /** @param states - The snapshot, and the present, whose directories say where they are. */
  static async find(records: AsyncIterable<ChangedRecord>, states: readonly State[]): Promise<ChangedPlaces> {
    const places = new ChangedPlaces();
    for await (const record of records) places.#note(record, states);
    await places.#placeFiles(states);
    return places;
  }

  hasInode(ino: InodeNumber): boolean {
    return this.#inodes.has(ino);
  }

  /** Extent pages of an inode that may differ. */
  pagesOf(ino: InodeNumber): Iterable<number> {
    return this.#pages.get(ino) ?? [];
  }

  hasDirectory(ino: InodeNumber): boolean {
    return this.#isEverywhere || this.#directories.has(ino);
  }

  #note(record: ChangedRecord, states: readonly Inodes[]): void {
    if (record.kind === "dentry") {
      this.#mark(record.directory, states);
      return;
    }
    this.#inodes.add(record.ino);
    if (record.kind !== "extents") return;
    const pages = this.#pages.get(record.ino);
    if (pages === undefined) this.#pages.set(record.ino, new Set([record.page]));
    else pages.add(record.page);
  }

  /** Mark a directory and all above it, where it was and where it is. */
  #mark(directory: InodeNumber, states: readonly Inodes[]): void {
    if (this.#directories.has(directory)) return;
    this.#directories.add(directory);
    for (const state of states) {
      const parent = directory === ROOT_INODE ? 0 : (state.getInode(directory)?.parent ?? 0);
      if (parent !== 0) this.#mark(parent, states);
    }
  }

  /** Mark the directories that changed files are in: of a file with one name its hint says which, if it is right. */
  async #placeFiles(states: readonly State[]): Promise<void> {
    for (const state of states) {
      const hinted = new Map<InodeNumber, Set<InodeNumber>>();
      for (const ino of this.#inodes) {
        const inode = state.getInode(ino);
        if (inode === undefined || inode.linkCount === 0) continue;
        if (isDirectoryMode(inode.mode)) this.#mark(ino, states);
        else if (inode.linkCount > 1 || inode.parent === 0) this.#isEverywhere = true;
        else hinted.set(inode.parent, (hinted.get(inode.parent) ?? new Set()).add(ino));
      }
      for (const [directory, files] of hinted) await this.#placeIn(directory, files, state, states);
      if (this.#isEverywhere) return;
    }
  }

  async #placeIn(
    directory: InodeNumber,
    files: Set<InodeNumber>,
    state: State,
    states: readonly Inodes[],
  ): Promise<void> {
    if (this.#isEverywhere) return;
    if (isDirectory(state.getInode(directory))) {
      for (const { ino } of await state.listDirectory(directory)) files.delete(ino);
      this.#mark(directory, states);
    }
    if (files.size > 0) this.#isEverywhere = true; // the hint is about a name that is gone
  }
}

function isDirectory(inode: InodeRecord | undefined): boolean {
  return inode !== undefined && isDirectoryMode(inode.mode);
}
