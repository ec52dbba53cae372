/** For commands that work on a vault which no daemon serves: unlock, open, do it, close. */
import { TcfsError, isTcfsError } from "../../errors.ts";
import { RELATIVE_ACCESS_TIMES } from "../../fs/access-times.ts";
import { credentialConfig, credentialsIfAny } from "./credentials.ts";
import type { OpenVault, OpenVaultOptions } from "../../vault/open-vault.ts";
import type { SecretSource } from "./secrets.ts";
import type { Settings } from "../settings.ts";
import { SILENT_LOGGER } from "../../vault/silent-logger.ts";
import { describeUse, listDaemons } from "../mounts/mount-table.ts";
import { tpmOptions } from "./tpm-slots.ts";
import { type UnlockedVault, unlockVault } from "./vault-access.ts";

/** @throws TcfsError `TCFS_VAULT_IN_USE` if a process has it open; whatever opening, `action` and closing throw. */
export async function withOpenVault<T>(
  directory: string,
  source: SecretSource,
  settings: Settings,
  { isReadOnly }: { readonly isReadOnly: boolean },
  action: (vault: OpenVault) => Promise<T>,
): Promise<T> {
  const { header, key, ...unlocked } = await unlockVault(directory, source, settings);
  try {
    const config = await credentialConfig(directory, source);
    const credentials = unlocked.credentials ?? (await credentialsIfAny(directory, config, settings, source.mayAsk));
    await using vault = await openQuietly({ directory, header, key, isReadOnly, credentials });
    const result = await action(vault);
    await vault.close();
    return result;
  } finally {
    key.wipe();
  }
}

/** As a mount opens it, its store following. The caller closes it. @throws as {@link withOpenVault}. */
export async function openForWriting(
  directory: string,
  { header, key, ...unlocked }: Pick<UnlockedVault, "header" | "key" | "credentials">,
  source: SecretSource,
  settings: Settings,
): Promise<OpenVault> {
  const config = await credentialConfig(directory, source);
  const credentials = unlocked.credentials ?? (await credentialsIfAny(directory, config, settings, source.mayAsk));
  const freshness = { tpm: tpmOptions(source, settings), wish: undefined, isOlderAccepted: false };
  return openQuietly({ directory, header, key, isReadOnly: false, credentials, isReplicated: true, freshness });
}

/** The rooms are loaded here and not before: a command that a daemon answers has no use for them. */
export async function openQuietly(
  options: Pick<OpenVaultOptions, "directory" | "header" | "key" | "isReadOnly"> & Partial<OpenVaultOptions>,
): Promise<OpenVault> {
  const { OpenVault } = await import("../../vault/open-vault.ts");
  try {
    return await OpenVault.open({
      isNew: false,
      accessTimes: RELATIVE_ACCESS_TIMES,
      snapshotsShown: "none",
      versionsShown: "none",
      logger: SILENT_LOGGER,
      ...options,
    });
  } catch (cause) {
    if (!isTcfsError(cause, "TCFS_VAULT_IN_USE")) throw cause;
    const daemon = listDaemons().find(({ vault }) => vault === options.directory);
    throw new TcfsError("TCFS_VAULT_IN_USE", describeUse(options.directory, daemon), { cause });
  }
}
