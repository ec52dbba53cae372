/** Which vault a path is in, and where: a path below a mount point, or one in the vault that a flag names. */
import { realpath } from "node:fs/promises";
import { basename, dirname, join, relative, resolve } from "node:path";
import { TcfsError } from "../errors.ts";
import { findVault } from "./find-vault.ts";
import type { MountedVaultArguments } from "./find-vault.ts";
import { listDaemons } from "./mount-table.ts";
import type { Settings } from "./settings.ts";

/**
 * @param path - As typed. With `--vault` or `--mountpoint`, and where it is below no mount, it begins at the vault's root.
 * @returns The vault directory, and the path from the vault's root without a slash before it.
 * @throws TcfsError `TCFS_NOT_MOUNTED`
 */
export async function findPath(
  path: string,
  parameters: MountedVaultArguments,
  settings: Settings,
): Promise<{ readonly vault: string; readonly path: string }> {
  if (parameters.vault === undefined && parameters.mountpoint === undefined) {
    const found = await findBelowMount(path);
    if (found !== undefined) return found;
  }
  return { vault: await findVault(parameters, settings), path: relative("/", resolve("/", path)) };
}

/** @returns Where a path is in a vault that is known. @throws TcfsError `TCFS_USAGE` if it is below the mount of another. */
export async function pathIn(vault: string, path: string): Promise<string> {
  const found = await findBelowMount(path);
  if (found !== undefined && found.vault !== vault) throw new TcfsError("TCFS_USAGE", `${path} is in another vault`);
  return found?.path ?? relative("/", resolve("/", path));
}

async function findBelowMount(path: string): Promise<{ readonly vault: string; readonly path: string } | undefined> {
  const typed = resolve(path);
  const real = join(await realPathOf(dirname(typed)), basename(typed));
  const daemons = listDaemons().sort((left, right) => right.mountPoint.length - left.mountPoint.length);
  const daemon = daemons.find(({ mountPoint }) => real === mountPoint || real.startsWith(`${mountPoint}/`));
  return daemon && { vault: daemon.vault, path: relative(daemon.mountPoint, real) };
}

/** Without symbolic links as far as it exists: what was deleted has a path too. */
async function realPathOf(directory: string): Promise<string> {
  try {
    return await realpath(directory);
  } catch {
    const above = dirname(directory);
    return above === directory ? directory : join(await realPathOf(above), basename(directory));
  }
}
