/** Files without a name: unlinked while open, and O_TMPFILE. */
import { expect, test } from "vitest";
import { permissionBits, refuses, type Bench } from "../bench.ts";
import { AT_SYMLINK_FOLLOW, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_TMPFILE, O_WRONLY } from "../constants.ts";

export function orphanCases(bench: Bench): void {
  test("an unlinked file that is open is read, written, truncated and stat'ed as before", async () => {
    const fd = await bench.root.open("f", O_CREAT | O_RDWR);
    await bench.root.write(fd, "before");
    await bench.root.unlink("f");
    await bench.root.pwrite(fd, " and after", 6);
    expect((await bench.root.pread(fd, 100, 0)).toString()).toBe("before and after");
    await bench.root.ftruncate(fd, 6);
    const status = await bench.root.fstat(fd);
    expect([status.linkCount, status.lengthBytes]).toEqual([0, 6n]);
    await bench.root.fsync(fd);
  });

  test("an unlinked open file takes chmod, chown, times and xattrs through its handle", async () => {
    const fd = await bench.root.open("f", O_CREAT | O_RDWR);
    await bench.root.unlink("f");
    await bench.root.fchmod(fd, 0o604);
    await bench.root.fchown(fd, 5, 6);
    await bench.root.futimens(fd, { seconds: 7n, nanoseconds: 8 }, { seconds: 9n, nanoseconds: 10 });
    await bench.root.call("fsetxattr", fd, "user.a", "41", 0);
    const status = await bench.root.fstat(fd);
    expect([permissionBits(status.mode), status.uid, status.gid]).toEqual([0o604, 5, 6]);
    expect(status.modifyTime).toEqual({ seconds: 9n, nanoseconds: 10 });
    expect(await bench.root.call("fgetxattr", fd, "user.a")).toEqual(["41"]);
  });

  test("a new file under the old name is another file", async () => {
    const fd = await bench.root.open("f", O_CREAT | O_RDWR);
    await bench.root.write(fd, "old");
    await bench.root.unlink("f");
    await bench.root.file("f", "new");
    expect((await bench.root.pread(fd, 10, 0)).toString()).toBe("old");
    expect(await bench.root.textOf("f")).toBe("new");
    expect((await bench.root.fstat(fd)).ino).not.toBe((await bench.root.stat("f")).ino);
  });

  test("an unlinked file cannot be linked back by its handle", async () => {
    const fd = await bench.root.open("f", O_CREAT | O_RDWR);
    await bench.root.unlink("f");
    await refuses("ENOENT", bench.root.link(`/proc/self/fd/${fd}`, "back", AT_SYMLINK_FOLLOW));
  });

  test("an unlinked file can be opened again through /proc/self/fd", async () => {
    const fd = await bench.root.open("f", O_CREAT | O_RDWR);
    await bench.root.write(fd, "still");
    await bench.root.unlink("f");
    const again = await bench.root.open(`/proc/self/fd/${fd}`, O_RDONLY);
    expect((await bench.root.read(again, 10)).toString()).toBe("still");
  });

  test("a file unlinked in one process is still read in another", async () => {
    await bench.root.file("f", "content");
    const fd = await bench.alice.open("f", O_RDONLY);
    await bench.root.unlink("f");
    await refuses("ENOENT", bench.alice.stat("f"));
    expect((await bench.alice.read(fd, 10)).toString()).toBe("content");
  });

  test("O_TMPFILE makes a file without a name", async () => {
    const fd = await bench.root.open(".", O_TMPFILE | O_RDWR, 0o640);
    const status = await bench.root.fstat(fd);
    expect([status.linkCount, permissionBits(status.mode), status.lengthBytes]).toEqual([0, 0o640, 0n]);
    await bench.root.write(fd, "hidden");
    expect((await bench.root.pread(fd, 10, 0)).toString()).toBe("hidden");
    expect(await bench.root.list(".")).toEqual([]);
  });

  test("an O_TMPFILE gets a name by linkat, with all it holds", async () => {
    const fd = await bench.root.open(".", O_TMPFILE | O_RDWR);
    await bench.root.write(fd, "complete");
    await bench.root.call("fsetxattr", fd, "user.a", "41", 0);
    await bench.root.link(`/proc/self/fd/${fd}`, "named", AT_SYMLINK_FOLLOW);
    expect(await bench.root.textOf("named")).toBe("complete");
    expect((await bench.root.getXattr("named", "user.a")).toString()).toBe("A");
    expect((await bench.root.fstat(fd)).linkCount).toBe(1);
    await bench.root.write(fd, " and more");
    expect(await bench.root.textOf("named")).toBe("complete and more");
  });

  test("an O_TMPFILE with O_EXCL can never get a name", async () => {
    const fd = await bench.root.open(".", O_TMPFILE | O_EXCL | O_RDWR);
    await refuses("ENOENT", bench.root.link(`/proc/self/fd/${fd}`, "named", AT_SYMLINK_FOLLOW));
  });

  test("O_TMPFILE wants to write, in a directory that lets it", async () => {
    await refuses("EINVAL", bench.root.open(".", O_TMPFILE | O_RDONLY));
    await bench.root.file("f");
    await refuses("ENOTDIR", bench.root.open("f", O_TMPFILE | O_RDWR));
    await bench.root.mkdir("d", 0o755);
    await refuses("EACCES", bench.alice.open("d", O_TMPFILE | O_WRONLY));
  });

  test("O_TMPFILE belongs to its maker and obeys the umask", async () => {
    await bench.alice.umask(0o077);
    const status = await bench.alice.fstat(await bench.alice.open(".", O_TMPFILE | O_RDWR, 0o666));
    expect([status.uid, permissionBits(status.mode)]).toEqual([4001, 0o600]);
  });

  test("a hundred unlinked files stay apart while open", async () => {
    const fds: number[] = [];
    for (let i = 0; i < 100; i++) {
      const fd = await bench.root.open("f", O_CREAT | O_EXCL | O_RDWR);
      await bench.root.write(fd, `file ${i}`);
      await bench.root.unlink("f");
      fds.push(fd);
    }
    for (const [i, fd] of fds.entries()) expect((await bench.root.pread(fd, 20, 0)).toString()).toBe(`file ${i}`);
  });

  test("a memory map outlives its file's name and handle", async () => {
    const fd = await bench.root.open("f", O_CREAT | O_RDWR);
    await bench.root.write(fd, "mapped");
    const map = await bench.root.mmap(fd, 4096, 3, 1);
    await bench.root.close(fd);
    await bench.root.unlink("f");
    expect(await bench.root.peek(map, 0, 6)).toBe("mapped");
    await bench.root.poke(map, 0, "MAP");
    await bench.root.msync(map);
    expect(await bench.root.peek(map, 0, 6)).toBe("MAPped");
  });
}
