/** Flags that many commands take. */
import type { Argv } from "yargs";

/** Which vault, and what opens it. */
export interface SecretFlags {
  vault: string | undefined;
  "passphrase-file": string | undefined;
  "recovery-file": string | undefined;
  "key-file": string | undefined;
  "kdbx-password-file": string | undefined;
  "kdbx-key-file": string | undefined;
  credentials: string | undefined;
  "pin-file": string | undefined;
  tcti: string | undefined;
}

/** Adds the flags that say which vault and what opens it. */
export type AddSecrets = <T>(command: Argv<T>) => Argv<T & SecretFlags>;

export const JSON_FLAG = { type: "boolean", describe: "print JSON with stable keys" } as const;

const MOUNT_POINT_FLAG = {
  type: "string",
  alias: "m",
  requiresArg: true,
  describe: "where the vault is mounted, instead of --vault",
} as const;

/** For commands on a vault, mounted or not. */
export function vaultFlags(command: Argv, secrets: AddSecrets) {
  return secrets(command).option("mountpoint", MOUNT_POINT_FLAG);
}
