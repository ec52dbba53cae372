/** Names are bytes: any but `/` and NUL, up to 255 of them; trees are deep. */
import { expect, test } from "vitest";
import { refuses, type Bench } from "../bench.ts";
import { NAME_MAX } from "../constants.ts";

const REMARKABLE: Readonly<Record<string, Uint8Array>> = {
  "a newline": Buffer.from("line\nbreak"),
  "a space at both ends": Buffer.from(" spaced "),
  "control bytes": Buffer.from([1, 2, 7, 8, 9, 27, 31, 127]),
  "bytes that are not UTF-8": Buffer.from([0xff, 0xfe, 0x80, 0xc0]),
  "half a UTF-8 character": Buffer.from([0x61, 0xe2, 0x82]),
  "UTF-8 of four bytes": Buffer.from("🗄️"),
  "three dots": Buffer.from("..."),
  "a leading hyphen": Buffer.from("-rf"),
  "a backslash": Buffer.from("a\\b"),
  "255 bytes": Buffer.from("n".repeat(NAME_MAX)),
  "255 bytes that are not UTF-8": Buffer.alloc(NAME_MAX, 0xfe),
  "one byte": Buffer.from([0x80]),
};

export function nameCases(bench: Bench): void {
  test.each(Object.entries(REMARKABLE))("a name of %s is kept as it is", async (_, name) => {
    await bench.root.file(name, "content");
    expect(await bench.root.list(".")).toEqual([Buffer.from(name).toString("latin1")]);
    expect(await bench.root.textOf(name)).toBe("content");
    await bench.root.rename(name, "plain");
    await bench.root.rename("plain", name);
    await bench.root.unlink(name);
    expect(await bench.root.list(".")).toEqual([]);
  });

  test.each(Object.entries(REMARKABLE))("a symlink to %s is kept as it is", async (_, name) => {
    await bench.root.symlink(name, "link");
    expect(await bench.root.readlink("link")).toBe(Buffer.from(name).toString("latin1"));
  });

  test("names that differ in case are different files", async () => {
    await bench.root.file("Name", "1");
    await bench.root.file("name", "2");
    expect(await bench.root.textOf("Name")).toBe("1");
  });

  test("composed and decomposed forms of one character are different names", async () => {
    await bench.root.file("\u00e9", "composed");
    await bench.root.file("e\u0301", "decomposed");
    expect(await bench.root.list(".")).toHaveLength(2);
    expect(await bench.root.textOf("\u00e9")).toBe("composed");
  });

  test("every byte but slash and NUL stands in a name", async () => {
    for (let byte = 1; byte < 256; byte++) {
      if (byte !== 0x2f) await bench.root.file(Buffer.from([0x61, byte]), String(byte));
    }
    const listed = await bench.root.list(".");
    expect(listed).toHaveLength(254);
    expect(await bench.root.textOf(Buffer.from([0x61, 0x9c]))).toBe(String(0x9c));
  });

  test("a symlink holds 4095 bytes", async () => {
    const target = "t".repeat(200) + "/".repeat(3895);
    await bench.root.symlink(target, "link");
    expect(await bench.root.readlink("link")).toBe(target);
    expect((await bench.root.lstat("link")).lengthBytes).toBe(4095n);
  });

  test("a symlink of 4096 bytes is refused with ENAMETOOLONG", async () => {
    await refuses("ENAMETOOLONG", bench.root.symlink("t".repeat(4096), "link"));
  });

  test("a tree may be 150 levels deep, and is walked level by level beyond PATH_MAX", async () => {
    const name = "d".repeat(100);
    for (let level = 0; level < 150; level++) {
      await bench.root.mkdir(name);
      await bench.root.chdir(name);
    }
    await bench.root.file("bottom", "deep");
    expect(await bench.root.textOf("bottom")).toBe("deep");
    await bench.root.unlink("bottom");
    for (let level = 0; level < 150; level++) {
      await bench.root.chdir("..");
      await bench.root.rmdir(name);
    }
    expect(await bench.root.list(".")).toEqual([]);
  });

  test("a path of PATH_MAX - 1 bytes is followed", async () => {
    await bench.root.file("file", "reached");
    expect(await bench.root.textOf("./".repeat(2045) + ".file".slice(1).padStart(5, "/"))).toBe("reached");
  });

  test("dot and dot-dot lead to a directory and its parent", async () => {
    await bench.root.mkdir("a");
    await bench.root.mkdir("a/b");
    const here = await bench.root.stat(".");
    expect((await bench.root.stat("a/b/../..")).ino).toBe(here.ino);
    expect((await bench.root.stat("a/./b/..")).ino).toBe((await bench.root.stat("a")).ino);
  });

  test("forty symlinks in a row are followed, one more is ELOOP", async () => {
    await bench.root.file("link0", "end");
    for (let i = 1; i <= 41; i++) await bench.root.symlink(`link${i - 1}`, `link${i}`);
    expect(await bench.root.textOf("link40")).toBe("end");
    await refuses("ELOOP", bench.root.stat("link41"));
  });

  test("a name is free again at once after it was removed", async () => {
    for (let i = 0; i < 50; i++) {
      await bench.root.file("again", String(i));
      expect(await bench.root.textOf("again")).toBe(String(i));
      await bench.root.unlink("again");
      await refuses("ENOENT", bench.root.stat("again"));
    }
  });

  test("a name that was looked up in vain appears when another process makes it", async () => {
    await refuses("ENOENT", bench.root.stat("later"));
    await bench.alice.file("later", "here");
    expect(await bench.root.textOf("later")).toBe("here");
  });
}
