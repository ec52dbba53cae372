/** POSIX ACLs: who may, the mask and chmod, inheritance. Values as in linux/posix_acl_xattr.h. */
import { expect, test } from "vitest";
import { ALICE, BOB, permissionBits, refuses, type Bench } from "../bench.ts";
import { O_CREAT, O_RDONLY, O_RDWR, O_TMPFILE, O_WRONLY, S_IFIFO } from "../constants.ts";

const ACCESS = "system.posix_acl_access";
const DEFAULT = "system.posix_acl_default";
const TAGS = { u: 1, user: 2, g: 4, group: 8, mask: 16, o: 32 } as const;
const NO_ID = 0xffffffff;

/** Encode entries such as "u:7 user=4001:6 g:4 mask:6 o:0", in the order given. */
function acl(text: string): Buffer {
  const entries = text.split(" ").map((word) => {
    const [, tag = "", id, permission = ""] = /^([a-z]+)(?:=(\d+))?:(\d)$/.exec(word)!;
    const entry = Buffer.alloc(8);
    entry.writeUInt16LE(TAGS[tag as keyof typeof TAGS], 0);
    entry.writeUInt16LE(Number(permission), 2);
    entry.writeUInt32LE(id === undefined ? NO_ID : Number(id), 4);
    return entry;
  });
  return Buffer.concat([Buffer.from([2, 0, 0, 0]), ...entries]);
}

function aclText(value: Buffer): string {
  const words: string[] = [];
  for (let at = 4; at < value.length; at += 8) {
    const tag = Object.entries(TAGS).find(([, number]) => number === value.readUInt16LE(at))![0];
    const id = value.readUInt32LE(at + 4);
    words.push(`${tag}${id === NO_ID ? "" : `=${id}`}:${value.readUInt16LE(at + 2)}`);
  }
  return words.join(" ");
}

