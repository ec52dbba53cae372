/** A restore of paths: its plan, what is told of it, and how its safety snapshot remembers what it was about. */
import { TcfsError } from "../../errors.ts";
import { commentFault, type SnapshotRecord } from "../../format/snapshot-codec.ts";
import type { MetadataStore } from "../../metadata/metadata-store.ts";
import type { SnapshotStore } from "../../metadata/snapshot-store.ts";
import { ChangedPlaces } from "./changed-places.ts";
import type { TreeChange } from "./diff.ts";
import { quote } from "./near-names.ts";
import { DIRECTORY_TYPE, type TreePath, followTreePath, showTreePath } from "./tree-path.ts";
import type { TreePlan } from "./tree-plan.ts";
import { planTrees } from "./tree-planner.ts";

export interface PathRestoreReport {
  /** The snapshot that they are as in, or the time that they are as at. */
  readonly restored: string;
  /** What was changed, from the root: a path asked for, or the topmost directory that was made for it. */
  readonly paths: readonly string[];
  /** The snapshot of the state before; none is taken where nothing differs. */
  readonly safety?: string;
  /** Where nothing was done: the snapshot that an undo would go back to, of an earlier restore. */
  readonly earlierSafety?: string;
  readonly addedCount: number;
  readonly removedCount: number;
  readonly changedCount: number;
  /** Of a dry run, sorted by path. */
  readonly changes?: readonly TreeChange[];
}

/** Before the JSON in the comment of a safety snapshot (FORMAT.md §7.12). */
const COMMENT_START = "the state before paths were restored: ";

/**
 * Everything is committed, and nothing changes meanwhile. Costs what changed since the snapshot where a directory is among
 * the paths, and otherwise what the files are long.
 * @throws TcfsError as {@link planTrees} does.
 */
export async function planPaths(
  store: SnapshotStore,
  live: MetadataStore,
  target: SnapshotRecord,
  paths: readonly TreePath[],
): Promise<TreePlan> {
  const view = store.view(target);
  const isDirectory = (state: Parameters<typeof followTreePath>[0], path: TreePath): boolean =>
    followTreePath(state, path)[path.length - 1]?.type === DIRECTORY_TYPE;
  const hasDirectory = paths.some((path) => isDirectory(view, path) || isDirectory(live, path));
  const changed = hasDirectory ? await ChangedPlaces.find(store.changes(target, undefined), [view, live]) : undefined;
  return planTrees({ live, view, changed, paths });
}

export function describePlan(restored: string, { trees, changes }: TreePlan, isDryRun: boolean): PathRestoreReport {
  const countOf = (kind: TreeChange["kind"]): number => changes.filter((change) => change.kind === kind).length;
  const sorted = (): TreeChange[] => changes.toSorted((left, right) => (left.path < right.path ? -1 : 1));
  return {
    restored,
    paths: trees.map(showTreePath),
    addedCount: countOf("added"),
    removedCount: countOf("removed"),
    changedCount: countOf("changed"),
    ...(isDryRun ? { changes: sorted() } : {}),
  };
}

/** @throws TcfsError `TCFS_USAGE` if they are more than a comment holds. */
export function commentOfPaths(from: string, trees: readonly TreePath[]): string {
  const comment = `${COMMENT_START}${JSON.stringify({ from, paths: trees.map(showTreePath) })}`;
  if (commentFault(comment) === undefined) return comment;
  throw new TcfsError("TCFS_USAGE", "so many or long paths cannot be restored at once: a safety snapshot names them");
}

/** A snapshot's comment for a person: of a safety snapshot, which paths it was taken for. */
export function shownComment(comment: string): string {
  if (!comment.startsWith(COMMENT_START)) return comment;
  const { from, paths } = JSON.parse(comment.slice(COMMENT_START.length)) as { from: string; paths: readonly string[] };
  return `the state before ${paths.map(quote).join(", ")} became as in ${quote(from)}`;
}

/** @returns The state before the last restore (or undo) that changed anything: what an undo goes back to. */
export function undoPointOf(store: Pick<SnapshotStore, "list">): SnapshotRecord | undefined {
  return store.list().findLast(({ isSafety }) => isSafety);
}

/** @returns The paths that a safety snapshot was taken for; undefined: everything. */
export function pathsOfComment(comment: string): readonly string[] | undefined {
  if (!comment.startsWith(COMMENT_START)) return undefined;
  const { paths } = JSON.parse(comment.slice(COMMENT_START.length)) as { readonly paths: readonly string[] };
  return paths;
}
