/** `-o remount`: change how a vault is mounted. The kernel's part is mount(8)'s, told to leave its helper (us) out of it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { TcfsError } from "../../errors.ts";
import { askDaemon } from "../control/control-client.ts";
import { optionsInEffect, parseMountOptions } from "../mounts/mount-options.ts";
import type { MountOptions } from "../mounts/mount-options.ts";
import { findMount, listDaemons } from "../mounts/mount-table.ts";

/**
 * What the lists do not name stays as it is.
 * @param mountPoint - Canonical.
 * @throws TcfsError `TCFS_NOT_MOUNTED`, `TCFS_READ_ONLY`, `TCFS_BUSY` (files are open for writing), `TCFS_NOT_PERMITTED`.
 */
export async function runRemount(mountPoint: string, optionLists: readonly string[]): Promise<void> {
  const daemon = listDaemons().find((candidate) => candidate.mountPoint === mountPoint);
  const mount = findMount(mountPoint);
  if (daemon === undefined || mount === undefined)
    throw new TcfsError("TCFS_NOT_MOUNTED", `no vault is mounted at ${mountPoint}`);
  const options = parseMountOptions(optionLists, optionsInEffect(mount.options));
  const tellDaemon = ({ readOnly, accessTimes, synchronous }: MountOptions) =>
    askDaemon(daemon.vault, { operation: "remount", readOnly, accessTimes, synchronous });
  if ((await tellDaemon(options)) === undefined) {
    throw new TcfsError("TCFS_DAEMON_ENDED", `the daemon at ${mountPoint} does not listen`);
  }
  try {
    await remountInKernel(mountPoint, ["remount", ...kernelOptions(options)]);
  } catch (error) {
    await tellDaemon(optionsInEffect(mount.options)); // they still are
    throw error;
  }
}

function kernelOptions(options: MountOptions): string[] {
  const { accessTimes, synchronous } = options;
  return [
    options.readOnly ? "ro" : "rw",
    options.suid ? "suid" : "nosuid",
    options.dev ? "dev" : "nodev",
    options.exec ? "exec" : "noexec",
    ...(options.followsSymlinks ? [] : ["nosymfollow"]),
    { relative: "relatime", strict: "strictatime", none: "noatime" }[accessTimes.mode],
    accessTimes.ofDirectories ? "diratime" : "nodiratime",
    { nothing: "async", names: "dirsync", everything: "sync" }[synchronous],
  ];
}

async function remountInKernel(mountPoint: string, words: readonly string[]): Promise<void> {
  const mount = spawn("mount", ["-i", "-o", words.join(","), "--", mountPoint], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, LC_ALL: "C" },
  });
  let output = "";
  mount.stderr.setEncoding("utf8").on("data", (text: string) => (output += text));
  const [status] = (await once(mount, "close")) as [number | null];
  if (status === 0) return;
  const isBusy = output.includes("busy");
  const reason = isBusy ? "files are open for writing there" : output.trim();
  throw new TcfsError(isBusy ? "TCFS_BUSY" : "TCFS_NOT_PERMITTED", `remounting ${mountPoint} failed: ${reason}`);
}
