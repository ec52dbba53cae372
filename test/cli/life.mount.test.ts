/** A daemon's life as its user sees it: commands, signals, unmounts from outside, and what is on the disk after each. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, open, readFile, readdir, readlink, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { EXIT_CODE } from "../../src/cli/exit-codes.ts";
import { daemonArguments, listDaemons } from "../../src/cli/mounts/mount-table.ts";
import { attempt, eventually, run, sleep } from "../support/run.ts";
import type { RunResult } from "../support/run.ts";
import { COMMAND, CommandLine, LINKED_COMMAND, mountLine } from "./fixtures.ts";

/** A user that owns nothing here. */
const NOBODY = 65534;
const saying = (words: string): unknown => expect.stringContaining(words);

/** @returns Access times after each of three reads, in milliseconds. */
async function timesOfReads(path: string, read: (path: string) => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (let count = 0; count < 3; count++) {
    await sleep(5);
    await read(path);
    times.push((await stat(path)).atimeMs);
  }
  return times;
}

/** Write without any fsync: only a flush on the way out keeps it. */
async function leaveDirty(line: CommandLine, name: string): Promise<void> {
  await writeFile(join(line.mountPoint, name), name);
}

async function expectKept(line: CommandLine, ...names: readonly string[]): Promise<void> {
  await line.mount();
  for (const name of names) expect(await readFile(join(line.mountPoint, name), "utf8")).toBe(name);
  await line.umount();
}

describe("init", () => {
  test("makes a private vault and prints 24 words once, or keeps them in a private file", async () => {
    await using line = await CommandLine.make({ isBare: true });
    const { stdout } = await line.expect("OK", ["init", ...line.unlock]);
    expect(stdout.match(/^ *\d+\. [a-z]+/gmu)).toHaveLength(6);
    expect(stdout.match(/\d+\. [a-z]+/gu)).toHaveLength(24);
    expect((await stat(line.vault)).mode & 0o777).toBe(0o700);
    for (const name of await readdir(line.vault))
      expect((await stat(join(line.vault, name))).mode & 0o077, name).toBe(0);
    const second = join(line.directory, "second");
    const file = join(line.directory, "words");
    const json = [
      "init",
      "--vault",
      second,
      "--passphrase-file",
      line.passphraseFile,
      "--recovery-file",
      file,
      "--json",
    ];
    const made = JSON.parse((await line.expect("OK", json)).stdout) as Record<string, unknown>;
    expect(made).toMatchObject({ vault: second, recoveryWords: null, recoveryFile: file });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await readFile(file, "utf8")).trim().split(" ")).toHaveLength(24);
  });
});

describe("what only its owner may read", () => {
  test("is the whole vault, though its directory was there before, whichever command wrote to it", async () => {
    await using line = await CommandLine.make({ isBare: true });
    await mkdir(line.vault);
    await chmod(line.vault, 0o755);
    const umask = (words: readonly string[]): Promise<string> =>
      run("sh", ["-c", 'umask 022; exec "$@"', "sh", process.execPath, COMMAND, ...words]);
    await umask(["init", ...line.unlock]);
    await umask(["gc", ...line.unlock]);
    const names = await readdir(line.vault, { recursive: true });
    expect(names).toContain("meta/CURRENT");
    for (const name of [".", ...names]) expect((await stat(join(line.vault, name))).mode & 0o077, name).toBe(0);
  });
});

describe("a vault from somebody else", () => {
  test("does not choose what is written to", async () => {
    await using line = await CommandLine.make();
    const target = line.secretFile("target", "mine");
    await rm(join(line.vault, "daemon.log"), { force: true });
    for (const name of ["daemon.log", "control.sock", "vault.json.new"]) {
      await rm(join(line.vault, name), { force: true });
      await symlink(target, join(line.vault, name));
    }
    await line.mount();
    await leaveDirty(line, "a");
    await line.umount();
    expect(await readFile(target, "utf8")).toBe("mine");
  });
});

test("a process of another user that has a daemon's arguments is not believed", async () => {
  const parameters = ["-e", "console.log('up'); setInterval(() => undefined, 1000)", "/tmp/cli/daemon.js"];
  const child = spawn(process.execPath, [...parameters, ...daemonArguments("/some/vault", "/some/mount")], {
    cwd: "/",
    uid: NOBODY,
    gid: NOBODY,
  });
  try {
    await once(child.stdout, "data");
    expect(await readFile(`/proc/${String(child.pid)}/cmdline`, "utf8")).toContain("--vault=/some/vault");
    expect(listDaemons().filter(({ pid }) => pid === child.pid)).toEqual([]);
  } finally {
    child.kill("SIGKILL");
  }
  await once(child, "close");
});

