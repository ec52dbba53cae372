/** Which entries of a snapshot are wanted: those at and below some paths, and of these what a pattern matches. Pure. */
import { Minimatch } from "minimatch";
import { TcfsError } from "../../errors.ts";
import type { Name } from "../../ids.ts";
import type { TreePath } from "../../fs/snapshots/tree-path.ts";

/** `all`: it and everything below. `enter`: perhaps something below. */
export type Choice = "all" | "enter" | "none";

const MAX_PATTERN_CHARACTERS = 1024;

export class Selection {
  readonly #paths: readonly TreePath[];
  readonly #patterns: readonly Minimatch[];

  /**
   * @param paths - At least one; the empty one is everything.
   * @param globs - Without a slash in it one is about the last name alone, as in .gitignore; none: everything.
   * @throws TcfsError `TCFS_USAGE` for a pattern that is none.
   */
  constructor(paths: readonly TreePath[], globs: readonly string[]) {
    this.#paths = paths;
    this.#patterns = globs.map((glob) => {
      const options = { dot: true, matchBase: true, nocomment: true, nonegate: true, platform: "linux" } as const;
      const pattern = new Minimatch(glob.replace(/^\/+|\/+$/gu, ""), options);
      if (glob.length > MAX_PATTERN_CHARACTERS || pattern.set.length === 0) {
        throw new TcfsError("TCFS_USAGE", `“${glob}” is no pattern`);
      }
      return pattern;
    });
  }

  /** @param within - What was chosen for the directory that the entry is in. */
  choose(path: TreePath, isDirectory: boolean, within: Choice): Choice {
    if (within === "all") return "all";
    const isInside = this.#paths.some((root) => isWithin(path, root));
    if (isInside && (this.#patterns.length === 0 || this.#matches(path))) return "all";
    if (!isDirectory) return "none";
    const mayHold = isInside || this.#paths.some((root) => isWithin(root, path));
    return mayHold ? "enter" : "none";
  }

  #matches(path: TreePath): boolean {
    const text = path.map((name) => Buffer.from(name, "latin1").toString("utf8")).join("/");
    return this.#patterns.some((pattern) => pattern.match(text));
  }
}

function isWithin(path: readonly Name[], root: readonly Name[]): boolean {
  return root.every((name, index) => path[index] === name);
}
