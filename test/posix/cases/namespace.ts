/** mkdir, rmdir, link, unlink, symlink: what they make, count and refuse. */
import { expect, test } from "vitest";
import { refuses, type Bench } from "../bench.ts";
import { AT_SYMLINK_FOLLOW, O_CREAT, O_RDONLY, O_RDWR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT } from "../constants.ts";

export function namespaceCases(bench: Bench): void {
  test("mkdir makes an empty directory with two links", async () => {
    await bench.root.mkdir("d", 0o750);
    const status = await bench.root.stat("d");
    expect(status.mode).toBe(S_IFDIR | 0o750);
    expect(status.linkCount).toBe(2);
    expect(await bench.root.list("d")).toEqual([]);
  });

  test("a directory's link count follows the directories in it", async () => {
    await bench.root.mkdir("d");
    for (const name of ["a", "b", "c"]) await bench.root.mkdir(`d/${name}`);
    await bench.root.file("d/file");
    expect((await bench.root.stat("d")).linkCount).toBe(5);
    await bench.root.rmdir("d/a");
    expect((await bench.root.stat("d")).linkCount).toBe(4);
  });

  test("renaming a directory moves its parent's link", async () => {
    await bench.root.mkdir("from");
    await bench.root.mkdir("to");
    await bench.root.mkdir("from/d");
    await bench.root.rename("from/d", "to/d");
    expect((await bench.root.stat("from")).linkCount).toBe(2);
    expect((await bench.root.stat("to")).linkCount).toBe(3);
    expect((await bench.root.stat("to/d/..")).ino).toBe((await bench.root.stat("to")).ino);
  });

  test("mkdir takes a trailing slash", async () => {
    await bench.root.mkdir("d/");
    expect((await bench.root.stat("d/")).mode & S_IFMT).toBe(S_IFDIR);
  });

  test("mkdir applies the umask", async () => {
    await bench.root.umask(0o027);
    await bench.root.mkdir("d", 0o777);
    expect((await bench.root.stat("d")).mode).toBe(S_IFDIR | 0o750);
  });

  test("mkdir of . and .. answers EEXIST", async () => {
    await refuses("EEXIST", bench.root.mkdir("."));
    await refuses("EEXIST", bench.root.mkdir(".."));
  });

  test("rmdir refuses a directory that holds something with ENOTEMPTY", async () => {
    await bench.root.mkdir("d");
    await bench.root.file("d/file");
    await refuses("ENOTEMPTY", bench.root.rmdir("d"));
    await bench.root.unlink("d/file");
    await bench.root.rmdir("d");
  });

  test("rmdir refuses a file and a symlink to a directory with ENOTDIR", async () => {
    await bench.root.file("file");
    await bench.root.mkdir("d");
    await bench.root.symlink("d", "link");
    await refuses("ENOTDIR", bench.root.rmdir("file"));
    await refuses("ENOTDIR", bench.root.rmdir("link"));
  });

  test("rmdir refuses . with EINVAL and .. with ENOTEMPTY", async () => {
    await bench.root.mkdir("d");
    await refuses("EINVAL", bench.root.rmdir("d/."));
    await refuses("ENOTEMPTY", bench.root.rmdir("d/.."));
  });

  test("rmdir of the mount's root answers EBUSY", async () => {
    await refuses("EBUSY", bench.root.rmdir(bench.target.directory));
  });

  test("unlink refuses a directory with EISDIR", async () => {
    await bench.root.mkdir("d");
    await refuses("EISDIR", bench.root.unlink("d"));
  });

  test("unlink of a name with a trailing slash answers ENOTDIR", async () => {
    await bench.root.file("file");
    await refuses("ENOTDIR", bench.root.unlink("file/"));
  });

  test("unlink removes a symlink and not its target", async () => {
    await bench.root.file("file", "kept");
    await bench.root.symlink("file", "link");
    await bench.root.unlink("link");
    expect(await bench.root.textOf("file")).toBe("kept");
  });

  test("a hard link is the same file under two names", async () => {
    await bench.root.file("a", "one");
    await bench.root.link("a", "b");
    const [a, b] = [await bench.root.stat("a"), await bench.root.stat("b")];
    expect(a.ino).toBe(b.ino);
    expect(a.linkCount).toBe(2);
    await bench.root.truncate("b", 0);
    expect((await bench.root.stat("a")).lengthBytes).toBe(0n);
  });

  test("hard links reach across directories, and the file lives until the last is gone", async () => {
    await bench.root.mkdir("x");
    await bench.root.mkdir("y");
    await bench.root.file("x/a", "shared");
    await bench.root.link("x/a", "y/b");
    await bench.root.unlink("x/a");
    await bench.root.rmdir("x");
    expect(await bench.root.textOf("y/b")).toBe("shared");
    expect((await bench.root.stat("y/b")).linkCount).toBe(1);
  });

  test("a mode changed through one link shows through the other", async () => {
    await bench.root.file("a");
    await bench.root.link("a", "b");
    await bench.root.chmod("a", 0o612);
    expect((await bench.root.stat("b")).mode & 0o777).toBe(0o612);
  });

  test("a hundred links to one file are counted and removed", async () => {
    await bench.root.file("f");
    for (let i = 0; i < 100; i++) await bench.root.link("f", `l${i}`);
    expect((await bench.root.stat("l57")).linkCount).toBe(101);
    for (let i = 0; i < 100; i++) await bench.root.unlink(`l${i}`);
    expect((await bench.root.stat("f")).linkCount).toBe(1);
  });

  test("link refuses a directory with EPERM", async () => {
    await bench.root.mkdir("d");
    await refuses("EPERM", bench.root.link("d", "e"));
  });

  test("link to another filesystem answers EXDEV", async () => {
    await bench.root.file("f");
    await refuses("EXDEV", bench.root.link("/proc/self/status", "linked"));
    await refuses("EXDEV", bench.root.rename("f", "/dev/shm/tcfs-posix-suite"));
  });

  test("link without AT_SYMLINK_FOLLOW links the symlink itself", async () => {
    await bench.root.file("f", "target");
    await bench.root.symlink("f", "s");
    await bench.root.link("s", "s2");
    await bench.root.link("s", "hard", AT_SYMLINK_FOLLOW);
    expect((await bench.root.lstat("s2")).mode & S_IFMT).toBe(S_IFLNK);
    expect((await bench.root.lstat("s2")).linkCount).toBe(2);
    expect((await bench.root.lstat("hard")).ino).toBe((await bench.root.stat("f")).ino);
  });

  test("fifos have hard links too", async () => {
    await bench.root.mknod("fifo", S_IFIFO | 0o600);
    await bench.root.link("fifo", "second");
    expect((await bench.root.lstat("second")).linkCount).toBe(2);
  });

  test("a symlink has mode 0777, its target's length and the maker as owner", async () => {
    await bench.alice.symlink("somewhere", "link");
    const status = await bench.root.lstat("link");
    expect(status.mode).toBe(S_IFLNK | 0o777);
    expect(status.lengthBytes).toBe(9n);
    expect(status.uid).toBe(4001);
  });

  test("an empty symlink is refused with ENOENT", async () => {
    await refuses("ENOENT", bench.root.symlink("", "link"));
  });

  test("readlink fills a short buffer and no more", async () => {
    await bench.root.symlink("somewhere", "link");
    expect(await bench.root.readlink("link", 4)).toBe("some");
  });

  test("readlink refuses what is no symlink with EINVAL", async () => {
    await bench.root.file("f");
    await refuses("EINVAL", bench.root.readlink("f"));
    await refuses("EINVAL", bench.root.readlink("."));
  });

  test("symlinks relative and absolute are followed from where they stand", async () => {
    await bench.root.mkdir("d");
    await bench.root.file("f", "up");
    await bench.root.symlink("../f", "d/relative");
    await bench.root.symlink(bench.path("f"), "d/absolute");
    expect(await bench.root.textOf("d/relative")).toBe("up");
    expect(await bench.root.textOf("d/absolute")).toBe("up");
  });

  test("open with O_CREAT through a dangling symlink makes the target", async () => {
    await bench.root.symlink("made", "link");
    await bench.root.close(await bench.root.open("link", O_CREAT | O_RDWR));
    expect(await bench.root.list(".")).toEqual(["link", "made"]);
  });

  test("a directory that was removed while it was a working directory takes no new names", async () => {
    await bench.root.mkdir("d");
    await bench.root.chdir("d");
    await bench.root2.rmdir("d");
    await refuses("ENOENT", bench.root.mkdir("e"));
    await refuses("ENOENT", bench.root.open("f", O_CREAT | O_RDWR));
    await refuses("ENOENT", bench.root.symlink("t", "s"));
    expect((await bench.root.stat(".")).linkCount).toBe(0);
  });

  test("a removed directory made again under the same name is a new one", async () => {
    await bench.root.mkdir("d");
    const handle = await bench.root.open("d", O_RDONLY);
    await bench.root.rmdir("d");
    await bench.root.mkdir("d");
    await bench.root.file("d/f");
    expect((await bench.root.fstat(handle)).ino).not.toBe((await bench.root.stat("d")).ino);
    expect(await bench.root.list("d")).toEqual(["f"]);
  });

  test("inotify tells of what other processes make, move and remove", async () => {
    const watch = Number((await bench.root.call("watch", ".", 0x100 | 0x200 | 0x40 | 0x80))[0]);
    await bench.alice.file("a");
    await bench.alice.rename("a", "b");
    await bench.alice.unlink("b");
    const events = await bench.root.call("events", watch);
    expect(events).toEqual(["256", "a", "64", "a", "128", "b", "512", "b"]);
  });
}