export function aclCases(bench: Bench): void {
  const modeOf = async (path: string): Promise<number> => permissionBits((await bench.root.stat(path)).mode);
  const accessOf = async (path: string): Promise<string> => aclText(await bench.root.getXattr(path, ACCESS));
  const defaultOf = async (path: string): Promise<string> => aclText(await bench.root.getXattr(path, DEFAULT));

  test("a named user is let in", async () => {
    await bench.root.file("f", "for alice", 0o600);
    await bench.root.setXattr("f", ACCESS, acl(`u:6 user=${ALICE.uid}:4 g:0 mask:4 o:0`));
    expect(await bench.alice.textOf("f")).toBe("for alice");
    await refuses("EACCES", bench.alice.open("f", O_WRONLY));
    await refuses("EACCES", bench.bob.open("f", O_RDONLY));
  });

  test("a named group is let in, by a supplementary group too", async () => {
    await bench.root.file("f", "for the group", 0o600);
    await bench.root.setXattr("f", ACCESS, acl(`u:6 g:0 group=${ALICE.extraGid}:6 mask:6 o:0`));
    await bench.alice.open("f", O_RDWR);
    await refuses("EACCES", bench.bob.open("f", O_RDONLY));
  });

  test("a named user may be shut out of what others may read", async () => {
    await bench.root.file("f", "", 0o644);
    await bench.root.setXattr("f", ACCESS, acl(`u:6 user=${BOB.uid}:0 g:4 mask:4 o:4`));
    await refuses("EACCES", bench.bob.open("f", O_RDONLY));
    await bench.alice.open("f", O_RDONLY);
  });

  test("the mask limits what entries give", async () => {
    await bench.root.file("f", "", 0o600);
    await bench.root.setXattr("f", ACCESS, acl(`u:6 user=${ALICE.uid}:6 g:0 mask:4 o:0`));
    await bench.alice.open("f", O_RDONLY);
    await refuses("EACCES", bench.alice.open("f", O_WRONLY));
  });

  test("the group bits of the mode show the mask, and chmod changes it", async () => {
    await bench.root.file("f", "", 0o600);
    await bench.root.setXattr("f", ACCESS, acl(`u:6 user=${ALICE.uid}:6 g:4 mask:6 o:0`));
    expect(await modeOf("f")).toBe(0o660);
    await bench.root.chmod("f", 0o640);
    expect(await accessOf("f")).toBe(`u:6 user=${ALICE.uid}:6 g:4 mask:4 o:0`);
    await refuses("EACCES", bench.alice.open("f", O_WRONLY));
    await bench.root.chmod("f", 0o664);
    expect(await accessOf("f")).toBe(`u:6 user=${ALICE.uid}:6 g:4 mask:6 o:4`);
    await bench.alice.open("f", O_WRONLY);
  });

  test("an ACL of three entries is just a mode", async () => {
    await bench.root.file("f", "", 0o600);
    await bench.root.setXattr("f", ACCESS, acl("u:7 g:5 o:1"));
    expect(await modeOf("f")).toBe(0o751);
    await refuses("ENODATA", bench.root.getXattr("f", ACCESS));
    expect(await bench.root.listXattrs("f")).toEqual([]);
  });

  test("ACLs are listed, and removed: the mode stays", async () => {
    await bench.root.file("f", "", 0o600);
    await bench.root.setXattr("f", ACCESS, acl(`u:6 user=${ALICE.uid}:6 g:0 mask:6 o:0`));
    expect(await bench.root.listXattrs("f")).toEqual([ACCESS]);
    await bench.root.removeXattr("f", ACCESS);
    expect(await bench.root.listXattrs("f")).toEqual([]);
    expect(await modeOf("f")).toBe(0o660);
    await refuses("EACCES", bench.alice.open("f", O_RDONLY));
  });

  test("a default ACL is inherited by files as their access ACL, and the umask is left out", async () => {
    await bench.root.mkdir("d");
    await bench.root.setXattr("d", DEFAULT, acl(`u:7 user=${ALICE.uid}:6 g:5 mask:7 o:0`));
    await bench.root.umask(0o077);
    await bench.root.file("d/f", "", 0o664);
    expect(await accessOf("d/f")).toBe(`u:6 user=${ALICE.uid}:6 g:5 mask:6 o:0`);
    expect(await modeOf("d/f")).toBe(0o660);
    await refuses("ENODATA", bench.root.getXattr("d/f", DEFAULT));
  });

  test("a default ACL is inherited by directories, whole and as their default", async () => {
    await bench.root.mkdir("d");
    const wanted = `u:7 user=${ALICE.uid}:7 g:5 mask:7 o:0`;
    await bench.root.setXattr("d", DEFAULT, acl(wanted));
    await bench.root.mkdir("d/sub", 0o777);
    expect(await accessOf("d/sub")).toBe(wanted);
    expect(await defaultOf("d/sub")).toBe(wanted);
    await bench.root.mkdir("d/sub/deeper", 0o750);
    expect(await accessOf("d/sub/deeper")).toBe(`u:7 user=${ALICE.uid}:7 g:5 mask:5 o:0`);
    expect(await defaultOf("d/sub/deeper")).toBe(wanted);
  });

  test("a default ACL of three entries replaces the umask", async () => {
    await bench.root.mkdir("d");
    await bench.root.setXattr("d", DEFAULT, acl("u:7 g:7 o:5"));
    await bench.root.umask(0o077);
    await bench.root.file("d/f", "", 0o666);
    expect(await modeOf("d/f")).toBe(0o664);
    await refuses("ENODATA", bench.root.getXattr("d/f", ACCESS));
    await bench.root.mkdir("d/sub", 0o777);
    expect(await modeOf("d/sub")).toBe(0o775);
  });

  test("fifos and O_TMPFILEs inherit, symlinks do not", async () => {
    await bench.root.mkdir("d");
    await bench.root.setXattr("d", DEFAULT, acl(`u:7 user=${ALICE.uid}:6 g:5 mask:7 o:0`));
    await bench.root.mknod("d/fifo", S_IFIFO | 0o666);
    expect(await modeOf("d/fifo")).toBe(0o660);
    const fd = await bench.root.open("d", O_TMPFILE | O_RDWR, 0o666);
    expect(permissionBits((await bench.root.fstat(fd)).mode)).toBe(0o660);
    await bench.root.symlink("t", "d/s");
    expect(permissionBits((await bench.root.lstat("d/s")).mode)).toBe(0o777);
  });

  test("a mode of O_CREAT narrows what is inherited", async () => {
    await bench.root.mkdir("d");
    await bench.root.setXattr("d", DEFAULT, acl(`u:7 user=${ALICE.uid}:7 g:7 mask:7 o:7`));
    await bench.root.open("d/f", O_CREAT | O_RDWR, 0o600);
    expect(await accessOf("d/f")).toBe(`u:6 user=${ALICE.uid}:7 g:7 mask:0 o:0`);
    await refuses("EACCES", bench.alice.open("d/f", O_RDONLY));
  });

  test("a default ACL does not open the directory itself", async () => {
    await bench.root.mkdir("d", 0o700);
    await bench.root.setXattr("d", DEFAULT, acl(`u:7 user=${ALICE.uid}:7 g:0 mask:7 o:0`));
    await refuses("EACCES", bench.alice.list("d"));
    expect(await modeOf("d")).toBe(0o700);
  });

  test("a removed default ACL is inherited no more", async () => {
    await bench.root.mkdir("d");
    await bench.root.setXattr("d", DEFAULT, acl(`u:7 user=${ALICE.uid}:7 g:0 mask:7 o:0`));
    await bench.root.removeXattr("d", DEFAULT);
    await bench.root.file("d/f", "", 0o640);
    await refuses("ENODATA", bench.root.getXattr("d/f", ACCESS));
    expect(await modeOf("d/f")).toBe(0o640);
  });

  test("a file takes no default ACL: EACCES", async () => {
    await bench.root.file("f");
    await refuses("EACCES", bench.root.setXattr("f", DEFAULT, acl("u:7 g:7 o:5")));
  });

  test.each([
    ["no mask with a named user", acl(`u:7 user=${ALICE.uid}:7 g:7 o:7`)],
    ["no entry for others", acl("u:7 g:7")],
    ["entries out of order", acl("g:7 u:7 o:7")],
    ["an unknown version", Buffer.from([9, 0, 0, 0, ...acl("u:7 g:7 o:7").subarray(4)])],
    ["half an entry", acl("u:7 g:7 o:7").subarray(0, 25)],
  ])("an ACL with %s is refused", async (_, value) => {
    await bench.root.file("f", "", 0o640);
    await expect(bench.root.setXattr("f", ACCESS, value)).rejects.toThrow(/EINVAL|EOPNOTSUPP/);
    expect(await modeOf("f")).toBe(0o640);
  });

  test("ACLs are changed by the owner alone", async () => {
    await bench.alice.file("f", "", 0o666);
    const value = acl(`u:6 user=${BOB.uid}:6 g:0 mask:6 o:0`);
    await refuses("EPERM", bench.bob.setXattr("f", ACCESS, value));
    await bench.alice.setXattr("f", ACCESS, value);
    await refuses("EPERM", bench.bob.removeXattr("f", ACCESS));
  });

  test("setting an ACL drops set-group-id for an owner who is not in the group", async () => {
    await bench.alice.file("f", "", 0o755);
    await bench.root.chown("f", ALICE.uid, BOB.gid);
    await bench.root.chmod("f", 0o2755);
    await bench.alice.setXattr("f", ACCESS, acl(`u:7 user=${BOB.uid}:5 g:5 mask:5 o:5`));
    expect(await modeOf("f")).toBe(0o755);
  });

  test("directory search follows the ACL", async () => {
    await bench.root.mkdir("d", 0o700);
    await bench.root.file("d/f", "inside", 0o644);
    await bench.root.setXattr("d", ACCESS, acl(`u:7 user=${ALICE.uid}:1 g:0 mask:1 o:0`));
    expect(await bench.alice.textOf("d/f")).toBe("inside");
    await refuses("EACCES", bench.alice.list("d"));
    await refuses("EACCES", bench.bob.stat("d/f"));
  });

  test("an ACL of fifty users fits", async () => {
    await bench.root.file("f", "", 0o600);
    const users = Array.from({ length: 50 }, (_, i) => `user=${5000 + i}:6`).join(" ");
    const value = `u:6 ${users} g:0 mask:6 o:0`;
    await bench.root.setXattr("f", ACCESS, acl(value));
    expect(await accessOf("f")).toBe(value);
  });

  test("an ACL moves with a rename and shows through a hard link", async () => {
    await bench.root.file("f", "", 0o600);
    await bench.root.setXattr("f", ACCESS, acl(`u:6 user=${ALICE.uid}:6 g:0 mask:6 o:0`));
    await bench.root.link("f", "g");
    await bench.root.rename("f", "h");
    await bench.alice.open("g", O_RDWR);
    await bench.alice.open("h", O_RDWR);
  });
}
