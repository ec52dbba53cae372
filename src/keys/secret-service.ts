/**
 * An entry of a running password manager through the Secret Service (org.freedesktop.secrets on the session's D-Bus), as
 * KeePassXC and GNOME Keyring give it. The secret crosses the bus sealed under a Diffie-Hellman session, so that no monitor
 * of the bus logs it; who may ask is the service's to decide. https://specifications.freedesktop.org/secret-service-spec/
 */
import type { MessageBus } from "@jellybrick/dbus-next";
import { createDecipheriv, createDiffieHellmanGroup, hkdfSync } from "node:crypto";
import type { DiffieHellmanGroup } from "node:crypto";
import { z } from "zod";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { EntryFields } from "./entry-fields.ts";

const PREFIX = "secret-service:";

const SERVICE = "org.freedesktop.secrets";
const ROOT = "/org/freedesktop/secrets";
const INTERFACE = "org.freedesktop.Secret";
/** The path that stands for none. */
const NO_OBJECT = "/";
const ALGORITHM = "dh-ietf1024-sha256-aes128-cbc-pkcs7";
/** The 1024-bit group of RFC 2409, “second Oakley group”: what the specification takes. */
const GROUP = "modp2";

/** A service that does not answer at all; a person needs longer. */
const CALL_TIMEOUT_MS = 5000;
const PROMPT_TIMEOUT_MS = 60_000;

const PATHS = z.array(z.string());
const ATTRIBUTES = z.record(z.string(), z.string());

export interface SecretServiceOptions {
  /** `unix:path=…`; undefined where the session has no bus. */
  readonly sessionBus: string | undefined;
  /** Whether the service may ask somebody to unlock it, and be waited for. */
  readonly mayPrompt: boolean;
  /** Stands in for the usual times. */
  readonly timeoutMs?: number;
}

/** @returns The title in `secret-service:TITLE`, else undefined. @throws TcfsError `TCFS_USAGE` if it is empty. */
export function parseSecretServiceReference(text: string): string | undefined {
  if (!isSecretServiceReference(text)) return undefined;
  const title = text.slice(PREFIX.length);
  if (title === "") throw new TcfsError("TCFS_USAGE", `“${text}” names no entry: write secret-service:TITLE`);
  return title;
}

export function isSecretServiceReference(text: string): boolean {
  return text.startsWith(PREFIX);
}

/**
 * The fields of the entry called `title`: `Password`, and its attributes, protected ones left out by the service.
 * @throws TcfsError `TCFS_NO_SECRETS` if there is no service, it is locked, or does not answer; `TCFS_USAGE` if it has no such
 *   entry, or more than one.
 */
export async function readSecretServiceItem(title: string, options: SecretServiceOptions): Promise<EntryFields> {
  const { sessionBus } = options;
  if (sessionBus?.startsWith("unix:") !== true)
    throw noSecrets("this session has no D-Bus, on which a password manager could be asked");
  const { sessionBus: connect } = await import("@jellybrick/dbus-next");
  const bus = connect({ busAddress: sessionBus });
  try {
    const read = (): Promise<EntryFields> => new Service(bus, options).read(title).catch(notUnderstood);
    return await within(options.timeoutMs ?? PROMPT_TIMEOUT_MS, bus, read);
  } finally {
    bus.disconnect();
  }
}

/** @param work - Given up if the connection fails, or the time is over. */
function within<T>(timeoutMs: number, bus: MessageBus, work: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(noAnswer());
    }, timeoutMs);
    const fail = (error: unknown): void => {
      reject(noSecrets(`the session's D-Bus cannot be reached: ${String(error)}`));
    };
    // The library's types leave this event out.
    (bus as NodeJS.EventEmitter).on("error", fail);
    work()
      .then(resolve, reject)
      .finally(() => {
        clearTimeout(timer);
      });
  });
}

/** A place in the service's tree. */
type ObjectPath = string;

