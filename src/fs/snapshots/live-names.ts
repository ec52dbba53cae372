/** Which names lie within the trees that a restore is about. */
import type { DentryRecord, InodeRecord } from "../../format/records.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../ids.ts";
import type { MetadataStore } from "../../metadata/metadata-store.ts";
import type { ChangedPlaces } from "./changed-places.ts";
import { DIRECTORY_TYPE } from "./tree-path.ts";
import type { Target } from "./tree-plan.ts";

/** One entry whose whole tree is to become what it was. */
export interface TreeRoot {
  readonly directory: Target;
  readonly name: Name;
  /** For a person. */
  readonly path: string;
  /** In the snapshot; undefined: it was not there, and goes. */
  readonly before: DentryRecord | undefined;
  /** In the present. */
  readonly now: DentryRecord | undefined;
}

export class LiveNames {
  readonly #live: Pick<MetadataStore, "getInode" | "listDirectory">;
  readonly #roots: readonly TreeRoot[];
  readonly #changed: ChangedPlaces | undefined;
  readonly #isInside = new Map<InodeNumber, boolean>();
  /** The directory looked into last. */
  #listed: { readonly directory: InodeNumber; readonly names: ReadonlyMap<InodeNumber, Name> } | undefined;
  #counts: Promise<ReadonlyMap<InodeNumber, number>> | undefined;

  /** @param changed - Files that did not change are not asked for. */
  constructor(
    live: Pick<MetadataStore, "getInode" | "listDirectory">,
    roots: readonly TreeRoot[],
    changed: ChangedPlaces | undefined,
  ) {
    this.#live = live;
    this.#roots = roots;
    this.#changed = changed;
    for (const { now } of roots) if (now?.type === DIRECTORY_TYPE) this.#isInside.set(now.ino, true);
  }

  /** Whether a directory lies in one of the trees, or is the root of one. */
  isInside(directory: InodeNumber): boolean {
    const known = this.#isInside.get(directory);
    if (known !== undefined) return known;
    const parent = directory === ROOT_INODE ? 0 : (this.#live.getInode(directory)?.parent ?? 0);
    const isInside = parent !== 0 && this.isInside(parent);
    this.#isInside.set(directory, isInside);
    return isInside;
  }

  /** How many of a file's present names lie in the trees. A file with one name is found by its hint, others by a walk. */
  async countInside({ ino, linkCount, parent }: InodeRecord): Promise<number> {
    const name = linkCount === 1 && parent !== 0 ? (await this.#namesIn(parent)).get(ino) : undefined;
    if (name !== undefined && parent !== 0) return this.isInside(parent) || this.#isRoot(parent, name) ? 1 : 0;
    this.#counts ??= countNames(
      this.#live,
      this.#roots.map(({ now }) => now),
      (file) => this.#changed?.hasInode(file) !== false,
    );
    return (await this.#counts).get(ino) ?? 0;
  }

  async #namesIn(directory: InodeNumber): Promise<ReadonlyMap<InodeNumber, Name>> {
    if (this.#listed?.directory !== directory) {
      const isThere = (this.#live.getInode(directory)?.linkCount ?? 0) > 0;
      const entries = isThere ? await this.#live.listDirectory(directory) : [];
      this.#listed = { directory, names: new Map(entries.map(({ ino, name }) => [ino, name])) };
    }
    return this.#listed.names;
  }

  #isRoot(directory: InodeNumber, name: Name): boolean {
    return this.#roots.some((root) => root.directory.number === directory && root.name === name);
  }
}

/** How often each file that is wanted is named in some trees of a state. */
export async function countNames(
  state: Pick<MetadataStore, "listDirectory">,
  tops: readonly (DentryRecord | undefined)[],
  isWanted: (ino: InodeNumber) => boolean,
): Promise<ReadonlyMap<InodeNumber, number>> {
  const counts = new Map<InodeNumber, number>();
  const directories: InodeNumber[] = [];
  const note = ({ ino, type }: DentryRecord): void => {
    if (type === DIRECTORY_TYPE) directories.push(ino);
    else if (isWanted(ino)) counts.set(ino, (counts.get(ino) ?? 0) + 1);
  };
  for (const top of tops) if (top !== undefined) note(top);
  for (let next = directories.pop(); next !== undefined; next = directories.pop()) {
    for (const entry of await state.listDirectory(next)) note(entry);
  }
  return counts;
}
