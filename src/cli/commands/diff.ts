/** `tcfs diff`: what changed from a snapshot to another, or to the present. */
import type { TreeChange } from "../../fs/snapshots/diff.ts";
import { printable } from "../printable.ts";
import type { Settings } from "../settings.ts";
import { askVault } from "../control/snapshot-requests.ts";
import type { SnapshotArguments } from "../control/snapshot-requests.ts";
import { formatBytes } from "../../vault/status.ts";

export interface DiffArguments extends SnapshotArguments {
  readonly from: string;
  readonly to?: string | undefined;
  readonly json?: boolean | undefined;
}

const SIGN = { added: "+", removed: "-", renamed: ">", changed: "~" } as const;

export async function runDiff(parameters: DiffArguments, settings: Settings): Promise<void> {
  const { from, to } = parameters;
  const request = { operation: "diff", from, ...(to === undefined ? {} : { to }) } as const;
  const changes = await askVault(request, parameters, settings);
  if (parameters.json === true) process.stdout.write(`${JSON.stringify(changes, null, 2)}\n`);
  else process.stdout.write(changes.map((change) => `${formatChange(change)}\n`).join(""));
}

/** `+ path (5 B)`, `- path (3 B)`, `> old → new`, `~ path (3 B → 5 B, content)`. */
export function formatChange({ kind, path, from, type, bytesBefore, bytesAfter, fields = [] }: TreeChange): string {
  const shown = `${printable(path)}${type === "d" && path !== "." ? "/" : ""}`;
  const place = from === undefined ? shown : `${printable(from)} → ${shown}`;
  const details = [formatSizes(bytesBefore, bytesAfter), ...fields].filter((text) => text !== "");
  return `${SIGN[kind]} ${place}${details.length === 0 ? "" : ` (${details.join(", ")})`}`;
}

function formatSizes(before: number | undefined, after: number | undefined): string {
  if (before === undefined) return after === undefined ? "" : formatBytes(after);
  if (after === undefined || after === before) return formatBytes(before);
  return `${formatBytes(before)} → ${formatBytes(after)}`;
}
