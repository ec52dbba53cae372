/** What has to change so that trees of the present become what they were in a snapshot. Plain data. */
import type { ExtentPage, InodeRecord } from "../../format/records.ts";
import type { InodeNumber, Name } from "../../ids.ts";
import type { TreeChange } from "./diff.ts";
import type { TreePath } from "./tree-path.ts";

/** An inode of the tree to be. */
export interface Target {
  /** Undefined: it gets a new number, for the old one is in use outside of the trees. */
  number: InodeNumber | undefined;
}

export interface DetachedEntry {
  readonly directory: InodeNumber;
  readonly name: Name;
}

export interface AttachedEntry {
  readonly directory: Target;
  readonly name: Name;
  readonly child: Target;
  /** DT_* */
  readonly type: number;
}

export interface PlannedInode {
  readonly target: Target;
  /** As the snapshot has it. */
  readonly record: InodeRecord;
  readonly xattrs: ReadonlyMap<Name, Uint8Array>;
  /** The extent pages that differ; an empty one is a hole. */
  readonly pages: readonly { readonly page: number; readonly extents: ExtentPage }[];
}

export interface TreePlan {
  readonly detached: readonly DetachedEntry[];
  readonly attached: readonly AttachedEntry[];
  readonly inodes: readonly PlannedInode[];
  /** The same for a person, in no order. */
  readonly changes: readonly TreeChange[];
  /** The paths at and below which this changes something: of each the topmost that is made, or the one asked for. */
  readonly trees: readonly TreePath[];
  /** The directories that these trees are in: they were changed, like by any other hand. */
  readonly outside: ReadonlySet<InodeNumber>;
}
