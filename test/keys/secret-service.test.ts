/** Entries of running password managers through the Secret Service: KeePassXC itself and GNOME Keyring, on a bus of their own. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import kdbxweb from "kdbxweb";
import { describe, expect, test } from "vitest";
import { isTcfsError } from "../../src/errors.ts";
import type { EntryFields } from "../../src/keys/entry-fields.ts";
import { parseSecretServiceReference, readSecretServiceItem } from "../../src/keys/secret-service.ts";
import { eventually } from "../support/run.ts";
import { SecretSession, missingSecretService } from "../support/secret-session.ts";

/** With `Servers/Store`, and two entries `twin`; shown to the Secret Service from its root on. */
async function startKeePassXc(session: SecretSession, password: string | undefined): Promise<() => Promise<void>> {
  const database = kdbxweb.Kdbx.create(new kdbxweb.Credentials(kdbxweb.ProtectedValue.fromString("master")), "test");
  database.setKdf(kdbxweb.Consts.KdfId.Aes);
  const root = database.getDefaultGroup();
  const add = (title: string, secret: string) => {
    const { fields } = database.createEntry(database.createGroup(root, "Servers"));
    fields.set("Title", title);
    fields.set("Password", kdbxweb.ProtectedValue.fromString(secret));
    return fields;
  };
  const store = add("Store", "sécret of the store");
  store.set("UserName", "AKIA");
  store.set("endpoint", "http://host:8333");
  add("twin", "first");
  add("twin", "second");
  const uuid = Buffer.from(root.uuid.toBytes())
    .toString("hex")
    .replace(/^(.{8})(.{4})(.{4})(.{4})/u, "$1-$2-$3-$4-");
  database.meta.customData.set("FDO_SECRETS_EXPOSED_GROUP", { value: `{${uuid}}` });
  const file = join(session.directory, "own.kdbx");
  await writeFile(file, new Uint8Array(await database.save()));
  const ini = join(session.directory, "keepassxc.ini");
  const settings =
    "[FdoSecrets]\nEnabled=true\nConfirmAccessItem=false\nConfirmDeleteItem=false\nShowNotification=false\n";
  await writeFile(ini, `${settings}[General]\nUpdateCheckMessageShown=true\n[GUI]\nCheckForUpdates=false\n`);
  const words = ["--config", ini, "--localconfig", `${ini}.local`, ...(password === undefined ? [] : ["--pw-stdin"])];
  const end = session.spawn("keepassxc", [...words, file], `${password ?? ""}\n`);
  await session.serves();
  return end;
}

const read = (session: SecretSession, title: string, timeoutMs = 60_000, mayPrompt = false): Promise<EntryFields> =>
  readSecretServiceItem(title, { sessionBus: session.bus, mayPrompt, timeoutMs });

const plain = (fields: EntryFields) =>
  Object.fromEntries([...fields].map(([name, value]) => [name, new TextDecoder().decode(value)]));

async function failure(reading: Promise<unknown>): Promise<string> {
  try {
    await reading;
    return "nothing thrown";
  } catch (error) {
    return isTcfsError(error) ? `${error.code} ${error.message}` : String(error);
  }
}

describe("the Secret Service", () => {
  test("is named by a title", () => {
    expect(parseSecretServiceReference("secret-service:a/b c")).toBe("a/b c");
    expect(parseSecretServiceReference("/a")).toBeUndefined();
    expect(() => parseSecretServiceReference("secret-service:")).toThrow(/names no entry/u);
  });

  test("is missing where there is no session, and no other kind of bus is gone to", async () => {
    for (const sessionBus of [undefined, "unixexec:path=/bin/true", "tcp:host=localhost,port=1"]) {
      const reading = readSecretServiceItem("a", { sessionBus, mayPrompt: false });
      expect(await failure(reading)).toBe(
        "TCFS_NO_SECRETS this session has no D-Bus, on which a password manager could be asked",
      );
    }
    const nowhere = readSecretServiceItem("a", { sessionBus: "unix:path=/nonexistent/bus", mayPrompt: false });
    expect(await failure(nowhere)).toMatch(/^TCFS_NO_SECRETS the session's D-Bus cannot be reached: .*ENOENT/u);
  });
});

describe.skipIf(missingSecretService.length > 0)("a running password manager", () => {
  test("KeePassXC gives an entry's fields, tells its entries apart, and is gone when it is", async () => {
    await using session = await SecretSession.start();
    expect(await failure(read(session, "Store"))).toMatch(/^TCFS_NO_SECRETS no password manager serves/u);
    const end = await startKeePassXc(session, "master");
    await eventually(
      "the database is open",
      60_000,
      async () => !(await failure(read(session, "x"))).includes("locked"),
    );
    expect(plain(await read(session, "Store"))).toMatchObject({
      Title: "Store",
      UserName: "AKIA",
      Password: "sécret of the store",
      endpoint: "http://host:8333",
    });
    expect(await failure(read(session, "twin"))).toMatch(/^TCFS_USAGE .*has 2 entries “twin”/u);
    expect(await failure(read(session, "none"))).toMatch(/^TCFS_USAGE .*shows no entry “none”/u);
    await end();
    expect(await failure(read(session, "Store"))).toMatch(/^TCFS_NO_SECRETS /u);
  });

  test("KeePassXC that is locked is said to be so, and is waited for no longer than said", async () => {
    await using session = await SecretSession.start();
    await startKeePassXc(session, undefined);
    expect(await failure(read(session, "Store"))).toMatch(/^TCFS_NO_SECRETS the password manager is locked/u);
    const startedAt = performance.now();
    const waited = await failure(read(session, "Store", 1500, true));
    expect(waited).toMatch(/^TCFS_NO_SECRETS the password manager does not answer: is it locked/u);
    expect(performance.now() - startedAt).toBeLessThan(50_000); // a minute if nothing is said
  });

  test("GNOME Keyring gives an item by its label", async () => {
    await using session = await SecretSession.start();
    await session.startKeyring();
    await session.store("Store of mine", "hunter2", "UserName", "AKIA", "region", "eu");
    expect(plain(await read(session, "Store of mine"))).toMatchObject({
      UserName: "AKIA",
      region: "eu",
      Password: "hunter2",
    });
    expect(await failure(read(session, "none"))).toMatch(/^TCFS_USAGE /u);
  });
});
