/** rename, over every pair of types, with and without NOREPLACE and EXCHANGE. */
import { expect, test } from "vitest";
import { refuses, type Bench } from "../bench.ts";
import { O_RDONLY, O_RDWR, RENAME_EXCHANGE, RENAME_NOREPLACE, S_IFIFO, S_IFMT } from "../constants.ts";
import { errnoOf } from "../driver.ts";

const TYPES = ["file", "directory", "full directory", "symlink", "fifo"] as const;
type Type = (typeof TYPES)[number];

async function make(bench: Bench, type: Type, name: string): Promise<void> {
  if (type === "file") await bench.root.file(name, name);
  if (type === "symlink") await bench.root.symlink("nowhere", name);
  if (type === "fifo") await bench.root.mknod(name, S_IFIFO | 0o644);
  if (type.includes("directory")) await bench.root.mkdir(name);
  if (type === "full directory") await bench.root.file(`${name}/inside`);
}

function expectedOfReplacing(from: Type, to: Type): string {
  if (from.includes("directory")) {
    if (!to.includes("directory")) return "ENOTDIR";
    return to === "full directory" ? "ENOTEMPTY" : "success";
  }
  return to.includes("directory") ? "EISDIR" : "success";
}

const PAIRS = TYPES.flatMap((from) => TYPES.map((to) => [from, to] as const));

