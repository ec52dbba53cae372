/** `tcfs restore NAME --to DIR`: a snapshot, or parts of it, out of the vault into any directory. */
import { counted } from "../../counted.ts";
import { toHex } from "../../bytes.ts";
import { TcfsError, isTcfsError } from "../../errors.ts";
import { isDirectoryMode, isRegularMode } from "../../fs/mode.ts";
import type { SnapshotEntry } from "../../fs/snapshots/snapshot-reader.ts";
import type { PastSource } from "../../fs/snapshots/past-trees.ts";
import { outermost, parseTreePath, type TreePath } from "../../fs/snapshots/tree-path.ts";
import type { Name } from "../../ids.ts";
import { readHeader } from "../../keys/header-file.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import { EXIT_CODE } from "../exit-codes.ts";
import { printable, warn } from "../printable.ts";
import { host } from "../../platform/host-binding.ts";
import { CopyOut } from "../restore-out/copy-out.ts";
import type { HostDirectory } from "../restore-out/host-directory.ts";
import { MARKER_NAME, type RestoreJob, beginRestore, isTrusted, resumeRestore } from "../restore-out/marker.ts";
import { Progress } from "../restore-out/progress.ts";
import { CopyReport } from "../restore-out/report.ts";
import { Selection, type Choice } from "../restore-out/selection.ts";
import { checkTarget, openTarget } from "../restore-out/target.ts";
import { SnapshotSource, withSnapshots } from "../snapshot-source.ts";
import type { Settings } from "../settings.ts";
import type { SnapshotArguments } from "../control/snapshot-requests.ts";
import { formatBytes } from "../../vault/status.ts";

export interface RestoreOutArguments extends SnapshotArguments {
  readonly source: PastSource;
  /** The time as it was typed. */
  readonly said: string | undefined;
  readonly to: string;
  /** From the vault's root; empty: everything. */
  readonly paths: readonly string[];
  readonly globs: readonly string[];
  readonly isDryRun: boolean;
  readonly keepSetId: boolean;
  readonly keepDevices: boolean;
  readonly json: boolean;
}

/** What is to be restored, counted before it begins. */
interface Measure {
  fileCount: number;
  entryCount: number;
  /** Bytes of data, each file once. */
  bytes: number;
}

/** @returns The exit code: `INCOMPLETE` if something could not be restored. */
export function runRestoreOut(parameters: RestoreOutArguments, settings: Settings): Promise<number> {
  return withSnapshots(parameters, settings, async (ask, vault) => {
    const source = new SnapshotSource(parameters.source, ask);
    const label = "at" in parameters.source ? parameters.source.at : parameters.source.name;
    const paths = outermost(parameters.paths.length === 0 ? [[]] : parameters.paths.map(parseTreePath));
    const { epoch, root } = await findAll(source, paths);
    const selection = new Selection(paths, parameters.globs);
    const measure = await measureSelection(source, root, selection);
    if (measure.entryCount === 0) {
      throw new TcfsError("TCFS_NO_ENTRY", `nothing in “${label}” matches ${parameters.globs.join(", ") || "that"}`);
    }
    const { vaultId } = await readHeader(new NodeDisk(), vault);
    const job: RestoreJob = {
      vaultId: toHex(vaultId),
      snapshot: label,
      ...(parameters.said === undefined ? {} : { said: parameters.said }),
      epoch,
      paths: paths.map((path) => path.join("/")),
      globs: [...parameters.globs],
    };
    checkTarget(parameters.to, vault, { bytes: measure.bytes, entries: measure.entryCount });
    if (parameters.isDryRun) {
      const { fileCount, bytes } = measure;
      process.stdout.write(
        `${counted(fileCount, "file")}, ${formatBytes(bytes)}, would be restored to ${parameters.to}\n`,
      );
      return EXIT_CODE.OK;
    }
    const { directory, isBegun } = openTarget(parameters.to, vault);
    using target = directory;
    return await copy({ parameters, source, root, selection, measure, job, target, isBegun });
  });
}

/** @throws TcfsError for a path that is not there. */
export async function findAll(
  source: SnapshotSource,
  paths: readonly TreePath[],
): Promise<{ readonly epoch: number; readonly root: SnapshotEntry }> {
  for (const path of paths) await source.find(Buffer.from(path.join("/"), "latin1").toString());
  const { epoch, entries } = await source.find("");
  const [root] = entries;
  if (root === undefined) throw new TcfsError("TCFS_CORRUPT", "the snapshot has no root");
  return { epoch, root };
}

/** Everything that a selection is about, in the order in which it is restored; directories before what is in them. */
export async function* walkSelection(
  source: SnapshotSource,
  directory: SnapshotEntry,
  selection: Selection,
  place: { readonly path: TreePath; readonly choice: Choice } = {
    path: [],
    choice: selection.choose([], true, "none"),
  },
): AsyncGenerator<{ readonly path: TreePath; readonly entry: SnapshotEntry }> {
  for await (const entry of source.list(directory.ino)) {
    const path = [...place.path, entry.name as Name];
    const isDirectory = isDirectoryMode(entry.mode);
    const choice = selection.choose(path, isDirectory, place.choice);
    if (choice === "all") yield { path, entry };
    if (choice !== "none" && isDirectory) yield* walkSelection(source, entry, selection, { path, choice });
  }
}

