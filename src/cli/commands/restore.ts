/** `tcfs restore` and `tcfs undo`: the volume, or paths of it, go back, in place, and can come back. */
import { counted } from "../../counted.ts";
import { TcfsError } from "../../errors.ts";
import type { PastSource } from "../../fs/snapshots/past-trees.ts";
import type { PathRestoreReport } from "../../fs/snapshots/path-restore.ts";
import type { RestoreReport } from "../../fs/snapshots/snapshot-manager.ts";
import { EXIT_CODE } from "../exit-codes.ts";
import { findPaths } from "../find-path.ts";
import { printable, warn } from "../printable.ts";
import type { Settings } from "../settings.ts";
import { askVault } from "../control/snapshot-requests.ts";
import type { SnapshotArguments } from "../control/snapshot-requests.ts";
import { formatChange } from "./diff.ts";

export interface RestoreArguments extends SnapshotArguments {
  readonly name?: string | undefined;
  /** Instead of a name: as it was at this time; in place and without paths the newest snapshot from then or before. */
  readonly at?: string | undefined;
  /** Within the vault; everything if not given. */
  readonly path?: readonly string[] | undefined;
  readonly glob?: readonly string[] | undefined;
  /** Out of the vault into this directory. */
  readonly to?: string | undefined;
  readonly list?: boolean | undefined;
  readonly dryRun?: boolean | undefined;
  readonly keepSetId?: boolean | undefined;
  readonly keepDevices?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** @returns The exit code. */
export async function runRestore(asked: RestoreArguments, settings: Settings): Promise<number> {
  refuseContradictions(asked);
  const { vault, paths } = await findPaths(asked.path ?? [], asked, settings);
  const parameters = { ...asked, vault, mountpoint: undefined };
  const { to, list, glob: globs = [], json = false } = parameters;
  const isDryRun = parameters.dryRun === true;
  const isWhole = list !== true && to === undefined && parameters.path === undefined;
  const source = await sourceOf(parameters, settings, isWhole);
  if (list === true) {
    const { runRestoreList } = await import("./restore-list.ts");
    await runRestoreList({ ...parameters, source, paths, globs, json }, settings);
  } else if (to !== undefined) {
    const { runRestoreOut } = await import("./restore-out.ts");
    const { keepSetId = false, keepDevices = false } = parameters;
    const options = { source, said: parameters.at, to, paths, globs, isDryRun, keepSetId, keepDevices, json };
    return runRestoreOut({ ...parameters, ...options }, settings);
  } else if ("name" in source && parameters.path === undefined) {
    const { name } = source;
    if (isDryRun) throw new TcfsError("TCFS_USAGE", `tcfs diff ${name} says what a restore of everything would change`);
    tell(await askVault({ operation: "restore", name }, parameters, settings), json);
  } else {
    const report = await askVault({ operation: "restorePaths", source, paths, isDryRun }, parameters, settings);
    tell(report, json, "at" in source);
  }
  return EXIT_CODE.OK;
}

/** @throws TcfsError `TCFS_USAGE` for words that do not go together. */
function refuseContradictions({ name, at, to, list, glob, keepSetId, keepDevices, dryRun }: RestoreArguments): void {
  const refuse = (why: string): never => {
    throw new TcfsError("TCFS_USAGE", why);
  };
  if ((name === undefined) === (at === undefined)) refuse("say which snapshot: its name, or --at TIME");
  if (list === true && to !== undefined) refuse("--list restores nothing: leave --to away");
  if (list === true && dryRun === true) refuse("--list restores nothing: leave --dry-run away");
  if (list !== true && to === undefined && glob !== undefined) refuse("--glob goes with --to DIR or --list");
  if (to === undefined && (keepSetId === true || keepDevices === true)) refuse("--keep-… go with --to DIR");
}

/** @param isWhole - Everything in place: that only a snapshot has. */
async function sourceOf(parameters: RestoreArguments, settings: Settings, isWhole: boolean): Promise<PastSource> {
  const { name, at: said = "", to } = parameters;
  if (name !== undefined) return { name };
  const { parseTime } = await import("../point-in-time.ts");
  const time = parseTime(said, new Date()).toISOString();
  if (!isWhole) {
    const { resumedTime } = await import("../restore-out/target.ts");
    return { at: (to === undefined ? undefined : resumedTime(to, said)) ?? time };
  }
  const found = await askVault({ operation: "snapshotAt", time }, parameters, settings);
  warn(`the newest snapshot from then or before is “${found.name}” of ${found.takenAt}`);
  return { name: found.name };
}

export async function runUndo(
  parameters: SnapshotArguments & { readonly json?: boolean | undefined },
  settings: Settings,
): Promise<void> {
  tell(await askVault({ operation: "undo" }, parameters, settings), parameters.json);
}

function tell(report: RestoreReport | PathRestoreReport, json: boolean | undefined, isOfTime = false): void {
  if (json === true) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  else process.stdout.write("paths" in report ? formatPaths(report, isOfTime) : formatWhole(report));
}

function formatWhole({ restored, safety, changedRecords }: RestoreReport): string {
  return (
    `the vault is as it was in “${printable(restored)}”: ${counted(changedRecords, "record")} differed\n` +
    `the state before is the snapshot “${printable(safety)}”; tcfs undo brings it back\n`
  );
}

/** A dry run as `tcfs diff` tells it, from what is to what would be. */
function formatPaths(report: PathRestoreReport, isOfTime: boolean): string {
  const { restored, paths, safety, earlierSafety, addedCount, removedCount, changedCount, changes } = report;
  if (changes !== undefined && changes.length > 0) return changes.map((change) => `${formatChange(change)}\n`).join("");
  const places = paths.map((path) => `“${printable(path)}”`).join(", ");
  const verb = paths.length === 1 ? "is" : "are";
  const state = `${places} ${verb} as ${isOfTime ? `at ${restored}` : `in “${printable(restored)}”`}`;
  if (safety === undefined) {
    const undo = `tcfs undo would take back an earlier one, to “${printable(earlierSafety ?? "")}”`;
    return `${state} already: nothing was done${earlierSafety === undefined ? "" : `; ${undo}`}\n`;
  }
  return (
    `${state}: ${changedCount} changed, ${addedCount} added, ${removedCount} removed\n` +
    `the state before is the snapshot “${printable(safety)}”; tcfs undo brings these paths back as they were\n`
  );
}
