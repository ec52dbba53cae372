/** `tcfs snapshot`: freeze the whole tree as it is, or say which snapshots are taken and dropped without being asked. */
import { TcfsError } from "../../errors.ts";
import type { PolicyFigures } from "../../fs/snapshots/automatic-snapshots.ts";
import { formatPolicy, parsePolicy } from "../../fs/snapshots/policy-text.ts";
import type { Settings } from "../settings.ts";
import { askVault } from "../control/snapshot-requests.ts";
import type { SnapshotArguments } from "../control/snapshot-requests.ts";

export interface SnapshotCommandArguments extends SnapshotArguments {
  readonly name?: string | undefined;
  readonly comment?: string | undefined;
  readonly policy?: string | undefined;
}

/** @throws TcfsError `TCFS_USAGE` unless there is either a name or a policy; before anything is asked for. */
export async function runSnapshot(parameters: SnapshotCommandArguments, settings: Settings): Promise<void> {
  const { name, comment, policy } = parameters;
  if (policy !== undefined) {
    if (name !== undefined || comment !== undefined) {
      throw new TcfsError("TCFS_USAGE", "--policy stands alone: it takes no snapshot of a name, and no comment");
    }
    const request = { operation: "setSnapshotPolicy", policy: formatPolicy(parsePolicy(policy)) } as const;
    process.stdout.write(formatNewPolicy(await askVault(request, parameters, settings)));
    return;
  }
  if (name === undefined) throw new TcfsError("TCFS_USAGE", "say how the snapshot is to be called, or give --policy");
  await askVault({ operation: "takeSnapshot", name, comment: comment ?? "" }, parameters, settings);
  process.stdout.write(`snapshot “${name}” is taken\n`);
}

function formatNewPolicy({ policy, automaticCount, surplusCount }: PolicyFigures): string {
  if (policy === null) {
    const stay = automaticCount === 0 ? "" : `; those taken so far (${automaticCount}) stay until forgotten`;
    return `no automatic snapshots are taken any more${stay}\n`;
  }
  const gone = surplusCount === 0 ? "" : `${surplusCount} of the ${automaticCount} that there are go\n`;
  return `while the vault is mounted, automatic snapshots are kept as ${policy}\n${gone}`;
}
