/** `tcfs forget`: give up snapshots. */
import { TcfsError } from "../../errors.ts";
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
  for (const { name, exclusiveBytesEstimate } of await askVault(request, parameters, settings)) {
    const [does, holds] = isDryRun ? ["would forget", "holds"] : ["forgot", "held"];
    process.stdout.write(
      `${does} “${printable(name)}”, which alone ${holds} about ${formatBytes(exclusiveBytesEstimate)}\n`,
    );
  }
}
