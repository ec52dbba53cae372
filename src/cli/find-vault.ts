/** Which vault a command means that may name it by its mount point. */
import { TcfsError } from "../errors.ts";
import { canonicalMountPoint } from "./mount-point.ts";
import { listDaemons } from "./mount-table.ts";
import type { Settings } from "./settings.ts";
import { vaultDirectory } from "./vault-access.ts";

export interface MountedVaultArguments {
  readonly mountpoint?: string | undefined;
  readonly vault?: string | undefined;
}

/** @returns The vault directory. @throws TcfsError `TCFS_NOT_MOUNTED` if a mount point was named and no daemon serves it. */
export async function findVault(parameters: MountedVaultArguments, settings: Settings): Promise<string> {
  if (parameters.mountpoint === undefined) return vaultDirectory(parameters, settings);
  const mountPoint = await canonicalMountPoint(parameters.mountpoint);
  const daemon = listDaemons().find((candidate) => candidate.mountPoint === mountPoint);
  if (daemon === undefined) throw new TcfsError("TCFS_NOT_MOUNTED", `no vault is mounted at ${mountPoint}`);
  return daemon.vault;
}
