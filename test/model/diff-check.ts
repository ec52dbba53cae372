/** What `tcfs diff` must say of two trees that were read, compared with what it says. */
import type { ChangedField, TreeChange } from "../../src/fs/snapshots/diff.ts";
import type { RealNode, RealTree } from "./tree.ts";

interface Entry {
  readonly path: string;
  readonly ino: bigint;
}

const TYPE_LETTERS = { directory: "d", file: "f", symlink: "l" } as const;

/**
 * @param base - The trees' own path in the volume; nothing else has changed.
 * @returns What is wrong with `changes`, in words.
 */
export function diffFaults(changes: readonly TreeChange[], before: RealTree, after: RealTree, base: string): string[] {
  const faults: string[] = [];
  const inVolume = (path: string): string => base + path;
  const [lost, gained] = [entriesMissing(before, after), entriesMissing(after, before)];
  const of = (kind: TreeChange["kind"]): TreeChange[] => changes.filter((change) => change.kind === kind);
  const renames = of("renamed");
  const requireEqual = (what: string, found: readonly string[], expected: readonly string[]): void => {
    const [left, right] = [[...found].sort().join(" "), [...expected].sort().join(" ")];
    if (left !== right) faults.push(`${what}\n  expected ${right}\n  found    ${left}`);
  };
  const lostPaths = [...of("removed").map(({ path }) => path), ...renames.map(({ from }) => from ?? "")];
  requireEqual(
    "lost",
    lostPaths,
    lost.map(({ path }) => inVolume(path)),
  );
  const gainedPaths = [...of("added"), ...renames].map(({ path }) => path);
  requireEqual(
    "gained",
    gainedPaths,
    gained.map(({ path }) => inVolume(path)),
  );
  const renamedInodes = renames.map(({ path }) => after.inodes.get(path.slice(base.length)));
  for (const [index, { from, path }] of renames.entries()) {
    const was = before.inodes.get((from ?? "").slice(base.length));
    if (was !== renamedInodes[index]) faults.push(`${path} is not what ${from} was`);
  }
  requireEqual("renamed", renamedInodes.map(String), pairs(lost, gained).map(String));
  const inodeAt = (path: string): bigint | undefined => after.inodes.get(path === base ? "" : path.slice(base.length));
  const changed = of("changed").filter((change) => {
    const [old, now] = [before.nodes.get(inodeAt(change.path) ?? 0n), after.nodes.get(inodeAt(change.path) ?? 0n)];
    return old === undefined || now === undefined || !isOnlyPutTogether(change, old, now);
  });
  const changedInodes = changed.map(({ path }) => inodeAt(path));
  requireEqual("changed", changedInodes.map(String), mustHaveChanged(before, after, new Set(renamedInodes)));
  const told = [...changed.map((change, index) => [change, changedInodes[index]] as const)];
  told.push(...renames.map((change, index) => [change, renamedInodes[index]] as const));
  for (const [change, ino] of told) {
    const [old, now] = [before.nodes.get(ino ?? 0n), after.nodes.get(ino ?? 0n)];
    if (old === undefined || now === undefined) faults.push(`${change.path} is told, but not in both trees`);
    else faults.push(...toldFaults(change, old, now));
  }
  return faults;
}

/** A directory entry is (directory's inode, name, inode). */
function entriesMissing(here: RealTree, there: RealTree): Entry[] {
  const keyOf = (tree: RealTree, path: string, ino: bigint): string => {
    const cut = path.lastIndexOf("/");
    return `${tree.inodes.get(path.slice(0, cut))} ${path.slice(cut + 1)} ${ino}`;
  };
  const others = new Set([...there.inodes].map(([path, ino]) => keyOf(there, path, ino)));
  const missing: Entry[] = [];
  for (const [path, ino] of here.inodes) {
    if (path !== "" && !others.has(keyOf(here, path, ino))) missing.push({ path, ino });
  }
  return missing;
}

/** Inodes that lost a name and gained one, once for each pair. */
function pairs(lost: readonly Entry[], gained: readonly Entry[]): bigint[] {
  const left = gained.map(({ ino }) => ino);
  return lost.flatMap(({ ino }) => {
    const index = left.indexOf(ino);
    return index < 0 ? [] : left.splice(index, 1);
  });
}

function mustHaveChanged(before: RealTree, after: RealTree, renamed: ReadonlySet<bigint | undefined>): string[] {
  const inodes: string[] = [];
  for (const [ino, old] of before.nodes) {
    const now = after.nodes.get(ino);
    if (now !== undefined && !renamed.has(ino) && fieldsThatDiffer(old, now).length > 0) inodes.push(String(ino));
  }
  return inodes;
}

function toldFaults(change: TreeChange, old: RealNode, now: RealNode): string[] {
  const faults: string[] = [];
  const told = change.fields ?? [];
  let fields = fieldsThatDiffer(old, now);
  if (told.includes("content") && mayBePutTogether(old, now))
    fields = ["content", ...fields.filter((field) => field !== "content" && field !== "times")];
  if (told.join() !== fields.join()) faults.push(`${change.path}: told ${told.join()}, not ${fields.join()}`);
  if (change.type !== TYPE_LETTERS[now.node.type]) faults.push(`${change.path}: told to be ${change.type}`);
  if (now.node.type !== "file") return faults;
  if (BigInt(change.bytesBefore ?? -1) !== old.status.lengthBytes) faults.push(`${change.path}: another size before`);
  if (BigInt(change.bytesAfter ?? -1) !== now.status.lengthBytes) faults.push(`${change.path}: another size now`);
  return faults;
}

/**
 * Whether a file may be told as of other content though its bytes are the same: once its pieces were cut anew, by writing
 * them again or by the volume when it is quiet, its times alone tell (src/fs/snapshots/diff.ts).
 */
function mayBePutTogether(old: RealNode, now: RealNode): boolean {
  const isTouched = timeOf(old) !== timeOf(now) || changeTimeOf(old) !== changeTimeOf(now);
  return isTouched && now.node.type === "file" && old.node.content.equals(now.node.content);
}

/** Nothing else of it differs that is told. */
function isOnlyPutTogether({ fields = [] }: TreeChange, old: RealNode, now: RealNode): boolean {
  return fields.join() === "content" && fieldsThatDiffer(old, now).length === 0 && mayBePutTogether(old, now);
}

function fieldsThatDiffer(old: RealNode, now: RealNode): ChangedField[] {
  const fields: ChangedField[] = [];
  const isTouched = timeOf(old) !== timeOf(now);
  if (!old.node.content.equals(now.node.content)) fields.push("content");
  if (old.node.mode !== now.node.mode) fields.push("mode");
  if (old.node.uid !== now.node.uid || old.node.gid !== now.node.gid) fields.push("owner");
  if (xattrsOf(old) !== xattrsOf(now)) fields.push("xattrs");
  if (isTouched && now.node.type !== "directory" && !fields.includes("content")) fields.push("times");
  return fields;
}

function timeOf({ status: { modifyTime } }: RealNode): string {
  return `${modifyTime.seconds}:${modifyTime.nanoseconds}`;
}

function changeTimeOf({ status: { changeTime } }: RealNode): string {
  return `${changeTime.seconds}:${changeTime.nanoseconds}`;
}

function xattrsOf({ node }: RealNode): string {
  return JSON.stringify([...node.xattrs].sort());
}