describe("mount and umount", () => {
  test("keep everything, say where it is, and leave no trace of the daemon", async () => {
    await using line = await CommandLine.make();
    const { stdout } = await line.mount();
    expect(stdout).toBe(`${line.vault} is mounted at ${line.mountPoint}\n`);
    expect(mountLine(line.mountPoint)).toMatch(/ fuse\.tcfs .*nosuid.*nodev/u);
    await leaveDirty(line, "a");
    const pid = line.pid();
    await line.umount();
    await line.daemonEnds(pid);
    expect(mountLine(line.mountPoint)).toBeUndefined();
    await expect(stat(line.pidFile)).rejects.toThrow(/ENOENT/u);
    await expect(stat(join(line.vault, "control.sock"))).rejects.toThrow(/ENOENT/u);
    await expectKept(line, "a");
  });

  test("open with the recovery words, with a new passphrase, and no longer with the old one", async () => {
    await using line = await CommandLine.make();
    const words = ["--vault", line.vault, "--recovery-file", join(line.directory, "words")];
    const fresh = line.secretFile("new", "new one\n");
    await line.mount();
    await line.expect("OK", ["key", "passwd", ...words, "--new-passphrase-file", fresh]);
    await leaveDirty(line, "a");
    await line.umount();
    await line.expect("WRONG_KEY", line.mountWords);
    await line.expect("OK", ["mount", line.mountPoint, ...words, "--pid-file", line.pidFile]);
    await line.umount();
    await line.expect("OK", [...line.mountWords, "--passphrase-file", fresh]);
    expect(await readFile(join(line.mountPoint, "a"), "utf8")).toBe("a");
    await line.umount();
    const copy = await readFile(join(line.vault, "vault.json.bak"));
    expect(copy).toEqual(await readFile(join(line.vault, "vault.json")));
  });

  test("honour the options of a mount", async () => {
    await using line = await CommandLine.make();
    await line.mount("-o", "noatime,noexec,suid", "-o", "dev,fsname=my vault", "--allow-other");
    const told = mountLine(line.mountPoint) ?? "";
    expect(told).toMatch(/^my\\040vault .*noexec.*allow_other/u);
    expect(told).toContain("noatime");
    expect(told).not.toMatch(/nosuid|nodev/u);
    await line.umount();
    await line.mount("--read-only");
    await expect(writeFile(join(line.mountPoint, "x"), "")).rejects.toThrow(/EROFS/u);
    await line.umount();
  });

  test("are made and changed by the helper of mount(8)", async () => {
    await using line = await CommandLine.make();
    const helper = join(line.directory, "mount.fuse.tcfs");
    await symlink(LINKED_COMMAND, helper);
    const mountBy = async (list: string): Promise<string | undefined> => {
      const words = `${list},passphrase_file=${line.passphraseFile},pid_file=${line.pidFile}`;
      expect(await attempt(helper, [line.vault, line.mountPoint, "-o", words])).toMatchObject({ code: 0, stderr: "" });
      return mountLine(line.mountPoint);
    };
    expect(await mountBy("rw,nosuid,nodev")).toMatch(/ rw,nosuid,nodev,/u);
    await line.umount();
    expect(await mountBy("rw")).not.toMatch(/nosuid|nodev/u);
    await line.umount();
    const remount = (list: string): Promise<RunResult> =>
      attempt(helper, [line.vault, line.mountPoint, "-o", `${list},remount,user_id=0,group_id=0,default_permissions`]);
    await line.mount("-o", "dev,strictatime");
    await leaveDirty(line, "a");
    for (const times of [
      await timesOfReads(line.mountPoint, readdir),
      await timesOfReads(join(line.mountPoint, "a"), readFile),
    ])
      expect([...new Set(times)].toSorted((a, b) => a - b)).toEqual(times); // strictatime: each later than the one before
    expect(await remount("ro")).toMatchObject({ code: 0, stderr: "" });
    expect(mountLine(line.mountPoint)).toMatch(/ ro,nosuid,user_id/u); // as it was, devices and strictatime included
    expect(await remount("ro,nosuid,nodev,relatime")).toMatchObject({ code: 0, stderr: "" });
    expect(mountLine(line.mountPoint)).toMatch(/ ro,nosuid,nodev,relatime/u);
    await expect(writeFile(join(line.mountPoint, "x"), "")).rejects.toThrow(/EROFS/u);
    expect(await remount("rw,nosuid,nodev,noexec,noatime,dirsync")).toMatchObject({ code: 0 }); // no table shows dirsync
    expect(mountLine(line.mountPoint)).toMatch(/ rw,nosuid,nodev,noexec,noatime/u);
    const held = await open(join(line.mountPoint, "b"), "w");
    expect(await remount("ro")).toMatchObject({ code: 32, stderr: saying("open for writing") });
    await held.close();
    const pid = line.pid();
    process.kill(pid, "SIGKILL");
    await line.daemonEnds(pid);
    await line.mount("--read-only");
    expect((await readdir(line.mountPoint)).sort()).toEqual(["a", "b"]); // dirsync: the name was on the disk
    expect(await remount("rw")).toMatchObject({ code: 32, stderr: saying("unmount it") });
    expect(mountLine(line.mountPoint)).toMatch(/ ro,/u);
    await line.umount();
    expect(await remount("ro")).toMatchObject({ code: 32, stderr: saying("no vault is mounted") });
    await line.expect("USAGE", [...line.mountWords, "-o", "remount,ro"]);
  });

  test("name who keeps the mount busy, and go on once it is free", async () => {
    await using line = await CommandLine.make();
    await line.mount();
    await leaveDirty(line, "a");
    const holder = spawn("tail", ["-f", join(line.mountPoint, "a")], { stdio: "ignore", cwd: "/" });
    try {
      // Links of descriptors are read without asking the mount.
      const opened = async (): Promise<string> => run("find", [`/proc/${holder.pid}/fd`, "-printf", "%l\n"]);
      await eventually("tail has it open", 60_000, async () => (await opened()).includes(join(line.mountPoint, "a")));
      const { stderr } = await line.expect("BUSY", ["umount", line.mountPoint]);
      expect(stderr).toContain(`tail (pid ${holder.pid}, open file)`);
    } finally {
      holder.kill();
      await once(holder, "close");
    }
    await line.umount();
    await expectKept(line, "a");
  });

  test("detach lazily when asked to, at once: the file that is open goes on to its end", async () => {
    await using line = await CommandLine.make();
    await line.mount();
    const pid = line.pid();
    const file = await open(join(line.mountPoint, "a"), "w+");
    const { stdout } = await line.expect("OK", ["umount", "--lazy", line.mountPoint]);
    expect(stdout).toContain(`is detached; the daemon (pid ${pid}) goes on for`);
    expect(stdout).toContain(`(pid ${process.pid}, open file)`);
    expect(mountLine(line.mountPoint)).toBeUndefined();
    await file.writeFile("a");
    await file.close();
    await line.daemonEnds(pid);
    await expectKept(line, "a");
  });

  test("follow one another at once, also after an unmount by umount(8)", async () => {
    await using line = await CommandLine.make();
    for (const name of ["a", "b", "c"]) {
      await line.mount();
      await leaveDirty(line, name);
      await run("umount", [line.mountPoint]);
    }
    await expectKept(line, "a", "b", "c");
  });
});

