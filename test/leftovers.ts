/**
 * Vitest's global setup: gives the run a temporary directory of its own, and at the end fails the run if a mount,
 * a loop device or a process that belongs to that directory is left. What is left is cleaned up all the same.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** A process that a test told to end is given this long to go. */
const GRACE_MS = 180_000;

export default function setup(): (() => Promise<void>) | undefined {
  // Vitest calls this once for the root and once for each project; the first call serves them all.
  if (process.env["TCFS_TEST_DIRECTORY"] !== undefined) return undefined;
  const outer = process.env["TMPDIR"];
  const root = mkdtempSync(join(realpathSync(tmpdir()), "tcfs-test-"));
  // Some tests act as other users.
  chmodSync(root, 0o755);
  process.env["TMPDIR"] = root;
  process.env["TCFS_TEST_DIRECTORY"] = root;
  return async () => {
    if (outer === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = outer;
    const deadline = Date.now() + GRACE_MS;
    while (leftovers(root).length > 0 && Date.now() < deadline) await sleep(50);
    const found = leftovers(root);
    clean(root);
    if (found.length === 0) return;
    // Vitest shows an error of a teardown, and exits with 0 all the same.
    process.exitCode = 1;
    throw new Error(`the tests left behind:\n  ${found.join("\n  ")}`);
  };
}

/** @returns One line for each mount, loop device and process that belongs to `root`. */
function leftovers(root: string): string[] {
  return [
    ...mountsUnder(root).map((path) => `mount ${path}`),
    ...loopsUnder(root).map((device) => `loop device ${device}`),
    ...processesOf(root).map(({ pid, command }) => `process ${String(pid)}: ${command}`),
  ];
}

function clean(root: string): void {
  // The deepest mount first; lazily, since a process that is ended below may still hold it.
  for (const path of mountsUnder(root).reverse()) quietly("umount", ["-l", path]);
  for (const device of loopsUnder(root)) quietly("losetup", ["-d", device]);
  for (const { pid } of processesOf(root)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It ended by itself.
    }
  }
  rmSync(root, { recursive: true, force: true, maxRetries: 5 });
}

function mountsUnder(root: string): string[] {
  return readFileSync("/proc/self/mounts", "latin1")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((path) => path.startsWith(`${root}/`));
}

function loopsUnder(root: string): string[] {
  return readdirSync("/sys/block")
    .filter(
      (name) => name.startsWith("loop") && (readIfAny(`/sys/block/${name}/loop/backing_file`) ?? "").startsWith(root),
    )
    .map((name) => `/dev/${name}`);
}

/** Processes that were started with this run's TMPDIR, or that name a path beneath it, other than vitest's own. */
function processesOf(root: string): { pid: number; command: string }[] {
  const found = [];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    const command = (readIfAny(`/proc/${entry}/cmdline`) ?? "").split("\0").join(" ").trim();
    const isVitest = command.includes("/vitest/") || command.includes("vitest ") || command.includes("esbuild");
    const environment = readIfAny(`/proc/${entry}/environ`) ?? "";
    const belongs = environment.includes(`TMPDIR=${root}\0`) || command.includes(root);
    if (command !== "" && belongs && !isVitest) found.push({ pid, command });
  }
  return found;
}

function readIfAny(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}

function quietly(command: string, args: string[]): void {
  try {
    execFileSync(command, args, { stdio: "ignore" });
  } catch {
    // What could not be undone is in the error that the caller throws.
  }
}
