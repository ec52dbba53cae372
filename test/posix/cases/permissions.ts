/** Who may do what: owner, group, supplementary groups, others, sticky directories. */
import { expect, test } from "vitest";
import { ALICE, BOB, permissionBits, refuses, type Bench } from "../bench.ts";
import { O_CREAT, O_RDONLY, O_RDWR, O_WRONLY, R_OK, UNCHANGED, W_OK, X_OK } from "../constants.ts";
import { errnoOf, type Driver } from "../driver.ts";

async function mayDo(driver: Driver, path: string): Promise<string> {
  const read = (await errnoOf(driver.open(path, O_RDONLY))) === "success" ? "r" : "-";
  const write = (await errnoOf(driver.open(path, O_WRONLY))) === "success" ? "w" : "-";
  return read + write;
}

export function permissionCases(bench: Bench): void {
  test.each([
    [0o600, "rw", "--", "--"],
    [0o400, "r-", "--", "--"],
    [0o060, "--", "rw", "--"],
    [0o006, "--", "--", "rw"],
    [0o642, "rw", "r-", "-w"],
    [0o077, "--", "rw", "rw"],
  ])("mode %i: the first class that fits decides", async (mode, owner, group, other) => {
    await bench.root.file("f");
    await bench.root.chmod("f", mode);
    await bench.root.chown("f", ALICE.uid, 0);
    expect(await mayDo(bench.alice, "f")).toBe(owner);
    await bench.root.chown("f", 0, ALICE.gid);
    expect(await mayDo(bench.alice, "f")).toBe(group);
    await bench.root.chown("f", 0, 0);
    expect(await mayDo(bench.alice, "f")).toBe(other);
    expect(await mayDo(bench.root, "f")).toBe("rw");
  });

  test("a supplementary group counts as group", async () => {
    await bench.root.file("f", "for the group", 0o640);
    await bench.root.chown("f", 0, ALICE.extraGid);
    expect(await bench.alice.textOf("f")).toBe("for the group");
    await refuses("EACCES", bench.bob.open("f", O_RDONLY));
  });

  test("a directory without x is not entered, without r not listed, without w not changed", async () => {
    await bench.alice.mkdir("d", 0o700);
    await bench.alice.file("d/f");
    await bench.alice.chmod("d", 0o600);
    await refuses("EACCES", bench.alice.stat("d/f"));
    expect(await bench.alice.list("d")).toEqual(["f"]);
    await bench.alice.chmod("d", 0o300);
    await refuses("EACCES", bench.alice.list("d"));
    expect((await bench.alice.stat("d/f")).uid).toBe(ALICE.uid);
    await bench.alice.chmod("d", 0o500);
    await refuses("EACCES", bench.alice.open("d/new", O_CREAT | O_RDWR));
    await refuses("EACCES", bench.alice.unlink("d/f"));
    await refuses("EACCES", bench.alice.rename("d/f", "out"));
    await refuses("EACCES", bench.alice.mkdir("d/new"));
    await refuses("EACCES", bench.alice.symlink("t", "d/new"));
    await refuses("EACCES", bench.alice.link("d/f", "d/new"));
  });

  test("removing a file takes the directory's permission, not the file's", async () => {
    await bench.root.mkdir("d");
    await bench.root.chmod("d", 0o777);
    await bench.root.file("d/f", "", 0o000);
    await bench.alice.unlink("d/f");
    expect(await bench.root.list("d")).toEqual([]);
  });

  test("in a sticky directory only the owners remove and rename", async () => {
    await bench.root.mkdir("tmp");
    await bench.root.chmod("tmp", 0o1777);
    await bench.alice.file("tmp/a");
    await bench.alice.mkdir("tmp/ad");
    await bench.bob.file("tmp/b");
    await refuses("EPERM", bench.bob.unlink("tmp/a"));
    await refuses("EPERM", bench.bob.rmdir("tmp/ad"));
    await refuses("EPERM", bench.bob.rename("tmp/a", "tmp/c"));
    await refuses("EPERM", bench.bob.rename("tmp/b", "tmp/a"));
    await refuses("EPERM", bench.bob.rename("tmp/b", "tmp/a", 2));
    await bench.alice.rename("tmp/a", "tmp/c");
    await bench.alice.unlink("tmp/c");
    await bench.root.chown("tmp", BOB.uid, BOB.gid);
    await bench.bob.rmdir("tmp/ad");
  });

  test("the owner of a sticky directory may remove what others put there", async () => {
    await bench.bob.mkdir("d", 0o700);
    await bench.bob.chmod("d", 0o1777);
    await bench.alice.file("d/f");
    await bench.bob.unlink("d/f");
  });

  test("chmod is the owner's and root's", async () => {
    await bench.alice.file("f");
    await refuses("EPERM", bench.bob.chmod("f", 0o777));
    await bench.alice.chmod("f", 0o604);
    await bench.root.chmod("f", 0o640);
    expect(permissionBits((await bench.root.stat("f")).mode)).toBe(0o640);
  });

  test("a user gives no file away", async () => {
    await bench.alice.file("f");
    await refuses("EPERM", bench.alice.chown("f", BOB.uid, UNCHANGED));
    await refuses("EPERM", bench.bob.chown("f", BOB.uid, UNCHANGED));
    await bench.alice.chown("f", ALICE.uid, UNCHANGED);
  });

  test("a user changes the group to one of the user's own, and to no other", async () => {
    await bench.alice.file("f");
    await bench.alice.chown("f", UNCHANGED, ALICE.extraGid);
    expect((await bench.root.stat("f")).gid).toBe(ALICE.extraGid);
    await refuses("EPERM", bench.alice.chown("f", UNCHANGED, BOB.gid));
  });

  test("access answers for the effective user", async () => {
    await bench.root.file("f", "", 0o654);
    await bench.root.chown("f", BOB.uid, ALICE.gid);
    await bench.alice.access("f", R_OK | X_OK);
    await refuses("EACCES", bench.alice.access("f", W_OK));
    await bench.bob.access("f", R_OK | W_OK);
    await refuses("EACCES", bench.bob.access("f", X_OK));
    await bench.root.access("f", R_OK | W_OK | X_OK);
  });

  test("root executes only what someone may execute", async () => {
    await bench.root.file("f", "", 0o644);
    await refuses("EACCES", bench.root.access("f", X_OK));
    await bench.root.chmod("f", 0o001);
    await bench.root.access("f", X_OK);
  });

  test("truncate takes write permission", async () => {
    await bench.root.file("f", "content", 0o644);
    await refuses("EACCES", bench.alice.truncate("f", 0));
    await bench.root.chmod("f", 0o666);
    await bench.alice.truncate("f", 1);
  });

  test("a permission change counts at once for every user", async () => {
    await bench.root.file("f", "x", 0o644);
    await bench.alice.textOf("f");
    await bench.root.chmod("f", 0o600);
    await refuses("EACCES", bench.alice.open("f", O_RDONLY));
    await bench.root.chmod("f", 0o644);
    await bench.alice.textOf("f");
  });

  test("a directory closed to a user hides what was looked up in it before", async () => {
    await bench.root.mkdir("d");
    await bench.root.file("d/f");
    await bench.alice.stat("d/f");
    await bench.root.chmod("d", 0o700);
    await refuses("EACCES", bench.alice.stat("d/f"));
  });

  test("moving a directory takes write permission on it when its parent changes", async () => {
    await bench.root.mkdir("target");
    await bench.root.chmod("target", 0o777);
    await bench.root.mkdir("d", 0o755);
    await refuses("EACCES", bench.alice.rename("d", "target/d"));
    await bench.alice.rename("d", "e");
  });
}
