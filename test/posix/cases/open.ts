/** open and its flags. */
import { expect, test } from "vitest";
import { permissionBits, refuses, type Bench } from "../bench.ts";
import {
  O_APPEND,
  O_CREAT,
  O_DIRECT,
  O_DIRECTORY,
  O_DSYNC,
  O_EXCL,
  O_NOATIME,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_SYNC,
  O_TRUNC,
  O_WRONLY,
  S_IFIFO,
  S_IFMT,
  S_IFREG,
} from "../constants.ts";

const PAGE = 4096;

export function openCases(bench: Bench): void {
  test("O_CREAT makes an empty file with the mode less the umask", async () => {
    await bench.root.umask(0o027);
    const fd = await bench.root.open("f", O_CREAT | O_RDWR, 0o666);
    const status = await bench.root.fstat(fd);
    expect([status.mode & S_IFMT, permissionBits(status.mode)]).toEqual([S_IFREG, 0o640]);
    expect([status.lengthBytes, status.linkCount, status.uid, status.gid]).toEqual([0n, 1, 0, 0]);
  });

  test("O_CREAT gives the handle its access even where the mode gives none", async () => {
    const fd = await bench.alice.open("f", O_CREAT | O_RDWR, 0o000);
    await bench.alice.write(fd, "x");
    await refuses("EACCES", bench.alice.open("f", O_RDONLY));
  });

  test("O_CREAT of an existing file keeps its content and mode", async () => {
    await bench.root.file("f", "kept", 0o600);
    await bench.root.open("f", O_CREAT | O_RDWR, 0o777);
    expect(await bench.root.textOf("f")).toBe("kept");
    expect(permissionBits((await bench.root.stat("f")).mode)).toBe(0o600);
  });

  test("O_EXCL refuses any existing name, symlinks included", async () => {
    await bench.root.file("f");
    await bench.root.symlink("missing", "s");
    await bench.root.mkdir("d");
    for (const name of ["f", "s", "d"]) await refuses("EEXIST", bench.root.open(name, O_CREAT | O_EXCL | O_RDWR));
  });

  test("O_TRUNC empties a file", async () => {
    await bench.root.file("f", "content");
    await bench.root.open("f", O_WRONLY | O_TRUNC);
    expect((await bench.root.stat("f")).lengthBytes).toBe(0n);
  });

  test("O_TRUNC is refused without write permission, and the content stays", async () => {
    await bench.root.file("f", "content", 0o644);
    await refuses("EACCES", bench.alice.open("f", O_WRONLY | O_TRUNC));
    expect(await bench.root.textOf("f")).toBe("content");
  });

  test("O_APPEND writes at the end, wherever the offset is", async () => {
    await bench.root.file("f", "start");
    const fd = await bench.root.open("f", O_RDWR | O_APPEND);
    await bench.root.lseek(fd, 0, 0);
    await bench.root.write(fd, "+end");
    expect(await bench.root.textOf("f")).toBe("start+end");
    expect(await bench.root.lseek(fd, 0, 1)).toBe(9n);
  });

  test("O_APPEND can be switched on and off by fcntl", async () => {
    await bench.root.file("f", "0123");
    const fd = await bench.root.open("f", O_RDWR);
    await bench.root.setFlags(fd, O_APPEND);
    await bench.root.write(fd, "4");
    await bench.root.setFlags(fd, 0);
    await bench.root.pwrite(fd, "x", 0);
    expect(await bench.root.textOf("f")).toBe("x1234");
  });

  test("O_DIRECTORY refuses what is no directory", async () => {
    await bench.root.file("f");
    await refuses("ENOTDIR", bench.root.open("f", O_RDONLY | O_DIRECTORY));
  });

  test("O_NOFOLLOW refuses a symlink with ELOOP", async () => {
    await bench.root.file("f");
    await bench.root.symlink("f", "s");
    await refuses("ELOOP", bench.root.open("s", O_RDONLY | O_NOFOLLOW));
    await bench.root.open("f", O_RDONLY | O_NOFOLLOW);
  });

  test("O_PATH opens a symlink itself, and takes no reads", async () => {
    await bench.root.symlink("t", "s");
    const fd = await bench.root.open("s", O_PATH | O_NOFOLLOW);
    expect((await bench.root.fstat(fd)).lengthBytes).toBe(1n);
    await refuses("EBADF", bench.root.read(fd, 1));
  });

  test("a directory opens for reading alone", async () => {
    await bench.root.mkdir("d");
    await bench.root.open("d", O_RDONLY);
    await refuses("EISDIR", bench.root.open("d", O_WRONLY));
    await refuses("EISDIR", bench.root.open("d", O_RDWR));
    await refuses("EISDIR", bench.root.open("d", O_CREAT | O_RDONLY));
  });

  test("a file name with a trailing slash does not open", async () => {
    await bench.root.file("f");
    await refuses("ENOTDIR", bench.root.open("f/", O_RDONLY));
    await refuses("EISDIR", bench.root.open("new/", O_CREAT | O_RDWR));
  });

  test("a write-only handle refuses reads, a read-only one writes", async () => {
    await bench.root.file("f");
    await refuses("EBADF", bench.root.read(await bench.root.open("f", O_WRONLY), 1));
    const reader = await bench.root.open("f", O_RDONLY);
    await refuses("EBADF", bench.root.write(reader, "x"));
    await refuses("EINVAL", bench.root.ftruncate(reader, 0));
  });

  test("permission is checked at open, not later", async () => {
    await bench.root.file("f", "secret", 0o644);
    const fd = await bench.alice.open("f", O_RDONLY);
    await bench.root.chmod("f", 0o600);
    expect((await bench.alice.read(fd, 6)).toString()).toBe("secret");
    await refuses("EACCES", bench.alice.open("f", O_RDONLY));
  });

  test("O_NOATIME is the owner's alone", async () => {
    await bench.root.sharedFile("f");
    await refuses("EPERM", bench.alice.open("f", O_RDONLY | O_NOATIME));
    await bench.root.open("f", O_RDONLY | O_NOATIME);
  });

  test.each([
    ["O_SYNC", O_SYNC],
    ["O_DSYNC", O_DSYNC],
  ])("%s writes are read back", async (_, flag) => {
    const fd = await bench.root.open("f", O_CREAT | O_RDWR | flag);
    for (let i = 0; i < 5; i++) await bench.root.pwrite(fd, `${i}`, i);
    expect(await bench.root.textOf("f")).toBe("01234");
  });

  test("O_DIRECT writes and reads whole blocks", async () => {
    const fd = await bench.root.open("f", O_CREAT | O_RDWR | O_DIRECT);
    await bench.root.pfill(fd, 0x61, 4 * PAGE, 0);
    await bench.root.pfill(fd, 0x62, PAGE, PAGE);
    const read = await bench.root.pread(fd, 4 * PAGE, 0);
    expect(read).toEqual(
      Buffer.concat([Buffer.alloc(PAGE, "a"), Buffer.alloc(PAGE, "b"), Buffer.alloc(2 * PAGE, "a")]),
    );
    expect(await bench.root.pread(fd, PAGE, 4 * PAGE)).toHaveLength(0);
  });

  test("O_DIRECT and buffered handles see each other's writes", async () => {
    const direct = await bench.root.open("f", O_CREAT | O_RDWR | O_DIRECT);
    const buffered = await bench.root2.open("f", O_RDWR);
    await bench.root.pfill(direct, 0x61, 2 * PAGE, 0);
    expect((await bench.root2.pread(buffered, 3, PAGE - 1)).toString()).toBe("aaa");
    await bench.root2.pwrite(buffered, "bbb", 10);
    expect((await bench.root.pread(direct, PAGE, 0)).subarray(9, 14).toString()).toBe("abbba");
    await bench.root.pfill(direct, 0x63, PAGE, 0);
    expect((await bench.root2.pread(buffered, 3, 10)).toString()).toBe("ccc");
  });

  test("a handle opened twice has two offsets", async () => {
    await bench.root.file("f", "0123456789");
    const [a, b] = [await bench.root.open("f", O_RDONLY), await bench.root.open("f", O_RDONLY)];
    await bench.root.read(a, 4);
    expect((await bench.root.read(b, 2)).toString()).toBe("01");
  });

  test("a fifo without a reader refuses a non-blocking writer with ENXIO", async () => {
    await bench.root.mknod("fifo", S_IFIFO | 0o600);
    await refuses("ENXIO", bench.root.open("fifo", O_WRONLY | O_NONBLOCK));
  });

  test("a file made and opened in one call is there for everyone at once", async () => {
    for (let i = 0; i < 50; i++) {
      const fd = await bench.root.open(`f${i}`, O_CREAT | O_EXCL | O_WRONLY);
      await bench.root.write(fd, "x");
      expect((await bench.alice.stat(`f${i}`)).lengthBytes).toBe(1n);
    }
  });

  test("a program that is being written does not run: ETXTBSY", async () => {
    await bench.program("tool");
    await bench.root2.open("tool", O_WRONLY);
    await refuses("ETXTBSY", bench.root.exec(bench.path("tool")));
  });
}
