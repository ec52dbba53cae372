/** Set-user-id and set-group-id: inherited, honoured, and cleared when others change the file. */
import { expect, test } from "vitest";
import { ALICE, BOB, permissionBits, refuses, type Bench } from "../bench.ts";
import {
  FALLOC_KEEP_SIZE,
  FALLOC_PUNCH_HOLE,
  O_DIRECT,
  O_RDWR,
  O_RDONLY,
  O_TMPFILE,
  O_TRUNC,
  O_WRONLY,
  S_ISGID,
  UNCHANGED,
} from "../constants.ts";

/** A valid security.capability (revision 2, CAP_NET_RAW permitted). */
const CAPABILITY = Buffer.from("0100000200200000000000000000000000000000", "hex");

async function modeOf(bench: Bench, path: string): Promise<number> {
  return permissionBits(await bench.root.mode(path));
}

async function sharedFile(bench: Bench, mode: number): Promise<void> {
  await bench.root.file("f", "content");
  await bench.root.chown("f", BOB.uid, BOB.gid);
  await bench.root.chmod("f", mode);
}

export function setIdCases(bench: Bench): void {
  test("a set-user-id program runs as its owner", async () => {
    await bench.program("tool");
    await bench.root.chown("tool", ALICE.uid, ALICE.gid);
    await bench.root.chmod("tool", 0o4755);
    expect(await bench.bob.exec(bench.path("tool"))).toBe(`${ALICE.uid} ${BOB.gid}`);
  });

  test("a set-group-id program runs as its group", async () => {
    await bench.program("tool");
    await bench.root.chown("tool", ALICE.uid, ALICE.gid);
    await bench.root.chmod("tool", 0o2755);
    expect(await bench.bob.exec(bench.path("tool"))).toBe(`${BOB.uid} ${ALICE.gid}`);
  });

  test("files made in a set-group-id directory get its group", async () => {
    await bench.root.mkdir("d");
    await bench.root.chown("d", 0, 777);
    await bench.root.chmod("d", 0o2777);
    await bench.alice.file("d/f");
    await bench.alice.symlink("t", "d/s");
    await bench.alice.mknod("d/fifo", 0o010600);
    for (const name of ["f", "s", "fifo"]) expect((await bench.root.lstat(`d/${name}`)).gid).toBe(777);
    const temporary = await bench.alice.open("d", O_TMPFILE | O_RDWR);
    expect((await bench.alice.fstat(temporary)).gid).toBe(777);
  });

  test("directories made in a set-group-id directory get its group and its bit", async () => {
    await bench.root.mkdir("d");
    await bench.root.chown("d", 0, 777);
    await bench.root.chmod("d", 0o2777);
    await bench.alice.mkdir("d/sub");
    expect((await bench.root.stat("d/sub")).gid).toBe(777);
    expect((await modeOf(bench, "d/sub")) & S_ISGID).toBe(S_ISGID);
  });

  test("a set-group-id bit is not created for a group the maker is not in", async () => {
    await bench.root.mkdir("d");
    await bench.root.chown("d", 0, 777);
    await bench.root.chmod("d", 0o2777);
    await bench.alice.umask(0);
    await bench.alice.file("d/f", "", 0o2775);
    expect((await modeOf(bench, "d/f")) & S_ISGID).toBe(0);
    await bench.root.umask(0);
    await bench.root.file("d/g", "", 0o2775);
    expect((await modeOf(bench, "d/g")) & S_ISGID).toBe(S_ISGID);
  });

  test("a write by another user clears set-id bits", async () => {
    await sharedFile(bench, 0o6777);
    await bench.alice.write(await bench.alice.open("f", O_WRONLY), "x");
    expect(await modeOf(bench, "f")).toBe(0o777);
  });

  test("a write by the owner clears set-id bits too", async () => {
    await sharedFile(bench, 0o6755);
    await bench.bob.write(await bench.bob.open("f", O_WRONLY), "x");
    expect(await modeOf(bench, "f")).toBe(0o755);
  });

  test("a direct write clears set-id bits too", async () => {
    await sharedFile(bench, 0o6777);
    await bench.alice.pfill(await bench.alice.open("f", O_WRONLY | O_DIRECT), 0x61, 4096, 0);
    expect(await modeOf(bench, "f")).toBe(0o777);
  });

  test("a write by root keeps set-id bits", async () => {
    await sharedFile(bench, 0o6777);
    await bench.root.write(await bench.root.open("f", O_WRONLY), "x");
    expect(await modeOf(bench, "f")).toBe(0o6777);
  });

  test.each<[string, (fd: number) => Promise<unknown>]>([
    ["write", (fd) => bench.bob.write(fd, "x")],
    ["ftruncate", (fd) => bench.bob.ftruncate(fd, 1)],
    ["fallocate", (fd) => bench.bob.fallocate(fd, 0, 0, 4096)],
    ["punching a hole", (fd) => bench.bob.fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 0, 4096)],
  ])("%s by one who is not in the group clears set-group-id, may the group execute or not", async (_, change) => {
    await bench.root.file("f", "content");
    await bench.root.chown("f", 0, ALICE.gid);
    await bench.root.chmod("f", 0o6666);
    await change(await bench.bob.open("f", O_RDWR));
    expect(await modeOf(bench, "f")).toBe(0o666);
  });

  test("a write by a member keeps set-group-id where the group may not execute", async () => {
    await bench.root.file("f", "content");
    await bench.root.chown("f", 0, ALICE.gid);
    await bench.root.chmod("f", 0o2666);
    await bench.alice.write(await bench.alice.open("f", O_WRONLY), "x");
    expect(await modeOf(bench, "f")).toBe(0o2666);
  });

  test("truncate by another user clears set-id bits", async () => {
    await sharedFile(bench, 0o6777);
    await bench.alice.truncate("f", 1);
    expect(await modeOf(bench, "f")).toBe(0o777);
  });

  test("open with O_TRUNC by another user clears set-id bits", async () => {
    await sharedFile(bench, 0o6777);
    await bench.alice.open("f", O_WRONLY | O_TRUNC);
    expect(await modeOf(bench, "f")).toBe(0o777);
  });

  test("fallocate by another user clears set-id bits", async () => {
    await sharedFile(bench, 0o6777);
    const fd = await bench.alice.open("f", O_RDWR);
    await bench.alice.fallocate(fd, 0, 0, 10_000);
    expect(await modeOf(bench, "f")).toBe(0o777);
    await bench.root.chmod("f", 0o6777);
    await bench.alice.fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 0, 4096);
    expect(await modeOf(bench, "f")).toBe(0o777);
  });

  test("copy_file_range by another user clears set-id bits", async () => {
    await sharedFile(bench, 0o6777);
    await bench.root.file("source", "copied", 0o644);
    const from = await bench.alice.open("source", O_RDONLY);
    await bench.alice.copyRange({ fd: from }, { fd: await bench.alice.open("f", O_WRONLY) }, 6);
    expect(await modeOf(bench, "f")).toBe(0o777);
  });

  test("chown clears set-id bits of a file, even for root", async () => {
    await bench.root.file("f");
    await bench.root.chmod("f", 0o6755);
    await bench.root.chown("f", 1, 1);
    expect(await modeOf(bench, "f")).toBe(0o755);
  });

  test("chown by the owner to a supplementary group clears them as well", async () => {
    await bench.alice.file("f");
    await bench.alice.chmod("f", 0o6755);
    await bench.alice.chown("f", UNCHANGED, ALICE.extraGid);
    expect(await modeOf(bench, "f")).toBe(0o755);
  });

  test("chown keeps the bits of a directory", async () => {
    await bench.root.mkdir("d");
    await bench.root.chmod("d", 0o6755);
    await bench.root.chown("d", 1, 1);
    expect(await modeOf(bench, "d")).toBe(0o6755);
  });

  test("chmod drops set-group-id where the owner is not in the group", async () => {
    await bench.alice.file("f");
    await bench.root.chown("f", ALICE.uid, BOB.gid);
    await bench.alice.chmod("f", 0o2755);
    expect(await modeOf(bench, "f")).toBe(0o755);
    await bench.root.chown("f", ALICE.uid, ALICE.extraGid);
    await bench.alice.chmod("f", 0o2755);
    expect(await modeOf(bench, "f")).toBe(0o2755);
  });

  test("a write removes the file's capabilities", async () => {
    await sharedFile(bench, 0o666);
    await bench.root.setXattr("f", "security.capability", CAPABILITY);
    expect(await bench.root.getXattr("f", "security.capability")).toEqual(CAPABILITY);
    await bench.alice.write(await bench.alice.open("f", O_WRONLY), "x");
    await refuses("ENODATA", bench.root.getXattr("f", "security.capability"));
  });

  test("chown and truncate remove the file's capabilities", async () => {
    await sharedFile(bench, 0o666);
    await bench.root.setXattr("f", "security.capability", CAPABILITY);
    await bench.root.chown("f", 1, 1);
    await refuses("ENODATA", bench.root.getXattr("f", "security.capability"));
    await bench.root.setXattr("f", "security.capability", CAPABILITY);
    await bench.alice.truncate("f", 1);
    await refuses("ENODATA", bench.root.getXattr("f", "security.capability"));
  });
}