export function renameCases(bench: Bench): void {
  test.each(PAIRS)("over: a %s over a %s", async (from, to) => {
    await make(bench, from, "from");
    await make(bench, to, "to");
    const moved = await bench.root.lstat("from");
    const expected = expectedOfReplacing(from, to);
    expect(await errnoOf(bench.root.rename("from", "to"))).toBe(expected);
    expect(await bench.root.list(".")).toEqual(expected === "success" ? ["to"] : ["from", "to"]);
    if (expected === "success") expect((await bench.root.lstat("to")).ino).toBe(moved.ino);
  });

  test.each(PAIRS)("NOREPLACE: a %s leaves a %s alone with EEXIST", async (from, to) => {
    await make(bench, from, "from");
    await make(bench, to, "to");
    await refuses("EEXIST", bench.root.rename("from", "to", RENAME_NOREPLACE));
    await bench.root.rename("from", "free", RENAME_NOREPLACE);
    expect(await bench.root.list(".")).toEqual(["free", "to"]);
  });

  test.each(PAIRS)("EXCHANGE: a %s and a %s change places across directories", async (from, to) => {
    await bench.root.mkdir("x");
    await bench.root.mkdir("y");
    await make(bench, from, "x/from");
    await make(bench, to, "y/to");
    const [a, b] = [await bench.root.lstat("x/from"), await bench.root.lstat("y/to")];
    await bench.root.rename("x/from", "y/to", RENAME_EXCHANGE);
    expect((await bench.root.lstat("x/from")).ino).toBe(b.ino);
    expect((await bench.root.lstat("y/to")).ino).toBe(a.ino);
    const [xLinks, yLinks] = [to.includes("directory") ? 3 : 2, from.includes("directory") ? 3 : 2];
    expect((await bench.root.stat("x")).linkCount).toBe(xLinks);
    expect((await bench.root.stat("y")).linkCount).toBe(yLinks);
  });

  test("EXCHANGE with a name that is not there answers ENOENT", async () => {
    await bench.root.file("f");
    await refuses("ENOENT", bench.root.rename("f", "missing", RENAME_EXCHANGE));
  });

  test("EXCHANGE and NOREPLACE together answer EINVAL, as unknown flags do", async () => {
    await bench.root.file("a");
    await bench.root.file("b");
    await refuses("EINVAL", bench.root.rename("a", "b", RENAME_EXCHANGE | RENAME_NOREPLACE));
    await refuses("EINVAL", bench.root.rename("a", "b", 64));
  });

  test("EXCHANGE of a directory with its own descendant answers EINVAL", async () => {
    await bench.root.mkdir("d");
    await bench.root.mkdir("d/e");
    await refuses("EINVAL", bench.root.rename("d", "d/e", RENAME_EXCHANGE));
    await refuses("EINVAL", bench.root.rename("d/e", "d", RENAME_EXCHANGE));
  });

  test("a directory cannot go into itself or below: EINVAL", async () => {
    await bench.root.mkdir("d");
    await bench.root.mkdir("d/e");
    await refuses("EINVAL", bench.root.rename("d", "d/new"));
    await refuses("EINVAL", bench.root.rename("d", "d/e/new"));
  });

  test("a directory over its own ancestor answers ENOTEMPTY", async () => {
    await bench.root.mkdir("d");
    await bench.root.mkdir("d/e");
    await refuses("ENOTEMPTY", bench.root.rename("d/e", "d"));
  });

  test("a name onto itself changes nothing", async () => {
    await bench.root.file("f", "same");
    await bench.root.rename("f", "f");
    expect(await bench.root.textOf("f")).toBe("same");
  });

  test("two links of one file: the rename does nothing and both stay", async () => {
    await bench.root.file("a");
    await bench.root.link("a", "b");
    await bench.root.rename("a", "b");
    expect(await bench.root.list(".")).toEqual(["a", "b"]);
    expect((await bench.root.stat("a")).linkCount).toBe(2);
  });

  test("replacing one of two links keeps the other", async () => {
    await bench.root.file("old", "kept");
    await bench.root.link("old", "other");
    await bench.root.file("new", "new");
    await bench.root.rename("new", "old");
    expect(await bench.root.textOf("other")).toBe("kept");
    expect((await bench.root.stat("other")).linkCount).toBe(1);
  });

  test("a file renamed while open goes on under the handle", async () => {
    const fd = await bench.root.open("a", O_RDWR | 0o100);
    await bench.root.write(fd, "before ");
    await bench.root.rename("a", "b");
    await bench.root.write(fd, "after");
    expect(await bench.root.textOf("b")).toBe("before after");
  });

  test("a file replaced while open keeps its content for its reader", async () => {
    await bench.root.file("a", "old");
    const fd = await bench.root.open("a", O_RDONLY);
    await bench.root.file("b", "new");
    await bench.root.rename("b", "a");
    expect((await bench.root.read(fd, 10)).toString()).toBe("old");
    expect((await bench.root.fstat(fd)).linkCount).toBe(0);
    expect(await bench.root.textOf("a")).toBe("new");
  });

  test("a reader sees the old or the new file at every instant of an editor's save", async () => {
    await bench.root.file("doc", "0");
    const stopped = { value: false };
    const saving = (async () => {
      for (let i = 1; i <= 100; i++) {
        await bench.root2.file("doc.tmp", String(i));
        await bench.root2.rename("doc.tmp", "doc");
      }
      stopped.value = true;
    })();
    let last = 0;
    while (!stopped.value) {
      const seen = Number(await bench.root.textOf("doc"));
      expect(seen).toBeGreaterThanOrEqual(last);
      last = seen;
    }
    await saving;
    expect(await bench.root.textOf("doc")).toBe("100");
  });

  test("renaming . or .. answers EBUSY", async () => {
    await bench.root.mkdir("d");
    await refuses("EBUSY", bench.root.rename("d/.", "e"));
    await refuses("EBUSY", bench.root.rename("d/..", "e"));
  });

  test("a file renamed to a name with a trailing slash answers ENOTDIR", async () => {
    await bench.root.file("f");
    await refuses("ENOTDIR", bench.root.rename("f", "g/"));
  });

  test("a directory renamed with trailing slashes moves", async () => {
    await bench.root.mkdir("d");
    await bench.root.rename("d/", "e/");
    expect(await bench.root.list(".")).toEqual(["e"]);
  });

  test("a directory takes its whole tree along", async () => {
    await bench.root.mkdir("a");
    await bench.root.mkdir("a/b");
    await bench.root.file("a/b/f", "inside");
    await bench.root.mkdir("target");
    await bench.root.rename("a", "target/a");
    expect(await bench.root.textOf("target/a/b/f")).toBe("inside");
    await refuses("ENOENT", bench.root.stat("a"));
  });

  test("a symlink is renamed itself, and replaced itself", async () => {
    await bench.root.file("file", "kept");
    await bench.root.symlink("file", "link");
    await bench.root.file("other", "other");
    await bench.root.rename("other", "link");
    expect(await bench.root.textOf("file")).toBe("kept");
    expect(await bench.root.textOf("link")).toBe("other");
  });

  test("a directory renamed under another is found by its open handle", async () => {
    await bench.root.mkdir("a");
    await bench.root.mkdir("b");
    await bench.root2.chdir("a");
    await bench.root.rename("a", "b/a");
    await bench.root2.file("f", "here");
    expect(await bench.root.textOf("b/a/f")).toBe("here");
    expect((await bench.root2.stat("..")).ino).toBe((await bench.root.stat("b")).ino);
  });

  test("a renamed directory keeps mode, owner and type", async () => {
    await bench.alice.mkdir("d", 0o710);
    await bench.alice.rename("d", "e");
    const status = await bench.root.stat("e");
    expect([status.mode & S_IFMT, status.mode & 0o777, status.uid]).toEqual([0o040000, 0o710, 4001]);
  });
}
