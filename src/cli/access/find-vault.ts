/** Which vault a command means that may name it by its mount point, or be run within the mount. */
import { statSync } from "node:fs";
import { TcfsError } from "../../errors.ts";
import { canonicalMountPoint } from "../mounts/mount-point.ts";
import { type DaemonProcess, FILESYSTEM_TYPE, findMount, listDaemons } from "../mounts/mount-table.ts";
import type { Settings } from "../settings.ts";
import { vaultDirectory } from "./vault-access.ts";

export interface MountedVaultArguments {
  readonly mountpoint?: string | undefined;
  readonly vault?: string | undefined;
}

/**
 * With neither flag it is the vault in whose mount the current directory is, if it is in one.
 * @returns The vault directory.
 * @throws TcfsError `TCFS_NOT_MOUNTED` if a mount point was named and no daemon serves it; `TCFS_NO_VAULT` if its daemon's vault is not
 *   where it was.
 */
export async function findVault(parameters: MountedVaultArguments, settings: Settings): Promise<string> {
  if (parameters.mountpoint === undefined) {
    const daemon = parameters.vault === undefined ? daemonOf(currentDirectory()) : undefined;
    return daemon?.vault ?? vaultDirectory(parameters, settings);
  }
  const mountPoint = await canonicalMountPoint(parameters.mountpoint);
  const daemon = listDaemons().find((candidate) => candidate.mountPoint === mountPoint);
  if (daemon === undefined) throw notMounted(mountPoint);
  if (isGone(daemon.vault)) {
    const message = `the vault that is mounted at ${mountPoint} is not in ${daemon.vault} any more: if it was moved, say --vault and where it is now`;
    throw new TcfsError("TCFS_NO_VAULT", message);
  }
  return daemon.vault;
}

/** One that cannot be looked at is another's, and where it was. */
function isGone(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) === undefined;
  } catch {
    return false;
  }
}

/** @param mountPoint - Canonical, of no daemon that can be seen. */
export function notMounted(mountPoint: string): TcfsError {
  if (findMount(mountPoint)?.type === FILESYSTEM_TYPE) {
    const advice = "if it was killed, tcfs umount takes the mount away, and tcfs mount mounts it again";
    return new TcfsError("TCFS_NOT_MOUNTED", `the mount at ${mountPoint} has no daemon that can be seen: ${advice}`);
  }
  const around = daemonOf(mountPoint);
  const where = around === undefined ? "" : `: that lies in the mount at ${around.mountPoint}`;
  return new TcfsError("TCFS_NOT_MOUNTED", `no vault is mounted at ${mountPoint}${where}`);
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
