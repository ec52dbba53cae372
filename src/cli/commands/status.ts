/** `tcfs status`: from the daemon, or from the vault itself where none runs. Never asks for anything. */
import { toHex } from "../../bytes.ts";
import { readHeader } from "../../keys/header-file.ts";
import type { VaultHeader } from "../../keys/header.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import { askDaemon } from "../control/control-client.ts";
import { findVault } from "../access/find-vault.ts";
import type { DaemonStatus } from "../daemon/serve-mount.ts";
import type { Settings } from "../settings.ts";
import { formatStatus, formatStatusJson } from "../../vault/status.ts";
import type { DaemonFigures, VaultFigures, VaultStatus } from "../../vault/status.ts";
import { isNamed } from "../access/secrets.ts";
import { secretSource } from "../access/vault-access.ts";
import type { VaultArguments } from "../access/vault-access.ts";
import { withOpenVault } from "../access/with-open-vault.ts";
import { printable } from "../printable.ts";

export interface StatusArguments extends VaultArguments {
  readonly mountpoint?: string | undefined;
  readonly json?: boolean | undefined;
}

export async function runStatus(parameters: StatusArguments, settings: Settings): Promise<void> {
  const directory = await findVault(parameters, settings);
  const header = await readHeader(new NodeDisk(), directory);
  const status = await gather(directory, header, parameters, settings);
  const text = parameters.json === true ? formatStatusJson(status) : formatLines(formatStatus(status));
  process.stdout.write(`${text}\n`);
}

/** What a store answers, and where a vault is, is not ours to choose. */
function formatLines(lines: string): string {
  return lines.split("\n").map(printable).join("\n");
}

async function gather(
  directory: string,
  header: VaultHeader,
  parameters: StatusArguments,
  settings: Settings,
): Promise<VaultStatus> {
  const reply = await askDaemon(directory, { operation: "status" });
  if (reply !== undefined) {
    const { daemon, figures } = reply.result as DaemonStatus;
    return describe(directory, header, daemon, figures);
  }
  const source = secretSource(parameters);
  if (!isNamed(source)) return describe(directory, header, undefined, null);
  const figures = await withOpenVault(directory, source, settings, { isReadOnly: true }, (vault) => vault.allFigures());
  return describe(directory, header, undefined, figures);
}

function describe(
  vault: string,
  header: VaultHeader,
  daemon: DaemonFigures | undefined,
  figures: VaultFigures | null,
): VaultStatus {
  return {
    vault,
    vaultId: toHex(header.vaultId),
    createdAt: header.createdAt,
    mounted: daemon !== undefined,
    mountPoint: daemon?.mountPoint ?? null,
    readOnly: daemon?.readOnly ?? null,
    pid: daemon?.pid ?? null,
    daemonMemoryBytes: daemon?.daemonMemoryBytes ?? null,
    mountedAt: daemon?.mountedAt ?? null,
    pendingRequests: daemon?.pendingRequests ?? null,
    figures,
  };
}