class Service {
  readonly #bus: MessageBus;
  readonly #options: SecretServiceOptions;

  constructor(bus: MessageBus, options: SecretServiceOptions) {
    this.#bus = bus;
    this.#options = options;
  }

  async read(title: string): Promise<EntryFields> {
    const session = await DhSession.open((...words) => this.#call(...words));
    const item = await this.#unlocked(await this.#find(title));
    const secret = (await this.#call(item, "Item", "GetSecret", "o", [session.path])) as [StoredSecret];
    const attributes = ATTRIBUTES.parse(await this.#property(item, "Item", "Attributes"));
    const fields = new Map<string, Uint8Array>();
    for (const [name, value] of Object.entries({ Title: title, ...attributes }))
      if (value !== "") fields.set(name, new TextEncoder().encode(value));
    const password = session.open(secret[0]);
    if (password.length > 0) fields.set("Password", password);
    return fields;
  }

  /** Not by SearchItems: at that KeePassXC asks somebody to unlock it, and does not answer before. */
  async #find(title: string): Promise<ObjectPath> {
    const all = await this.#collections();
    const flags = await Promise.all(all.map((path) => this.#property(path, "Collection", "Locked")));
    const shut = all.filter((_, at) => flags[at] === true);
    let found = await this.#labelled(
      title,
      all.filter((path) => !shut.includes(path)),
    );
    if (found.length === 0 && shut.length > 0) {
      await this.#unlock(shut);
      found = await this.#labelled(title, shut);
    }
    const [item, ...others] = found;
    if (others.length > 0) {
      const message = `the password manager has ${found.length} entries “${title}”: give one of them another title`;
      throw new TcfsError("TCFS_USAGE", message);
    }
    if (item !== undefined) return item;
    if (all.length === 0) throw locked();
    throw new TcfsError("TCFS_USAGE", `the password manager shows no entry “${title}” to the Secret Service`);
  }

  async #labelled(title: string, collections: readonly ObjectPath[]): Promise<ObjectPath[]> {
    const items = await Promise.all(collections.map((path) => this.#property(path, "Collection", "Items")));
    const paths = items.flatMap((found) => PATHS.parse(found));
    const labels = await Promise.all(paths.map((path) => this.#property(path, "Item", "Label")));
    return paths.filter((_, at) => labels[at] === title);
  }

  async #unlocked(item: ObjectPath): Promise<ObjectPath> {
    if ((await this.#property(item, "Item", "Locked")) === true) await this.#unlock([item]);
    return item;
  }

  /** @throws TcfsError `TCFS_NO_SECRETS` if they stay locked. */
  async #unlock(paths: readonly ObjectPath[]): Promise<void> {
    if (!this.#options.mayPrompt) throw locked();
    const answer = await this.#call(ROOT, "Service", "Unlock", "ao", [paths]);
    const [, prompt] = answer as [ObjectPath[], ObjectPath];
    if (prompt === NO_OBJECT) return;
    await this.#call(ROOT, "DBus", "AddMatch", "s", [`type='signal',interface='${INTERFACE}.Prompt',path='${prompt}'`]);
    const completed = new Promise<boolean>((resolve) => {
      this.#bus.on("message", ({ path, member, body }) => {
        if (path === prompt && member === "Completed") resolve(body[0] !== true);
      });
    });
    await this.#call(prompt, "Prompt", "Prompt", "s", [""]);
    if (!(await completed)) throw locked();
  }

  async #collections(): Promise<ObjectPath[]> {
    return PATHS.parse(await this.#property(ROOT, "Service", "Collections"));
  }

  async #property(path: ObjectPath, of: string, name: string): Promise<unknown> {
    const [variant] = await this.#call(path, "Properties", "Get", "ss", [`${INTERFACE}.${of}`, name]);
    return (variant as { readonly value: unknown }).value;
  }

  async #call(
    path: ObjectPath,
    of: string,
    member: string,
    signature: string,
    body: readonly unknown[],
  ): Promise<readonly unknown[]> {
    const { Message, DBusError } = await import("@jellybrick/dbus-next");
    const isOfBus = of === "DBus";
    const message = new Message({
      destination: isOfBus ? "org.freedesktop.DBus" : SERVICE,
      path: isOfBus ? "/org/freedesktop/DBus" : path,
      interface:
        isOfBus || of === "Properties" ? `org.freedesktop.DBus${isOfBus ? "" : ".Properties"}` : `${INTERFACE}.${of}`,
      member,
      signature,
      body: [...body],
    });
    let timer: NodeJS.Timeout | undefined;
    const silence = new Promise<never>((_, reject) => {
      const limitMs = this.#options.mayPrompt ? PROMPT_TIMEOUT_MS : CALL_TIMEOUT_MS;
      timer = setTimeout(() => {
        reject(noAnswer());
      }, this.#options.timeoutMs ?? limitMs);
    });
    try {
      return (await Promise.race([this.#bus.call(message), silence]))?.body ?? [];
    } catch (error) {
      if (!(error instanceof DBusError)) throw error;
      // Its texts are the service's own: the name tells enough.
      if (error.type.endsWith(".IsLocked")) throw locked();
      const isAbsent = /\.(?:ServiceUnknown|NameHasNoOwner|Spawn\.\w+)$/u.test(error.type);
      throw noSecrets(isAbsent ? "no password manager serves the Secret Service" : `it answered ${error.type}`);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** As the bus has it: session, parameters (the IV), sealed value, content type. */
type StoredSecret = readonly [ObjectPath, Uint8Array, Uint8Array, string];

class DhSession {
  readonly path: ObjectPath;
  readonly #key: Uint8Array;

  private constructor(path: ObjectPath, key: Uint8Array) {
    this.path = path;
    this.#key = key;
  }

  static async open(
    call: (
      path: ObjectPath,
      of: string,
      member: string,
      signature: string,
      body: unknown[],
    ) => Promise<readonly unknown[]>,
  ): Promise<DhSession> {
    const { Variant } = await import("@jellybrick/dbus-next");
    const ours: DiffieHellmanGroup = createDiffieHellmanGroup(GROUP);
    const share = new Variant("ay", ours.generateKeys());
    const answer = await call(ROOT, "Service", "OpenSession", "sv", [ALGORITHM, share]);
    const [theirs, path] = answer as [{ readonly value: Uint8Array }, ObjectPath];
    const common = ours.computeSecret(Buffer.from(theirs.value));
    const padded = new Uint8Array(ours.getPrime().length);
    padded.set(common, padded.length - common.length);
    const key = new Uint8Array(hkdfSync("sha256", padded, new Uint8Array(), new Uint8Array(), 16));
    padded.fill(0);
    common.fill(0);
    return new DhSession(path, key);
  }

  open([, parameters, value]: StoredSecret): Uint8Array {
    const cipher = createDecipheriv("aes-128-cbc", this.#key, Buffer.from(parameters));
    const [first, rest] = [cipher.update(Buffer.from(value)), cipher.final()];
    const plain = Uint8Array.from([...first, ...rest]);
    first.fill(0);
    rest.fill(0);
    this.#key.fill(0);
    return plain;
  }
}

/** Whoever serves may answer anything: of another shape, or what does not decrypt. The cause is dropped: it may quote him. */
function notUnderstood(error: unknown): never {
  if (isTcfsError(error)) throw error;
  throw noSecrets("what the password manager answers cannot be understood: it does not keep to the Secret Service");
}

function locked(): TcfsError {
  return noSecrets("the password manager is locked: unlock it, then try again");
}

function noAnswer(): TcfsError {
  return noSecrets("the password manager does not answer: is it locked, or does it ask you something?");
}

function noSecrets(why: string): TcfsError {
  return new TcfsError("TCFS_NO_SECRETS", why);
}