describe("the end of a daemon", () => {
  test.each(["SIGTERM", "SIGINT"] as const)("by %s flushes and unmounts", async (signal) => {
    await using line = await CommandLine.make();
    await line.mount();
    await leaveDirty(line, "a");
    const pid = line.pid();
    process.kill(pid, signal);
    await line.daemonEnds(pid);
    expect(mountLine(line.mountPoint)).toBeUndefined();
    await expectKept(line, "a");
  });

  test("by a signal comes within seconds though a program keeps the mount busy", async () => {
    await using line = await CommandLine.make();
    await line.mount();
    await leaveDirty(line, "a");
    const pid = line.pid();
    const file = await open(join(line.mountPoint, "a"), "r");
    process.kill(pid, "SIGTERM");
    await line.daemonEnds(pid);
    expect(mountLine(line.mountPoint)).toBeUndefined();
    await file.close().catch(() => undefined);
    await expectKept(line, "a");
  });

  test("does not come with the end of the terminal", async () => {
    await using line = await CommandLine.make();
    await line.mount();
    process.kill(line.pid(), "SIGHUP");
    await sleep(300);
    expect(await readdir(line.mountPoint)).toEqual([]);
    await line.umount();
  });
});

describe("a daemon in the foreground", () => {
  test("stays until a signal, logs to standard error, and ends with 0", async () => {
    await using line = await CommandLine.make();
    const command = spawn(process.execPath, [COMMAND, ...line.mountWords, "--foreground"], { stdio: "pipe" });
    let told = "";
    command.stdout.on("data", (data: Buffer) => (told += data.toString()));
    let logged = "";
    command.stderr.on("data", (data: Buffer) => (logged += data.toString()));
    const closed = once(command, "close");
    await eventually("it is mounted", 20_000, () => told.includes("is mounted at"));
    await leaveDirty(line, "a");
    command.kill("SIGTERM");
    expect(await closed).toEqual([EXIT_CODE.OK, null]);
    expect(logged).toMatch(/info mounted[^]*info closed/u);
    await expectKept(line, "a");
  });

  test("unmounts when the command is killed", async () => {
    await using line = await CommandLine.make();
    const command = spawn(process.execPath, [COMMAND, ...line.mountWords, "--foreground"], { stdio: "ignore" });
    const closed = once(command, "close");
    await eventually("it is mounted", 20_000, () => mountLine(line.mountPoint) !== undefined);
    await eventually("its pid file is written", 5000, () => attemptPid(line) > 0);
    const pid = line.pid();
    await leaveDirty(line, "a");
    command.kill("SIGKILL");
    await closed;
    await line.daemonEnds(pid);
    expect(mountLine(line.mountPoint)).toBeUndefined();
    await expectKept(line, "a");
  });
});

