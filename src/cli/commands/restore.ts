/** `tcfs restore` and `tcfs undo`: the volume goes back, in place, and can come back. */
import type { RestoreReport } from "../../fs/snapshots/snapshot-manager.ts";
import { printable } from "../printable.ts";
import type { Settings } from "../settings.ts";
import { askVault } from "../snapshot-requests.ts";
import type { SnapshotArguments } from "../snapshot-requests.ts";

export interface RestoreArguments extends SnapshotArguments {
  readonly name: string;
}

export async function runRestore(parameters: RestoreArguments, settings: Settings): Promise<void> {
  tell(await askVault({ operation: "restore", name: parameters.name }, parameters, settings));
}

export async function runUndo(parameters: SnapshotArguments, settings: Settings): Promise<void> {
  tell(await askVault({ operation: "undo" }, parameters, settings));
}

function tell({ restored, safety, changedRecords }: RestoreReport): void {
  process.stdout.write(
    `the vault is as it was in “${printable(restored)}”: ${changedRecords} records differed\n` +
      `the state before is the snapshot “${printable(safety)}”; tcfs undo brings it back\n`,
  );
}
