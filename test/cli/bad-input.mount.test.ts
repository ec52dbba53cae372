/** Every line of “bad input” that the command line answers: its own sentence, its own exit code, and nothing lost. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, copyFile, mkdir, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { EXIT_CODE } from "../../src/cli/exit-codes.ts";
import { attempt, eventually } from "../support/run.ts";
import { isAlive } from "../support/tcfs-mount.ts";
import { COMMAND, CommandLine, mountLine } from "./fixtures.ts";

describe("a mount that cannot be", () => {
  test("says so for a wrong passphrase, and the right one still opens the vault", async () => {
    await using line = await CommandLine.make();
    const wrong = line.secretFile("wrong", "sword\n");
    const { stderr } = await line.expect("WRONG_KEY", [...line.mountWords, "--passphrase-file", wrong]);
    expect(stderr).toBe("tcfs: the passphrase is wrong\n");
    await line.mount();
    await line.umount();
  });

  test("says so for a vault that is not there, without a terminal, and makes none", async () => {
    await using line = await CommandLine.make({ isBare: true });
    const { stderr } = await line.expect("NO_VAULT", line.mountWords);
    expect(stderr).toContain(`there is no vault in ${line.vault}`);
    await expect(readFile(join(line.vault, "vault.json"))).rejects.toThrow(/ENOENT/u);
  });

  test("says so where nobody can be asked for the passphrase, at once", async () => {
    await using line = await CommandLine.make();
    const words = ["mount", line.mountPoint, "--vault", line.vault];
    const { stderr } = await line.expect("USAGE", words, { timeoutMs: 180_000 });
    expect(stderr).toMatch(/no terminal.*--passphrase-file/u);
  });

  test("says so for each fault of the mount point", async () => {
    await using line = await CommandLine.make();
    const mountAt = (place: string): string[] => ["mount", place, ...line.unlock];
    await line.expect("MOUNT_POINT_MISSING", mountAt(join(line.directory, "none")));
    await line.expect("MOUNT_POINT_NOT_DIRECTORY", mountAt(line.passphraseFile));
    await line.expect("MOUNT_POINT_NOT_DIRECTORY", mountAt(join(line.passphraseFile, "below")));
    const full = await line.placeToMount("full");
    await writeFile(join(full, "file"), "");
    await line.expect("MOUNT_POINT_NOT_EMPTY", mountAt(full));
    await line.expect("BAD_MOUNT_POINT", mountAt(line.vault));
    await line.expect("BAD_MOUNT_POINT", mountAt(line.directory));
    await line.expect("OK", [...line.mountWords.with(1, full), "-o", "nonempty"]);
    await line.expect("OK", ["umount", full]);
    expect(await readFile(join(full, "file"), "utf8")).toBe("");
  });

  test("says who has the vault or the mount point already", async () => {
    await using line = await CommandLine.make();
    await line.mount();
    const there = await line.expect("ALREADY_MOUNTED", line.mountWords);
    expect(there.stderr).toContain(`daemon ${line.pid()}`);
    const other = await line.placeToMount("other");
    const used = await line.expect("VAULT_IN_USE", ["mount", other, ...line.unlock]);
    expect(used.stderr).toContain(`mounted at ${line.mountPoint} by pid ${line.pid()}`);
    const key = await line.expect("OK", ["status", "--json", ...line.unlock]);
    expect(JSON.parse(key.stdout)).toMatchObject({ pid: line.pid(), mountPoint: line.mountPoint });
    await line.umount();
  });

  test("says so for a passphrase or recovery file that others can read", async () => {
    await using line = await CommandLine.make();
    await chmod(line.passphraseFile, 0o644);
    const { stderr } = await line.expect("UNSAFE_FILE", line.mountWords);
    expect(stderr).toMatch(/passphrase.*chmod 600/u);
    const words = join(line.directory, "words");
    await chmod(words, 0o640);
    await line.expect("UNSAFE_FILE", ["mount", line.mountPoint, "--vault", line.vault, "--recovery-file", words]);
  });

  test("leaves nothing mounted and nobody running", async () => {
    await using line = await CommandLine.make();
    const missing = join(line.directory, "no", "such", "directory", "pid");
    await line.expect("USAGE", ["mount", line.mountPoint, ...line.unlock, "--pid-file", missing]);
    expect(mountLine(line.mountPoint)).toBeUndefined();
    await line.mount();
    await line.umount();
  });
});

describe("a header", () => {
  const changes: [string, Parameters<CommandLine["expect"]>[0], (header: Record<string, unknown>) => unknown][] = [
    ["of a newer format", "UNKNOWN_FORMAT", (header) => (header["formatVersion"] = 2)],
    ["with an unknown feature", "UNKNOWN_FORMAT", (header) => (header["incompatibleFeatures"] = ["holograms"])],
    ["with a KDF below the floor", "KDF_BOUNDS", (header) => (kdfOf(header)["memoryKiB"] = 8)],
    ["with a KDF above the ceiling", "KDF_BOUNDS", (header) => (kdfOf(header)["passes"] = 1_000_000)],
    ["with a changed digit", "BAD_HEADER", (header) => (header["revision"] = 7)],
    ["with something added", "BAD_HEADER", (header) => (header["note"] = "hello")],
  ];
  test("that is not ours is refused by what is wrong with it, and its copy puts it right", async () => {
    await using line = await CommandLine.make();
    const original = await line.header();
    for (const [name, exit, change] of changes) {
      const header = structuredClone(original);
      change(header);
      line.writeHeader(header);
      const { stderr } = await line.expect(exit, line.mountWords);
      expect(stderr, name).toMatch(/^tcfs: [^\n]+\n$/u);
    }
    await line.expect("BAD_HEADER", ["status", "--vault", line.vault]);
    await writeFile(join(line.vault, "vault.json"), await readFile(join(line.vault, "vault.json.bak")));
    await line.mount();
    await line.umount();
  });

  test("that is lost is no vault, and the data is not written over", async () => {
    await using line = await CommandLine.make();
    await rm(join(line.vault, "vault.json"));
    for (const words of [line.mountWords, ["init", ...line.unlock]]) {
      expect((await line.expect("NO_VAULT", words)).stderr).toContain("cp vault.json.bak vault.json");
    }
    await copyFile(join(line.vault, "vault.json.bak"), join(line.vault, "vault.json"));
    await line.mount();
  });
});

describe("init", () => {
  test("leaves a vault that is there alone, and a directory that holds something else", async () => {
    await using line = await CommandLine.make();
    const before = await line.header();
    await line.expect("VAULT_EXISTS", ["init", ...line.unlock]);
    expect(await line.header()).toEqual(before);
    const other = join(line.directory, "other");
    await mkdir(other);
    await writeFile(join(other, "file"), "");
    await line.expect("USAGE", ["init", "--vault", other, "--passphrase-file", line.passphraseFile]);
  });

  test("never writes over a file with its recovery words, and makes no vault then", async () => {
    await using line = await CommandLine.make({ isBare: true });
    const words = ["init", ...line.unlock, "--recovery-file", line.passphraseFile];
    await line.expect("USAGE", words);
    await line.expect("NO_VAULT", ["status", "--vault", line.vault]);
  });

  test("takes no key file: that is added to a vault that is there", async () => {
    await using line = await CommandLine.make({ isBare: true });
    const { stderr } = await line.expect("USAGE", ["init", ...line.unlock, "--key-file", line.passphraseFile]);
    expect(stderr).toContain("key-file");
  });

  test("without a terminal and without a passphrase file says what to give", async () => {
    await using line = await CommandLine.make({ isBare: true });
    const { stderr } = await line.expect("USAGE", ["init", "--vault", line.vault], { timeoutMs: 180_000 });
    expect(stderr).toContain("--passphrase-file");
  });
});

describe("a command line", () => {
  test("that makes no sense is refused in a sentence", async () => {
    await using line = await CommandLine.make({ isBare: true });
    const lines = ["", "frobnicate", "mount", "mount a b", "mount a -o frobnicate", "status --frobnicate", "key"];
    for (const text of lines) {
      const { stderr, stdout } = await line.expect("USAGE", text === "" ? [] : text.split(" "));
      expect(stderr, text).toMatch(/^tcfs: [^\n]+\n$/u);
      expect(stdout).toBe("");
    }
  });

  test("that lacks a word, or begins with a wrong one, is told where to read on", async () => {
    await using line = await CommandLine.make({ isBare: true });
    expect((await line.expect("USAGE", ["mount"])).stderr).toContain("tcfs mount --help");
    expect((await line.expect("USAGE", ["frobnicate"])).stderr).toContain("no command “frobnicate”: tcfs --help");
  });

  test("with an empty word is refused: a path of that kind would be the current directory, or the vault's root", async () => {
    await using line = await CommandLine.make({ isBare: true });
    const elsewhere = { cwd: line.directory };
    for (const words of [
      ["init", "--vault", "", "--passphrase-file", line.passphraseFile],
      ["mount", "", ...line.unlock],
      ["restore", "monday", "--path", "", "--vault", line.vault],
      ["restore", "monday", "--path", "a", "--path=", "--vault", line.vault],
    ]) {
      const { stderr } = await line.expect("USAGE", words, elsewhere);
      expect(stderr).toMatch(/^tcfs: what is given for “(vault|mountpoint|path)” is empty: [^\n]+\n$/u);
    }
    expect(await readdir(line.directory)).not.toContain("vault.json");
  });

  test("that prints into a full disk ends with IO and a sentence, one whose reader has gone as ever", async () => {
    await using line = await CommandLine.make();
    const words = [COMMAND, "status", "--vault", line.vault];
    const full = await attempt("sh", ["-c", 'exec "$0" "$@" > /dev/full', process.execPath, ...words]);
    expect(full).toMatchObject({ code: EXIT_CODE.IO, stdout: "" });
    expect(full.stderr).toMatch(/^tcfs: standard output cannot be written: ENOSPC[^\n]*\n$/u);
    const command = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "pipe"] });
    command.stdout.destroy();
    let told = "";
    command.stderr.on("data", (piece: Buffer) => (told += piece.toString()));
    expect(await once(command, "close")).toEqual([EXIT_CODE.OK, null]);
    expect(told).toBe("");
  });

  test("of others' making commands no terminal", async () => {
    await using line = await CommandLine.make({ isBare: true });
    const { stderr } = await line.expect("NO_VAULT", ["status", "--vault", "/none/\u001b[31m\n\u202eevil"]);
    expect(stderr).toContain("in /none/\\x1b[31m\\x0a\\u202eevil");
  });

  test("asks for what is not mounted", async () => {
    await using line = await CommandLine.make({ isBare: true });
    await line.expect("NO_VAULT", ["sync", "--vault", line.vault]);
    await line.expect("NOT_MOUNTED", ["umount", line.mountPoint]);
    await line.expect("NOT_MOUNTED", ["status", line.mountPoint]);
  });

  test("with a place within a mount for the mount point is told where that is", async () => {
    await using line = await CommandLine.make();
    await line.mount();
    const below = join(line.mountPoint, "below");
    await mkdir(below);
    for (const words of [["status"], ["umount"], ["snapshots", "-m"]]) {
      const { stderr } = await line.expect("NOT_MOUNTED", [...words, below]);
      expect(stderr).toBe(`tcfs: no vault is mounted at ${below}: that lies in the mount at ${line.mountPoint}\n`);
    }
    await line.umount();
  });

  test("about a mount whose vault was moved away is not told to make one", async () => {
    await using line = await CommandLine.make();
    await line.mount();
    const elsewhere = join(line.directory, "elsewhere");
    await rename(line.vault, elsewhere);
    const { stderr } = await line.expect("NO_VAULT", ["status", line.mountPoint]);
    expect(stderr).toMatch(/is not in \S+\/vault any more: if it was moved, say --vault and where it is now\n$/u);
    expect((await line.expect("OK", ["status", "--vault", elsewhere])).stdout).toContain(line.mountPoint);
    await rename(elsewhere, line.vault);
    await line.umount();
  });

  test("that wants an unmounted vault says where it is mounted", async () => {
    await using line = await CommandLine.make();
    await line.mount();
    const url = `file://${line.directory}/store`;
    const { stderr } = await line.expect("VAULT_IN_USE", ["store", "set", url, ...line.unlock]);
    expect(stderr).toBe(
      `tcfs: the vault ${line.vault} is in use: mounted at ${line.mountPoint} by pid ${line.pid()}\n`,
    );
    await line.umount();
  });

  test("with a scratch directory or a store's directory that is not there says so in a sentence", async () => {
    await using line = await CommandLine.make();
    const url = `file://${line.directory}/store`;
    await line.expect("REMOTE_MISSING", ["store", "test", url]);
    await line.expect("USAGE", ["store", "test", "file:store"]);
    await line.expect("OK", ["store", "set", url, ...line.unlock]);
    await line.mount();
    await line.expect("OK", ["wait", line.mountPoint]);
    // And in the mount no other vault than its own is meant.
    const there = { cwd: line.mountPoint, env: { TCFS_VAULT: join(line.directory, "none") } };
    for (const words of [["wait"], ["gc"], ["upload", "pause"], ["upload", "resume"]])
      await line.expect("OK", words, there);
    const scratch = join(line.directory, "none");
    const { stderr } = await line.expect("USAGE", ["rehearse-recovery", ...line.unlock, "--scratch", scratch]);
    expect(stderr).toBe(`tcfs: cannot make a scratch directory in ${scratch}: ENOENT, no such file or directory\n`);
    await line.umount();
  });
});

describe("a stale mount of a killed daemon", () => {
  test("is healed by the next mount, and what was flushed is there", async () => {
    await using line = await CommandLine.make();
    await line.mount();
    await writeFile(join(line.mountPoint, "kept"), "safe", { flush: true });
    expect((await stat(line.mountPoint)).isDirectory()).toBe(true); // what the kernel goes on telling of a dead mount
    const pid = line.pid();
    process.kill(pid, "SIGKILL");
    await eventually("the daemon is gone", 10_000, () => !isAlive(pid));
    expect(mountLine(line.mountPoint)).toBeDefined();
    const { stderr } = await line.mount();
    expect(stderr).toContain("stale mount");
    expect(await readFile(join(line.mountPoint, "kept"), "utf8")).toBe("safe");
    await line.umount();
  });

  test("is taken away by umount", async () => {
    await using line = await CommandLine.make();
    await line.mount();
    expect((await stat(line.mountPoint)).isDirectory()).toBe(true); // what the kernel goes on telling of a dead mount
    const pid = line.pid();
    process.kill(pid, "SIGKILL");
    await eventually("the daemon is gone", 10_000, () => !isAlive(pid));
    const { stderr } = await line.umount();
    expect(stderr).toContain("stale mount");
    expect(mountLine(line.mountPoint)).toBeUndefined();
  });
});

function kdfOf(header: Record<string, unknown>): Record<string, unknown> {
  const [slot] = header["slots"] as { kdf: Record<string, unknown> }[];
  return slot?.kdf ?? {};
}
