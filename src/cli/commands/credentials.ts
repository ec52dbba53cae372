/** `tcfs credentials set|show|test|renew|unset`: where the credentials for the vault's store come from. */
import { TcfsError } from "../../errors.ts";
import { hasHeader, noVault, readHeader } from "../../keys/header-file.ts";
import { isKdbxReference } from "../../keys/kdbx.ts";
import { sealCredentials } from "../../keys/key-handover.ts";
import { unlockHeader } from "../../keys/keyring.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import { systemRandom } from "../../platform/random.ts";
import { HEADER_NAME } from "../../replica/object-names.ts";
import type { S3Credentials } from "../../remote/s3-store.ts";
import { readCredentialConfig, removeCredentialConfig, writeCredentialConfig } from "../access/credential-config.ts";
import type { CredentialConfig } from "../access/credential-config.ts";
import { askDaemon } from "../control/control-client.ts";
import { credentialConfig, readCredentials, renewalRequest } from "../access/credentials.ts";
import type { Handing } from "../daemon/handed-credentials.ts";
import type { Settings } from "../settings.ts";
import { openPatiently } from "../access/store-setup.ts";
import { secretSource, unlockVault, vaultDirectory } from "../access/vault-access.ts";
import type { VaultArguments } from "../access/vault-access.ts";
import { urlOfStore } from "./store.ts";

export interface CredentialsSetArguments extends VaultArguments {
  readonly source: string;
  readonly withPassphrase?: boolean | undefined;
}

export interface CredentialsShowArguments {
  readonly vault?: string | undefined;
  readonly json?: boolean | undefined;
}

/** @throws TcfsError `TCFS_NO_VAULT`; whatever is wrong with the source, which is then not set. */
export async function runCredentialsSet(parameters: CredentialsSetArguments, settings: Settings): Promise<void> {
  const directory = await requireVault(parameters, settings);
  const config = await configOf(parameters);
  const { passphrase } = await readCredentials(config, settings);
  try {
    if (passphrase !== undefined) await requireOpening(directory, passphrase);
  } finally {
    passphrase?.fill(0);
  }
  await writeCredentialConfig(new NodeDisk(), directory, config);
  const what = config.hasPassphrase ? "Credentials and passphrase come" : "The credentials for the store come";
  process.stdout.write(
    `${what} from ${config.source}${waysIn(config)}. A daemon that runs learns of it by tcfs credentials renew, or with the next mount.\n`,
  );
}

/** @throws TcfsError `TCFS_NO_VAULT` */
export async function runCredentialsShow(parameters: CredentialsShowArguments, settings: Settings): Promise<void> {
  const config = await readCredentialConfig(new NodeDisk(), await requireVault(parameters, settings));
  if (parameters.json === true) {
    process.stdout.write(`${JSON.stringify(config ?? null, null, 2)}\n`);
    return;
  }
  if (config === undefined) process.stdout.write("Nothing was set: the environment, then ~/.aws/credentials.\n");
  else {
    const { source, hasPassphrase } = config;
    process.stdout.write(
      `source          ${source}${waysIn(config)}\npassphrase      ${hasPassphrase ? "from there, too" : "not from there"}\n`,
    );
  }
}

/** @throws TcfsError `TCFS_REMOTE_DENIED`, `TCFS_REMOTE_MISSING`, `TCFS_REMOTE_UNAVAILABLE`; whatever is wrong with the source. */
export async function runCredentialsTest(parameters: VaultArguments, settings: Settings): Promise<void> {
  const directory = await requireVault(parameters, settings);
  const url = await urlOfStore(parameters, settings);
  const config = await credentialConfig(directory, secretSource(parameters));
  const { credentials, passphrase } = await readCredentials(config, settings);
  try {
    if (passphrase !== undefined) await requireOpening(directory, passphrase);
  } finally {
    passphrase?.fill(0);
  }
  const store = await openPatiently(url, credentials, { create: false });
  try {
    const found = await store.head(HEADER_NAME);
    const what = found === undefined ? "nothing of a vault is there yet" : "a vault is there";
    process.stdout.write(`${store.place} lets us in; ${what}.\n`);
    if (passphrase !== undefined) process.stdout.write("The passphrase that is kept with them opens the vault.\n");
  } finally {
    await store.close();
  }
}

