/** `tcfs snapshots`: which there are, from when, and how large. */
import type { SnapshotFigures } from "../../fs/snapshots/snapshot-manager.ts";
import { printable } from "../printable.ts";
import type { Settings } from "../settings.ts";
import { askVault } from "../snapshot-requests.ts";
import type { SnapshotArguments } from "../snapshot-requests.ts";
import { formatBytes } from "../status.ts";

export interface SnapshotsArguments extends SnapshotArguments {
  readonly json?: boolean | undefined;
}

export async function runSnapshots(parameters: SnapshotsArguments, settings: Settings): Promise<void> {
  const snapshots = await askVault({ operation: "listSnapshots" }, parameters, settings);
  if (parameters.json === true) process.stdout.write(`${JSON.stringify(snapshots, null, 2)}\n`);
  else process.stdout.write(formatSnapshots(snapshots));
}

/** One line each, oldest first; the bytes that only it holds are an estimate, and say so. */
export function formatSnapshots(snapshots: readonly SnapshotFigures[]): string {
  if (snapshots.length === 0) return "there are no snapshots\n";
  const rows = snapshots.map((snapshot) => [
    printable(snapshot.name),
    snapshot.takenAt,
    formatBytes(snapshot.logicalBytes),
    `~${formatBytes(snapshot.exclusiveBytesEstimate)}`,
    printable(snapshot.comment),
  ]);
  const table = [["NAME", "TAKEN", "FILES", "ONLY HERE", "COMMENT"], ...rows];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  const lines = table.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
  return `${lines.join("\n")}\n`;
}
