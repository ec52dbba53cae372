/** Entries of running password managers through the Secret Service: KeePassXC itself and GNOME Keyring, on a bus of their own. */
import { createDiffieHellmanGroup } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Message, Variant, sessionBus } from "@jellybrick/dbus-next";
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
    const isOpen = async (): Promise<boolean> => (await failure(read(session, "Store"))) === "nothing thrown";
    await eventually("the database is open", 60_000, isOpen);
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
    const isLocked = async (): Promise<boolean> =>
      (await failure(read(session, "Store"))).startsWith("TCFS_NO_SECRETS the password manager is locked");
    await eventually("the database is there, and locked", 60_000, isLocked);
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

/** Answers by the member that is asked; `Get` by the property's name. */
type Answers = Readonly<Record<string, { readonly signature: string; readonly body: readonly unknown[] }>>;

/** Somebody who serves the Secret Service as he likes. */
async function serveStrangely(session: SecretSession, answers: Answers): Promise<Disposable> {
  const bus = sessionBus({ busAddress: session.bus });
  await bus.requestName("org.freedesktop.secrets", 0);
  bus.addMethodHandler((message) => {
    const name = message.member === "Get" ? String(message.body[1]) : (message.member ?? "");
    const { signature, body } = answers[name] ?? { signature: "", body: [] };
    bus.send(Message.newMethodReturn(message, signature, [...body]));
    return true;
  });
  return {
    [Symbol.dispose]: () => {
      bus.disconnect();
    },
  };
}

describe.skipIf(missingSecretService.length > 0)("a password manager that answers strangely", () => {
  const variant = (type: string, value: unknown) => ({ signature: "v", body: [new Variant(type, value)] });
  const share = createDiffieHellmanGroup("modp2").generateKeys();
  const opened = (bytes: Buffer) => ({ signature: "vo", body: [new Variant("ay", bytes), "/session"] });
  const secret = (iv: number, value: number) => ({
    signature: "(oayays)",
    body: [["/session", Buffer.alloc(iv, 1), Buffer.alloc(value, 2), "text/plain"]],
  });
  const kept: Answers = {
    OpenSession: opened(share),
    Collections: variant("ao", ["/collection"]),
    Locked: variant("b", false),
    Items: variant("ao", ["/item"]),
    Label: variant("s", "Store"),
    Attributes: variant("a{ss}", {}),
    GetSecret: secret(16, 16),
  };

  test.for<[string, Answers]>([
    ["nothing at all", { OpenSession: { signature: "", body: [] } }],
    ["a session of another shape", { OpenSession: { signature: "s", body: ["session"] } }],
    ["a share that is none", { OpenSession: opened(Buffer.alloc(1)) }],
    ["a share longer than the group", { OpenSession: opened(Buffer.alloc(4096, 255)) }],
    ["collections that are a number", { Collections: variant("u", 7) }],
    ["collections that are no places", { Collections: variant("as", ["no place"]) }],
    ["items that are a text", { Items: variant("s", "/item") }],
    ["attributes that are a list", { Attributes: variant("as", ["a"]) }],
    ["attributes that are no texts", { Attributes: variant("a{su}", { a: 1 }) }],
    ["a secret of another shape", { GetSecret: { signature: "s", body: ["secret"] } }],
    ["a secret with half an IV", { GetSecret: secret(8, 16) }],
    ["a secret that is no whole block", { GetSecret: secret(16, 15) }],
    ["a secret under another key", { GetSecret: secret(16, 16) }],
  ])("with %s gets one sentence", async ([, strange]) => {
    await using session = await SecretSession.start();
    using _strange = await serveStrangely(session, { ...kept, ...strange });
    expect(await failure(read(session, "Store"))).toBe(
      "TCFS_NO_SECRETS what the password manager answers cannot be understood: it does not keep to the Secret Service",
    );
  });
});
