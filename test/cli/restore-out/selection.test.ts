/** What --path and --glob choose. */
import { expect, test } from "vitest";
import { parseTreePath } from "../../../src/fs/snapshots/tree-path.ts";
import { Selection } from "../../../src/cli/restore-out/selection.ts";

function chosen(paths: readonly string[], globs: readonly string[], all: readonly string[]): string[] {
  const selection = new Selection(paths.map(parseTreePath), globs);
  return all.filter((path) => {
    const parts = parseTreePath(path);
    let choice = selection.choose([], true, "none");
    for (let depth = 1; depth <= parts.length && choice !== "none"; depth++) {
      choice = selection.choose(parts.slice(0, depth), depth < parts.length, choice);
    }
    return choice === "all";
  });
}

const ALL = ["a.jpg", "docs/b.jpg", "docs/deep/c.jpg", "docs/deep/.hidden.jpg", "docsx/d.txt", "ä/é.JPG"];

test("everything is chosen where nothing is said", () => {
  expect(chosen([""], [], ALL)).toEqual(ALL);
});

test("paths choose what is at and below them, not what begins alike", () => {
  expect(chosen(["docs"], [], ALL)).toEqual(["docs/b.jpg", "docs/deep/c.jpg", "docs/deep/.hidden.jpg"]);
  expect(chosen(["/docs/b.jpg", "a.jpg/"], [], ALL)).toEqual(["a.jpg", "docs/b.jpg"]);
});

test("a pattern without a slash is about names, one with a slash about paths; a matching directory is chosen whole", () => {
  expect(chosen([""], ["*.jpg"], ALL)).toEqual(["a.jpg", "docs/b.jpg", "docs/deep/c.jpg", "docs/deep/.hidden.jpg"]);
  expect(chosen([""], ["docs/*.jpg"], ALL)).toEqual(["docs/b.jpg"]);
  expect(chosen([""], ["**/c.jpg", "*.txt"], ALL)).toEqual(["docs/deep/c.jpg", "docsx/d.txt"]);
  expect(chosen([""], ["deep"], ALL)).toEqual(["docs/deep/c.jpg", "docs/deep/.hidden.jpg"]);
  expect(chosen(["docs"], ["c*"], ALL)).toEqual(["docs/deep/c.jpg"]);
  expect(chosen([""], ["é.*"], ALL)).toEqual(["ä/é.JPG"]);
});

test("an empty or endless pattern is refused", () => {
  expect(() => new Selection([[]], [""])).toThrow("no pattern");
  expect(() => new Selection([[]], ["x".repeat(2000)])).toThrow("no pattern");
});
