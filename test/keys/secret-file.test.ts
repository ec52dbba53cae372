import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { isTcfsError } from "../../src/errors.ts";
import { readPassphraseFile, readRecoveryFile, writeSecretFile } from "../../src/keys/secret-file.ts";

const me = process.getuid?.() ?? 0;
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "tcfs-secret-"));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

function file(content: string | Uint8Array, mode = 0o600): string {
  const path = join(directory, "secret");
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

async function read(path: string, owners = [me]): Promise<string> {
  return Buffer.from(await readPassphraseFile(path, { owners })).toString("latin1");
}

const codeOf = async (attempt: Promise<unknown>) =>
  attempt.then(
    () => undefined,
    (error: unknown) => (isTcfsError(error) ? error.code : error),
  );

describe("a passphrase file", () => {
  test.each([
    ["pass", "pass"],
    ["pass\n", "pass"],
    ["pass\r\n", "pass"],
    ["pass\nsecond line\n", "pass"],
    ["  spaces stay  \n", "  spaces stay  "],
    ["a\rb\n", "a\rb"],
  ])("of %j gives %j", async (content, expected) => {
    expect(await read(file(content))).toBe(expected);
  });

  test.each([0o640, 0o604, 0o620, 0o666, 0o610])("of mode %o is refused", async (mode) => {
    expect(await codeOf(read(file("pass", mode)))).toBe("TCFS_UNSAFE_FILE");
  });

  test("of mode 0400 is taken", async () => {
    expect(await read(file("pass", 0o400))).toBe("pass");
  });

  test("of another owner is refused", async () => {
    expect(await codeOf(read(file("pass"), [me + 1]))).toBe("TCFS_UNSAFE_FILE");
  });

  test("behind a symbolic link is judged by the file itself", async () => {
    const link = join(directory, "link");
    symlinkSync(file("pass", 0o644), link);
    expect(await codeOf(read(link))).toBe("TCFS_UNSAFE_FILE");
  });

  test("that is a FIFO is refused at once, and not waited for", async () => {
    const path = join(directory, "fifo");
    execFileSync("mkfifo", ["-m", "600", path]);
    expect(await codeOf(read(path))).toBe("TCFS_UNSAFE_FILE");
  });

  test("that is a directory is refused", async () => {
    const path = join(directory, "d");
    mkdirSync(path, { mode: 0o700 });
    expect(await codeOf(read(path))).toBe("TCFS_UNSAFE_FILE");
  });

  test("that is missing, empty or too long is named in the error", async () => {
    expect(await codeOf(read(join(directory, "none")))).toBe("TCFS_USAGE");
    expect(await codeOf(read(file("\nx")))).toBe("TCFS_USAGE");
    expect(await codeOf(read(file("x".repeat(4097))))).toBe("TCFS_USAGE");
    expect(await read(file(`${"x".repeat(4096)}\n`))).toHaveLength(4096);
  });
});

describe("a recovery file", () => {
  test("is written 0600 whatever the umask, read back whole, and never written over", async () => {
    const path = join(directory, "words");
    const umask = process.umask(0);
    try {
      await writeSecretFile(path, "a b\nc\n");
    } finally {
      process.umask(umask);
    }
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(Buffer.from(await readRecoveryFile(path, { owners: [me] })).toString()).toBe("a b\nc\n");
    expect(await codeOf(writeSecretFile(path, "other"))).toBe("TCFS_EXISTS");
  });

  test("is flushed with its name, and gone where that fails", async () => {
    const path = join(directory, "flushed");
    const probe = await open(directory);
    const prototype = Object.getPrototypeOf(probe) as FileHandle;
    await probe.close();
    const flushed: string[] = [];
    const flush = vi.spyOn(prototype, "sync").mockImplementation(async function (this: FileHandle) {
      flushed.push((await this.stat()).isDirectory() ? "directory" : "file");
    });
    await writeSecretFile(path, "a");
    expect(flushed).toEqual(["file", "directory"]);
    flush.mockRejectedValue(Object.assign(new Error("EIO: i/o error, fsync"), { code: "EIO" }));
    expect(await codeOf(writeSecretFile(join(directory, "unflushed"), "a"))).toBe("TCFS_USAGE");
    flush.mockRestore();
    expect(existsSync(join(directory, "unflushed"))).toBe(false);
  });

  test("that others can read is refused", async () => {
    expect(await codeOf(readRecoveryFile(file("a b c", 0o644), { owners: [me] }))).toBe("TCFS_UNSAFE_FILE");
  });
});
