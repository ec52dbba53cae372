/** `tcfs versions`: what a file held before, and how it comes back. */
import { TcfsError } from "../../errors.ts";
import type { VersionFigures } from "../../fs/versions/version-manager.ts";
import { findPath, pathIn } from "../find-path.ts";
import { findVault } from "../access/find-vault.ts";
import type { MountedVaultArguments } from "../access/find-vault.ts";
import { formatPolicy, parsePolicy } from "../version-policy.ts";
import { printable } from "../printable.ts";
import type { Settings } from "../settings.ts";
import { formatBytes } from "../../vault/status.ts";
import type { VaultArguments } from "../access/vault-access.ts";
import { askVersions } from "../control/version-requests.ts";

export interface VersionsArguments extends VaultArguments, MountedVaultArguments {
  readonly path?: string | undefined;
  readonly restore?: string | undefined;
  readonly to?: string | undefined;
  /** Settings to change; empty: none. */
  readonly policy?: string | undefined;
  readonly json?: boolean | undefined;
}

export async function runVersions(parameters: VersionsArguments, settings: Settings): Promise<void> {
  const { restore: time, to, policy } = parameters;
  if (policy !== undefined) {
    await runPolicy(policy, parameters, settings);
    return;
  }
  if (parameters.path === undefined) throw new TcfsError("TCFS_USAGE", "say of which file; or --policy");
  if (to !== undefined && time === undefined) throw new TcfsError("TCFS_USAGE", "--to says where --restore TIME goes");
  const { vault, path } = await findPath(parameters.path, parameters, settings);
  if (time === undefined) {
    const versions = await askVersions(vault, { operation: "listVersions", path }, parameters, settings);
    print(parameters, versions, () => versions.map(formatVersion).join(""));
    return;
  }
  const target = to === undefined ? {} : { to: await pathIn(vault, to) };
  const request = { operation: "restoreVersion", path, time, ...target } as const;
  const restored = await askVersions(vault, request, parameters, settings);
  print(parameters, restored, () => `${printable(target.to ?? path)} is as it was at ${restored.time}\n`);
}

async function runPolicy(text: string, parameters: VersionsArguments, settings: Settings): Promise<void> {
  if (parameters.path !== undefined) throw new TcfsError("TCFS_USAGE", "the policy is the whole vault's: give no path");
  const changes = parsePolicy(text);
  const vault = await findVault(parameters, settings);
  const policy = await askVersions(vault, { operation: "versionPolicy", changes }, parameters, settings);
  print(parameters, policy, () => `${formatPolicy(policy)}\n`);
}

/** `2026-11-22T07:30:05.123Z  1.2 KiB  changed 2026-11-22T08:00:00.000Z` */
function formatVersion({ time, until, kind, bytes }: VersionFigures): string {
  return `${time.padEnd(26)}${formatBytes(bytes).padStart(10)}  ${kind} ${until}\n`;
}

function print({ json }: VersionsArguments, value: unknown, format: () => string): void {
  process.stdout.write(json === true ? `${JSON.stringify(value, null, 2)}\n` : format());
}
