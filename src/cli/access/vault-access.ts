/** From a vault's directory to its authenticated header and key; what every command that opens a vault begins with. */
import { resolve } from "node:path";
import { realpath } from "node:fs/promises";
import type { SecretKey } from "../../crypto/secret-key.ts";
import { TcfsError } from "../../errors.ts";
import { readHeader } from "../../keys/header-file.ts";
import type { VaultHeader } from "../../keys/header.ts";
import { unlockHeader } from "../../keys/keyring.ts";
import type { OpenedHeader } from "../../keys/keyring.ts";
import type { KeySlot } from "../../keys/slot-format.ts";
import { recordSlotUse } from "../../keys/slot-use.ts";
import { systemClock } from "../../platform/clock.ts";
import { preciseIsoTime } from "../../platform/iso-time.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import type { S3Credentials } from "../../remote/s3-store.ts";
import { credentialConfig, readCredentials } from "./credentials.ts";
import { isNamed, withSecret } from "./secrets.ts";
import type { SecretSource } from "./secrets.ts";
import type { Settings } from "../settings.ts";
import { hasTerminal } from "../terminal.ts";
import { openByTpm, tell } from "./tpm-slots.ts";

/** How a command says which vault, and what opens it. Paths as typed. */
export interface VaultArguments {
  readonly vault?: string | undefined;
  readonly passphraseFile?: string | undefined;
  readonly recoveryFile?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly kdbxPasswordFile?: string | undefined;
  readonly kdbxKeyFile?: string | undefined;
  readonly credentials?: string | undefined;
  readonly pinFile?: string | undefined;
  readonly tcti?: string | undefined;
}

export interface UnlockedVault {
  readonly header: VaultHeader;
  /** The caller wipes it. */
  readonly key: SecretKey;
  /** What opened it. */
  readonly slot: KeySlot;
  /** Whether a TPM slot was passed over because the machine's state has changed. */
  readonly isTpmStale: boolean;
  /** For the store, where its credentials were read together with the passphrase. */
  readonly credentials?: S3Credentials | undefined;
}

/** @returns The vault directory, absolute and without symbolic links as far as it exists. */
export async function vaultDirectory(parameters: VaultArguments, settings: Settings): Promise<string> {
  const path = parameters.vault === undefined ? settings.defaultVault : resolve(parameters.vault);
  return realpath(path).catch(() => path);
}

export function secretSource(parameters: VaultArguments): SecretSource {
  const { passphraseFile, recoveryFile, keyFile, kdbxPasswordFile, kdbxKeyFile, credentials, pinFile, tcti } =
    parameters;
  return { passphraseFile, recoveryFile, keyFile, kdbxPasswordFile, kdbxKeyFile, credentials, pinFile, tcti };
}

/**
 * Open a vault with the secret that was named; without one, with the TPM, and else with a passphrase that somebody types.
 * @throws TcfsError `TCFS_NO_VAULT`, and whatever is wrong with the header, the TPM or the secret.
 */
export async function unlockVault(directory: string, source: SecretSource, settings: Settings): Promise<UnlockedVault> {
  const unlocked = await tryUnlock(directory, source, settings);
  const { header, slot } = unlocked;
  // What it is told for is not worth a failure: the directory may be read-only.
  await recordSlotUse(new NodeDisk(), directory, header.slots, slot, preciseIsoTime(systemClock.now())).catch(
    () => undefined,
  );
  return unlocked;
}

/** As {@link unlockVault}, and leaves no note of it. */
export async function tryUnlock(directory: string, source: SecretSource, settings: Settings): Promise<UnlockedVault> {
  const header = await readHeader(new NodeDisk(), directory);
  let isTpmStale = false;
  if (!isNamed(source)) {
    const { opened, failure, isStale } = await openByTpm(header, source, settings);
    if (opened !== undefined) return { header, ...opened, isTpmStale: isStale };
    isTpmStale = isStale;
    const byEntry = await openByEntry(directory, header, source, settings);
    if (byEntry !== undefined) {
      tell(failure);
      return { header, ...byEntry, isTpmStale };
    }
    if (source.mayAsk === false || (failure !== undefined && !hasTerminal())) throw failure ?? noTpmSlot();
    tell(failure);
  }
  return withSecret(source, settings, async (secret) => {
    return { header, ...(await unlockHeader(header, secret)), isTpmStale };
  });
}

/**
 * With the passphrase that `tcfs credentials set --with-passphrase` says is kept with the store's credentials.
 * @returns Undefined where it says no such thing, or somebody can be asked instead; then why is told.
 */
async function openByEntry(
  directory: string,
  header: VaultHeader,
  source: SecretSource,
  settings: Settings,
): Promise<(OpenedHeader & Pick<UnlockedVault, "credentials">) | undefined> {
  const config = await credentialConfig(directory, { ...source, credentials: undefined });
  if (config?.hasPassphrase !== true) return undefined;
  try {
    const { credentials, passphrase } = await readCredentials(config, settings, source.mayAsk);
    const bytes = passphrase ?? new Uint8Array();
    const opened = await unlockHeader(header, { kind: "passphrase", bytes }).finally(() => bytes.fill(0));
    return { ...opened, credentials };
  } catch (error) {
    const mayAsk = source.mayAsk !== false && hasTerminal();
    if (!mayAsk || !(error instanceof TcfsError) || error.code === "TCFS_CANCELLED") throw error;
    tell(new TcfsError(error.code, `the passphrase is not to be had from ${config.source}: ${error.message}`));
    return undefined;
  }
}

function noTpmSlot(): TcfsError {
  return new TcfsError("TCFS_USAGE", "the vault has no key slot in a TPM: tcfs key add --tpm makes one");
}
