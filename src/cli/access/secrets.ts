/** Where a command's secret comes from: a file that was named, or a person at the terminal. Never argv, never the environment. */
import { TcfsError, isTcfsError } from "../../errors.ts";
import { passwordOf, wipeFields } from "../../keys/entry-fields.ts";
import type { EntryFields } from "../../keys/entry-fields.ts";
import { isEntryReference } from "../../keys/entry-reference.ts";
import type { Secret } from "../../keys/slots.ts";
import type { Settings } from "../settings.ts";
import { askSecret, hasTerminal } from "../terminal.ts";
import { warn } from "../printable.ts";

export interface SecretSource {
  readonly passphraseFile: string | undefined;
  readonly recoveryFile: string | undefined;
  readonly keyFile?: string | undefined;
  /** What opens the KeePass database that `passphraseFile` may name. */
  readonly kdbxPasswordFile?: string | undefined;
  readonly kdbxKeyFile?: string | undefined;
  /** Where the credentials for the store come from: see parseSource. Undefined: as was set for the vault. */
  readonly credentials?: string | undefined;
  /** For a slot with a TPM and a PIN. */
  readonly pinFile?: string | undefined;
  /** How to reach the TPM, if not as usual. */
  readonly tcti?: string | undefined;
  /** False where nobody is to be asked, though there may be a terminal. */
  readonly mayAsk?: boolean | undefined;
}

/** @returns Whether files hold the secret, so that nobody needs to be asked. */
export function isNamed({ passphraseFile, recoveryFile, keyFile }: SecretSource): boolean {
  return (passphraseFile ?? recoveryFile ?? keyFile) !== undefined;
}

export type KdbxSource = Pick<SecretSource, "kdbxPasswordFile" | "kdbxKeyFile" | "mayAsk">;

/** What reading an entry takes of the settings. */
export type EntrySettings = Pick<Settings, "secretOwners" | "sessionBus">;

/** Wrong answers at a terminal before giving up. */
const MAX_ATTEMPTS = 3;

/**
 * Get a secret that opens something, asking up to three times at a terminal.
 * @param open - Tries the secret; `TCFS_WRONG_KEY` means that another may be asked for.
 * @throws TcfsError `TCFS_USAGE` if no file was named and nobody can be asked.
 */
export async function withSecret<T>(
  source: SecretSource,
  settings: Settings,
  open: (secret: Secret) => Promise<T>,
): Promise<T> {
  const attempt = async (): Promise<T> => {
    const secret = await readSecret(source, settings);
    return withBytes(secret.bytes, () => open(secret));
  };
  return isNamed(source) ? attempt() : retrying(attempt);
}

/**
 * A new passphrase: from a file, or typed twice.
 * @returns Owned by the caller, who wipes it.
 */
export async function newPassphrase(
  file: string | undefined,
  settings: Settings,
  flag: string,
  kdbx: KdbxSource,
): Promise<Uint8Array> {
  return newSecret(file, settings, flag, "passphrase", kdbx);
}

/** As {@link newPassphrase}, for something that a person calls otherwise. */
export async function newSecret(
  file: string | undefined,
  settings: Settings,
  flag: string,
  what: string,
  kdbx: KdbxSource = {},
): Promise<Uint8Array> {
  if (file !== undefined) return readPassphrase(file, settings, kdbx);
  requireTerminal(flag, what);
  const first = await askSecret(`New ${what}: `);
  const second = await askSecret("The same again: ");
  const isSame = Buffer.from(first).equals(second);
  second.fill(0);
  if (isSame && first.length > 0) return first;
  first.fill(0);
  throw new TcfsError("TCFS_USAGE", isSame ? `the ${what} is empty` : `the two are not the same ${what}`);
}

async function readSecret(source: SecretSource, settings: Settings): Promise<Secret> {
  if (source.recoveryFile !== undefined) {
    const { readRecoveryFile } = await import("../../keys/secret-file.ts");
    const bytes = await readRecoveryFile(source.recoveryFile, { owners: settings.secretOwners });
    return { kind: "recovery-words", bytes };
  }
  if (source.keyFile !== undefined) {
    const { readKeyFile } = await import("../../keys/secret-file.ts");
    const bytes = await readKeyFile(source.keyFile, { owners: settings.secretOwners });
    const { keyFileKind } = await import("../../keys/key-file.ts");
    return keyFileKind(bytes) === "hybrid" ? hybridSecret(bytes, source, settings) : { kind: "key-file", bytes };
  }
  if (source.passphraseFile !== undefined) {
    return { kind: "passphrase", bytes: await readPassphrase(source.passphraseFile, settings, source) };
  }
  requireTerminal("--passphrase-file FILE");
  return { kind: "passphrase", bytes: await askSecret("Passphrase: ") };
}