export async function runCredentialsUnset(parameters: VaultArguments, settings: Settings): Promise<void> {
  await removeCredentialConfig(new NodeDisk(), await requireVault(parameters, settings));
  process.stdout.write("Credentials come from the environment or ~/.aws/credentials from now on.\n");
}

/**
 * Hand the daemon what the credentials are now: it needs no new mount, and whoever knows the password of the place that they
 * come from is here. They are sealed by the vault's key, which so has to be had as for a mount.
 * @throws TcfsError `TCFS_NOT_MOUNTED`; whatever is wrong with the source or the secret.
 */
export async function runCredentialsRenew(parameters: VaultArguments, settings: Settings): Promise<void> {
  const directory = await requireVault(parameters, settings);
  if ((await askDaemon(directory, { operation: "rotation" })) === undefined)
    throw new TcfsError("TCFS_NOT_MOUNTED", "no daemon serves the vault: the next tcfs mount reads the credentials");
  const source = secretSource(parameters);
  const unlocked = await unlockVault(directory, source, settings);
  try {
    const config = await credentialConfig(directory, source);
    const credentials = unlocked.credentials ?? (await credentialsOnly(config, settings));
    const handing: Handing = { credentials, renewal: renewalRequest(config, settings) };
    const content = new TextEncoder().encode(JSON.stringify(handing));
    const sealed = sealCredentials(unlocked.header.vaultId, unlocked.key, content, systemRandom);
    content.fill(0);
    await askDaemon(directory, { operation: "credentials", sealed: Buffer.from(sealed).toString("base64") });
    process.stdout.write(`The daemon has the credentials from ${config?.source ?? "where the AWS tools look"}.\n`);
  } finally {
    unlocked.key.wipe();
  }
}

async function credentialsOnly(config: CredentialConfig | undefined, settings: Settings): Promise<S3Credentials> {
  const { credentials, passphrase } = await readCredentials(config, settings);
  passphrase?.fill(0);
  if (credentials !== undefined) return credentials;
  throw new TcfsError("TCFS_USAGE", "there are no credentials to hand over: tcfs credentials set names them");
}

async function configOf(parameters: CredentialsSetArguments): Promise<CredentialConfig> {
  const { source, withPassphrase, kdbxPasswordFile, kdbxKeyFile } = parameters;
  const config = await credentialConfig(undefined, { ...secretSource(parameters), credentials: source });
  if (config === undefined) throw new RangeError("a source that was named is one");
  if (!isKdbxReference(config.source) && (withPassphrase === true || (kdbxPasswordFile ?? kdbxKeyFile) !== undefined))
    throw new TcfsError("TCFS_USAGE", "--with-passphrase and --kdbx-… go with kdbx:FILE#ENTRY alone");
  return { ...config, hasPassphrase: withPassphrase === true };
}

/** How the database is opened, for a person. */
function waysIn({ source, kdbxPasswordFile, kdbxKeyFile }: CredentialConfig): string {
  if (!isKdbxReference(source)) return "";
  const ways = [kdbxPasswordFile && `with ${kdbxPasswordFile}`, kdbxKeyFile && `with the key file ${kdbxKeyFile}`];
  const known = ways.filter((way) => way !== null).join(" and ");
  return `, which opens ${known === "" ? "with a password that is asked for" : known}`;
}

async function requireVault(parameters: VaultArguments, settings: Settings): Promise<string> {
  const directory = await vaultDirectory(parameters, settings);
  const disk = new NodeDisk();
  if (await hasHeader(disk, directory)) return directory;
  throw await noVault(disk, directory);
}

/** @throws TcfsError `TCFS_WRONG_KEY` */
async function requireOpening(directory: string, passphrase: Uint8Array): Promise<void> {
  const header = await readHeader(new NodeDisk(), directory);
  const { key } = await unlockHeader(header, { kind: "passphrase", bytes: passphrase });
  key.wipe();
}
