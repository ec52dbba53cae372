/** Extended attributes: namespaces, flags, limits. */
import { expect, test } from "vitest";
import { ALICE, refuses, type Bench } from "../bench.ts";
import { S_IFIFO, XATTR_CREATE, XATTR_REPLACE } from "../constants.ts";

const XATTR_SIZE_MAX = 65_536;

export function xattrCases(bench: Bench): void {
  test.each(["user.name", "trusted.name", "security.name"])("%s is set, read, listed and removed", async (name) => {
    await bench.root.file("f");
    await bench.root.setXattr("f", name, "value");
    expect((await bench.root.getXattr("f", name)).toString()).toBe("value");
    expect(await bench.root.listXattrs("f")).toEqual([name]);
    await bench.root.removeXattr("f", name);
    expect(await bench.root.listXattrs("f")).toEqual([]);
    await refuses("ENODATA", bench.root.getXattr("f", name));
  });

  test.each([
    ["empty", Buffer.alloc(0)],
    ["every byte", Buffer.from(Array.from({ length: 256 }, (_, i) => i))],
    ["one NUL", Buffer.from([0])],
    ["3000 bytes", Buffer.alloc(3000, 7)],
  ])("a value of %s is kept as it is", async (_, value) => {
    await bench.root.file("f");
    await bench.root.setXattr("f", "user.a", value);
    expect(await bench.root.getXattr("f", "user.a")).toEqual(value);
    expect(await bench.root.xattrLength("f", "user.a")).toBe(value.length);
  });

  test("a value is replaced by a shorter and a longer one", async () => {
    await bench.root.file("f");
    for (const length of [100, 1, 2000, 0, 50]) {
      await bench.root.setXattr("f", "user.a", "v".repeat(length));
      expect(await bench.root.xattrLength("f", "user.a")).toBe(length);
    }
  });

  test("XATTR_CREATE refuses an existing name, XATTR_REPLACE a missing one", async () => {
    await bench.root.file("f");
    await refuses("ENODATA", bench.root.setXattr("f", "user.a", "1", XATTR_REPLACE));
    await bench.root.setXattr("f", "user.a", "1", XATTR_CREATE);
    await refuses("EEXIST", bench.root.setXattr("f", "user.a", "2", XATTR_CREATE));
    await bench.root.setXattr("f", "user.a", "3", XATTR_REPLACE);
    expect((await bench.root.getXattr("f", "user.a")).toString()).toBe("3");
    await refuses("EINVAL", bench.root.setXattr("f", "user.a", "4", 64));
  });

  test("a short buffer answers ERANGE, an empty one the length", async () => {
    await bench.root.file("f");
    await bench.root.setXattr("f", "user.a", "0123456789");
    await refuses("ERANGE", bench.root.getXattr("f", "user.a", 9));
    expect(await bench.root.getXattr("f", "user.a", 10)).toHaveLength(10);
    await refuses("ERANGE", bench.root.listXattrs("f", 4));
  });

  test("names of 255 bytes fit, of 256 answer ERANGE", async () => {
    await bench.root.file("f");
    const longest = `user.${"n".repeat(250)}`;
    await bench.root.setXattr("f", longest, "1");
    expect(await bench.root.listXattrs("f")).toEqual([longest]);
    await refuses("ERANGE", bench.root.setXattr("f", `${longest}n`, "1"));
  });

  test("a name without a known namespace answers EOPNOTSUPP", async () => {
    await bench.root.file("f");
    await refuses("EOPNOTSUPP", bench.root.setXattr("f", "name", "1"));
    await refuses("EOPNOTSUPP", bench.root.setXattr("f", "other.name", "1"));
    await refuses("EOPNOTSUPP", bench.root.getXattr("f", "other.name"));
  });

  test("a bare namespace is no name", async () => {
    await bench.root.file("f");
    await refuses("EINVAL", bench.root.setXattr("f", "user.", "1"));
  });

  test("names keep their bytes", async () => {
    await bench.root.file("f");
    const name = Buffer.concat([Buffer.from("user."), Buffer.from([0xff, 0x20, 0x0a, 0x2f])]);
    await bench.root.setXattr("f", name, "1");
    expect(await bench.root.listXattrs("f")).toEqual([name.toString("latin1")]);
    expect((await bench.root.getXattr("f", name)).toString()).toBe("1");
  });

  test("the largest value fits, one more byte does not", async () => {
    await bench.root.file("f");
    const { maximumXattrBytes, xattrOverflow } = bench.traits;
    await bench.root.setXattrFill("f", "user.a", maximumXattrBytes);
    expect(await bench.root.xattrLength("f", "user.a")).toBe(maximumXattrBytes);
    await refuses(xattrOverflow, bench.root.setXattrFill("f", "user.a", maximumXattrBytes + 1000));
    expect(await bench.root.xattrLength("f", "user.a")).toBe(maximumXattrBytes);
  });

  test("a value over 64 KiB answers E2BIG", async () => {
    await bench.root.file("f");
    await refuses("E2BIG", bench.root.setXattrFill("f", "user.a", XATTR_SIZE_MAX + 1));
  });

  test("fifty names stand beside each other", async () => {
    await bench.root.file("f");
    for (let i = 0; i < 50; i++) await bench.root.setXattr("f", `user.name${i}`, `value ${i}`);
    expect(await bench.root.listXattrs("f")).toHaveLength(50);
    for (let i = 0; i < 50; i += 2) await bench.root.removeXattr("f", `user.name${i}`);
    expect(await bench.root.listXattrs("f")).toHaveLength(25);
    expect((await bench.root.getXattr("f", "user.name17")).toString()).toBe("value 17");
  });

  test("directories carry user xattrs", async () => {
    await bench.root.mkdir("d");
    await bench.root.setXattr("d", "user.a", "on a directory");
    expect((await bench.root.getXattr("d", "user.a")).toString()).toBe("on a directory");
  });

  test("symlinks and fifos refuse user xattrs with EPERM, symlinks take trusted ones", async () => {
    await bench.root.symlink("t", "s");
    await bench.root.mknod("fifo", S_IFIFO | 0o666);
    await refuses("EPERM", bench.root.setLinkXattr("s", "user.a", "1"));
    await refuses("EPERM", bench.root.setXattr("fifo", "user.a", "1"));
    await bench.root.setLinkXattr("s", "trusted.a", "2");
    expect((await bench.root.getLinkXattr("s", "trusted.a")).toString()).toBe("2");
    expect(await bench.root.call("llistxattr", "s")).toEqual(["trusted.a"]);
  });

  test("user xattrs take the file's permissions", async () => {
    await bench.root.file("f", "", 0o644);
    await bench.root.setXattr("f", "user.a", "1");
    expect((await bench.alice.getXattr("f", "user.a")).toString()).toBe("1");
    await refuses("EACCES", bench.alice.setXattr("f", "user.a", "2"));
    await refuses("EACCES", bench.alice.removeXattr("f", "user.a"));
    await bench.root.chmod("f", 0o600);
    await refuses("EACCES", bench.alice.getXattr("f", "user.a"));
  });

  test("in a sticky directory's own xattrs only its owner writes", async () => {
    await bench.root.mkdir("d");
    await bench.root.chmod("d", 0o1777);
    await refuses("EPERM", bench.alice.setXattr("d", "user.a", "1"));
  });

  test("trusted xattrs are root's alone, and hidden from others", async () => {
    await bench.alice.file("f");
    await bench.root.setXattr("f", "trusted.a", "1");
    await bench.root.setXattr("f", "user.a", "2");
    await refuses("ENODATA", bench.alice.getXattr("f", "trusted.a"));
    await refuses("EPERM", bench.alice.setXattr("f", "trusted.a", "1"));
    expect(await bench.alice.listXattrs("f")).toEqual(["user.a"]);
    expect(await bench.root.listXattrs("f")).toEqual(["trusted.a", "user.a"]);
  });

  test("security xattrs are written by root alone, read by all", async () => {
    await bench.alice.file("f");
    await refuses("EPERM", bench.alice.setXattr("f", "security.a", "1"));
    await bench.root.setXattr("f", "security.a", "1");
    expect((await bench.alice.getXattr("f", "security.a")).toString()).toBe("1");
  });

  test("removing what is not there answers ENODATA", async () => {
    await bench.root.file("f");
    await refuses("ENODATA", bench.root.removeXattr("f", "user.a"));
  });

  test("xattrs follow a file through rename and hard links, not into copies", async () => {
    await bench.root.file("f");
    await bench.root.setXattr("f", "user.a", "1");
    await bench.root.link("f", "g");
    await bench.root.rename("f", "h");
    await bench.root.unlink("h");
    expect((await bench.root.getXattr("g", "user.a")).toString()).toBe("1");
    await bench.root.unlink("g");
    await bench.root.file("f");
    expect(await bench.root.listXattrs("f")).toEqual([]);
  });

  test("user xattrs of a file that another user may write can be set by that user", async () => {
    await bench.root.file("f", "", 0o644);
    await bench.root.chmod("f", 0o666);
    await bench.alice.setXattr("f", "user.a", "by alice");
    expect((await bench.root.getXattr("f", "user.a")).toString()).toBe("by alice");
    expect((await bench.root.stat("f")).uid).not.toBe(ALICE.uid);
  });
}
