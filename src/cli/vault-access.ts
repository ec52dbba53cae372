/** From a vault's directory to its authenticated header and key; what every command that opens a vault begins with. */
import { resolve } from "node:path";
import { realpath } from "node:fs/promises";
import type { SecretKey } from "../crypto/secret-key.ts";
import { readHeader } from "../keys/header-file.ts";
import type { VaultHeader } from "../keys/header.ts";
import { unlockHeader } from "../keys/keyring.ts";
import { NodeDisk } from "../platform/node-disk.ts";
import { withSecret } from "./secrets.ts";
import type { SecretSource } from "./secrets.ts";
import type { Settings } from "./settings.ts";

/** How a command says which vault, and what opens it. Paths as typed. */
export interface VaultArguments {
  readonly vault?: string | undefined;
  readonly passphraseFile?: string | undefined;
  readonly recoveryFile?: string | undefined;
}

export interface UnlockedVault {
  readonly header: VaultHeader;
  /** The caller wipes it. */
  readonly key: SecretKey;
}

/** @returns The vault directory, absolute and without symbolic links as far as it exists. */
export async function vaultDirectory(parameters: VaultArguments, settings: Settings): Promise<string> {
  const path = parameters.vault === undefined ? settings.defaultVault : resolve(parameters.vault);
  return realpath(path).catch(() => path);
}

export function secretSource(parameters: VaultArguments): SecretSource {
  return { passphraseFile: parameters.passphraseFile, recoveryFile: parameters.recoveryFile };
}

/** @throws TcfsError `TCFS_NO_VAULT`, and whatever is wrong with the header or the secret. */
export async function unlockVault(directory: string, source: SecretSource, settings: Settings): Promise<UnlockedVault> {
  const header = await readHeader(new NodeDisk(), directory);
  return withSecret(source, settings, async (secret) => ({ header, key: await unlockHeader(header, secret) }));
}
