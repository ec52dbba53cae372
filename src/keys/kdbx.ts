/**
 * An entry of a KeePass database, as KeePassXC writes them: KDBX 4 and 3.1, by the entry's UUID or `Group/Entry`.
 * Nothing is written to the database, and nothing of it is kept. The library forces the database's XML into strings; protected
 * fields stay bytes.
 */
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { resolve } from "node:path";
import type library from "kdbxweb";
import type { Kdbx, KdbxEntry, KdbxGroup } from "kdbxweb";
import { TcfsError } from "../errors.ts";
import type { EntryFields } from "./entry-fields.ts";

const PREFIX = "kdbx:";
/** Attachments and icons included; more is no password database. */
const MAX_FILE_BYTES = 64 * 1024 * 1024;
/** A database may come from somebody else: KeePassXC's slider for Argon2 ends at these. */
const MAX_ARGON2 = { memoryKiB: 4 * 1024 * 1024, passes: 10_000, lanes: 128, passedKiB: 64 * 1024 * 1024 } as const;
/** About a minute. What KeePassXC finds to take a second is below a tenth of it; so is what its slider ends at, five. */
const MAX_AES_ROUNDS = 1_000_000_000;
const UUID_BYTES = 16;

/** Which entry of which database: `kdbx:FILE#ENTRY`. */
export interface KdbxReference {
  /** Absolute. */
  readonly file: string;
  /** A UUID, or group names and title with `/` between them, or a title that there is once. */
  readonly entry: string;
}

/** What opens the database. Lent until settled. */
export interface KdbxCredentials {
  readonly password: Uint8Array | undefined;
  readonly keyFile: Uint8Array | undefined;
}

export function isKdbxReference(text: string): boolean {
  return text.startsWith(PREFIX);
}

/** @returns Undefined unless `text` begins with `kdbx:`. @throws TcfsError `TCFS_USAGE` if it names no entry. */
export function parseKdbxReference(text: string): KdbxReference | undefined {
  if (!isKdbxReference(text)) return undefined;
  const hash = text.lastIndexOf("#");
  const [file, entry] = [text.slice(PREFIX.length, hash), text.slice(hash + 1)];
  if (hash === -1 || file === "" || entry === "")
    throw new TcfsError(
      "TCFS_USAGE",
      `“${text}” names no entry of a database: write kdbx:FILE#UUID or kdbx:FILE#Group/Entry`,
    );
  return { file: resolve(file), entry };
}

/**
 * The fields of an entry that have a text.
 * @throws TcfsError `TCFS_USAGE` if there is no such file or entry, or more than one; `TCFS_WRONG_KEY` if the database does not
 *   open; `TCFS_BAD_KDBX` if it is damaged or of a kind that is not known.
 */
export async function readKdbxEntry(reference: KdbxReference, credentials: KdbxCredentials): Promise<EntryFields> {
  const content = await readBounded(reference.file);
  const database = await openDatabase(content, reference.file, credentials);
  const fields = new Map<string, Uint8Array>();
  for (const [name, value] of findEntry(database, reference).fields) {
    const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value.getBinary();
    if (bytes.length > 0) fields.set(name, Uint8Array.from(bytes));
  }
  return fields;
}

async function openDatabase(content: Uint8Array, file: string, credentials: KdbxCredentials): Promise<Kdbx> {
  const { default: kdbxweb } = await import("kdbxweb");
  kdbxweb.CryptoEngine.setArgon2Impl(deriveArgon2);
  const { password, keyFile } = credentials;
  const secret = password === undefined ? null : kdbxweb.ProtectedValue.fromBinary(arrayBuffer(password));
  try {
    checkAesRounds(kdbxweb, content);
    const opened = new kdbxweb.Credentials(secret, keyFile === undefined ? null : arrayBuffer(keyFile));
    return await kdbxweb.Kdbx.load(arrayBuffer(content), opened);
  } catch (error) {
    if (error instanceof TcfsError) throw error;
    const code = error instanceof kdbxweb.KdbxError ? error.code : "";
    if (code === kdbxweb.Consts.ErrorCodes.InvalidKey)
      throw new TcfsError("TCFS_WRONG_KEY", `the master password or the key file of ${file} is wrong`);
    // The cause is dropped: its text might hold something of the database.
    throw new TcfsError("TCFS_BAD_KDBX", `${file} is no KeePass database that tcfs can read, or it is damaged`);
  }
}

