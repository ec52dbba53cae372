/** Snapshots on real mounts, through the command and through the kernel. */
import { execFile } from "node:child_process";
import {
  chmod,
  link,
  lstat,
  mkdir,
  open,
  readFile,
  readdir,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { CommandLine } from "./fixtures.ts";

const execute = promisify(execFile);

/** ESTALE, for which libuv has no name. */
const STALE = { errno: -116 };

interface Figures {
  readonly name: string;
  readonly comment: string;
  readonly isSafety: boolean;
  readonly logicalBytes: number;
}

async function snapshotsOf(line: CommandLine): Promise<Figures[]> {
  const { stdout } = await line.expect("OK", ["snapshots", "--json", ...line.unlock]);
  return JSON.parse(stdout) as Figures[];
}

/** Mode, owner, times, links and content of everything below a directory; access times left out. */
async function describeTree(root: string): Promise<string[]> {
  const { stdout } = await execute("find", [root, "-mindepth", "1", "-printf", "%P %y %m %U:%G %n %s %T@ %l\n"]);
  const sums = await execute("sh", [
    "-c",
    'cd "$1" && find . -type f -print0 | sort -z | xargs -0r sha256sum',
    "sh",
    root,
  ]);
  // A directory's size and link count may show; what matters is in the rest.
  return [...stdout.split("\n").sort(), ...sums.stdout.split("\n")];
}

async function fill(root: string): Promise<void> {
  await mkdir(join(root, "dir/inner"), { recursive: true });
  await writeFile(join(root, "dir/file"), "one\n");
  await link(join(root, "dir/file"), join(root, "hard"));
  await symlink("dir/file", join(root, "soft"));
  await writeFile(join(root, "sparse"), "start");
  await truncate(join(root, "sparse"), 64 * 1024 * 1024);
  await writeFile(join(root, "script"), "#!/bin/sh\necho then\n", { mode: 0o750 });
  await utimes(join(root, "script"), 1_000_000_000.25, 1_111_111_111.5);
  await execute("setfattr", ["-n", "user.note", "-v", "kept", join(root, "dir/file")]);
  await execute("setfacl", ["-m", "u:65534:r", join(root, "dir/inner")]);
}

async function spoil(root: string): Promise<void> {
  await writeFile(join(root, "dir/file"), "two, and longer\n");
  await rm(join(root, "hard"));
  await rename(join(root, "script"), join(root, "renamed"));
  await chmod(join(root, "renamed"), 0o700);
  await rm(join(root, "soft"));
  await rm(join(root, "dir/inner"), { recursive: true });
  await writeFile(join(root, "added"), "new\n");
  await execute("setfattr", ["-x", "user.note", join(root, "dir/file")]);
}

test("a snapshot can be looked at in the mount, with everything that files have, and changes no more", async () => {
  await using line = await CommandLine.make();
  await line.mount();
  const { mountPoint } = line;
  await fill(mountPoint);
  const before = await describeTree(mountPoint);
  const unflushed = await open(join(mountPoint, "open"), "w");
  await unflushed.write("not flushed");
  await line.expect("OK", ["snapshot", "first", "--comment", "with all", "-m", mountPoint]);
  await unflushed.write(" and later");
  await unflushed.close();
  const snapshot = join(mountPoint, ".snapshots/first");
  await spoil(mountPoint);
  expect(await readdir(mountPoint)).not.toContain(".snapshots");
  expect(await readdir(join(mountPoint, ".snapshots"))).toEqual(["first"]);
  const kept = (await describeTree(snapshot)).filter((entry) => !entry.includes("open"));
  expect(kept).toEqual(before);
  expect(await readFile(join(snapshot, "open"), "utf8")).toBe("not flushed");
  expect(await readlink(join(snapshot, "soft"))).toBe("dir/file");
  expect((await stat(join(snapshot, "hard"))).ino).toBe((await stat(join(snapshot, "dir/file"))).ino);
  expect((await stat(join(snapshot, "sparse"))).blocks).toBeLessThan(100);
  expect((await execute("getfattr", ["--only-values", "-n", "user.note", join(snapshot, "dir/file")])).stdout).toBe(
    "kept",
  );
  expect((await execute("getfacl", ["-p", join(snapshot, "dir/inner")])).stdout).toContain("user:nobody:r--");
  expect((await execute(join(snapshot, "script"))).stdout).toBe("then\n");
  for (const change of [
    () => writeFile(join(snapshot, "new"), ""),
    () => truncate(join(snapshot, "open"), 1),
    () => rm(join(snapshot, "soft")),
    () => mkdir(join(snapshot, "d")),
    () => chmod(join(snapshot, "open"), 0o600),
    () => rename(join(snapshot, "open"), join(snapshot, "closed")),
    () => rename(join(mountPoint, "added"), join(snapshot, "added")),
    () => mkdir(join(mountPoint, ".snapshots/second")),
  ]) {
    await expect(change()).rejects.toMatchObject({ code: "EROFS" });
  }
  await expect(link(join(snapshot, "open"), join(mountPoint, "linked"))).rejects.toMatchObject({ code: "EXDEV" });
  await execute("cp", ["-a", "--reflink=auto", snapshot, join(mountPoint, "copied")]);
  expect((await describeTree(join(mountPoint, "copied"))).filter((entry) => !entry.includes("open"))).toEqual(before);
  expect(await snapshotsOf(line)).toMatchObject([{ name: "first", comment: "with all", isSafety: false }]);

  const { ino } = await lstat(join(snapshot, "dir/file"));
  await line.umount();
  await line.mount("-o", "snapshots=listed");
  expect(await readdir(mountPoint)).toContain(".snapshots");
  expect((await lstat(join(snapshot, "dir/file"))).ino).toBe(ino);
  await line.umount();
  await line.mount("-o", "snapshots=none");
  await expect(stat(join(mountPoint, ".snapshots"))).rejects.toMatchObject({ code: "ENOENT" });
  await line.umount();
});

test("a snapshot is mounted alone, read-only", async () => {
  await using line = await CommandLine.make();
  await line.mount();
  await fill(line.mountPoint);
  const before = await describeTree(line.mountPoint);
  await line.expect("OK", ["snapshot", "alone", ...line.unlock]);
  await spoil(line.mountPoint);
  await line.umount();
  await line.expect("NO_SNAPSHOT", [...line.mountWords, "--snapshot", "alnoe"]);
  await line.mount("--snapshot", "alone");
  expect(await describeTree(line.mountPoint)).toEqual(before);
  await expect(writeFile(join(line.mountPoint, "new"), "")).rejects.toMatchObject({ code: "EROFS" });
  await line.umount();
});

test("a mounted vault goes back and forth, and what the kernel has cached goes with it", async () => {
  await using line = await CommandLine.make();
  await line.mount();
  const { mountPoint } = line;
  await fill(mountPoint);
  const then = await describeTree(mountPoint);
  await line.expect("OK", ["snapshot", "then", "-m", mountPoint]);
  await spoil(mountPoint);
  const later = await describeTree(mountPoint);
  const [stays, goes] = [await open(join(mountPoint, "dir/file")), await open(join(mountPoint, "added"))];
  const restored = await line.expect("OK", ["restore", "then", "-m", mountPoint]);
  expect(restored.stdout).toContain("tcfs undo brings it back");
  expect(await describeTree(mountPoint)).toEqual(then);
  const buffer = Buffer.alloc(100);
  expect((await stays.read(buffer, 0, 100, 0)).bytesRead).toBe(4);
  await expect(goes.stat()).rejects.toMatchObject(STALE);
  await Promise.all([stays.close(), goes.close()]);
  await line.expect("OK", ["undo", "-m", mountPoint]);
  expect(await describeTree(mountPoint)).toEqual(later);
  const names = await snapshotsOf(line);
  expect(names.map(({ isSafety }) => isSafety)).toEqual([false, true, true]);
  expect(await describeTree(join(mountPoint, ".snapshots", names[1]?.name ?? ""))).toEqual(later);
  await line.umount();
  await line.expect("OK", ["restore", "then", ...line.unlock]);
  await line.mount();
  expect(await describeTree(mountPoint)).toEqual(then);
  await line.umount();
});

test("differences are told by path, for people and for scripts, mounted or not", async () => {
  await using line = await CommandLine.make();
  await line.mount();
  await fill(line.mountPoint);
  await line.expect("OK", ["snapshot", "a", ...line.unlock]);
  await spoil(line.mountPoint);
  const expected = [
    "+ added (4 B)",
    "~ dir/file (4 B → 16 B, content, xattrs)",
    "- dir/inner/",
    "- hard (4 B)",
    "> script → renamed (20 B, mode)",
    "- soft",
    "",
  ].join("\n");
  expect((await line.expect("OK", ["diff", "a", ...line.unlock])).stdout).toBe(expected);
  await line.umount();
  expect((await line.expect("OK", ["diff", "a", ...line.unlock])).stdout).toBe(expected);
  const { stdout } = await line.expect("OK", ["diff", "a", "--json", ...line.unlock]);
  expect(JSON.parse(stdout)).toContainEqual({ kind: "added", path: "added", type: "f", bytesAfter: 4 });
});

test("what is forgotten is gone, at once and after a kill", async () => {
  await using line = await CommandLine.make();
  await line.mount();
  const { mountPoint } = line;
  for (const name of ["a", "b", "c"]) {
    await writeFile(join(mountPoint, "file"), `in ${name}`);
    await line.expect("OK", ["snapshot", name, ...line.unlock]);
  }
  const file = await open(join(mountPoint, ".snapshots/b/file"));
  const dry = await line.expect("OK", ["forget", "a", "b", "--dry-run", ...line.unlock]);
  expect(dry.stdout).toMatch(/would forget “a”.*\nwould forget “b”.*\nthese alone hold about .* together\n/u);
  expect(await readdir(join(mountPoint, ".snapshots"))).toEqual(["a", "b", "c"]);
  await line.expect("NO_SNAPSHOT", ["forget", "b", "nothing", ...line.unlock]);
  await line.expect("OK", ["forget", "b", ...line.unlock]);
  expect(await readdir(join(mountPoint, ".snapshots"))).toEqual(["a", "c"]);
  await expect(stat(join(mountPoint, ".snapshots/b"))).rejects.toMatchObject({ code: "ENOENT" });
  await expect(file.stat()).rejects.toMatchObject(STALE);
  await file.close();
  const pid = line.pid();
  process.kill(pid, "SIGKILL");
  await line.daemonEnds(pid);
  await line.mount();
  expect(await readFile(join(mountPoint, ".snapshots/a/file"), "utf8")).toBe("in a");
  expect(await readFile(join(mountPoint, ".snapshots/c/file"), "utf8")).toBe("in c");
  await line.umount();
});

test("bad input gets a sentence and an exit code of its own", async () => {
  await using line = await CommandLine.make();
  await line.expect("NO_SNAPSHOT", ["undo", ...line.unlock]);
  await line.expect("OK", ["snapshot", "monday", ...line.unlock]);
  const again = await line.expect("SNAPSHOT_EXISTS", ["snapshot", "monday", ...line.unlock]);
  expect(again.stderr).toContain("there is a snapshot “monday” already");
  for (const name of ["a/b", "..", "", "a\nb", "x".repeat(256)])
    await line.expect("USAGE", ["snapshot", name, ...line.unlock]);
  const near = await line.expect("NO_SNAPSHOT", ["restore", "mondya", ...line.unlock]);
  expect(near.stderr).toContain("did you mean “monday”?");
  await line.mount("--read-only");
  await line.expect("NOT_PERMITTED", ["snapshot", "tuesday", ...line.unlock]);
  await line.expect("NOT_PERMITTED", ["restore", "monday", ...line.unlock]);
  expect(await snapshotsOf(line)).toMatchObject([{ name: "monday" }]);
  await line.umount();
  await line.expect("USAGE", [...line.mountWords, "-o", "snapshots=sometimes"]);
});
