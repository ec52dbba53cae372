/** `tcfs cache`, `pin`, `unpin`, `pins`, `warm`: what of a vault with a store is on this disk. */
import { counted } from "../../counted.ts";
import { parseCacheSize } from "../cache-size.ts";
import { askCache, askWithProgress } from "../control/cache-requests.ts";
import { findPath } from "../find-path.ts";
import { type MountedVaultArguments, findVault } from "../access/find-vault.ts";
import { printable } from "../printable.ts";
import type { CacheFigures, PinFigures } from "../../fs/local-copies.ts";
import type { Settings } from "../settings.ts";
import { formatBytes } from "../../vault/status.ts";
import type { VaultArguments } from "../access/vault-access.ts";

export interface CacheArguments extends VaultArguments, MountedVaultArguments {
  readonly json?: boolean | undefined;
  readonly clear?: boolean | undefined;
  /** `auto`: half of the disk. */
  readonly maxSize?: string | undefined;
}

export interface TreeArguments extends VaultArguments, MountedVaultArguments {
  readonly path: string;
  readonly json?: boolean | undefined;
}

export async function runCache(parameters: CacheArguments, settings: Settings): Promise<void> {
  const maxBytes = parameters.maxSize === undefined ? undefined : parseCacheSize(parameters.maxSize);
  const vault = await findVault(parameters, settings);
  if (maxBytes !== undefined) await askCache(vault, { operation: "cacheLimit", maxBytes }, parameters, settings);
  if (parameters.clear === true) await askCache(vault, { operation: "cacheClear" }, parameters, settings);
  const figures = await askCache(vault, { operation: "cacheFigures" }, parameters, settings);
  print(parameters, figures, () => formatFigures(figures));
}

export async function runPin(parameters: TreeArguments, settings: Settings): Promise<void> {
  const { vault, path } = await findPath(parameters.path, parameters, settings);
  const report = await askWithProgress(vault, { operation: "pin", path }, parameters, settings);
  print(
    parameters,
    report,
    () => `${printable(named(path))} stays here: ${formatBytes(report.fetchedBytes)} fetched\n`,
  );
}

export async function runUnpin(parameters: TreeArguments, settings: Settings): Promise<void> {
  const { vault, path } = await findPath(parameters.path, parameters, settings);
  await askCache(vault, { operation: "unpin", path }, parameters, settings);
}

export async function runPins(parameters: Omit<TreeArguments, "path">, settings: Settings): Promise<void> {
  const vault = await findVault(parameters, settings);
  const pins = await askCache(vault, { operation: "listPins" }, parameters, settings);
  print(parameters, pins, () => pins.map(formatPin).join(""));
}

export async function runWarm(parameters: TreeArguments, settings: Settings): Promise<void> {
  const { vault, path } = await findPath(parameters.path, parameters, settings);
  const report = await askWithProgress(vault, { operation: "warm", path }, parameters, settings);
  print(parameters, report, () => `${printable(named(path))} is here: ${formatBytes(report.fetchedBytes)} fetched\n`);
}

function formatFigures(figures: CacheFigures): string {
  const { maxBytes, isLimitSet, usedBytes, packCount, partialCount, unsentBytes, pinnedBytes, pinCount } = figures;
  const rows = [
    ["limit", `${formatBytes(maxBytes)}${isLimitSet ? "" : " (half of the disk)"}`],
    ["used", `${formatBytes(usedBytes)} in ${counted(packCount, "pack")}, ${partialCount} of them in part`],
    ["not yet stored", `${formatBytes(unsentBytes)}: stays until the store has it`],
    ["pinned", `${formatBytes(pinnedBytes)}, ${counted(pinCount, "tree")}`],
    ["room to write", formatBytes(figures.freeBytes)],
  ];
  return rows.map(([name = "", value = ""]) => `${name.padEnd(16)}${value}\n`).join("");
}

function formatPin({ path, ino, packs, packsHere }: PinFigures): string {
  const where = packs === packsHere ? "all here" : `${packsHere} of ${counted(packs, "pack")} here`;
  return `${path === null ? `inode ${ino}, which has no name any more` : printable(named(path))}  ${where}\n`;
}

function named(path: string): string {
  return path === "" ? "." : path;
}

function print({ json }: { readonly json?: boolean | undefined }, value: unknown, format: () => string): void {
  process.stdout.write(json === true ? `${JSON.stringify(value, null, 2)}\n` : format());
}
