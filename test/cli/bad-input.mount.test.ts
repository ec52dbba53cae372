/** Every line of “bad input” that the command line answers: its own sentence, its own exit code, and nothing lost. */
import { chmod, copyFile, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { eventually } from "../support/run.ts";
import { isAlive } from "../support/tcfs-mount.ts";
import { CommandLine, mountLine } from "./fixtures.ts";

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
