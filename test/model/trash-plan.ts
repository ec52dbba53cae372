/** What a restore from the trash must come to, by what the trash lists and what is there. Pure. */
import type { TrashFigures } from "../../src/fs/versions/trash.ts";

type Type = "directory" | "file" | "symlink";
type TypeOf = (path: string) => Type | undefined;

export interface PlannedTrash {
  readonly code: string;
  /** What is made, directories before what is in them. */
  readonly created: readonly string[];
  readonly skipped: readonly string[];
  /** What leaves the trash. */
  readonly restored: readonly TrashFigures[];
}

/** @returns Undefined where the list does not tell which of two came last. */
export function plannedRestore(
  listed: readonly TrashFigures[],
  wanted: string,
  typeOf: TypeOf,
): PlannedTrash | undefined {
  const newest = new Map<string, TrashFigures>();
  for (const entry of listed) {
    const other = newest.get(entry.path);
    if (other?.deletedAt === entry.deletedAt) return undefined;
    if (other === undefined || other.deletedAt < entry.deletedAt) newest.set(entry.path, entry);
  }
  const matching = [...newest.values()].filter(({ path }) => path === wanted || path.startsWith(`${wanted}/`));
  const inOrder = matching.sort((left, right) => (left.path < right.path ? -1 : 1));
  const directories = inOrder.filter(({ type }) => type === "d");
  const files = inOrder.filter(({ type }) => type !== "d");
  const isOneFile = directories.length === 0 && files.length === 1 && files[0]?.path === wanted;
  const made = new Map<string, Type>();
  const there: TypeOf = (path) => made.get(path) ?? typeOf(path);
  const makeAbove = (path: string): void => {
    const names = path.split("/");
    for (let count = 2; count < names.length; count++) {
      const above = names.slice(0, count).join("/");
      if (there(above) === undefined) made.set(above, "directory");
    }
  };
  const skipped: string[] = [];
  const restored: TrashFigures[] = [];
  for (const entry of [...directories, ...files]) {
    const present = there(entry.path);
    const isBlocked = present !== undefined && (entry.type !== "d" || present !== "directory");
    const code = inTheWay(entry.path, there) ?? (entry.type === "d" ? "TCFS_NOT_DIRECTORY" : "TCFS_EXISTS");
    if (isBlocked || inTheWay(entry.path, there) !== undefined) {
      if (isOneFile) return { code, created: [...made.keys()], skipped, restored };
      skipped.push(entry.path);
      continue;
    }
    makeAbove(entry.path);
    if (present === undefined) made.set(entry.path, entry.type === "d" ? "directory" : "file");
    restored.push(entry);
  }
  return { code: "success", created: [...made.keys()], skipped, restored };
}

/** @returns The code of what stands where a path leads through, if anything does. */
export function inTheWay(path: string, typeOf: TypeOf): string | undefined {
  const names = path.split("/");
  for (let count = 2; count < names.length; count++) {
    const type = typeOf(names.slice(0, count).join("/"));
    if (type !== undefined && type !== "directory") return "TCFS_NOT_DIRECTORY";
  }
  return undefined;
}
