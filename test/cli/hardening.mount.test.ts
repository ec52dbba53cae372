/** Secrets of a run: in no argument and environment of any process of it, and out of reach of other processes. */
import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, readdirSync } from "node:fs";
import { chmod, chown, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import kdbxweb from "kdbxweb";
import { describe, expect, test } from "vitest";
import { SecretKey } from "../../src/crypto/secret-key.ts";
import { attempt, eventually, run } from "../support/run.ts";
import { COMMAND, CommandLine, mountLine } from "./fixtures.ts";

const missing = ["strace", "script"].filter(
  (command) => spawnSync(command, ["--version"], { stdio: "ignore" }).error !== undefined,
);
if (missing.length > 0) console.warn(`tests of what processes show are skipped without: ${missing.join(", ")}`);

const NOBODY = { uid: 65534, gid: 65534 };
const nobodyCannot =
  process.getuid?.() !== 0 ||
  spawnSync(process.execPath, [COMMAND, "--version"], { ...NOBODY, stdio: "ignore" }).status !== 0;
if (nobodyCannot) console.warn("what other processes may read is not tested: no second user may run tcfs here");

/** Nobody else on this machine has them in a command line. */
const canary = (what: string): string => `canary-${what}-${randomBytes(8).toString("hex")}`;

/** @returns Each program that was started, with its arguments and whole environment. */
function startsIn(trace: string): string[] {
  return readFileSync(trace, "utf8")
    .split("\n")
    .filter((row) => row.includes("execve("));
}

/** What /proc shows of every process there is now. */
function everyProcess(): string {
  const files = readdirSync("/proc").flatMap((pid) =>
    /^\d+$/u.test(pid) ? [`/proc/${pid}/cmdline`, `/proc/${pid}/environ`] : [],
  );
  return files.map(readIfThere).join("\n");
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return ""; // it has ended
  }
}

/** @returns The process of `tcfs key test` that asks for the passphrase of this vault. */
function waiting({ vault }: CommandLine): number {
  const words = [process.execPath, COMMAND, "key", "test", "--vault", vault].join("\0");
  return Number(readdirSync("/proc").find((entry) => readIfThere(`/proc/${entry}/cmdline`).startsWith(words)));
}

