/** For a name that is not there: those that may have been meant. */
import { TcfsError } from "../../errors.ts";
import type { SnapshotRecord } from "../../format/snapshot-codec.ts";

const MAX_SUGGESTIONS = 3;

/** @returns The error for a name that no snapshot has, with near ones in its sentence. */
export function noSuchSnapshot(name: string, snapshots: readonly SnapshotRecord[]): TcfsError {
  const names = snapshots.map((snapshot) => snapshot.name);
  const hint = nearOr("tcfs snapshots lists them", name, names);
  return new TcfsError("TCFS_NO_SNAPSHOT", `there is no snapshot ${quote(name)}: ${hint}`);
}

/**
 * @param otherwise - What is said where none is near.
 * @param directory - Stands before each name.
 * @returns A question that holds those of `names` which may have been meant.
 */
export function nearOr(otherwise: string, name: string, names: readonly string[], directory = ""): string {
  const near = nearNames(name, names).map((each) => quote(`${directory}${each}`));
  return near.length === 0 ? otherwise : `did you mean ${near.join(" or ")}?`;
}

/** Those that may have been meant, nearest first; a few at most. */
export function nearNames(name: string, names: readonly string[]): string[] {
  const wanted = name.toLowerCase();
  const rated = names.map((candidate) => {
    const text = candidate.toLowerCase();
    const holds = wanted !== "" && (text.includes(wanted) || (text !== "" && wanted.includes(text)));
    return { candidate, distance: holds ? 1 : editDistance(wanted, text) };
  });
  const limit = Math.max(1, Math.floor(name.length / 3));
  const near = rated.filter(({ distance }) => distance <= limit);
  return near
    .sort((left, right) => left.distance - right.distance)
    .slice(0, MAX_SUGGESTIONS)
    .map(({ candidate }) => candidate);
}

export function quote(name: string): string {
  return `“${name}”`;
}

/** Characters to change, put in or take out, and neighbours to exchange. */
function editDistance(left: string, right: string): number {
  let above: number[] = [];
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let i = 1; i <= left.length; i++) {
    const next = [i];
    for (let j = 1; j <= right.length; j++) {
      const change = (row[j - 1] ?? 0) + (left[i - 1] === right[j - 1] ? 0 : 1);
      const isTurned = i > 1 && j > 1 && left[i - 1] === right[j - 2] && left[i - 2] === right[j - 1];
      const turned = isTurned ? (above[j - 2] ?? 0) + 1 : Infinity;
      next.push(Math.min(change, turned, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    above = row;
    row = next;
  }
  return row[right.length] ?? 0;
}
