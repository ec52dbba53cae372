/** `tcfs key`, as its user sees it: on a vault that is mounted and on one that is not. */
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import kdbxweb from "kdbxweb";
import { describe, expect, test } from "vitest";
import { tcfs } from "../support/tcfs-mount.ts";
import { CommandLine } from "./fixtures.ts";

interface Listed {
  readonly id: string;
  readonly kind: string;
  readonly createdAt: string;
  readonly lastUsedAt: string | null;
}

async function list(line: CommandLine): Promise<Listed[]> {
  const { stdout } = await line.expect("OK", ["key", "list", "--vault", line.vault, "--json"]);
  return JSON.parse(stdout) as Listed[];
}

async function idOf(line: CommandLine, kind: string): Promise<string> {
  return (await list(line)).find((slot) => slot.kind === kind)?.id ?? "none";
}

describe("key slots", () => {
  test("are added, tried, listed and removed while the vault is mounted, and open it afterwards", async () => {
    await using line = await CommandLine.make();
    const keyFile = join(line.directory, "stick.key");
    await line.mount();
    await writeFile(join(line.mountPoint, "a"), "a");
    const before = await list(line);
    expect(before.map(({ kind }) => kind)).toEqual(["passphrase", "recovery-words"]);
    expect(before.map(({ lastUsedAt }) => lastUsedAt !== null)).toEqual([true, false]);
    expect(Object.keys(before[0] ?? {}).sort()).toEqual(["createdAt", "id", "kind", "lastUsedAt"]);

    const { stdout } = await line.expect("OK", ["key", "add", ...line.unlock, "--new-key-file", keyFile]);
    expect(stdout).toMatch(/^The key slot [0-9a-f]{16} \(key file\) is added\.\nIts key is in .*stick\.key/u);
    expect((await stat(keyFile)).mode & 0o777).toBe(0o600);
    const second = line.secretFile("second", "another one\n");
    await line.expect("OK", ["key", "add", ...line.unlock, "--new-passphrase-file", second]);
    const fresh = join(line.directory, "fresh-words");
    await line.expect("OK", ["key", "add", ...line.unlock, "--new-recovery-file", fresh]);
    const kinds = ["passphrase", "recovery-words", "key-file", "passphrase", "recovery-words"];
    expect((await list(line)).map(({ kind }) => kind)).toEqual(kinds);
    await line.umount();

    const mount = ["mount", line.mountPoint, "--vault", line.vault, "--pid-file", line.pidFile];
    await line.expect("OK", [...mount, "-o", `key_file=${keyFile}`]);
    expect(await readFile(join(line.mountPoint, "a"), "utf8")).toBe("a");
    await line.umount();
    const used = (await list(line)).map(({ lastUsedAt }) => lastUsedAt !== null);
    expect(used).toEqual([true, false, true, false, false]);
    await line.expect("OK", ["key", "test", "--vault", line.vault, "--recovery-file", fresh]);
    const slot = await idOf(line, "key-file");
    const tried = await line.expect("OK", ["key", "test", "--vault", line.vault, "--key-file", keyFile]);
    expect(tried.stdout).toBe(`The vault opens with the key slot ${slot} (key file).\n`);
    await line.expect("WRONG_KEY", ["key", "test", slot, ...line.unlock]);
    await line.expect("OK", ["key", "remove", slot, ...line.unlock]);
    await line.expect("WRONG_KEY", [...mount, "--key-file", keyFile]);
    await line.expect("OK", ["key", "test", "--vault", line.vault, "--passphrase-file", second]);
  });

  test("keep the last one that needs no hardware, and say what a removal does not do", async () => {
    await using line = await CommandLine.make();
    const words = await idOf(line, "recovery-words");
    const { stdout } = await line.expect("OK", ["key", "remove", words.slice(0, 8), ...line.unlock]);
    expect(stdout).toContain("changes the lock, not the key");
    const { stderr } = await line.expect("LAST_SLOT", [
      "key",
      "remove",
      await idOf(line, "passphrase"),
      ...line.unlock,
    ]);
    expect(stderr).toContain("the last key slot that needs no hardware");
    await line.expect("USAGE", ["key", "remove", "ffff", ...line.unlock]);
    const fresh = line.secretFile("fresh", "fresh\n");
    const changed = await line.expect("OK", ["key", "passwd", ...line.unlock, "--new-passphrase-file", fresh]);
    expect(changed.stdout).toContain("not the key: a copy of vault.json made earlier still opens");
  });

  test("are changed one after another by commands that run at the same time, and none is lost", async () => {
    await using line = await CommandLine.make();
    const files = ["a", "b", "c"].map((name) => join(line.directory, `${name}.key`));
    const results = await Promise.all(
      files.map((file) => tcfs(["key", "add", ...line.unlock, "--new-key-file", file])),
    );
    const added = results.filter(({ code }) => code === 0).length;
    expect(added).toBeGreaterThan(0);
    expect(results.every(({ code, stderr }) => code === 0 || stderr.includes("at the same time; try again"))).toBe(
      true,
    );
    expect(await list(line)).toHaveLength(2 + added);
    // What was refused left no file behind that opens nothing.
    const opens = await Promise.all(
      files.map(async (file) => (await tcfs(["key", "test", "--vault", line.vault, "--key-file", file])).code === 0),
    );
    expect(opens).toEqual(results.map(({ code }) => code === 0));
  });

  test("take a passphrase and a post-quantum key file together, and neither alone", async () => {
    await using line = await CommandLine.make();
    const keyFile = join(line.directory, "hybrid.key");
    const word = line.secretFile("word", "another one\n");
    const add = ["key", "add", ...line.unlock, "--hybrid", "--new-passphrase-file", word];
    await line.expect("USAGE", add);
    await line.expect("USAGE", [...add, "--new-key-file", keyFile, "--words"]);
    const { stdout } = await line.expect("OK", [...add, "--new-key-file", keyFile]);
    expect(stdout).toMatch(/^The key slot \w+ \(passphrase and post-quantum key file\) is added\.\nIts key is in /u);
    expect(stdout).toMatch(/still opens with a passphrase alone, too: key slot \w+ \(passphrase\)/u);
    const vault = ["--vault", line.vault];
    await line.expect("OK", ["key", "remove", await idOf(line, "passphrase"), ...line.unlock]);
    await line.expect("WRONG_KEY", ["key", "test", ...vault, "--passphrase-file", word]);
    await line.expect("USAGE", ["key", "test", ...vault, "--key-file", keyFile]);
    await line.expect("WRONG_KEY", ["key", "test", ...line.unlock, "--key-file", keyFile]);
    const opened = [...vault, "--key-file", keyFile, "--passphrase-file", word];
    await line.expect("OK", ["mount", line.mountPoint, ...opened, "--pid-file", line.pidFile]);
    await line.umount();
    await line.expect("OK", ["key", "remove", await idOf(line, "hybrid"), ...opened]);
    await line.expect("WRONG_KEY", ["key", "test", ...opened]);
  });

  test("take a passphrase from an entry of a KeePass database", async () => {
    await using line = await CommandLine.make();
    const master = kdbxweb.ProtectedValue.fromString("master");
    const database = kdbxweb.Kdbx.create(new kdbxweb.Credentials(master), "test");
    database.setKdf(kdbxweb.Consts.KdfId.Aes);
    const entry = database.createEntry(database.getDefaultGroup());
    entry.fields.set("Title", "tcfs");
    entry.fields.set("Password", kdbxweb.ProtectedValue.fromString("from the database"));
    await writeFile(join(line.directory, "own.kdbx"), new Uint8Array(await database.save()));
    const reference = `kdbx:${line.directory}/own.kdbx#tcfs`;
    const unlocked = ["--kdbx-password-file", line.secretFile("master", "master\n")];
    await line.expect("OK", ["key", "add", ...line.unlock, "--new-passphrase-file", reference, ...unlocked]);
    const test = ["key", "test", "--vault", line.vault, "--passphrase-file"];
    await line.expect("OK", [...test, line.secretFile("copy", "from the database\n")]);
    await line.expect("OK", [...test, reference, ...unlocked]);
    await line.expect("WRONG_KEY", [...test, reference, "--kdbx-password-file", line.secretFile("no", "no\n")]);
    await line.expect("USAGE", [...test, reference]);
    await line.expect("USAGE", [...test, `kdbx:${line.directory}/own.kdbx#none`, ...unlocked]);
    await line.expect("BAD_KDBX", [...test, `kdbx:${line.passphraseFile}#tcfs`, ...unlocked]);
  });

  test("want one thing to add, a new file for it, and a file that is really a key", async () => {
    await using line = await CommandLine.make();
    const { stderr } = await line.expect("USAGE", ["key", "add", ...line.unlock]);
    expect(stderr).toContain("--new-key-file FILE");
    await line.expect("USAGE", ["key", "add", ...line.unlock, "--words", "--new-key-file", "x"]);
    const there = line.secretFile("there", "mine");
    await line.expect("USAGE", ["key", "add", ...line.unlock, "--new-key-file", there]);
    expect(await readFile(there, "utf8")).toBe("mine");
    const wrong = await line.expect("WRONG_KEY", ["key", "test", "--vault", line.vault, "--key-file", there]);
    expect(wrong.stderr).toContain("this is no key file");
    expect(await list(line)).toHaveLength(2);
  });
});
