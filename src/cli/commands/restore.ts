/** `tcfs restore` and `tcfs undo`: the volume, or paths of it, go back, in place, and can come back. */
import { TcfsError } from "../../errors.ts";
import type { PathRestoreReport } from "../../fs/snapshots/path-restore.ts";
import type { RestoreReport } from "../../fs/snapshots/snapshot-manager.ts";
import { printable } from "../printable.ts";
import type { Settings } from "../settings.ts";
import { askVault } from "../snapshot-requests.ts";
import type { SnapshotArguments } from "../snapshot-requests.ts";
import { pathsWithin } from "../tree-arguments.ts";
import { formatChange } from "./diff.ts";

export interface RestoreArguments extends SnapshotArguments {
  readonly name: string;
  /** Within the vault; everything if not given. */
  readonly path?: readonly string[] | undefined;
  readonly dryRun?: boolean | undefined;
  readonly json?: boolean | undefined;
}

export async function runRestore(parameters: RestoreArguments, settings: Settings): Promise<void> {
  const { name, json } = parameters;
  const isDryRun = parameters.dryRun === true;
  if (parameters.path === undefined) {
    if (isDryRun) throw new TcfsError("TCFS_USAGE", `tcfs diff ${name} says what a restore of everything would change`);
    tell(await askVault({ operation: "restore", name }, parameters, settings), json);
    return;
  }
  const paths = await pathsWithin(parameters.path, parameters, settings);
  tell(await askVault({ operation: "restorePaths", name, paths, isDryRun }, parameters, settings), json);
}

export async function runUndo(
  parameters: SnapshotArguments & { readonly json?: boolean | undefined },
  settings: Settings,
): Promise<void> {
  tell(await askVault({ operation: "undo" }, parameters, settings), parameters.json);
}

function tell(report: RestoreReport | PathRestoreReport, json: boolean | undefined): void {
  if (json === true) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  else process.stdout.write("paths" in report ? formatPaths(report) : formatWhole(report));
}

function formatWhole({ restored, safety, changedRecords }: RestoreReport): string {
  return (
    `the vault is as it was in “${printable(restored)}”: ${changedRecords} records differed\n` +
    `the state before is the snapshot “${printable(safety)}”; tcfs undo brings it back\n`
  );
}

/** A dry run as `tcfs diff` tells it, from what is to what would be. */
function formatPaths(report: PathRestoreReport): string {
  const { restored, paths, safety, addedCount, removedCount, changedCount, changes } = report;
  if (changes !== undefined && changes.length > 0) return changes.map((change) => `${formatChange(change)}\n`).join("");
  const places = paths.map((path) => `“${printable(path)}”`).join(", ");
  const verb = paths.length === 1 ? "is" : "are";
  if (safety === undefined) return `${places} ${verb} as in “${printable(restored)}” already: nothing was done\n`;
  return (
    `${places} ${verb} as in “${printable(restored)}”: ${changedCount} changed, ${addedCount} added, ${removedCount} removed\n` +
    `the state before is the snapshot “${printable(safety)}”; tcfs undo brings these paths back as they were\n`
  );
}
