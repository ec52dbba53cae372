/** Who keeps a mount busy: processes whose directories, files or mappings lie in it, as far as /proc shows them. */
import { readFileSync, readdirSync, readlinkSync } from "node:fs";
import { printable } from "../printable.ts";

export interface Holder {
  readonly pid: number;
  /** The command's name, as in /proc/PID/comm. */
  readonly name: string;
  readonly reason: "working directory" | "root directory" | "program" | "open file" | "mapped file";
}

/** @param mountPoint - Canonical. Only link texts are compared: the mount itself is not touched. */
export function listHolders(mountPoint: string): Holder[] {
  const isInside = (path: string): boolean => path === mountPoint || path.startsWith(`${mountPoint}/`);
  return readdirSync("/proc").flatMap((entry) => {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) return [];
    const reason = findReason(`/proc/${pid}`, isInside);
    return reason === undefined ? [] : [{ pid, name: attempt(() => readName(pid)) ?? "?", reason }];
  });
}

/** @returns `vim (pid 12, open file), bash (pid 7, working directory)`. */
export function formatHolders(holders: readonly Holder[]): string {
  return holders.map(({ pid, name, reason }) => `${printable(name)} (pid ${pid}, ${reason})`).join(", ");
}

function findReason(process: string, isInside: (path: string) => boolean): Holder["reason"] | undefined {
  const leadsInside = (link: string): boolean => isInside(attempt(() => readlinkSync(`${process}/${link}`)) ?? "");
  if (leadsInside("cwd")) return "working directory";
  if (leadsInside("root")) return "root directory";
  if (leadsInside("exe")) return "program";
  const descriptors = attempt(() => readdirSync(`${process}/fd`)) ?? [];
  if (descriptors.some((descriptor) => leadsInside(`fd/${descriptor}`))) return "open file";
  return mappedPaths(process).some(isInside) ? "mapped file" : undefined;
}

function mappedPaths(process: string): string[] {
  const maps = attempt(() => readFileSync(`${process}/maps`, "utf8")) ?? "";
  return maps.split("\n").flatMap((line) => {
    const slash = line.indexOf("/");
    return slash === -1 ? [] : [line.slice(slash)];
  });
}

function readName(pid: number): string {
  return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
}

/** Undefined for what has gone, or is not ours to see. */
function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}
