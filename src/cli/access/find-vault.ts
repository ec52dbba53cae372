/** Which vault a command means that may name it by its mount point, or be run within the mount. */
import { TcfsError } from "../../errors.ts";
import { canonicalMountPoint } from "../mounts/mount-point.ts";
import { type DaemonProcess, listDaemons } from "../mounts/mount-table.ts";
import type { Settings } from "../settings.ts";
import { vaultDirectory } from "./vault-access.ts";

export interface MountedVaultArguments {
  readonly mountpoint?: string | undefined;
  readonly vault?: string | undefined;
}

/**
 * With neither flag it is the vault in whose mount the current directory is, if it is in one.
 * @returns The vault directory.
 * @throws TcfsError `TCFS_NOT_MOUNTED` if a mount point was named and no daemon serves it.
 */
export async function findVault(parameters: MountedVaultArguments, settings: Settings): Promise<string> {
  if (parameters.mountpoint === undefined) {
    const daemon = parameters.vault === undefined ? daemonOf(currentDirectory()) : undefined;
    return daemon?.vault ?? vaultDirectory(parameters, settings);
  }
  const mountPoint = await canonicalMountPoint(parameters.mountpoint);
  const daemon = listDaemons().find((candidate) => candidate.mountPoint === mountPoint);
  if (daemon === undefined) throw new TcfsError("TCFS_NOT_MOUNTED", `no vault is mounted at ${mountPoint}`);
  return daemon.vault;
}

/** @param path - Absolute, without symbolic links. @returns The daemon in whose mount it is. */
export function daemonOf(path: string): DaemonProcess | undefined {
  const daemons = listDaemons().sort((left, right) => right.mountPoint.length - left.mountPoint.length);
  return daemons.find(({ mountPoint }) => path === mountPoint || path.startsWith(`${mountPoint}/`));
}

function currentDirectory(): string {
  try {
    return process.cwd();
  } catch {
    return "/"; // removed
  }
}
