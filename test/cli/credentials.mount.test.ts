/** Credentials for a store out of KeePass databases, as their user has them: set, shown, tested, mounted with, renewed. */
import { readFile, readdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import kdbxweb from "kdbxweb";
import { describe, expect, test } from "vitest";
import { NO_SEAWEED, type Seaweed, startWithBucket } from "../remote/seaweed.ts";
import { eventually } from "../support/run.ts";
import { SecretSession, missingSecretService } from "../support/secret-session.ts";
import { CommandLine } from "./fixtures.ts";

const NO_CREDENTIALS = { HOME: "/nonexistent", AWS_ACCESS_KEY_ID: undefined } as unknown as Record<string, string>;

interface Entry {
  readonly userName: string;
  readonly password: string;
  readonly attributes?: Readonly<Record<string, string>>;
}

/** @returns The database's path; its entry is called `Servers/Store`, its master password `master`. */
async function writeDatabase(line: CommandLine, { userName, password, attributes = {} }: Entry): Promise<string> {
  const credentials = new kdbxweb.Credentials(kdbxweb.ProtectedValue.fromString("master"));
  const database = kdbxweb.Kdbx.create(credentials, "test");
  database.setKdf(kdbxweb.Consts.KdfId.Aes);
  const { fields } = database.createEntry(database.createGroup(database.getDefaultGroup(), "Servers"));
  fields.set("Title", "Store");
  fields.set("UserName", userName);
  fields.set("Password", kdbxweb.ProtectedValue.fromString(password));
  for (const [name, value] of Object.entries(attributes)) fields.set(name, kdbxweb.ProtectedValue.fromString(value));
  const path = join(line.directory, "own.kdbx");
  // As KeePassXC does: a new file in the place of the old one.
  await writeFile(`${path}.new`, new Uint8Array(await database.save()));
  await rename(`${path}.new`, path);
  return path;
}

const flagsOf = (line: CommandLine): string[] => ["--kdbx-password-file", line.secretFile("master", "master\n")];

describe("credentials", () => {
  test("are set once their source has been read, shown without a secret, and unset", async () => {
    await using line = await CommandLine.make();
    const vault = ["--vault", line.vault];
    const file = await writeDatabase(line, {
      userName: "AKIA",
      password: "hunter2",
      attributes: { Passphrase: "swordfish" },
    });
    const unlocked = flagsOf(line);
    const source = `kdbx:${file}#Servers/Store`;
    const set = (...words: readonly string[]): string[] => ["credentials", "set", ...words, ...vault];
    expect((await line.expect("OK", ["credentials", "show", ...vault])).stdout).toMatch(/^Nothing was set/u);
    expect((await line.expect("USAGE", set("nonsense"))).stderr).toContain("is no source of credentials");
    expect((await line.expect("USAGE", set(`kdbx:${file}#none`, ...unlocked))).stderr).toContain("has no entry");
    expect((await line.expect("USAGE", set(source))).stderr).toContain("give --kdbx-password-file FILE");
    await line.expect("WRONG_KEY", set(source, "--kdbx-password-file", line.secretFile("no", "no\n")));
    const missing = await line.expect("USAGE", set(`kdbx:${line.directory}/stick/a.kdbx#x`, ...unlocked));
    expect(missing.stderr).toContain("is its drive mounted?");
    await line.expect("BAD_KDBX", set(`kdbx:${line.passphraseFile}#x`, ...unlocked));
    await line.expect("USAGE", set("env", "--with-passphrase"));
    expect((await line.expect("USAGE", set("env"), { env: NO_CREDENTIALS })).stderr).toContain("are not set");
    expect(await readdir(line.vault)).not.toContain("credentials.json");

    await line.expect("OK", set(source, "--with-passphrase", ...unlocked));
    const shown = [
      (await line.expect("OK", ["credentials", "show", ...vault])).stdout,
      (await line.expect("OK", ["credentials", "show", "--json", ...vault])).stdout,
      await readFile(join(line.vault, "credentials.json"), "utf8"),
    ];
    for (const text of shown) {
      expect(text).toContain(source);
      expect(text).not.toMatch(/AKIA|hunter2|swordfish/u);
    }
    // It opens the vault, and nobody is asked for anything.
    await line.expect("OK", ["key", "test", ...vault]);
    await line.expect("OK", ["credentials", "unset", ...vault]);
    await line.expect("USAGE", ["key", "test", ...vault]);
    await writeFile(join(line.vault, "credentials.json"), "{}");
    expect((await line.expect("CORRUPT", ["key", "test", ...vault])).stderr).toContain("credentials.json");
  });

  test("with a passphrase that does not open the vault are not set", async () => {
    await using line = await CommandLine.make();
    const file = await writeDatabase(line, { userName: "a", password: "b", attributes: { passphrase: "wrong" } });
    const words = ["credentials", "set", `kdbx:${file}#Store`, "--vault", line.vault, "--with-passphrase"];
    expect((await line.expect("WRONG_KEY", [...words, ...flagsOf(line)])).stderr).toContain("passphrase is wrong");
  });
});

describe.skipIf(missingSecretService.length > 0)("a running password manager", () => {
  test("gives passphrases and credentials without a question, and is missed with a sentence", async () => {
    await using session = await SecretSession.start();
    await using line = await CommandLine.make();
    const options = { env: { DBUS_SESSION_BUS_ADDRESS: session.bus } };
    const unlocked = ["key", "test", "--vault", line.vault, "--passphrase-file", "secret-service:My vault"];
    expect((await line.expect("NO_SECRETS", unlocked, options)).stderr).toContain("no password manager serves");
    await session.startKeyring();
    expect((await line.expect("USAGE", unlocked, options)).stderr).toContain("shows no entry “My vault”");
    await session.store("My vault", "swordfish", "UserName", "x");
    await session.store("Store", "hunter2", "UserName", "AKIA", "endpoint", "http://host:8333");
    await line.expect("OK", unlocked, options);
    const set = ["credentials", "set", "--vault", line.vault];
    await line.expect("USAGE", [...set, "secret-service:Store", "--with-passphrase"], options);
    await line.expect("OK", [...set, "secret-service:Store"], options);
    const { stdout } = await line.expect("OK", ["credentials", "show", "--vault", line.vault]);
    expect(stdout).toContain("secret-service:Store");
    // The master password of a database, likewise.
    const file = await writeDatabase(line, { userName: "a", password: "swordfish" });
    await session.store("Master", "master", "UserName", "x");
    const words = ["--passphrase-file", `kdbx:${file}#Store`, "--kdbx-password-file", "secret-service:Master"];
    await line.expect("OK", ["key", "test", "--vault", line.vault, ...words], options);
  });
});

describe.skipIf(NO_SEAWEED !== undefined)("a vault on SeaweedFS", () => {
  const entryOf = ({ credentials, endpoint }: Seaweed, password = credentials.secretAccessKey): Entry => ({
    userName: credentials.accessKeyId,
    password,
    attributes: { endpoint, bucket: "vault", passphrase: "swordfish" },
  });

  test("is made, mounted, uploaded and attached with an entry of a KeePass database alone", async () => {
    const server = await startWithBucket();
    await using _stop = { [Symbol.asyncDispose]: () => server.stop() };
    await using line = await CommandLine.make({ isBare: true });
    const source = `kdbx:${await writeDatabase(line, entryOf(server))}#Servers/Store`;
    const named = ["--credentials", source, ...flagsOf(line)];
    const env = NO_CREDENTIALS;
    // The entry says where it is; the URL's own bucket and endpoint are not asked.
    const url = "s3://elsewhere/first?endpoint=http://127.0.0.1:1";
    const words = ["--recovery-file", join(line.directory, "words"), "--store", url];
    await line.expect("OK", ["init", ...line.unlock, ...words, ...named], { env });
    const test = ["credentials", "test", "--vault", line.vault];
    expect((await line.expect("OK", test, { env })).stdout).toContain("s3://vault/first lets us in; a vault is there");
    await line.expect("OK", [
      "credentials",
      "set",
      source,
      "--with-passphrase",
      "--vault",
      line.vault,
      ...flagsOf(line),
    ]);
    await line.expect("OK", ["mount", line.mountPoint, "--vault", line.vault, "--pid-file", line.pidFile], { env });
    await writeFile(join(line.mountPoint, "a"), "kept");
    await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
    await line.umount();

    await using other = await CommandLine.make({ isBare: true });
    const attach = ["attach", url, "--vault", other.vault, "--passphrase-file", line.passphraseFile];
    expect((await other.expect("REMOTE_DENIED", attach, { env })).stderr).toContain("tcfs credentials set");
    await other.expect("OK", [...attach, ...named], { env });
    await other.expect("OK", [...other.mountWords, "--read-only"], { env });
    expect(await readFile(join(other.mountPoint, "a"), "utf8")).toBe("kept");
    await other.umount();
  });

  test("that refuses the credentials is uploaded to as soon as the database has been changed", async () => {
    const server = await startWithBucket();
    await using _stop = { [Symbol.asyncDispose]: () => server.stop() };
    await using line = await CommandLine.make();
    const env = NO_CREDENTIALS;
    const source = `kdbx:${await writeDatabase(line, entryOf(server))}#Servers/Store`;
    const set = ["store", "set", "s3://vault/renewed", ...line.unlock, "--credentials", source, ...flagsOf(line)];
    await line.expect("OK", set, { env });
    await writeDatabase(line, entryOf(server, "no longer the right one"));
    const denied = await line.expect("REMOTE_DENIED", ["credentials", "test", "--vault", line.vault], { env });
    expect(denied.stderr).not.toContain("no longer");
    await line.expect("OK", line.mountWords, { env });
    await writeFile(join(line.mountPoint, "a"), "kept");
    const isToldOf = async (): Promise<boolean> => {
      const { stdout } = await line.expect("OK", ["status", "--json", line.mountPoint]);
      return /"lastError": "[^"]*HTTP 403/u.test(stdout);
    };
    await eventually("the refusal is told", 60_000, isToldOf);
    await writeDatabase(line, entryOf(server));
    await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
    expect(line.log()).toContain("uploads succeed again");
    expect(line.log()).not.toContain("no longer");
    await line.umount();

    // What nobody can type for the daemon, somebody hands to it.
    const renew = ["credentials", "renew", ...line.unlock, "--kdbx-password-file"];
    await line.expect("NOT_MOUNTED", [...renew, line.secretFile("typed", "master\n")]);
    await writeDatabase(line, entryOf(server, "no longer the right one"));
    await line.expect("OK", line.mountWords, { env });
    await rename(join(line.directory, "master"), join(line.directory, "forgotten"));
    await writeFile(join(line.mountPoint, "c"), "kept");
    await writeDatabase(line, entryOf(server));
    await eventually("what to do is told", 60_000, async () => {
      const { stdout } = await line.expect("OK", ["status", "--json", line.mountPoint]);
      return stdout.includes("or: tcfs credentials renew hands the daemon other ones");
    });
    await line.expect("WRONG_KEY", [...renew, line.secretFile("no", "no\n")]);
    const renewed = await line.expect("OK", [...renew, join(line.directory, "typed")], { env });
    expect(renewed.stdout).toContain(`The daemon has the credentials from ${source}.`);
    await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
    await line.umount();
    await rename(join(line.directory, "forgotten"), join(line.directory, "master"));

    // A drive that is missing keeps no vault shut: its store follows once it is back.
    await rename(join(line.directory, "own.kdbx"), join(line.directory, "away.kdbx"));
    const { stderr } = await line.expect("OK", line.mountWords, { env });
    expect(stderr).toMatch(/^tcfs: the store's credentials are not to be had: .*is its drive mounted\?\n$/u);
    await writeFile(join(line.mountPoint, "b"), "kept, too");
    await rename(join(line.directory, "away.kdbx"), join(line.directory, "own.kdbx"));
    await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
    await line.umount();
  });
});
