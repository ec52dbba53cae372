import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { formatHolders, listHolders } from "../../src/cli/mounts/busy.ts";
import { daemonArguments, isDaemonAlive, listDaemons, parseMountInfo } from "../../src/cli/mounts/mount-table.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

describe("the mount table", () => {
  test("is read with optional fields, octal escapes and UTF-8", () => {
    const text = [
      "22 27 0:20 / /proc rw,nosuid shared:12 - proc proc rw",
      "90 27 0:45 / /mnt/my\\040vault\\134x rw,relatime - fuse.tcfs /v rw,user_id=0",
      "91 27 0:46 / /mnt/b\u00fccher rw shared:1 master:2 - fuse.tcfs /v\\0402 rw,user_id=1000,group_id=1000",
      "",
    ].join("\n");
    expect(parseMountInfo(text)).toEqual([
      { mountPoint: "/proc", type: "proc", userId: undefined, options: ["rw", "rw", "nosuid"] },
      {
        mountPoint: "/mnt/my vault\\x",
        type: "fuse.tcfs",
        userId: 0,
        options: ["rw", "user_id=0", "rw", "relatime"],
      },
      {
        mountPoint: "/mnt/b\u00fccher",
        type: "fuse.tcfs",
        userId: 1000,
        options: ["rw", "user_id=1000", "group_id=1000", "rw"],
      },
    ]);
  });
});

describe("daemons", () => {
  test("are found by their command line, and are gone when they have ended", async () => {
    await using directory = await temporaryDirectory("daemons");
    mkdirSync(join(directory.path, "cli"));
    const script = join(directory.path, "cli", "daemon.js");
    writeFileSync(script, "setInterval(() => undefined, 1000); console.log('up')");
    const child = spawn(process.execPath, [script, ...daemonArguments("/some/vault", "/some/mount point")]);
    try {
      await once(child.stdout, "data");
      const found = listDaemons().find(({ pid }) => pid === child.pid);
      expect(found).toEqual({ pid: child.pid, vault: "/some/vault", mountPoint: "/some/mount point" });
    } finally {
      child.kill("SIGKILL");
    }
    await once(child, "close");
    expect(isDaemonAlive(child.pid ?? 0)).toBe(false);
    expect(isDaemonAlive(process.pid)).toBe(false);
  });
});

describe("holders", () => {
  test.each([
    ["working directory", "cd DIR; echo up; read _; true"],
    ["open file", "exec 9>DIR/file; echo up; read _; true"],
    ["program", "cp $(command -v sleep) DIR/sleep; echo up; exec DIR/sleep 60"],
  ])("are found by their %s", async (reason, script) => {
    await using directory = await temporaryDirectory("holders");
    const child = spawn("bash", ["-c", script.replaceAll("DIR", directory.path)], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    try {
      await once(child.stdout, "data");
      await expect
        .poll(() => listHolders(directory.path).map((holder) => ({ pid: holder.pid, reason: holder.reason })))
        .toEqual([{ pid: child.pid, reason }]);
      expect(formatHolders(listHolders(directory.path))).toMatch(/^(bash|sleep) \(pid \d+, [a-z ]+\)$/u);
    } finally {
      child.kill("SIGKILL");
    }
    await once(child, "close");
    expect(listHolders(directory.path)).toEqual([]);
  });

  test("of a directory beside it are not meant", async () => {
    await using directory = await temporaryDirectory("beside");
    const beside = `${directory.path}-beside`;
    expect(listHolders(beside)).toEqual([]);
  });
});
