/**
 * Credentials for a vault's store, and perhaps its passphrase: read once by the command that needs them, and again by a daemon
 * whose store refuses them. The SDK takes strings, so that these cannot be wiped; the rest of an entry is.
 */
import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { TcfsError } from "../../errors.ts";
import { attributeOf, passwordOf, wipeFields } from "../../keys/entry-fields.ts";
import type { EntryFields } from "../../keys/entry-fields.ts";
import { absoluteReference, isEntryReference } from "../../keys/entry-reference.ts";
import { parseKdbxReference } from "../../keys/kdbx.ts";
import { isSecretServiceReference } from "../../keys/secret-service.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import type { CredentialRenewal } from "../../remote/renewing-store.ts";
import type { S3Credentials } from "../../remote/s3-store.ts";
import type { PlaceOverrides } from "../../remote/store-url.ts";
import { parseSource, readCredentialConfig } from "./credential-config.ts";
import type { CredentialConfig } from "./credential-config.ts";
import { readEntry } from "./secrets.ts";
import type { EntrySettings, SecretSource } from "./secrets.ts";
import type { Settings } from "../settings.ts";
import {
  SECRET_VARIABLES,
  credentialsFile,
  credentialsFromEnvironment,
  credentialsFromFile,
} from "./store-credentials.ts";
import type { CredentialSource } from "./store-credentials.ts";
import { warn } from "../printable.ts";

/** What reading takes of the environment and the caller. */
export type CredentialSettings = EntrySettings & { readonly credentialSource: CredentialSource };

/** What a command says about credentials. */
export type CredentialFlags = Pick<SecretSource, "credentials" | "kdbxPasswordFile" | "kdbxKeyFile" | "mayAsk">;

export interface ReadCredentials {
  /** Undefined where there are none. */
  readonly credentials: S3Credentials | undefined;
  /** The vault's, if it is kept with them. The caller wipes it. */
  readonly passphrase: Uint8Array | undefined;
}

/** @returns What the flag says, else what was set for the vault, else undefined: as the AWS tools. */
export async function credentialConfig(
  directory: string | undefined,
  { credentials, kdbxPasswordFile, kdbxKeyFile }: CredentialFlags,
): Promise<CredentialConfig | undefined> {
  const flags = {
    kdbxPasswordFile: kdbxPasswordFile === undefined ? null : absoluteReference(kdbxPasswordFile),
    kdbxKeyFile: kdbxKeyFile === undefined ? null : resolve(kdbxKeyFile),
  };
  if (credentials !== undefined) {
    const source = parseSource(credentials);
    return {
      source,
      hasPassphrase: false,
      ...(isEntryReference(source) ? flags : { kdbxPasswordFile: null, kdbxKeyFile: null }),
    };
  }
  const set = directory === undefined ? undefined : await readCredentialConfig(new NodeDisk(), directory);
  if (set === undefined || !isEntryReference(set.source)) return set;
  return {
    ...set,
    kdbxPasswordFile: flags.kdbxPasswordFile ?? set.kdbxPasswordFile,
    kdbxKeyFile: flags.kdbxKeyFile ?? set.kdbxKeyFile,
  };
}

/** @throws TcfsError whatever is wrong with the place that they come from. */
export async function readCredentials(
  config: CredentialConfig | undefined,
  settings: CredentialSettings,
  mayAsk?: boolean,
): Promise<ReadCredentials> {
  if (config === undefined || !isEntryReference(config.source))
    return { credentials: await asAwsTools(config?.source, settings), passphrase: undefined };
  const { source } = config;
  const fields = await readEntry(source, settings, {
    kdbxPasswordFile: config.kdbxPasswordFile ?? undefined,
    kdbxKeyFile: config.kdbxKeyFile ?? undefined,
    mayAsk,
  });
  try {
    const passphrase = config.hasPassphrase ? attributeOf(fields, "passphrase") : undefined;
    if (config.hasPassphrase && passphrase === undefined)
      throw new TcfsError("TCFS_USAGE", `the entry “${source}” has no attribute “passphrase”`);
    return { credentials: s3CredentialsOf(fields, source), passphrase: passphrase?.slice() };
  } finally {
    wipeFields(fields);
  }
}

/**
 * For a command that goes on without its store: why there are no credentials is told on standard error.
 * @throws TcfsError `TCFS_CANCELLED`
 */
