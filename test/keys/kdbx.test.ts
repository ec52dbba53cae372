/** Entries of KeePass databases: of every kind, made by kdbxweb here and by KeePassXC itself. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import kdbxweb from "kdbxweb";
import type { Int64, Kdbx } from "kdbxweb";
import { describe, expect, test } from "vitest";
import { isTcfsError } from "../../src/errors.ts";
import { passwordOf } from "../../src/keys/entry-fields.ts";
import { absoluteReference } from "../../src/keys/entry-reference.ts";
import { parseKdbxReference, readKdbxEntry } from "../../src/keys/kdbx.ts";
import type { KdbxCredentials, KdbxReference } from "../../src/keys/kdbx.ts";
import { run } from "../support/run.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { utf8 } from "./fixtures.ts";

const MASTER = "mäster key";
const keepassxcIsMissing = spawnSync("keepassxc-cli", ["--version"], { stdio: "ignore" }).error !== undefined;
if (keepassxcIsMissing)
  console.warn("tests with KeePassXC's own databases are skipped: keepassxc-cli is not installed");

async function failure(attempt: Promise<unknown>): Promise<string> {
  try {
    await attempt;
  } catch (error) {
    return isTcfsError(error) ? `${error.code} ${error.message}` : String(error);
  }
  return "nothing thrown";
}

async function readKdbxPassword(reference: KdbxReference, credentials: KdbxCredentials): Promise<Uint8Array> {
  return passwordOf(await readKdbxEntry(reference, credentials), reference.entry);
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const byPassword = { password: utf8(MASTER), keyFile: undefined };

/** With `Vaults/tcfs`, `Vaults/twin`, `Other/twin`, `empty`, and `deleted` in the recycle bin. */
async function makeDatabase(change: (database: Kdbx) => void, keyFile?: Uint8Array): Promise<Uint8Array> {
  // The first read puts Argon2 into the library, which has none of its own.
  await failure(readKdbxPassword({ file: fileURLToPath(import.meta.url), entry: "x" }, byPassword));
  const credentials = new kdbxweb.Credentials(
    kdbxweb.ProtectedValue.fromString(MASTER),
    keyFile?.slice().buffer ?? null,
  );
  const database = kdbxweb.Kdbx.create(credentials, "test");
  const root = database.getDefaultGroup();
  const add = (group: ReturnType<typeof database.createGroup>, title: string, password: string): void => {
    const entry = database.createEntry(group);
    entry.fields.set("Title", title);
    entry.fields.set("Password", kdbxweb.ProtectedValue.fromString(password));
  };
  const vaults = database.createGroup(root, "Vaults");
  add(vaults, "tcfs", "pässword ✓");
  const fields = vaults.entries[0]?.fields;
  fields?.set("UserName", "AKIA");
  fields?.set("endpoint", "http://host:8333");
  fields?.set("passphrase", kdbxweb.ProtectedValue.fromString("protectéd"));
  add(vaults, "twin", "first");
  add(database.createGroup(root, "Other"), "twin", "second");
  add(root, "empty", "");
  const gone = database.createEntry(root);
  gone.fields.set("Title", "deleted");
  database.createRecycleBin();
  database.remove(gone);
  change(database);
  return new Uint8Array(await database.save());
}

async function stored(directory: string, content: Uint8Array): Promise<string> {
  const file = join(directory, "test.kdbx");
  await writeFile(file, content);
  return file;
}

describe("a reference to an entry", () => {
  test("is kdbx:, a file, # and an entry", () => {
    expect(parseKdbxReference("/etc/tcfs/passphrase")).toBeUndefined();
    expect(parseKdbxReference("kdbx:/a/b#c.kdbx#Group/Entry")).toEqual({ file: "/a/b#c.kdbx", entry: "Group/Entry" });
    for (const wrong of ["kdbx:", "kdbx:/a.kdbx", "kdbx:/a.kdbx#", "kdbx:#x"])
      expect(() => parseKdbxReference(wrong), wrong).toThrow(/names no entry/u);
    expect(absoluteReference("kdbx:a.kdbx#E")).toBe(`kdbx:${process.cwd()}/a.kdbx#E`);
    expect(absoluteReference("kdbx:/a.kdbx#E")).toBe("kdbx:/a.kdbx#E");
    expect(absoluteReference("secret-service:a/b")).toBe("secret-service:a/b");
    expect(absoluteReference("a")).toBe(`${process.cwd()}/a`);
  });
});

