/** `tcfs restore NAME --list`: what a snapshot has, or what was there at a time, at and below paths, by pattern. */
import { S_IFLNK, S_IFMT, isDirectoryMode } from "../../fs/mode.ts";
import type { PastSource } from "../../fs/snapshots/past-trees.ts";
import { outermost, parseTreePath, showTreePath } from "../../fs/snapshots/tree-path.ts";
import type { SnapshotEntry } from "../../fs/snapshots/snapshot-reader.ts";
import { isoTime } from "../../platform/iso-time.ts";
import { printable } from "../printable.ts";
import { Selection } from "../restore-out/selection.ts";
import { SnapshotSource, withSnapshots } from "../snapshot-source.ts";
import type { Settings } from "../settings.ts";
import type { SnapshotArguments } from "../control/snapshot-requests.ts";
import { findAll, walkSelection } from "./restore-out.ts";

export interface RestoreListArguments extends SnapshotArguments {
  readonly source: PastSource;
  readonly paths: readonly string[];
  readonly globs: readonly string[];
  readonly json: boolean;
}

/** By the type bits of st_mode; as ls(1). */
const LETTERS: Readonly<Record<number, string>> = { 1: "p", 2: "c", 4: "d", 6: "b", 8: "-", 10: "l", 12: "s" };

export function runRestoreList(parameters: RestoreListArguments, settings: Settings): Promise<void> {
  return withSnapshots(parameters, settings, async (ask) => {
    const source = new SnapshotSource(parameters.source, ask);
    const paths = outermost(parameters.paths.length === 0 ? [[]] : parameters.paths.map(parseTreePath));
    const { root } = await findAll(source, paths);
    const listed: object[] = [];
    for await (const { path, entry } of walkSelection(source, root, new Selection(paths, parameters.globs))) {
      const {
        name: _,
        xattrs: _xattrs,
        accessTime: _time,
        lengthBytes,
        modifyTime: _modified,
        origin,
        ...rest
      } = entry;
      const from = origin === undefined ? {} : { from: origin.words };
      const modifiedAt = timeOf(entry);
      const line = { path: showTreePath(path), lengthBytes: Number(lengthBytes), modifiedAt, ...from, ...rest };
      if (parameters.json) listed.push(line);
      else process.stdout.write(formatEntry(line.path, entry));
    }
    if (parameters.json) process.stdout.write(`${JSON.stringify(listed, null, 2)}\n`);
  });
}

/** As `ls -ln`, with the path. */
function formatEntry(path: string, entry: SnapshotEntry): string {
  const { mode, uid, gid, lengthBytes, target, origin } = entry;
  const bits = Array.from({ length: 9 }, (_, index) => ((mode >> (8 - index)) % 2 === 1 ? "rwx"[index % 3] : "-"));
  const owner = `${uid}:${gid}`.padEnd(11);
  const link = (mode & S_IFMT) === S_IFLNK ? ` -> ${printable(Buffer.from(target ?? "", "latin1").toString())}` : "";
  const from = origin === undefined || isDirectoryMode(mode) ? "" : `  (${printable(origin.words)})`;
  const type = LETTERS[(mode & S_IFMT) >> 12] ?? "?";
  return `${type}${bits.join("")} ${owner} ${lengthBytes.padStart(12)} ${timeOf(entry)} ${printable(path)}${link}${from}\n`;
}

function timeOf({ modifyTime }: SnapshotEntry): string {
  return isoTime(modifyTime.seconds);
}
