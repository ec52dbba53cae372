/** `tcfs snapshot`: freeze the whole tree as it is. */
import type { Settings } from "../settings.ts";
import { askVault } from "../snapshot-requests.ts";
import type { SnapshotArguments } from "../snapshot-requests.ts";

export interface SnapshotCommandArguments extends SnapshotArguments {
  readonly name: string;
  readonly comment?: string | undefined;
}

export async function runSnapshot(parameters: SnapshotCommandArguments, settings: Settings): Promise<void> {
  const { name, comment = "" } = parameters;
  await askVault({ operation: "takeSnapshot", name, comment }, parameters, settings);
  process.stdout.write(`snapshot “${name}” is taken\n`);
}
