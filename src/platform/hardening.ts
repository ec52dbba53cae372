/** Keeping secrets of this process out of dumps, debuggers and swap, where the addon is built and the kernel lets us. */
import { writeFileSync } from "node:fs";
import { optionalHost as host } from "./optional-host.ts";

/**
 * For a process that will hold keys, before it holds one. Another process of the same user can then neither trace it nor read
 * its memory, environment or descriptors; /proc shows its command line and status all the same.
 */
export function hardenProcess(): void {
  process.umask(0o077);
  // Node would open a debugger's port, which every user of the machine can reach.
  process.on("SIGUSR1", () => undefined);
  try {
    // Against dumps that a pipe in core_pattern takes despite the limit. Before the rest: it is root's file then.
    writeFileSync("/proc/self/coredump_filter", "0");
  } catch {
    // A kernel without core dumps has no such file.
  }
  host?.harden();
}

/** @returns Zeros for a key: in locked memory where that is to be had. Its bytes move nowhere; whoever is done wipes them. */
export function keyMemory(lengthBytes: number): Uint8Array {
  const buffer = host?.lockedBytes(lengthBytes);
  return buffer === undefined ? new Uint8Array(lengthBytes) : new Uint8Array(buffer);
}