describe("sync, status, gc", () => {
  test("sync keeps what was written, whatever happens then", async () => {
    await using line = await CommandLine.make();
    await line.mount();
    await leaveDirty(line, "a");
    await line.expect("OK", ["sync", line.mountPoint]);
    const pid = line.pid();
    process.kill(pid, "SIGKILL");
    await line.daemonEnds(pid);
    await expectKept(line, "a");
    await line.expect("OK", ["sync", "--vault", line.vault]);
    await line.expect("NOT_MOUNTED", ["sync", line.mountPoint]);
  });

  test("tell the same of a mounted vault and, unlocked, of one that is not", async () => {
    await using line = await CommandLine.make();
    await line.mount();
    await writeFile(join(line.mountPoint, "a"), Buffer.alloc(300_000, "a"));
    await writeFile(join(line.mountPoint, "b"), Buffer.alloc(300_000, "a"));
    await line.expect("OK", ["sync", line.mountPoint]);
    const status = async (...words: readonly string[]) =>
      JSON.parse((await line.expect("OK", ["status", "--json", ...words])).stdout) as Record<string, unknown>;
    const mounted = await status(line.mountPoint);
    expect(mounted).toMatchObject({ mounted: true, pid: line.pid(), vault: line.vault, dirtyBytes: 0, inodeCount: 3 });
    expect(mounted["dedupRatio"]).toBeGreaterThan(1.9);
    expect(mounted["compressionRatio"]).toBeGreaterThan(10);
    await line.umount();
    const locked = await status("--vault", line.vault);
    expect(locked).toMatchObject({ mounted: false, pid: null, logicalBytes: null });
    const unlocked = await status(...line.unlock);
    expect(unlocked).toMatchObject({ mounted: false, pid: null, inodeCount: 3 });
    expect(unlocked["logicalBytes"]).toBe(mounted["logicalBytes"]);
    expect(Object.keys(locked)).toEqual(Object.keys(mounted));
  });

  test("give back room, in the daemon and without one", async () => {
    await using line = await CommandLine.make();
    await line.mount();
    await line.expect("OK", ["gc", "--vault", line.vault]);
    await line.umount();
    const report = JSON.parse((await line.expect("OK", ["gc", ...line.unlock, "--json"])).stdout) as object;
    expect(report).toMatchObject({ liveChunks: 0 });
  });
});

describe("secrets", () => {
  test("are in no argument, environment, log or file of the daemon", async () => {
    await using line = await CommandLine.make();
    await line.mount();
    const pid = line.pid();
    const words = await readFile(join(line.directory, "words"), "utf8");
    for (const file of ["cmdline", "environ"]) {
      const text = await readFile(`/proc/${pid}/${file}`, "utf8");
      expect(text).not.toContain("swordfish");
      expect(text).not.toContain(words.trim());
    }
    expect(line.log()).not.toContain("swordfish");
    expect(await readFile(`/proc/${pid}/limits`, "utf8")).toMatch(/Max core file size +0 +0/u);
    expect((await readFile(`/proc/${pid}/coredump_filter`, "utf8")).trim()).toBe("00000000");
    await line.umount();
  });

  test("cannot be read with a debugger that a signal starts", async () => {
    await using line = await CommandLine.make();
    await line.mount();
    process.kill(line.pid(), "SIGUSR1");
    await leaveDirty(line, "a");
    await sleep(500);
    const descriptors = `/proc/${line.pid()}/fd`;
    const targets = await Promise.all(
      (await readdir(descriptors)).map((name) => readlink(join(descriptors, name)).catch(() => "")), // closed meanwhile
    );
    const inodes = targets.flatMap((target) => /^socket:\[(\d+)\]$/u.exec(target)?.[1] ?? []).map(Number);
    expect(inodes.length, "its control socket").toBeGreaterThan(0);
    const listening = (await readFile(`/proc/${line.pid()}/net/tcp`, "utf8"))
      .split("\n")
      .slice(1)
      .map((row) => Number(row.trim().split(/\s+/u)[9]));
    expect(listening.filter((ino) => inodes.includes(ino))).toEqual([]);
    expect(line.log()).not.toContain("Debugger");
    await line.umount();
  });
});

function attemptPid(line: CommandLine): number {
  try {
    return line.pid();
  } catch {
    return Number.NaN;
  }
}
