/**
 * The file that stands in a target as long as a restore into it is not done: what it was, so that the same command goes on
 * with it, and nothing else is taken for its work.
 */
import { closeSync, fstatSync, fsyncSync, readFileSync, writeFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { z } from "zod";
import { TcfsError } from "../../errors.ts";
import type { Name } from "../../ids.ts";
import { type HostDirectory, withDescriptor } from "./host-directory.ts";

export const MARKER_NAME = ".tcfs-restore-unfinished" as Name;
const MAX_MARKER_BYTES = 1024 * 1024;

const markerSchema = z.strictObject({
  tcfsRestore: z.literal(1),
  vaultId: z.string(),
  /** A snapshot's name; a time, where one was given. */
  snapshot: z.string(),
  /** The time as it was typed: “2 hours ago” is another one later. */
  said: z.string().optional(),
  epoch: z.number(),
  paths: z.array(z.string()),
  globs: z.array(z.string()),
  /** In the names of files that are not whole yet. */
  token: z.string().regex(/^[0-9a-f]{16}$/u),
  /** The boot of the machine in which it began: what was written in an earlier one may have been lost in a power cut. */
  bootId: z.string(),
});

export type Marker = z.infer<typeof markerSchema>;
/** What a restore is of. */
export type RestoreJob = Omit<Marker, "tcfsRestore" | "token" | "bootId">;

/** Write a new marker; durable before anything else is. */
export function beginRestore(target: HostDirectory, job: RestoreJob): Marker {
  const marker: Marker = { tcfsRestore: 1, ...job, token: randomBytes(8).toString("hex"), bootId: bootId() };
  const fd = target.createFile(MARKER_NAME);
  try {
    writeFileSync(fd, JSON.stringify(marker));
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  return marker;
}

/**
 * The marker that an interrupted restore left.
 * @throws TcfsError `TCFS_USAGE` if it is of another restore, or not ours.
 */
export function resumeRestore(target: HostDirectory, job: RestoreJob, shown: string): Marker {
  const marker = readMarker(target);
  const { tcfsRestore: _, token: _token, bootId: _boot, ...begun } = marker ?? {};
  if (marker !== undefined && JSON.stringify(begun) === JSON.stringify(job)) return marker;
  const what =
    marker === undefined ? "an unfinished restore that is not yours" : `an unfinished restore of “${marker.snapshot}”`;
  const advice = "give the same words again to go on with it, or another directory";
  throw new TcfsError("TCFS_USAGE", `in ${shown} is ${what}: ${advice}`);
}

/** Whether everything that was written since it began is still what was written. */
export function isTrusted(marker: Marker): boolean {
  return marker.bootId === bootId();
}

/** @returns Undefined for one that is not ours, or none at all. */
export function readMarker(target: HostDirectory): Marker | undefined {
  return withDescriptor(target.openFile(MARKER_NAME), (fd) => {
    const status = fstatSync(fd);
    const isOurs = status.isFile() && status.uid === process.geteuid?.() && status.size <= MAX_MARKER_BYTES;
    if (!isOurs) return undefined;
    try {
      return markerSchema.parse(JSON.parse(readFileSync(fd, "utf8")));
    } catch {
      return undefined;
    }
  });
}

function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}
