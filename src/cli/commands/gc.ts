/** `tcfs gc`: give back the room of what nothing refers to any more. */
import { counted } from "../../counted.ts";
import type { CollectionReport } from "../../chunkstore/chunk-store.ts";
import { askDaemon } from "../control/control-client.ts";
import type { Settings } from "../settings.ts";
import { formatBytes } from "../../vault/status.ts";
import { findVault } from "../access/find-vault.ts";
import { secretSource } from "../access/vault-access.ts";
import type { VaultArguments } from "../access/vault-access.ts";
import { withOpenVault } from "../access/with-open-vault.ts";

export interface GcArguments extends VaultArguments {
  readonly json?: boolean | undefined;
}

export async function runGc(parameters: GcArguments, settings: Settings): Promise<void> {
  const directory = await findVault(parameters, settings);
  const report = await collect(directory, parameters, settings);
  if (parameters.json === true) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  else process.stdout.write(`${formatReport(report)}\n`);
}

async function collect(directory: string, parameters: GcArguments, settings: Settings): Promise<CollectionReport> {
  const reply = await askDaemon(directory, { operation: "collect" });
  if (reply !== undefined) return reply.result as CollectionReport;
  const { signal } = new AbortController();
  return withOpenVault(directory, secretSource(parameters), settings, { isReadOnly: false }, (vault) =>
    vault.volume.collect(signal),
  );
}

function formatReport({ liveChunks, deadChunks, freedBytes, rewrittenBytes }: CollectionReport): string {
  const room = `${formatBytes(freedBytes)} given back, ${formatBytes(rewrittenBytes)} moved`;
  return `${counted(liveChunks, "chunk")} in use, ${deadChunks} dropped; ${room}`;
}
