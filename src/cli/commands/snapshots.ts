/** `tcfs snapshots`: which there are, from when, and how large; and which more will be. */
import type { PolicyFigures } from "../../fs/snapshots/automatic-snapshots.ts";
import type { SnapshotFigures } from "../../fs/snapshots/snapshot-manager.ts";
import { printable } from "../printable.ts";
import type { Settings } from "../settings.ts";
import { askVault } from "../control/snapshot-requests.ts";
import type { SnapshotArguments } from "../control/snapshot-requests.ts";
import { formatBytes, formatPolicyFigures } from "../../vault/status.ts";

export interface SnapshotsArguments extends SnapshotArguments {
  readonly json?: boolean | undefined;
}

export async function runSnapshots(parameters: SnapshotsArguments, settings: Settings): Promise<void> {
  const { snapshots, policy } = await askVault({ operation: "listSnapshots" }, parameters, settings);
  if (parameters.json === true) process.stdout.write(`${JSON.stringify(snapshots, null, 2)}\n`);
  else process.stdout.write(`${formatSnapshots(snapshots)}${formatPolicy(policy)}`);
}

/** One line each, oldest first; the bytes that only it holds are an estimate, and say so. */
export function formatSnapshots(snapshots: readonly SnapshotFigures[]): string {
  if (snapshots.length === 0) return "there are no snapshots\n";
  const rows = snapshots.map((snapshot) => [
    printable(snapshot.name),
    snapshot.takenAt,
    formatBytes(snapshot.logicalBytes),
    `~${formatBytes(snapshot.exclusiveBytesEstimate)}`,
    keptAs(snapshot),
    printable(snapshot.comment),
  ]);
  const table = [["NAME", "TAKEN", "FILES", "ONLY HERE", "KEPT AS", "COMMENT"], ...rows];
  const shown = table.map((row) => (rows.some((cells) => cells[4] !== "") ? row : row.toSpliced(4, 1)));
  const widths = shown[0]?.map((_, column) => Math.max(...shown.map((row) => row[column]?.length ?? 0))) ?? [];
  const lines = shown.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
  return `${lines.join("\n")}\n`;
}

/** Nothing for those that somebody asked for. */
function keptAs({ isAutomatic, classes }: SnapshotFigures): string {
  if (!isAutomatic) return "";
  return classes.length === 0 ? "automatic" : classes.join(", ");
}

function formatPolicy(figures: PolicyFigures): string {
  return figures.policy === null && !figures.isDamaged ? "" : `policy: ${formatPolicyFigures(figures)}\n`;
}
