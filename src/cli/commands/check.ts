/** `tcfs check`: read and verify everything that is stored, and tell which paths are damaged. */
import { counted } from "../../counted.ts";
import type { CheckReport, Damage } from "../../fs/check.ts";
import { askDaemon } from "../control/control-client.ts";
import { EXIT_CODE } from "../exit-codes.ts";
import { findVault } from "../access/find-vault.ts";
import { printable } from "../printable.ts";
import type { Settings } from "../settings.ts";
import type { SnapshotArguments } from "../control/snapshot-requests.ts";
import { formatBytes } from "../../vault/status.ts";
import { secretSource } from "../access/vault-access.ts";
import { withOpenVault } from "../access/with-open-vault.ts";

export interface CheckArguments extends SnapshotArguments {
  readonly json?: boolean | undefined;
}

/** Between two lines of progress. */
const PROGRESS_MS = 500;

/** @returns The exit code: `CORRUPT` if anything is damaged. */
export async function runCheck(parameters: CheckArguments, settings: Settings): Promise<number> {
  const report = await check(parameters, settings);
  if (parameters.json === true) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  else process.stdout.write(`${formatReport(report)}\n`);
  return report.damageCount === 0 ? EXIT_CODE.OK : EXIT_CODE.CORRUPT;
}

async function check(parameters: CheckArguments, settings: Settings): Promise<CheckReport> {
  const directory = await findVault(parameters, settings);
  const reply = await askDaemon(directory, { operation: "check" });
  if (reply !== undefined) return reply.result as CheckReport;
  const { signal } = new AbortController();
  return withOpenVault(directory, secretSource(parameters), settings, { isReadOnly: true }, (vault) => {
    const progress = process.stderr.isTTY ? showProgress() : undefined;
    return vault.volume.check(signal, progress?.tell).finally(() => progress?.end());
  });
}

/** One line at the terminal, written over again and again, and taken away at the end. */
function showProgress(): {
  readonly tell: (report: Pick<CheckReport, "names" | "bytes" | "damageCount">) => void;
  readonly end: () => void;
} {
  let toldMs = 0;
  return {
    tell: ({ names, bytes, damageCount }) => {
      const now = performance.now();
      if (now - toldMs < PROGRESS_MS) return;
      toldMs = now;
      process.stderr.write(`\r\x1b[K${counted(names, "name")}, ${formatBytes(bytes)}, ${damageCount} damaged`);
    },
    end: () => {
      process.stderr.write("\r\x1b[K");
    },
  };
}

/** A line for each damage, and a summary. */
export function formatReport({ names, versions, chunks, bytes, damageCount, damages }: CheckReport): string {
  const lines = damages.map(formatDamage);
  const untold = damageCount - damages.length;
  if (untold > 0) lines.push(`… and ${untold} more`);
  const found = damageCount === 0 ? "no damage" : `${damageCount} damaged`;
  return [
    ...lines,
    `${counted(names, "name")}, ${counted(versions, "version")} and ${counted(chunks, "chunk")} (${formatBytes(bytes)}) checked: ${found}`,
  ].join("\n");
}

function formatDamage({ path, what, message }: Damage): string {
  return `${path === "" ? "." : printable(path)}: ${what}: ${printable(message)}`;
}
