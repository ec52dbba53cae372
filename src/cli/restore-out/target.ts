/** The directory that a restore goes to: refused where it would do harm, opened once, and only reached through that. */
import { constants, lstatSync, mkdirSync, openSync, realpathSync, statSync, statfsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { TcfsError, isTcfsError } from "../../errors.ts";
import type { Name } from "../../ids.ts";
import { listDaemons } from "../mounts/mount-table.ts";
import { formatBytes } from "../../vault/status.ts";
import { HostDirectory, errnoOf } from "./host-directory.ts";
import { MARKER_NAME, readMarker } from "./marker.ts";

/** An empty ext4 has it. */
const ALWAYS_THERE = "lost+found" as Name;
/** What a file or directory takes besides its data, generously. */
const ENTRY_BYTES = 4096;

export interface Target {
  readonly directory: HostDirectory;
  /** Whether an interrupted restore left it so. */
  readonly isBegun: boolean;
}

/** What is to be restored. */
interface Needed {
  readonly bytes: number;
  readonly entries: number;
}

/**
 * See whether everything fits in, without making anything: a target that is not there yet is where it would be made.
 * @throws TcfsError as {@link openTarget} does, and `TCFS_STORE_FULL`.
 */
export function checkTarget(path: string, vault: string, needed: Needed): void {
  const absolute = resolve(path);
  refuseWithin(absolute, vault);
  const isThere = lstatSync(absolute, { throwIfNoEntry: false }) !== undefined;
  if (!isThere) {
    using parent = new HostDirectory(openDirectory(dirname(absolute), path));
    requireRoom(parent, needed);
    return;
  }
  const { directory, isBegun } = openPresent(absolute, path);
  using target = directory;
  if (!isBegun) requireRoom(target, needed); // else some of it is there already
}

/**
 * Open it, or make it 0700.
 * @throws TcfsError `TCFS_USAGE` unless it is empty, or begun; if it lies in the vault's directory or in its mount.
 */
export function openTarget(path: string, vault: string): Target {
  const absolute = resolve(path);
  refuseWithin(absolute, vault);
  try {
    mkdirSync(absolute, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw unusable(path, error);
  }
  return openPresent(absolute, path);
}

function openPresent(absolute: string, path: string): Target {
  const directory = new HostDirectory(openDirectory(absolute, path));
  try {
    const names = directory.list().filter((name) => name !== ALWAYS_THERE);
    const isBegun = names.includes(MARKER_NAME);
    if (names.length === 0 || isBegun) return { directory, isBegun };
    throw new TcfsError(
      "TCFS_USAGE",
      `${path} is not empty: a restore goes into an empty directory, or one that is not there yet`,
    );
  } catch (error) {
    directory[Symbol.dispose]();
    throw error;
  }
}

/** The time that an interrupted restore into a directory is of, if it was told to be of the time that these words say. */
export function resumedTime(path: string, said: string): string | undefined {
  try {
    using directory = new HostDirectory(openDirectory(resolve(path), path));
    const marker = directory.list().includes(MARKER_NAME) ? readMarker(directory) : undefined;
    return marker?.said === said ? marker.snapshot : undefined;
  } catch (error) {
    if (isTcfsError(error)) return undefined; // whoever restores into it is told
    throw error;
  }
}

function openDirectory(absolute: string, path: string): number {
  try {
    return openSync(absolute, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    throw unusable(path, error);
  }
}

/** The mount is known by its device, too: it may be mounted elsewhere again. */
function refuseWithin(absolute: string, vault: string): void {
  const nearest = nearestExisting(absolute);
  if (nearest === vault || nearest.startsWith(`${vault}/`)) {
    throw new TcfsError("TCFS_USAGE", `${absolute} lies in the vault's own directory`);
  }
  for (const { mountPoint, vault: served } of listDaemons()) {
    if (served !== vault) continue;
    const isWithin = nearest === mountPoint || nearest.startsWith(`${mountPoint}/`);
    if (isWithin || statSync(nearest).dev === statSync(mountPoint, { throwIfNoEntry: false })?.dev) {
      throw new TcfsError(
        "TCFS_USAGE",
        `${absolute} lies in the vault's mount: without --to a restore goes back in place`,
      );
    }
  }
}

function nearestExisting(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : nearestExisting(parent);
  }
}

/** @throws TcfsError `TCFS_STORE_FULL` if it cannot fit. */
function requireRoom(directory: HostDirectory, needed: Needed): void {
  const { bavail, bsize, ffree, files } = statfsSync(`/proc/self/fd/${directory.fd}`);
  const neededBytes = needed.bytes + needed.entries * ENTRY_BYTES;
  if (neededBytes > bavail * bsize) {
    const room = `${formatBytes(neededBytes)} are needed, ${formatBytes(bavail * bsize)} are free`;
    throw new TcfsError("TCFS_STORE_FULL", `there is too little room where it is restored to: ${room}`);
  }
  if (files > 0 && needed.entries > ffree) {
    throw new TcfsError(
      "TCFS_STORE_FULL",
      `there are too few free inodes where it is restored to: ${needed.entries} are needed`,
    );
  }
}

function unusable(path: string, error: unknown): TcfsError {
  const errno = errnoOf(error);
  const why =
    errno === "ENOENT"
      ? "the directory that it is to be made in does not exist"
      : errno === "ENOTDIR"
        ? "it is no directory"
        : (errno ?? String(error));
  return new TcfsError(errno === "EACCES" ? "TCFS_ACCESS" : "TCFS_USAGE", `${path} cannot be restored to: ${why}`, {
    cause: error,
  });
}
