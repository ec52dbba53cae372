/** Paths within a vault as commands give them: parsed, followed in one state of the tree, never through a symlink. */
import { TcfsError } from "../../errors.ts";
import { nameFault } from "../../format/names.ts";
import type { DentryRecord } from "../../format/records.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../ids.ts";
import type { MetadataView } from "../../metadata/snapshot-store.ts";
import { S_IFDIR, typeOf } from "../mode.ts";
import { nearOr, quote } from "./near-names.ts";

export const DIRECTORY_TYPE = typeOf(S_IFDIR);

/** The names from the root down; empty for the root. */
export type TreePath = readonly Name[];

/**
 * Slashes at the ends, double ones and `.` mean nothing.
 * @param text - From the vault's root, with or without a slash before it.
 * @throws TcfsError `TCFS_USAGE` for `..` and for what cannot be a name.
 */
export function parseTreePath(text: string): TreePath {
  const parts = text.split("/").filter((part) => part !== "" && part !== ".");
  return parts.map((part) => {
    const name = Buffer.from(part).toString("latin1") as Name;
    const fault = nameFault(name);
    if (fault !== undefined) throw new TcfsError("TCFS_USAGE", `the path ${quote(text)} has ${fault} in it`);
    return name;
  });
}

/** For a person: names that are not UTF-8 get U+FFFD. The root is `.`. */
export function showTreePath(path: TreePath): string {
  return path.length === 0 ? "." : path.map((name) => Buffer.from(name, "latin1").toString("utf8")).join("/");
}

/**
 * Those paths that lie in no other of them, each once.
 * @returns In the order given.
 */
export function outermost(paths: readonly TreePath[]): TreePath[] {
  const texts = paths.map((path) => `/${path.map((name) => `${name}/`).join("")}`);
  return paths.filter((_, index) => {
    const text = texts[index] ?? "";
    return !texts.some((other, at) => (other === text ? at < index : text.startsWith(other)));
  });
}

type DirectoryView = Pick<MetadataView, "getDentry">;

/** @returns The dentry at each step as far as there are any; all of them if the path is there. The root has none. */
export function followTreePath(view: DirectoryView, path: TreePath): DentryRecord[] {
  const found: DentryRecord[] = [];
  let directory: InodeNumber = ROOT_INODE;
  for (const name of path) {
    const last = found.at(-1);
    if (last !== undefined && last.type !== DIRECTORY_TYPE) break;
    const dentry = view.getDentry(directory, name);
    if (dentry === undefined) break;
    found.push(dentry);
    directory = dentry.ino;
  }
  return found;
}

/** @throws TcfsError `TCFS_NO_ENTRY` for a path that a snapshot does not have, with near ones in its sentence. */
export async function requirePath(view: MetadataView, path: TreePath, snapshot: string): Promise<void> {
  if (followTreePath(view, path).length === path.length) return;
  const missing = `is not in the snapshot ${quote(snapshot)}`;
  throw await noSuchPath(view, path, { missing, list: `tcfs restore ${snapshot} --list` });
}

/**
 * @param words - What is the matter with the path, and the command that lists what there is.
 * @returns The error for a path that an earlier state does not have, with near ones in its sentence.
 */
export async function noSuchPath(
  view: MetadataView,
  path: TreePath,
  words: { readonly missing: string; readonly list: string },
): Promise<TcfsError> {
  const found = followTreePath(view, path);
  const last = found.at(-1);
  const missing = `${quote(showTreePath(path))} ${words.missing}`;
  if (last !== undefined && last.type !== DIRECTORY_TYPE) {
    const file = showTreePath(path.slice(0, found.length));
    return new TcfsError("TCFS_NO_ENTRY", `${missing}: ${quote(file)} is no directory`);
  }
  const parent = path.slice(0, found.length);
  const entries = await view.listDirectory(last?.ino ?? ROOT_INODE);
  const wanted = showTreePath(path.slice(found.length, found.length + 1));
  const names = entries.map(({ name }) => showTreePath([name]));
  const [place, below] =
    parent.length === 0 ? ["", ""] : [`${showTreePath(parent)}/`, `--path ${showTreePath(parent)} `];
  const hint = nearOr(`${words.list} ${below}shows what is there`, wanted, names, place);
  return new TcfsError("TCFS_NO_ENTRY", `${missing}: ${hint}`);
}