describe.skipIf(missing.length > 0)("secrets", () => {
  test("are in no argument and no environment of any process of a run", async () => {
    await using line = await CommandLine.make({ isBare: true });
    const secrets = {
      passphrase: canary("pass"),
      master: canary("master"),
      store: canary("store"),
      pin: canary("env"),
    };
    const words = join(line.directory, "words");
    const first = line.secretFile("first", `${secrets.passphrase}\n`);
    await line.expect("OK", ["init", "--vault", line.vault, "--passphrase-file", first, "--recovery-file", words]);
    const database = kdbxweb.Kdbx.create(
      new kdbxweb.Credentials(kdbxweb.ProtectedValue.fromString(secrets.master)),
      "t",
    );
    database.setKdf(kdbxweb.Consts.KdfId.Aes);
    const { fields } = database.createEntry(database.getDefaultGroup());
    fields.set("Title", "t");
    fields.set("UserName", "AKIA");
    fields.set("Password", kdbxweb.ProtectedValue.fromString(secrets.store));
    fields.set("passphrase", kdbxweb.ProtectedValue.fromString(secrets.passphrase));
    await writeFile(join(line.directory, "t.kdbx"), new Uint8Array(await database.save()));
    const source = `kdbx:${line.directory}/t.kdbx#t`;
    const master = ["--kdbx-password-file", line.secretFile("master", `${secrets.master}\n`)];
    await line.expect("OK", ["credentials", "set", source, "--with-passphrase", "--vault", line.vault, ...master]);

    const trace = join(line.directory, "trace");
    const mount = ["mount", line.mountPoint, "--vault", line.vault, "--pid-file", line.pidFile];
    const strace = ["-f", "-qq", "-v", "-s", "1000000", "-e", "trace=execve", "-o", trace, process.execPath, COMMAND];
    // Its own environment is its caller's to fill; nothing of that may go further.
    const env = { ...process.env, AWS_ACCESS_KEY_ID: "AKIA", AWS_SECRET_ACCESS_KEY: secrets.pin };
    const traced = spawn("strace", [...strace, ...mount], { env, stdio: "ignore" });
    const ended = once(traced, "close");
    await eventually("it is mounted", 60_000, () => mountLine(line.mountPoint) !== undefined);
    await eventually("it says so", 60_000, () => readIfThere(line.pidFile) !== "");
    const shown = everyProcess();
    await line.umount();
    await ended;

    const [command, ...children] = startsIn(trace);
    expect(command).toContain(COMMAND);
    expect(children.length).toBeGreaterThan(0);
    expect(children.join("\n")).toContain("daemon.js");
    const phrase = (await readFile(words, "utf8")).trim();
    for (const [name, secret] of Object.entries({ ...secrets, words: phrase })) {
      expect(
        children.some((row) => row.includes(secret)),
        `${name} in a child`,
      ).toBe(false);
      if (name === "pin") continue; // in the command that was given it, and in strace
      expect(command?.includes(secret), `${name} in the command`).toBe(false);
      expect(shown.includes(secret), `${name} in /proc`).toBe(false);
      expect(line.log().includes(secret), `${name} in the log`).toBe(false);
    }
  });

  test.skipIf(nobodyCannot)(
    "are out of reach of the same user's other processes, in the daemon and in commands",
    async () => {
      await using line = await CommandLine.make({ isBare: true });
      await chmod(dirname(line.directory), 0o711);
      for (const path of [line.directory, line.mountPoint, line.passphraseFile])
        await chown(path, NOBODY.uid, NOBODY.gid);
      const read = async (pid: number) => (await attempt("cat", [`/proc/${pid}/environ`], NOBODY)).code;
      const other = spawn("sleep", ["infinity"], { ...NOBODY, stdio: "ignore" });
      try {
        await eventually(
          "a program that hides nothing can be read",
          10_000,
          async () => (await read(other.pid ?? 0)) === 0,
        );
      } finally {
        other.kill();
      }
      const words = ["--recovery-file", join(line.directory, "words")];
      await line.expect("OK", ["init", ...line.unlock, ...words], NOBODY);
      await line.expect("OK", line.mountWords, NOBODY);
      expect(await read(line.pid())).toBe(1);
      expect(readIfThere(`/proc/${line.pid()}/limits`)).toMatch(/Max core file size +0 +0/u);
      await line.expect("OK", ["umount", line.mountPoint], NOBODY);

      // A command that waits with its question.
      const command = `${process.execPath} ${COMMAND} key test --vault ${line.vault}`;
      const screen = spawn("script", ["-qec", command, "/dev/null"], { ...NOBODY, stdio: "pipe" });
      const ended = once(screen, "close");
      let text = "";
      screen.stdout.on("data", (piece: Buffer) => (text += piece.toString()));
      await eventually("it asks", 30_000, () => text.includes("Passphrase:"));
      const pid = waiting(line);
      expect(await read(pid)).toBe(1);
      expect(readIfThere(`/proc/${pid}/limits`)).toMatch(/Max core file size +0 +0/u);
      screen.stdin.write("\u0003");
      await ended;
    },
  );

  test("a terminal is as it was after a signal in the middle of a question", async () => {
    await using line = await CommandLine.make();
    const command = `${process.execPath} ${COMMAND} key test --vault ${line.vault}`;
    const screen = spawn("script", ["-qec", `sh -c '${command}; stty -a; echo over'`, "/dev/null"], { stdio: "pipe" });
    const ended = once(screen, "close");
    let text = "";
    screen.stdout.on("data", (piece: Buffer) => (text += piece.toString()));
    await eventually(`it asks`, 30_000, () => text.includes("Passphrase:"));
    const asking = waiting(line);
    expect(await run("stty", ["-a", "-F", await run("readlink", ["-n", `/proc/${asking}/fd/0`])])).toMatch(/ -echo /u);
    process.kill(asking, "SIGTERM");
    await ended;
    expect(text).toContain("over");
    expect(text).toMatch(/ echo /u);
    expect(text).toMatch(/ icanon /u);
  });
});

describe("a key", () => {
  test("lies in locked memory of its own, and is zeros once wiped", () => {
    const lockedKiB = (): number => Number(/^VmLck:\s+(\d+) kB/mu.exec(readFileSync("/proc/self/status", "utf8"))?.[1]);
    const before = lockedKiB(); // in one step: what other keys had is given back between steps
    const key = new SecretKey(new Uint8Array(32).fill(7));
    expect(lockedKiB() - before).toBe(4);
    const bytes = key.expose();
    key.wipe();
    expect(bytes).toEqual(new Uint8Array(32));
  });
});