describe("a database that asks for more than anybody would", () => {
  const rounds = (value: Int64) => (database: Kdbx) => {
    database.setKdf(kdbxweb.Consts.KdfId.Aes);
    database.header.kdfParameters?.set("R", kdbxweb.VarDictionary.ValueType.UInt64, value);
  };

  test("is refused by its header, before anything is computed", async () => {
    await using directory = await temporaryDirectory("kdbx");
    const few = await makeDatabase(rounds(new kdbxweb.Int64(12_345)));
    const field = Buffer.from("R\u0008\0\0\0", "latin1"); // of the dictionary: name, length, then the number
    const at = Buffer.from(few).indexOf(field) + field.length;
    for (const asked of [1_000_000_001n, 2n ** 40n, 2n ** 64n - 1n]) {
      const content = Buffer.from(few);
      content.writeBigUInt64LE(asked, at);
      const file = await stored(directory.path, content);
      expect(await failure(readKdbxPassword({ file, entry: "Vaults/tcfs" }, byPassword)), String(asked)).toBe(
        "TCFS_BAD_KDBX the KeePass database asks for more rounds of AES than tcfs will compute",
      );
    }
    const file = await stored(directory.path, few);
    expect(text(await readKdbxPassword({ file, entry: "Vaults/tcfs" }, byPassword))).toBe("pässword ✓");
  });

  test("is refused too of the older kind, and with Argon2", async () => {
    await using directory = await temporaryDirectory("kdbx");
    const old = await makeDatabase((database) => {
      database.setVersion(3);
    });
    const field = Buffer.from([6, 8, 0]); // transform rounds: 8 bytes
    Buffer.from(old.buffer).writeBigUInt64LE(2n ** 50n, Buffer.from(old).indexOf(field) + field.length);
    const file = await stored(directory.path, old);
    const reading = readKdbxPassword({ file, entry: "Vaults/tcfs" }, byPassword);
    expect(await failure(reading)).toMatch(/^TCFS_BAD_KDBX .* more rounds of AES/u);

    const argon = Buffer.from(await makeDatabase(() => undefined));
    const passes = Buffer.from("I\u0008\0\0\0", "latin1");
    argon.writeBigUInt64LE(10_000n, argon.indexOf(passes) + passes.length);
    const memory = Buffer.from("M\u0008\0\0\0", "latin1");
    argon.writeBigUInt64LE(2n ** 30n, argon.indexOf(memory) + memory.length);
    const context = new kdbxweb.KdbxContext({ kdbx: new kdbxweb.Kdbx() });
    const { endPos = 0 } = kdbxweb.KdbxHeader.read(new kdbxweb.BinaryStream(Uint8Array.from(argon).buffer), context);
    createHash("sha256").update(argon.subarray(0, endPos)).digest().copy(argon, endPos); // anybody can make it fit
    const other = await stored(directory.path, argon);
    expect(await failure(readKdbxPassword({ file: other, entry: "Vaults/tcfs" }, byPassword))).toMatch(
      /^TCFS_BAD_KDBX the KeePass database asks for more Argon2/u,
    );
  });
});

