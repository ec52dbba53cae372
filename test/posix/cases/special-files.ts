/** Fifos, sockets, devices and programs. */
import { writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { permissionBits, refuses, type Bench } from "../bench.ts";
import {
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from "../constants.ts";

export function specialFileCases(bench: Bench): void {
  test("a fifo carries bytes from one process to another", async () => {
    await bench.root.mknod("fifo", S_IFIFO | 0o666);
    const reader = await bench.root.open("fifo", O_RDONLY | O_NONBLOCK);
    const writer = await bench.root2.open("fifo", O_WRONLY);
    await bench.root2.write(writer, "through");
    expect((await bench.root.read(reader, 100)).toString()).toBe("through");
    expect((await bench.root.stat("fifo")).lengthBytes).toBe(0n);
  });

  test("opening a fifo waits for the other end", async () => {
    await bench.root.mknod("fifo", S_IFIFO | 0o666);
    const reading = bench.root.open("fifo", O_RDONLY);
    const writer = await bench.root2.open("fifo", O_WRONLY);
    const reader = await reading;
    await bench.root2.write(writer, "met");
    expect((await bench.root.read(reader, 3)).toString()).toBe("met");
  });

  test("a socket is bound and connected by its path", async () => {
    await bench.root.bind("socket");
    expect((await bench.root.stat("socket")).mode & S_IFMT).toBe(S_IFSOCK);
    expect(await bench.root2.connect("socket")).toBe(0);
    await refuses("EADDRINUSE", bench.root2.bind("socket"));
  });

  test("a socket file does not open: ENXIO", async () => {
    await bench.root.mknod("socket", S_IFSOCK | 0o666);
    await refuses("ENXIO", bench.root.open("socket", O_RDWR));
  });

  test.each([
    ["character", S_IFCHR, 1, 3],
    ["character with large numbers", S_IFCHR, 500, 70_000],
    ["block", S_IFBLK, 7, 1],
    ["block with large numbers", S_IFBLK, 4000, 1_000_000],
  ])("a %s device keeps its numbers", async (_, type, major, minor) => {
    await bench.root.mknod("device", type | 0o640, major, minor);
    const status = await bench.root.lstat("device");
    expect([status.mode & S_IFMT, status.deviceMajor, status.deviceMinor]).toEqual([type, major, minor]);
    expect(permissionBits(status.mode)).toBe(0o640);
  });

  test("a device works as the device that it names", async () => {
    await bench.root.mknod("zero", S_IFCHR | 0o666, 1, 5);
    const fd = await bench.root.open("zero", O_RDWR);
    expect(await bench.root.read(fd, 4)).toEqual(Buffer.alloc(4));
  });

  test("mknod makes regular files", async () => {
    await bench.root.mknod("f", S_IFREG | 0o612);
    const status = await bench.root.stat("f");
    expect([status.mode & S_IFMT, permissionBits(status.mode), status.lengthBytes]).toEqual([S_IFREG, 0o610, 0n]);
  });

  test("mknod of a directory answers EPERM, of a device by a user too", async () => {
    await refuses("EPERM", bench.root.mknod("d", S_IFDIR | 0o755));
    await refuses("EPERM", bench.alice.mknod("device", S_IFCHR | 0o666, 1, 3));
    await bench.alice.mknod("fifo", S_IFIFO | 0o644);
  });

  test("a program runs from the mount", async () => {
    await bench.program("tool");
    expect(await bench.root.exec(bench.path("tool"))).toBe("0 0");
    expect(await bench.alice.exec(bench.path("tool"))).toBe("4001 4001");
  });

  test("a script runs by its first line", async () => {
    await writeFile(bench.path("script"), "#!/bin/echo says\n", { mode: 0o755 });
    expect(await bench.root.exec(bench.path("script"), "hi")).toBe(`says ${bench.path("script")} hi\n`);
  });

  test("a file without execute bits runs for nobody, root included", async () => {
    await bench.program("tool", 0o644);
    await refuses("EACCES", bench.root.exec(bench.path("tool")));
    await refuses("EACCES", bench.alice.exec(bench.path("tool")));
  });

  test("a directory and an unknown format do not run", async () => {
    await bench.root.mkdir("d");
    await bench.root.file("text", "no program", 0o755);
    await refuses("EACCES", bench.root.exec(bench.path("d")));
    await refuses("ENOEXEC", bench.root.exec(bench.path("text")));
  });

  test("a program keeps running after its file is unlinked", async () => {
    await bench.program("tool");
    await bench.root.unlink("tool");
    await bench.program("tool");
    expect(await bench.root.exec(bench.path("tool"))).toBe("0 0");
  });
}
