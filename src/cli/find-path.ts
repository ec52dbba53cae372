/**
 * Where paths are in a vault, by one rule for all commands. A path that lies below a mount of the vault (absolute, or
 * relative to a current directory in there) is that place; every other one begins at the vault's root.
 */
import { realpath } from "node:fs/promises";
import { basename, dirname, join, relative, resolve } from "node:path";
import { TcfsError } from "../errors.ts";
import { daemonOf, findVault } from "./access/find-vault.ts";
import type { MountedVaultArguments } from "./access/find-vault.ts";
import type { Settings } from "./settings.ts";

/**
 * @param path - As typed. Without `--vault` and `--mountpoint` it says which vault too, if it is below a mount.
 * @returns The vault directory, and the path from the vault's root without a slash before it.
 * @throws TcfsError `TCFS_NOT_MOUNTED`, `TCFS_USAGE` as {@link pathIn} does.
 */
export async function findPath(
  path: string,
  parameters: MountedVaultArguments,
  settings: Settings,
): Promise<{ readonly vault: string; readonly path: string }> {
  const isSaid = parameters.vault !== undefined || parameters.mountpoint !== undefined;
  const found = isSaid ? undefined : await findBelowMount(path);
  const vault = found?.vault ?? (await findVault(parameters, settings));
  return { vault, path: await pathIn(vault, path) };
}

/** As {@link findPath} for several, all of one vault. */
export async function findPaths(
  paths: readonly string[],
  parameters: MountedVaultArguments,
  settings: Settings,
): Promise<{ readonly vault: string; readonly paths: string[] }> {
  const { vault } = await findPath(paths[0] ?? "/", parameters, settings);
  return { vault, paths: await Promise.all(paths.map((path) => pathIn(vault, path))) };
}

/**
 * @returns Where a path is in a vault that is known.
 * @throws TcfsError `TCFS_USAGE` if it is below the mount of another, or goes above the root.
 */
export async function pathIn(vault: string, path: string): Promise<string> {
  const found = await findBelowMount(path);
  if (found?.vault === vault) return found.path;
  if (found !== undefined && path.startsWith("/")) throw new TcfsError("TCFS_USAGE", `${path} is in another vault`);
  if (path.split("/").includes("..")) {
    throw new TcfsError("TCFS_USAGE", `no “..” in a path from the vault's root: ${path}`);
  }
  return relative("/", resolve("/", path));
}

async function findBelowMount(path: string): Promise<{ readonly vault: string; readonly path: string } | undefined> {
  const typed = resolve(path);
  // What is above the last name may be reached through symlinks; it may be gone itself.
  const real = join(await realPathOf(dirname(typed)), basename(typed));
  const daemon = daemonOf(real);
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
