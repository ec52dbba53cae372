/** chmod, chown, stat and statfs. */
import { expect, test } from "vitest";
import { permissionBits, refuses, type Bench } from "../bench.ts";
import { O_RDONLY, O_RDWR, S_IFMT, S_ISVTX, UNCHANGED } from "../constants.ts";

export function attributeCases(bench: Bench): void {
  test.each([0o000, 0o001, 0o020, 0o400, 0o644, 0o755, 0o777, 0o1777, 0o2755, 0o4755, 0o7777])(
    "chmod sets mode %i and keeps the type",
    async (mode) => {
      await bench.root.file("f");
      await bench.root.chmod("f", mode);
      const status = await bench.root.stat("f");
      expect([permissionBits(status.mode), status.mode & S_IFMT]).toEqual([mode, 0o100000]);
    },
  );

  test("chmod follows a symlink", async () => {
    await bench.root.file("f");
    await bench.root.symlink("f", "s");
    await bench.root.chmod("s", 0o601);
    expect(permissionBits((await bench.root.stat("f")).mode)).toBe(0o601);
    expect(permissionBits((await bench.root.lstat("s")).mode)).toBe(0o777);
  });

  test("fchmod works on a read-only handle", async () => {
    await bench.root.file("f");
    await bench.root.fchmod(await bench.root.open("f", O_RDONLY), 0o640);
    expect(permissionBits((await bench.root.stat("f")).mode)).toBe(0o640);
  });

  test.each([
    [1, 2],
    [0, 65_534],
    [4_000_000_000, 3_999_999_999],
    [65_536, 65_537],
  ])("chown sets uid %i and gid %i", async (uid, gid) => {
    await bench.root.file("f");
    await bench.root.chown("f", uid, gid);
    const status = await bench.root.stat("f");
    expect([status.uid, status.gid]).toEqual([uid, gid]);
  });

  test("chown with -1 leaves that half", async () => {
    await bench.root.file("f");
    await bench.root.chown("f", 11, 12);
    await bench.root.chown("f", UNCHANGED, 13);
    await bench.root.chown("f", 14, UNCHANGED);
    const status = await bench.root.stat("f");
    expect([status.uid, status.gid]).toEqual([14, 13]);
  });

  test("lchown changes a symlink, chown its target", async () => {
    await bench.root.file("f");
    await bench.root.symlink("f", "s");
    await bench.root.lchown("s", 21, 22);
    await bench.root.chown("s", 31, 32);
    expect((await bench.root.lstat("s")).uid).toBe(21);
    expect((await bench.root.stat("f")).uid).toBe(31);
  });

  test("fchown works on a directory's handle", async () => {
    await bench.root.mkdir("d");
    await bench.root.fchown(await bench.root.open("d", O_RDONLY), 41, 42);
    expect((await bench.root.stat("d")).gid).toBe(42);
  });

  test("a new file belongs to its maker's user and group", async () => {
    await bench.alice.file("f");
    await bench.alice.mkdir("d");
    for (const name of ["f", "d"]) {
      const status = await bench.root.stat(name);
      expect([status.uid, status.gid]).toEqual([4001, 4001]);
    }
  });

  test("inode numbers are stable, unique and the same by every way", async () => {
    await bench.root.call("create_many", "f", 0, 200);
    const numbers = new Set<bigint>();
    for (let i = 0; i < 200; i++) numbers.add((await bench.root.stat(`f${String(i).padStart(6, "0")}`)).ino);
    expect(numbers.size).toBe(200);
    const fd = await bench.root.open("f000007", O_RDWR);
    expect((await bench.root.fstat(fd)).ino).toBe((await bench.root.stat("f000007")).ino);
    await bench.root.rename("f000007", "moved");
    expect((await bench.root.stat("moved")).ino).toBe((await bench.root.fstat(fd)).ino);
  });

  test("the length shows at once after a write, to every process", async () => {
    await bench.root.file("f");
    const fd = await bench.root.open("f", O_RDWR);
    for (let i = 1; i <= 20; i++) {
      await bench.root.pwrite(fd, "x", i * 1000 - 1);
      expect((await bench.alice.stat("f")).lengthBytes).toBe(BigInt(i * 1000));
    }
  });

  test("the sticky bit is kept on directories", async () => {
    await bench.root.mkdir("d");
    await bench.root.chmod("d", S_ISVTX | 0o777);
    expect(permissionBits((await bench.root.stat("d")).mode)).toBe(0o1777);
  });

  test("an unknown call on a file is refused, not hung: ENOTTY", async () => {
    await bench.root.file("f");
    await refuses("ENOTTY", bench.root.ioctl(await bench.root.open("f", O_RDWR), 0x5401));
  });

  test("statfs adds up", async () => {
    const words = (await bench.root.call("statfs", ".")).map(BigInt);
    const [blockBytes, total, free, available, , , nameLength] = words as [
      bigint,
      bigint,
      bigint,
      bigint,
      bigint,
      bigint,
      bigint,
    ];
    expect(nameLength).toBe(255n);
    expect(blockBytes).toBeGreaterThanOrEqual(512n);
    expect(total).toBeGreaterThan(0n);
    expect(free).toBeLessThanOrEqual(total);
    expect(available).toBeLessThanOrEqual(free);
    expect(available).toBeGreaterThan(0n);
  });

  test("statfs counts files", async () => {
    const [, , , , files = 0n, freeFiles = 0n] = (await bench.root.call("statfs", ".")).map(BigInt);
    expect(files).toBeGreaterThan(0n);
    expect(freeFiles).toBeLessThanOrEqual(files);
  });
}