/** @param keyFile - Wiped. */
async function hybridSecret(keyFile: Uint8Array, source: SecretSource, settings: Settings): Promise<Secret> {
  let passphrase: Uint8Array;
  if (source.passphraseFile !== undefined) passphrase = await readPassphrase(source.passphraseFile, settings, source);
  else {
    requireTerminal("--passphrase-file FILE");
    passphrase = await askSecret("Passphrase that goes with the key file: ");
  }
  const { joinBytes } = await import("../../keys/hybrid.ts");
  const bytes = joinBytes(keyFile, passphrase);
  keyFile.fill(0);
  passphrase.fill(0);
  return { kind: "hybrid", bytes };
}

/** The first line of a file with a secret; or the password of an entry, if it is called as one: see {@link readEntry}. */
export async function readPassphrase(
  file: string,
  settings: EntrySettings,
  kdbx: KdbxSource = {},
): Promise<Uint8Array> {
  if (isEntryReference(file)) {
    const fields = await readEntry(file, settings, kdbx);
    try {
      return passwordOf(fields, file).slice();
    } finally {
      wipeFields(fields);
    }
  }
  const { readPassphraseFile } = await import("../../keys/secret-file.ts");
  return readPassphraseFile(file, { owners: settings.secretOwners });
}

/**
 * The fields of the entry called `kdbx:FILE#ENTRY` or `secret-service:TITLE`. The caller wipes them.
 * @throws TcfsError as readKdbxEntry and readSecretServiceItem.
 */
export async function readEntry(text: string, settings: EntrySettings, kdbx: KdbxSource): Promise<EntryFields> {
  const { parseSecretServiceReference, readSecretServiceItem } = await import("../../keys/secret-service.ts");
  const title = parseSecretServiceReference(text);
  if (title === undefined) return readFromKdbx(text, settings, kdbx);
  return readSecretServiceItem(title, { sessionBus: settings.sessionBus, mayPrompt: kdbx.mayAsk !== false });
}

async function readFromKdbx(text: string, settings: EntrySettings, kdbx: KdbxSource): Promise<EntryFields> {
  const { parseKdbxReference, readKdbxEntry } = await import("../../keys/kdbx.ts");
  const { readKeyFile } = await import("../../keys/secret-file.ts");
  const reference = parseKdbxReference(text);
  if (reference === undefined) throw new RangeError("this is no reference to an entry");
  const { kdbxPasswordFile, kdbxKeyFile } = kdbx;
  const keyFile =
    kdbxKeyFile === undefined ? undefined : await readKeyFile(kdbxKeyFile, { owners: settings.secretOwners });
  const open = (password: Uint8Array | undefined): Promise<EntryFields> =>
    readKdbxEntry(reference, { password: password?.length === 0 ? undefined : password, keyFile });
  try {
    if (kdbxPasswordFile !== undefined)
      return await withBytes(await readPassphrase(kdbxPasswordFile, settings, { mayAsk: kdbx.mayAsk }), open);
    if (kdbx.mayAsk === false || !hasTerminal()) {
      if (keyFile !== undefined) return await open(undefined);
      throw noTerminal("--kdbx-password-file FILE", "master password");
    }
    return await retrying(async () => withBytes(await askSecret(`Master password of ${reference.file}: `), open));
  } finally {
    keyFile?.fill(0);
  }
}

async function withBytes<T>(bytes: Uint8Array, use: (bytes: Uint8Array) => Promise<T>): Promise<T> {
  try {
    return await use(bytes);
  } finally {
    bytes.fill(0);
  }
}

/** For what somebody types: a wrong answer may be corrected. */
async function retrying<T>(attempt: () => Promise<T>): Promise<T> {
  for (let count = 1; ; count++) {
    try {
      return await attempt();
    } catch (error) {
      if (count === MAX_ATTEMPTS || !isTcfsError(error, "TCFS_WRONG_KEY")) throw error;
      warn(error.message);
    }
  }
}

function requireTerminal(flag: string, what = "passphrase"): void {
  if (!hasTerminal()) throw noTerminal(flag, what);
}

function noTerminal(flag: string, what: string): TcfsError {
  return new TcfsError("TCFS_USAGE", `there is no terminal to ask for the ${what} on: give ${flag}`);
}