/** Before anything is computed: the library would queue all of the rounds that a file asks for. */
function checkAesRounds(
  { Kdbx, KdbxContext, KdbxHeader, BinaryStream, Int64 }: typeof library,
  content: Uint8Array,
): void {
  const context = new KdbxContext({ kdbx: new Kdbx() });
  const header = KdbxHeader.read(new BinaryStream(arrayBuffer(content)), context);
  const asked = header.kdfParameters?.get("R") ?? header.keyEncryptionRounds ?? 0;
  const rounds = asked instanceof Int64 ? asked.hi * 2 ** 32 + asked.lo : Number(asked);
  if (rounds <= MAX_AES_ROUNDS) return;
  throw new TcfsError("TCFS_BAD_KDBX", "the KeePass database asks for more rounds of AES than tcfs will compute");
}

function findEntry(database: Kdbx, { file, entry }: KdbxReference): KdbxEntry {
  const root = database.getDefaultGroup();
  const all = [...entriesOf(root, database, "")];
  const uuid = uuidBytes(entry);
  const found = all.filter(({ path, it }) => {
    if (uuid !== undefined) return Buffer.from(it.uuid.toBytes()).equals(uuid);
    return path === entry || titleOf(it) === entry;
  });
  // A full path is clear even where the title alone is not.
  const exact = found.filter(({ path }) => path === entry);
  const [first, ...others] = exact.length > 0 ? exact : found;
  if (first === undefined)
    throw new TcfsError("TCFS_USAGE", `${file} has no entry “${entry}” (the recycle bin is not looked at)`);
  if (others.length > 0)
    throw new TcfsError(
      "TCFS_USAGE",
      `${file} has ${others.length + 1} entries “${entry}”: name one by Group/Entry or UUID`,
    );
  return first.it;
}

function* entriesOf(group: KdbxGroup, database: Kdbx, prefix: string): Generator<{ path: string; it: KdbxEntry }> {
  for (const it of group.entries) yield { path: `${prefix}${titleOf(it)}`, it };
  const { recycleBinUuid } = database.meta;
  for (const child of group.groups) {
    if (recycleBinUuid?.equals(child.uuid) === true) continue;
    yield* entriesOf(child, database, `${prefix}${child.name ?? ""}/`);
  }
}

function titleOf(entry: KdbxEntry): string {
  const title = entry.fields.get("Title");
  return typeof title === "string" ? title : (title?.getText() ?? "");
}

/** With or without dashes and braces. */
function uuidBytes(text: string): Buffer | undefined {
  const digits = text.replaceAll(/[-{}]/gu, "");
  return /^[0-9a-f]+$/iu.test(digits) && digits.length === UUID_BYTES * 2 ? Buffer.from(digits, "hex") : undefined;
}

/** kdbxweb's order of arguments; memory in KiB. Types: 0 is Argon2d, 2 Argon2id, for it and for the library alike. */
async function deriveArgon2(
  password: ArrayBuffer,
  salt: ArrayBuffer,
  memoryKiB: number,
  passes: number,
  lengthBytes: number,
  lanes: number,
  type: 0 | 2,
  version: 0x10 | 0x13,
): Promise<ArrayBuffer> {
  const isWithin = memoryKiB <= MAX_ARGON2.memoryKiB && passes <= MAX_ARGON2.passes && lanes <= MAX_ARGON2.lanes;
  if (!isWithin || memoryKiB * passes > MAX_ARGON2.passedKiB)
    throw new TcfsError("TCFS_BAD_KDBX", "the KeePass database asks for more Argon2 than tcfs will compute");
  const { hashRaw } = await import("@node-rs/argon2");
  const key = await hashRaw(new Uint8Array(password), {
    memoryCost: memoryKiB,
    timeCost: passes,
    parallelism: lanes,
    outputLen: lengthBytes,
    salt: new Uint8Array(salt),
    // Its enumerations are const: types without a value at run time.
    algorithm: type as never,
    version: (version === 0x10 ? 0 : 1) as never,
  });
  return arrayBuffer(key);
}

function arrayBuffer(bytes: Uint8Array): ArrayBuffer {
  return Uint8Array.from(bytes).buffer;
}

async function readBounded(path: string): Promise<Uint8Array> {
  let handle;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (cause) {
    const isMissing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    const why = isMissing ? "there is no such file; is its drive mounted?" : String(cause);
    throw new TcfsError("TCFS_USAGE", `${path} cannot be read: ${why}`, { cause });
  }
  try {
    const stat = await handle.stat();
    if (!stat.isFile() || stat.size > MAX_FILE_BYTES)
      throw new TcfsError("TCFS_BAD_KDBX", `${path} is no KeePass database that tcfs can read, or it is damaged`);
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}
