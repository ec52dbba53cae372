/** What was deleted and can still be brought back, by the path that it had. */
import { TcfsError } from "../../errors.ts";
import type { VersionRecord } from "../../format/version-codec.ts";
import type { InodeNumber, Name } from "../../ids.ts";
import { preciseIsoTime } from "../../platform/iso-time.ts";
import { isRegularMode } from "../mode.ts";
import type { VolumeParts } from "../volume-parts.ts";
import type { Restorer } from "./restorer.ts";
import { isInTrash } from "./version-cleaner.ts";
import { VersionPaths, hintOf, joinPath, splitPath } from "./version-paths.ts";

/** One thing in the trash, as it is told. Times are ISO 8601, UTC. */
export interface TrashFigures {
  /** From the vault's root; beginning with `?/` where its directory cannot be told any more. */
  readonly path: string;
  readonly deletedAt: string;
  /** As `find -type` calls it: f, l or d. */
  readonly type: "f" | "l" | "d";
  readonly bytes: number;
}

export interface TrashRestored {
  readonly files: number;
  readonly directories: number;
  /** Paths where something else is by now, which was left alone. */
  readonly skipped: readonly string[];
}

interface Deleted {
  readonly record: VersionRecord;
  readonly names: readonly Name[];
}

const UNKNOWN_DIRECTORY = "?" as Name;

export class Trash {
  readonly #parts: VolumeParts;
  readonly #restorer: Restorer;

  constructor(parts: VolumeParts, restorer: Restorer) {
    this.#parts = parts;
    this.#restorer = restorer;
  }

  /** What is in it as of the last commit, by path. */
  async list(): Promise<TrashFigures[]> {
    const figures = (await this.#deleted()).map(({ record, names }) => figuresOf(record, names));
    return figures.sort((left, right) => compare(left.path, right.path) || compare(left.deletedAt, right.deletedAt));
  }

  async #deleted(): Promise<Deleted[]> {
    const { metadata } = this.#parts;
    const records: VersionRecord[] = [];
    const directories = new Map<InodeNumber, VersionRecord>();
    for await (const found of metadata.versions.all()) {
      for (const record of found) {
        if (isInTrash(record)) records.push(record);
        if (record.kind === "directory" && !record.isDropped) directories.set(record.inode.ino, record);
      }
    }
    const paths = new VersionPaths(metadata, directories);
    const deleted: Deleted[] = [];
    for (const record of records) {
      const above = (await paths.pathOf(record.directory as InodeNumber)) ?? [UNKNOWN_DIRECTORY];
      deleted.push({ record, names: [...above, record.name] });
    }
    return deleted;
  }

  /**
   * Bring back what was last deleted at a path: a file, or a directory with all that was deleted below it. Directories
   * that are missing are made as they were. Of several of one path the last one comes; the others stay in the trash.
   * @param to - Where it goes instead.
   * @throws TcfsError `TCFS_NO_ENTRY` if nothing of the path is in the trash, `TCFS_EXISTS` if it is one file and
   *   something is in its place, `TCFS_STORE_FULL`.
   */
  async restore(path: string, to: string | undefined): Promise<TrashRestored> {
    const wanted = splitPath(path);
    const target = to === undefined ? wanted : splitPath(to);
    const deleted = newestOfEachPath(await this.#deleted());
    const matching = deleted.filter(({ names }) => isBelow(names, wanted));
    if (matching.length === 0) throw notInTrash(wanted, deleted);
    const move = ({ record, names }: Deleted): Deleted =>
      isBelow(names, wanted) ? { record, names: [...target, ...names.slice(wanted.length)] } : { record, names };
    const moved = matching.map(move);
    const directories = moved.filter(({ record }) => record.kind === "directory");
    const files = moved.filter(({ record }) => record.kind !== "directory");
    const isOneFile = directories.length === 0 && files.length === 1 && matching[0]?.names.length === wanted.length;
    const known = new Map<string, VersionRecord>();
    for (const one of deleted.map(move))
      if (one.record.kind === "directory") known.set(one.names.join("/"), one.record);
    const skipped: string[] = [];
    /** Not those that were there: they are as somebody has them by now. */
    const made: Deleted[] = [];
    let restored = 0;
    for (const { record, names } of [...directories, ...files]) {
      try {
        if (record.kind === "directory") {
          const isMissing = this.#restorer.find(names) === undefined;
          await this.#restorer.directory(names, known);
          if (isMissing) made.push({ record, names });
        } else {
          await this.#restorer.restoreFile(record, names, false, known);
          restored++;
        }
      } catch (error) {
        if (isOneFile || !isInTheWay(error)) throw error;
        skipped.push(joinPath(names));
        continue;
      }
      this.#parts.metadata.versions.markRestored(record);
      if (this.#parts.committer.isOverfull) await this.#parts.committer.commit();
    }
    for (const { record, names } of made.toReversed()) this.#restorer.setTimes(names, record);
    await this.#parts.committer.commit();
    return { files: restored, directories: made.length, skipped };
  }
}

function notInTrash(wanted: readonly Name[], deleted: readonly Deleted[]): TcfsError {
  const above = wanted.slice(0, -1);
  const beside = new Set<Name>();
  for (const { names } of deleted) {
    const name = isBelow(names, above) ? names[above.length] : undefined;
    if (name !== undefined) beside.add(name);
  }
  return new TcfsError(
    "TCFS_NO_ENTRY",
    `${joinPath(wanted)} is not in the trash: ${hintOf(wanted, beside, "tcfs trash")}`,
  );
}

function isInTheWay(error: unknown): boolean {
  return error instanceof TcfsError && (error.code === "TCFS_EXISTS" || error.code === "TCFS_NOT_DIRECTORY");
}

function isBelow(names: readonly Name[], above: readonly Name[]): boolean {
  return above.every((name, index) => names[index] === name);
}

/** Directories before what is in them. */
function newestOfEachPath(deleted: readonly Deleted[]): Deleted[] {
  const newest = new Map<string, Deleted>();
  for (const one of deleted) {
    const key = one.names.join("/");
    const other = newest.get(key);
    if (other === undefined || other.record.version < one.record.version) newest.set(key, one);
  }
  return [...newest.values()].sort((left, right) => compare(left.names.join("/"), right.names.join("/")));
}

function figuresOf({ kind, inode, keptAt }: VersionRecord, names: readonly Name[]): TrashFigures {
  const type = kind === "directory" ? "d" : isRegularMode(inode.mode) ? "f" : "l";
  const bytes = type === "f" ? Number(inode.lengthBytes) : 0;
  return { path: joinPath(names), deletedAt: preciseIsoTime(keptAt), type, bytes };
}

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
