/** `tcfs forget`: give up snapshots. */
import { TcfsError } from "../../errors.ts";
import type { SnapshotTime } from "../../fs/snapshots/snapshot-manager.ts";
import type { Settings } from "../settings.ts";
import { askVault } from "../control/snapshot-requests.ts";
import type { SnapshotArguments } from "../control/snapshot-requests.ts";
import { formatBytes } from "../../vault/status.ts";
import { printable } from "../printable.ts";

export interface ForgetArguments extends SnapshotArguments {
  readonly names?: readonly string[] | undefined;
  readonly dryRun?: boolean | undefined;
}

/** @throws TcfsError `TCFS_NO_SNAPSHOT` for a name that is not there; then none is forgotten. */
export async function runForget(parameters: ForgetArguments, settings: Settings): Promise<void> {
  const { names = [] } = parameters;
  if (names.length === 0) throw new TcfsError("TCFS_USAGE", "say which snapshots: tcfs snapshots lists their names");
  const isDryRun = parameters.dryRun === true;
  const request = { operation: "forgetSnapshots", names: names.map(String), isDryRun } as const;
  const { forgotten, togetherBytesEstimate, nextUndo } = await askVault(request, parameters, settings);
  const [does, holds, hold] = isDryRun ? ["would forget", "holds", "hold"] : ["forgot", "held", "held"];
  for (const { name, exclusiveBytesEstimate } of forgotten) {
    process.stdout.write(
      `${does} “${printable(name)}”, which alone ${holds} about ${formatBytes(exclusiveBytesEstimate)}\n`,
    );
  }
  if (forgotten.length > 1) {
    process.stdout.write(`these alone ${hold} about ${formatBytes(togetherBytesEstimate)} together\n`);
  }
  if (nextUndo !== undefined) process.stdout.write(formatUndo(nextUndo, isDryRun));
}

function formatUndo(next: SnapshotTime | null, isDryRun: boolean): string {
  if (next === null) return `tcfs undo ${isDryRun ? "would then have" : "has"} nothing to go back to\n`;
  const goes = isDryRun ? "would then go" : "now goes";
  return `tcfs undo ${goes} back to “${printable(next.name)}” of ${next.takenAt}, before an earlier restore\n`;
}
