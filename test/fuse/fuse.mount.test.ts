/** The transport on a real mount, served by a filesystem in memory in a child process. */
import { fork, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { constants, lstatSync, readFileSync, statSync } from "node:fs";
import {
  chmod,
  link,
  mkdir,
  open,
  readFile,
  readdir,
  readlink,
  rename,
  rmdir,
  stat,
  statfs,
  symlink,
  truncate,
  unlink,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { FuseMountOptions } from "../../src/fuse/mount.ts";
import { findMount, mountFuse, unmountFuse } from "../../src/fuse/mount.ts";
import { Cleanup } from "../support/cleanup.ts";
import { attempt, eventually, run, shell } from "../support/run.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const SERVER = fileURLToPath(new URL("fixtures/serve.ts", import.meta.url));
const LOADER = new URL("fixtures/typescript-loader.mjs", import.meta.url).href;
const O_TMPFILE = 0o20_200_000;
const MOUNT_OPTIONS: FuseMountOptions = {
  source: "tcfs",
  readOnly: false,
  allowOther: false,
  suid: false,
  dev: false,
  noExec: false,
  noSymlinkFollow: false,
  accessTimes: { mode: "relative", ofDirectories: true },
  synchronous: "nothing",
  maxReadBytes: undefined,
  nonEmpty: false,
};

interface Report {
  readonly counts: Readonly<Record<string, number>>;
  readonly inodeCount: number;
  readonly pendingCount: number;
  readonly descriptors: number;
  readonly agreement: { readonly maxWriteBytes: number };
  readonly logs: readonly unknown[];
}

let cleanup: Cleanup;
let mountPoint: string;
let server: ChildProcess;

async function serve(options: object = {}, flags: readonly string[] = []): Promise<ChildProcess> {
  const child = fork(SERVER, [mountPoint, JSON.stringify(options)], { execArgv: ["--import", LOADER, ...flags] });
  cleanup.add(async () => {
    await attempt("umount", ["-l", mountPoint]);
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  });
  const [message] = (await once(child, "message")) as [unknown];
  expect(message).toBe("ready");
  return child;
}

async function report(): Promise<Report> {
  server.send("counts");
  const [message] = (await once(server, "message")) as [Report];
  return message;
}

async function unmountAndWait(): Promise<void> {
  const ended = once(server, "exit");
  await unmountFuse(mountPoint, { lazy: false });
  expect(await ended).toEqual([0, null]);
}

beforeEach(async () => {
  cleanup = new Cleanup();
  mountPoint = cleanup.use(await temporaryDirectory("fuse")).path;
  server = await serve();
});

afterEach(async () => {
  await cleanup[Symbol.asyncDispose]();
});

const at = (...names: string[]): string => join(mountPoint, ...names);
const errno = (code: string): unknown => expect.objectContaining({ code });

describe("a mount", () => {
  it("creates, writes, reads, renames, links and removes", async () => {
    await mkdir(at("directory"));
    await writeFile(at("directory", "file"), "content");
    await rename(at("directory", "file"), at("directory", "renamed"));
    await link(at("directory", "renamed"), at("linked"));
    await symlink("a target", at("symlink"));
    expect(await readFile(at("linked"), "utf8")).toBe("content");
    expect((await stat(at("linked"))).nlink).toBe(2);
    expect(await readlink(at("symlink"))).toBe("a target");
    expect((await readdir(mountPoint)).sort()).toEqual(["directory", "linked", "symlink"]);
    await expect(rmdir(at("directory"))).rejects.toEqual(errno("ENOTEMPTY"));
    await unlink(at("directory", "renamed"));
    await rmdir(at("directory"));
    await expect(stat(at("directory"))).rejects.toEqual(errno("ENOENT"));
    expect((await report()).logs).toEqual([]);
  });

  it("keeps attributes, times in nanoseconds, devices and the time of birth", async () => {
    await writeFile(at("file"), "x", { mode: 0o640 });
    await chmod(at("file"), 0o4711);
    // node:fs takes a negative time for "now".
    await run("touch", ["-a", "-d", "@-1.5", at("file")]);
    await run("touch", ["-m", "-d", `@${String(2 ** 33)}`, at("file")]);
    const { mode, atimeNs, mtimeNs, birthtimeNs } = statSync(at("file"), { bigint: true });
    expect(mode & 0o7777n).toBe(0o4711n);
    expect([atimeNs, mtimeNs]).toEqual([-1_500_000_000n, 2n ** 33n * 1_000_000_000n]);
    expect(birthtimeNs).toBe(1_000_000_000_000_000_005n);
    await run("mknod", [at("device"), "c", "5", "300"]);
    await run("mkfifo", [at("fifo")]);
    expect(lstatSync(at("device")).rdev).toBe((5 << 8) | 44 | (1 << 20));
    expect(lstatSync(at("fifo")).isFIFO()).toBe(true);
    const { bsize, blocks } = await statfs(mountPoint);
    expect(bsize * blocks).toBe(2 ** 40);
  });

  it("passes whole mebibytes, and any bytes back as they were", async () => {
    const content = Buffer.alloc(3 * 1024 * 1024 + 17, 0);
    for (let index = 0; index < content.length; index += 61) content[index] = index % 251;
    await using file = await open(at("large"), "w+");
    await file.write(content, 0, content.length, 0);
    await file.datasync();
    await shell(`dd if="${at("large")}" of="${at("copy")}" bs=1M iflag=direct status=none`);
    expect(Buffer.compare(await readFile(at("copy")), content)).toBe(0);
    const { counts, agreement } = await report();
    expect(agreement.maxWriteBytes).toBe(1024 * 1024);
    expect(counts["write1048576"]).toBeGreaterThanOrEqual(3);
  });

  it("lists a directory of a thousand names whole, again from the kernel's cache, and after a change", async () => {
    const names = Array.from({ length: 1000 }, (_, index) => `name ${String(index)} ${"x".repeat(index % 200)}`);
    await Promise.all(names.map((name) => writeFile(at(name), "")));
    expect(new Set(await readdir(mountPoint))).toEqual(new Set(names));
    await readdir(mountPoint);
    const before = await report();
    expect(new Set(await readdir(mountPoint))).toEqual(new Set(names));
    expect((await report()).counts["readDirectory"]).toBe(before.counts["readDirectory"]);
    await unlink(at(names[500] ?? ""));
    expect((await readdir(mountPoint)).length).toBe(999);
    expect(before.counts["lookup"]).toBeLessThanOrEqual(names.length + 10);
  });

  it("renames with RENAME_NOREPLACE and RENAME_EXCHANGE", async () => {
    await writeFile(at("one"), "1");
    await writeFile(at("two"), "2");
    await run("mv", ["-n", at("one"), at("two")]);
    const exchanged = await attempt("mv", ["--exchange", at("one"), at("two")]);
    // coreutils before 9.5 has no --exchange.
    expect(await readFile(at("one"), "utf8")).toBe(exchanged.code === 0 ? "2" : "1");
  });

  it("keeps xattrs", async () => {
    await writeFile(at("file"), "");
    await run("setfattr", ["-n", "user.name", "-v", "value", at("file")]);
    const shown = await run("getfattr", ["-d", "--absolute-names", at("file")]);
    expect(shown).toContain('user.name="value"');
    await run("setfattr", ["-x", "user.name", at("file")]);
    expect(await run("getfattr", ["-d", "--absolute-names", at("file")])).toBe("");
  });

  it("does sparse seeks, allocation, copies by copy_file_range, mmap and unnamed files", async () => {
    await writeFile(at("file"), "0123456789");
    await run("cp", ["--reflink=auto", "--sparse=never", at("file"), at("copy")]);
    await run("fallocate", ["-l", "1M", at("copy")]);
    expect((await stat(at("copy"))).size).toBe(1024 * 1024);
    await truncate(at("copy"), 4);
    expect(await readFile(at("copy"), "utf8")).toBe("0123");
    await using unnamed = await open(mountPoint, O_TMPFILE | constants.O_RDWR, 0o600);
    await unnamed.write("unnamed");
    expect((await unnamed.stat()).nlink).toBe(0);
    const { counts } = await report();
    expect([counts["copyRange"], counts["allocate"], counts["makeTemporaryFile"]]).toEqual([1, 1, 1]);
  });

  it("follows each O_SYNC write with a sync, however it was split", async () => {
    await using file = await open(at("file"), constants.O_CREAT | constants.O_WRONLY | constants.O_SYNC);
    // Filled: the kernel cuts up what comes from memory that was never touched.
    await file.write(Buffer.alloc(3 * 1024 * 1024, 1));
    const { counts } = await report();
    expect([counts["write"], counts["sync"]]).toEqual([3, 1]);
  });

  it("forgets an unlinked file once it is closed", async () => {
    const { inodeCount } = await report();
    const file = await open(at("file"), "w+");
    await file.write("content");
    await unlink(at("file"));
    expect((await file.read(Buffer.alloc(7), 0, 7, 0)).bytesRead).toBe(7);
    expect((await report()).inodeCount).toBe(inodeCount + 1);
    await file.close();
    await eventually("the inode goes", 5000, async () => (await report()).inodeCount === inodeCount);
  });

  it("interrupts a sync whose caller is killed, and serves others meanwhile", async () => {
    await writeFile(at("slow"), "x");
    const waiting = spawn("sync", [at("slow")], { stdio: "ignore" });
    const ended = once(waiting, "exit");
    await eventually("the sync arrives", 5000, async () => (await report()).pendingCount === 1);
    await writeFile(at("other"), "served");
    waiting.kill();
    await ended;
    const { counts, pendingCount } = await report();
    expect([counts["interrupt"], pendingCount]).toEqual([1, 0]);
  });

  it("answers a bug in the filesystem with EIO and goes on", async () => {
    await expect(stat(at("broken"))).rejects.toEqual(errno("EIO"));
    await expect(stat(at("absent"))).rejects.toEqual(errno("ENOENT"));
    expect((await report()).logs).toHaveLength(1);
  });

  it("opens no descriptor that it does not close", async () => {
    const { descriptors } = await report();
    await shell(`cd "${mountPoint}" && for i in $(seq 50); do echo $i > $i; cat $i > /dev/null; rm $i; done`);
    expect((await report()).descriptors).toBe(descriptors);
  });

  it("ends its server on unmount, not while it is in use", async () => {
    await writeFile(at("file"), "x");
    const file = await open(at("file"));
    await expect(unmountFuse(mountPoint, { lazy: false })).rejects.toEqual(errno("TCFS_BUSY"));
    await file.close();
    await unmountAndWait();
    expect(await findMount(mountPoint)).toBeUndefined();
    await expect(unmountFuse(mountPoint, { lazy: false })).rejects.toEqual(errno("TCFS_NOT_MOUNTED"));
  });

  it("takes what a program wrote through a shared mapping", async () => {
    await writeFile(at("mapped"), "....");
    const script = "import mmap,sys; f=open(sys.argv[1],'r+b'); m=mmap.mmap(f.fileno(),0); m[0:4]=b'done'";
    if ((await attempt("python3", ["-c", script, at("mapped")])).code !== 0) return;
    expect(await run("dd", [`if=${at("mapped")}`, "iflag=direct", "status=none"])).toBe("done");
    expect((await report()).counts["write"]).toBe(2);
  });

  it("refuses a mount point that is used, missing, no directory or not empty", async () => {
    await expect(mountFuse(mountPoint, MOUNT_OPTIONS)).rejects.toEqual(errno("TCFS_ALREADY_MOUNTED"));
    await using directory = await temporaryDirectory("mount-points");
    await writeFile(join(directory.path, "file"), "");
    for (const path of [join(directory.path, "absent"), join(directory.path, "file"), directory.path]) {
      await expect(mountFuse(path, MOUNT_OPTIONS)).rejects.toEqual(errno("TCFS_BAD_MOUNT_POINT"));
    }
  });

  it("is dead after SIGKILL, can be unmounted, and is healed by the next mount", async () => {
    await writeFile(at("file"), "x");
    const held = await open(at("file"));
    server.kill("SIGKILL");
    await once(server, "exit");
    await expect(stat(mountPoint)).rejects.toEqual(errno("ENOTCONN"));
    await held.close().catch(() => undefined);
    server = await serve();
    expect(await readdir(mountPoint)).toEqual([]);
    server.kill("SIGKILL");
    await once(server, "exit");
    await unmountFuse(mountPoint, { lazy: true });
    expect(await readdir(mountPoint)).toEqual([]);
  });

  it("survives its own exit in the middle of a call", async () => {
    await writeFile(at("slow"), "x");
    const waiting = attempt("sync", [at("slow")]);
    await eventually("the sync arrives", 5000, async () => (await report()).pendingCount === 1);
    server.send("exit");
    expect(await once(server, "exit")).toEqual([7, null]);
    expect((await waiting).code).not.toBe(0);
  });

  it("survives garbage collection at any moment", async () => {
    await unmountAndWait();
    server = await serve({}, ["--expose-gc"]);
    const script = `for i in $(seq 10); do head -c 2000000 /dev/zero > $i; cksum < $i; done | sort -u | wc -l; ls -l; rm *`;
    expect(await shell(script, { cwd: mountPoint })).toMatch(/^1\n/);
    expect((await report()).logs).toEqual([]);
  });

  it("refuses changes when mounted read-only", async () => {
    await unmountAndWait();
    server = await serve({ readOnly: true });
    await expect(mkdir(at("directory"))).rejects.toEqual(errno("EROFS"));
    expect(readFileSync("/proc/mounts", "utf8")).toContain(`${mountPoint} fuse.tcfs ro`);
  });
});
