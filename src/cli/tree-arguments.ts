/** Paths within a vault, as typed: from its root, or absolute and through its mount. */
import { resolve } from "node:path";
import { TcfsError } from "../errors.ts";
import { findVault } from "./find-vault.ts";
import { canonicalMountPoint } from "./mount-point.ts";
import { listDaemons } from "./mount-table.ts";
import type { Settings } from "./settings.ts";
import type { SnapshotArguments } from "./snapshot-requests.ts";

/** @returns The paths from the vault's root. @throws TcfsError `TCFS_USAGE` for one that goes above it. */
export async function pathsWithin(
  paths: readonly string[],
  parameters: SnapshotArguments,
  settings: Settings,
): Promise<string[]> {
  const vault = await findVault(parameters, settings);
  const mountPoints = listDaemons()
    .filter((daemon) => daemon.vault === vault)
    .map((daemon) => daemon.mountPoint);
  const found: string[] = [];
  for (const path of paths) {
    if (path.split("/").includes(".."))
      throw new TcfsError("TCFS_USAGE", `no “..” in a path within the vault: ${path}`);
    // The last parts may be gone by now: only what is above the mount point may be reached through symlinks.
    const mountPoint = path.startsWith("/") ? await mountPointOf(resolve(path), mountPoints) : undefined;
    found.push(mountPoint === undefined ? path : resolve(path).slice(mountPoint.length));
  }
  return found;
}

/** @returns The beginning of the path that is a mount point of the vault, as typed. */
async function mountPointOf(path: string, mountPoints: readonly string[]): Promise<string | undefined> {
  for (let end = path.length; end > 0; end = path.lastIndexOf("/", end - 1)) {
    const start = path.slice(0, end);
    if (mountPoints.includes(await canonicalMountPoint(start))) return start;
  }
  return undefined;
}