export async function credentialsIfAny(
  directory: string,
  config: CredentialConfig | undefined,
  settings: CredentialSettings,
  mayAsk?: boolean,
): Promise<S3Credentials | undefined> {
  if (!(await new NodeDisk().list(directory)).includes("store.json")) return undefined;
  try {
    const { credentials, passphrase } = await readCredentials(config, settings, mayAsk);
    passphrase?.fill(0);
    return credentials;
  } catch (error) {
    if (!(error instanceof TcfsError) || error.code === "TCFS_CANCELLED") throw error;
    warn(`tcfs: the store's credentials are not to be had: ${error.message}`);
    return undefined;
  }
}

/** What a daemon is told, so that it can read its credentials again: names of files, and no secret. */
export interface RenewalRequest {
  readonly config: CredentialConfig | undefined;
  readonly settings: CredentialSettings;
}

/** @returns Undefined where reading again would give the same: the environment does not change. */
export function renewalRequest(config: CredentialConfig | undefined, settings: Settings): RenewalRequest | undefined {
  const { credentialSource, secretOwners, sessionBus } = settings;
  const isFromEnvironment = config === undefined && credentialsFromEnvironment(credentialSource) !== undefined;
  if (config?.source === "env" || isFromEnvironment) return undefined;
  const { environment, owners } = credentialSource;
  const named = Object.entries(environment).filter(([name]) => !SECRET_VARIABLES.includes(name));
  return {
    config,
    settings: { secretOwners, sessionBus, credentialSource: { environment: Object.fromEntries(named), owners } },
  };
}

/** In the daemon, which can ask nobody. */
export class RenewedCredentials implements CredentialRenewal {
  readonly #request: RenewalRequest;
  #print: string | undefined;

  private constructor(request: RenewalRequest, print: string | undefined) {
    this.#request = request;
    this.#print = print;
  }

  static async from(request: RenewalRequest): Promise<RenewedCredentials> {
    return new RenewedCredentials(request, await fingerprint(request));
  }

  async read(): Promise<S3Credentials | undefined> {
    const { config, settings } = this.#request;
    this.#print = await fingerprint(this.#request);
    const { credentials, passphrase } = await readCredentials(config, settings, false);
    passphrase?.fill(0);
    return credentials;
  }

  async hasChanged(): Promise<boolean> {
    const print = await fingerprint(this.#request);
    return print !== undefined && print !== this.#print;
  }
}

/** @returns What changes with the file that they come from; undefined where it is not there now. */
async function fingerprint({ config, settings }: RenewalRequest): Promise<string | undefined> {
  if (config !== undefined && isSecretServiceReference(config.source)) return undefined; // it tells of no changes
  const file = parseKdbxReference(config?.source ?? "")?.file ?? credentialsFile(settings.credentialSource);
  const found = await stat(file).catch(() => undefined);
  return found && `${found.ino} ${found.size} ${found.mtimeMs}`;
}

/** @param source - `env`, `aws`, `aws:PROFILE`; undefined for the first of them that says something. */
async function asAwsTools(
  source: string | undefined,
  { credentialSource }: CredentialSettings,
): Promise<S3Credentials | undefined> {
  if (source === undefined)
    return credentialsFromEnvironment(credentialSource) ?? (await credentialsFromFile(credentialSource));
  if (source !== "env") return credentialsFromFile(credentialSource, source.split(":").slice(1).join(":") || "default");
  const found = credentialsFromEnvironment(credentialSource);
  if (found !== undefined) return found;
  throw new TcfsError("TCFS_USAGE", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set");
}

function s3CredentialsOf(fields: EntryFields, entry: string): S3Credentials {
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes).trim();
  const attribute = (name: string): string | undefined => {
    const bytes = attributeOf(fields, name);
    return bytes && text(bytes);
  };
  const userName = fields.get("UserName");
  if (userName === undefined)
    throw new TcfsError("TCFS_USAGE", `the entry “${entry}” has no user name, which is the store's access key`);
  const given = { bucket: attribute("bucket"), endpoint: attribute("endpoint"), region: attribute("region") };
  const place = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as PlaceOverrides;
  const sessionToken = attribute("session_token");
  return {
    accessKeyId: text(userName),
    secretAccessKey: text(passwordOf(fields, entry)),
    ...(sessionToken === undefined ? {} : { sessionToken }),
    ...(Object.keys(place).length === 0 ? {} : { place }),
  };
}