describe("a database", () => {
  const { KdfId, CipherId } = kdbxweb.Consts;
  const kinds: [string, (database: Kdbx) => void][] = [
    ["KDBX 4, Argon2d", (database) => database.setKdf(KdfId.Argon2d)],
    [
      "KDBX 4, Argon2id, ChaCha20",
      (database) => {
        database.setKdf(KdfId.Argon2id);
        database.header.dataCipherUuid = new kdbxweb.KdbxUuid(CipherId.ChaCha20);
      },
    ],
    ["KDBX 4, AES", (database) => database.setKdf(KdfId.Aes)],
    ["KDBX 3.1", (database) => database.setVersion(3)],
  ];
  test.each(kinds)("of the kind %s gives an entry's fields, protected ones too", async (_kind, change) => {
    await using directory = await temporaryDirectory("kdbx");
    const file = await stored(directory.path, await makeDatabase(change));
    expect(text(await readKdbxPassword({ file, entry: "Vaults/tcfs" }, byPassword))).toBe("pässword ✓");
    expect(text(await readKdbxPassword({ file, entry: "tcfs" }, byPassword))).toBe("pässword ✓");
    const fields = await readKdbxEntry({ file, entry: "tcfs" }, byPassword);
    expect([...fields].map(([name, value]) => [name, text(value)])).toEqual([
      ["Title", "tcfs"],
      ["UserName", "AKIA"],
      ["Password", "pässword ✓"],
      ["endpoint", "http://host:8333"],
      ["passphrase", "protectéd"],
    ]);
    const wrong = { ...byPassword, password: utf8("wrong") };
    expect(await failure(readKdbxPassword({ file, entry: "tcfs" }, wrong))).toMatch(/^TCFS_WRONG_KEY .*is wrong$/u);
  });

  test("tells its entries apart by path or UUID, skips the recycle bin, and explains what is not clear", async () => {
    await using directory = await temporaryDirectory("kdbx");
    let uuid = "";
    const content = await makeDatabase((database) => {
      const twins = database.getDefaultGroup().groups[1]?.entries ?? [];
      uuid = Buffer.from(twins[0]?.uuid.toBytes() ?? new ArrayBuffer()).toString("hex");
    });
    const file = await stored(directory.path, content);
    const read = async (entry: string) => text(await readKdbxPassword({ file, entry }, byPassword));
    expect(await read("Vaults/twin")).toBe("first");
    expect(await read("Other/twin")).toBe("second");
    expect(uuid).toHaveLength(32);
    const dashed = uuid.toUpperCase().replace(/^(.{8})(.{4})(.{4})(.{4})/u, "{$1-$2-$3-$4-");
    expect(await read(`${dashed}}`)).toBe(await read(uuid));
    expect(await failure(read("twin"))).toMatch(
      /^TCFS_USAGE .* has 2 entries “twin”: name one by Group\/Entry or UUID/u,
    );
    expect(await failure(read("deleted"))).toMatch(/^TCFS_USAGE .* has no entry “deleted” \(the recycle bin/u);
    expect(await failure(read("Vaults"))).toMatch(/^TCFS_USAGE .* has no entry/u);
    expect(await failure(read("empty"))).toMatch(/^TCFS_USAGE the entry “empty” has no password/u);
  });

  test("with a key file opens with both, and with neither alone", async () => {
    await using directory = await temporaryDirectory("kdbx");
    const keyFile = await kdbxweb.Credentials.createRandomKeyFile(2);
    const file = await stored(
      directory.path,
      await makeDatabase((database) => database.setKdf(KdfId.Argon2id), keyFile),
    );
    const both = { password: utf8(MASTER), keyFile };
    expect(text(await readKdbxPassword({ file, entry: "tcfs" }, both))).toBe("pässword ✓");
    for (const less of [byPassword, { ...both, password: undefined }])
      expect(await failure(readKdbxPassword({ file, entry: "tcfs" }, less))).toMatch(/^TCFS_WRONG_KEY/u);
  });

  test("that is missing, no database, cut short or damaged is said to be so", async () => {
    await using directory = await temporaryDirectory("kdbx");
    const content = await makeDatabase((database) => database.setKdf(KdfId.Argon2id));
    const attemptWith = async (bytes: Uint8Array) =>
      failure(readKdbxPassword({ file: await stored(directory.path, bytes), entry: "tcfs" }, byPassword));
    const missing = { file: join(directory.path, "stick/none.kdbx"), entry: "tcfs" };
    expect(await failure(readKdbxPassword(missing, byPassword))).toMatch(/^TCFS_USAGE .*is its drive mounted\?$/u);
    expect(await attemptWith(utf8("a text"))).toMatch(/^TCFS_BAD_KDBX/u);
    expect(await attemptWith(new Uint8Array())).toMatch(/^TCFS_BAD_KDBX/u);
    expect(await attemptWith(content.slice(0, content.length - 40))).toMatch(/^TCFS_BAD_KDBX/u);
    expect(await attemptWith(content.map((byte, at) => (at === content.length - 60 ? byte ^ 1 : byte)))).toMatch(
      /^TCFS_BAD_KDBX/u,
    );
    expect(await failure(readKdbxPassword({ file: directory.path, entry: "x" }, byPassword))).toMatch(
      /^TCFS_BAD_KDBX/u,
    );
  });
});

describe.skipIf(keepassxcIsMissing)("a database that KeePassXC made", () => {
  test("gives an entry's password, with a password and with a key file besides; and KeePassXC reads ours", async () => {
    await using directory = await temporaryDirectory("kdbx");
    const file = join(directory.path, "own.kdbx");
    const keyFile = join(directory.path, "own.keyx");
    const cli = (words: readonly string[], ...lines: readonly string[]) =>
      run("keepassxc-cli", words, {
        input: lines.map((line) => `${line}\n`).join(""),
        env: { QT_QPA_PLATFORM: "offscreen" },
      });
    await cli(["db-create", "-q", "-p", "-t", "100", "--set-key-file", keyFile, file], MASTER, MASTER);
    const opened = ["-q", "-k", keyFile, file];
    await cli(["mkdir", ...opened, "Vaults"], MASTER);
    await cli(["add", ...opened, "Vaults/tcfs", "-p"], MASTER, "from KeePassXC");
    const credentials = { password: utf8(MASTER), keyFile: Uint8Array.from(await readFile(keyFile)) };
    expect(text(await readKdbxPassword({ file, entry: "Vaults/tcfs" }, credentials))).toBe("from KeePassXC");
    expect(await failure(readKdbxPassword({ file, entry: "Vaults/tcfs" }, byPassword))).toMatch(/^TCFS_WRONG_KEY/u);

    const ours = await stored(
      directory.path,
      await makeDatabase((database) => database.setKdf(kdbxweb.Consts.KdfId.Argon2id)),
    );
    const shown = ["UserName", "Password", "endpoint", "passphrase"].flatMap((name) => ["-a", name]);
    const told = await cli(["show", "-q", "-s", ...shown, ours, "Vaults/tcfs"], MASTER);
    expect(told).toBe("AKIA\npässword ✓\nhttp://host:8333\nprotectéd\n");
  });
});