async function measureSelection(source: SnapshotSource, root: SnapshotEntry, selection: Selection): Promise<Measure> {
  const measure = { fileCount: 0, entryCount: 0, bytes: 0 };
  const linked = new Set<number>();
  for await (const { entry } of walkSelection(source, root, selection)) {
    measure.entryCount++;
    if (!isRegularMode(entry.mode)) continue;
    measure.fileCount++;
    if (linked.has(entry.ino)) continue;
    if (entry.linkCount > 1) linked.add(entry.ino);
    measure.bytes += entry.allocatedBytes;
  }
  return measure;
}

interface CopyJob {
  readonly parameters: RestoreOutArguments;
  readonly source: SnapshotSource;
  readonly root: SnapshotEntry;
  readonly selection: Selection;
  readonly measure: Measure;
  readonly job: RestoreJob;
  readonly target: HostDirectory;
  readonly isBegun: boolean;
}

async function copy({ parameters, source, root, selection, measure, job, target, isBegun }: CopyJob): Promise<number> {
  const { to, json, keepSetId, keepDevices: keepsDevices } = parameters;
  const marker = isBegun ? resumeRestore(target, job, to) : beginRestore(target, job);
  const total = `${counted(measure.fileCount, "file")}, ${formatBytes(measure.bytes)}`;
  warn(`${isBegun ? "going on with" : "restoring"} ${total}, to ${to}`);
  const abort = new AbortController();
  const interrupt = (): void => abort.abort();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, interrupt);
  using progress = new Progress(process.stderr, () => describeProgress(report, measure));
  const report = new CopyReport(() => progress.step());
  const note = (what: string): void => report.note(what);
  const copying = new CopyOut({
    source,
    target,
    selection,
    report,
    attributes: { keepSetId, note },
    keepsDevices,
    token: marker.token,
    isResumed: isBegun,
    isTrusted: isTrusted(marker),
    signal: abort.signal,
  });
  try {
    await copying.run(root);
  } catch (error) {
    if (!isTcfsError(error)) throw error;
    const advice = "what is whole is kept: the same command again goes on from there";
    throw new TcfsError(
      error.code,
      `${error.message}; ${counted(report.fileCount, "file was", "files were")} restored, and ${advice}`,
      {
        cause: error,
      },
    );
  } finally {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.removeListener(signal, interrupt);
  }
  const isComplete = report.failedCount === 0;
  host.syncFileSystem(target.fd);
  if (isComplete) target.unlink(MARKER_NAME);
  progress[Symbol.dispose]();
  process.stdout.write(json ? `${JSON.stringify(summaryOf(report), null, 2)}\n` : formatSummary(report, to));
  return isComplete ? EXIT_CODE.OK : EXIT_CODE.INCOMPLETE;
}

function describeProgress({ fileCount, linkCount, skippedCount, writtenBytes }: CopyReport, measure: Measure): string {
  const done = fileCount + linkCount + skippedCount;
  return `${done} of ${counted(measure.fileCount, "file")}, ${formatBytes(writtenBytes)} of ${formatBytes(measure.bytes)}`;
}

function summaryOf(report: CopyReport): object {
  const { fileCount, directoryCount, otherCount, linkCount, skippedCount, leftOutCount, failedCount } = report;
  const { writtenBytes, failures, notes } = report;
  const counts = { fileCount, directoryCount, otherCount, linkCount, skippedCount, leftOutCount, failedCount };
  return { ...counts, writtenBytes, notes: Object.fromEntries(notes), failures };
}

function formatSummary(report: CopyReport, to: string): string {
  const { fileCount, directoryCount, otherCount, linkCount, skippedCount, failedCount, writtenBytes } = report;
  const parts = [
    `${counted(fileCount, "file")} (${formatBytes(writtenBytes)})`,
    counted(directoryCount, "directory", "directories"),
    ...(linkCount > 0 ? [counted(linkCount, "hard link")] : []),
    ...(otherCount > 0 ? [`${otherCount} symlinks and other`] : []),
    ...(skippedCount > 0 ? [`${counted(skippedCount, "was", "were")} there already`] : []),
  ];
  const notes = [...report.notes].map(([what, count]) => `note: ${what} (${counted(count, "time")})\n`);
  const failures = report.failures.map(({ path, reason }) => `failed: ${printable(path)}: ${printable(reason)}\n`);
  const end =
    failedCount === 0 ? "" : `${failedCount} could not be restored; the same command again tries these alone\n`;
  return `restored to ${to}: ${parts.join(", ")}\n${notes.join("")}${failures.join("")}${end}`;
}
