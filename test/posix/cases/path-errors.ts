/** Every call that takes a path, with every way a path can be wrong. */
import { test } from "vitest";
import { refuses, type Bench } from "../bench.ts";
import { NAME_MAX, O_CREAT, O_RDONLY, O_RDWR, PATH_MAX, S_IFIFO, S_IFREG } from "../constants.ts";
import type { Driver } from "../driver.ts";

type Call = (driver: Driver, path: string) => Promise<unknown>;

/** Calls for which the last name must exist. */
const OF_EXISTING: Readonly<Record<string, Call>> = {
  stat: (d, p) => d.stat(p),
  open: (d, p) => d.open(p, O_RDONLY),
  truncate: (d, p) => d.truncate(p, 0),
  chmod: (d, p) => d.chmod(p, 0o600),
  chown: (d, p) => d.chown(p, 0, 0),
  utimens: (d, p) => d.utimens(p, "now", "now"),
  access: (d, p) => d.access(p, 4),
  "link from": (d, p) => d.link(p, "linked"),
  "rename from": (d, p) => d.rename(p, "renamed"),
  unlink: (d, p) => d.unlink(p),
  rmdir: (d, p) => d.rmdir(p),
  readlink: (d, p) => d.readlink(p),
  opendir: (d, p) => d.openDirectory(p),
  chdir: (d, p) => d.chdir(p),
  statfs: (d, p) => d.call("statfs", p),
  setxattr: (d, p) => d.setXattr(p, "user.a", "1"),
  getxattr: (d, p) => d.getXattr(p, "user.a"),
  listxattr: (d, p) => d.listXattrs(p),
  removexattr: (d, p) => d.removeXattr(p, "user.a"),
  exec: (d, p) => d.exec(p),
};

/** Calls that make the last name. */
const OF_NEW: Readonly<Record<string, Call>> = {
  "open with O_CREAT": (d, p) => d.open(p, O_RDWR | O_CREAT),
  mkdir: (d, p) => d.mkdir(p),
  "mknod of a file": (d, p) => d.mknod(p, S_IFREG | 0o644),
  "mknod of a fifo": (d, p) => d.mknod(p, S_IFIFO | 0o644),
  symlink: (d, p) => d.symlink("target", p),
  "link to": (d, p) => d.link("file", p),
  "rename to": (d, p) => d.rename("file", p),
};

/** Calls that look at a symlink itself when it is the last name. */
const NOT_FOLLOWING = new Set(["link from", "rename from", "unlink", "rmdir", "readlink"]);

export function pathErrorCases(bench: Bench): void {
  const all = { ...OF_EXISTING, ...OF_NEW };

  test.each(Object.entries(all))("%s answers ENOENT when a directory on the way is missing", async (_, call) => {
    await bench.root.file("file");
    await refuses("ENOENT", call(bench.root, "missing/name"));
  });

  test.each(Object.entries(all))("%s answers ENOTDIR when a file stands on the way", async (_, call) => {
    await bench.root.file("file");
    await refuses("ENOTDIR", call(bench.root, "file/name"));
  });

  test.each(Object.entries(all))("%s answers ENAMETOOLONG for a name of 256 bytes", async (_, call) => {
    await bench.root.file("file");
    await refuses("ENAMETOOLONG", call(bench.root, "n".repeat(NAME_MAX + 1)));
  });

  test.each(Object.entries(all))("%s answers ENAMETOOLONG for a path of PATH_MAX bytes", async (_, call) => {
    await bench.root.file("file");
    await refuses("ENAMETOOLONG", call(bench.root, "./".repeat(PATH_MAX / 2 - 1) + "xx"));
  });

  test.each(Object.entries(all))("%s answers ELOOP when symlinks on the way go round", async (_, call) => {
    await bench.root.file("file");
    await bench.root.symlink("b", "a");
    await bench.root.symlink("a", "b");
    await refuses("ELOOP", call(bench.root, "a/name"));
  });

  test.each(Object.entries(OF_EXISTING))("%s answers ENOENT for a name that is not there", async (_, call) => {
    await refuses("ENOENT", call(bench.root, "missing"));
  });

  test.each(Object.entries(OF_EXISTING))("%s answers ENOENT for an empty path", async (_, call) => {
    await refuses("ENOENT", call(bench.root, ""));
  });

  const following = Object.entries(OF_EXISTING).filter(([name]) => !NOT_FOLLOWING.has(name));
  test.each(following)("%s answers ENOENT for a dangling symlink", async (_, call) => {
    await bench.root.symlink("missing", "dangling");
    await refuses("ENOENT", call(bench.root, "dangling"));
  });

  test.each(following)("%s answers ELOOP for a symlink to itself", async (_, call) => {
    await bench.root.symlink("self", "self");
    await refuses("ELOOP", call(bench.root, "self"));
  });

  test.each(["mkdir", "mknod of a file", "mknod of a fifo", "symlink", "link to"])(
    "%s answers EEXIST for a name that is taken, even by a dangling symlink",
    async (name) => {
      await bench.root.file("file");
      await bench.root.symlink("missing", "dangling");
      await refuses("EEXIST", OF_NEW[name]!(bench.root, "file"));
      await refuses("EEXIST", OF_NEW[name]!(bench.root, "dangling"));
    },
  );

  test.each(Object.entries(all))(
    "%s answers EACCES when a directory on the way may not be searched",
    async (_, call) => {
      await bench.root.file("file");
      await bench.alice.mkdir("closed", 0o600);
      await bench.root.chown("file", 4001, 4001);
      await refuses("EACCES", call(bench.alice, "closed/name"));
    },
  );
}
