/** `tcfs umount`: flush, unmount, wait for the daemon's end; or say who keeps the mount busy. */
import { setTimeout } from "node:timers/promises";
import { TcfsError, isTcfsError } from "../../errors.ts";
import { formatHolders, listHolders } from "../mounts/busy.ts";
import { askDaemon } from "../control/control-client.ts";
import { canonicalMountPoint, healStaleMount } from "../mounts/mount-point.ts";
import { findMount, isDaemonAlive, listDaemons } from "../mounts/mount-table.ts";
import { waitFor } from "../wait.ts";
import { waitForStore } from "./wait.ts";

export interface UmountArguments {
  readonly mountpoint: string;
  readonly lazy?: boolean | undefined;
  /** For the store, before anything ends. */
  readonly wait?: boolean | undefined;
}

/** After its answer the daemon has nothing left to do but end. */
const END_TIMEOUT_MS = 120_000;

/** A program that just ended, or one that looks at every mount, keeps it busy for a moment without being seen. */
const UNSEEN_ATTEMPTS = 10;
const UNSEEN_PAUSE_MS = 200;

export async function runUmount(parameters: UmountArguments): Promise<void> {
  const mountPoint = await canonicalMountPoint(parameters.mountpoint);
  process.chdir("/"); // else this very command may keep the mount busy
  const daemon = listDaemons().find((candidate) => candidate.mountPoint === mountPoint);
  if (daemon === undefined) {
    await withoutDaemon(mountPoint);
    return;
  }
  if (parameters.wait === true) await waitForStore(daemon.vault, undefined);
  if (findMount(mountPoint) !== undefined) await ask(daemon.vault, mountPoint, parameters.lazy === true);
  const hasEnded = await waitFor(END_TIMEOUT_MS, () => !isDaemonAlive(daemon.pid));
  if (!hasEnded) throw new TcfsError("TCFS_IO", `${mountPoint} is unmounted, but its daemon ${daemon.pid} goes on`);
}

/** A mount without a daemon is stale: take it away, since that is what was asked for. */
async function withoutDaemon(mountPoint: string): Promise<void> {
  if (await isStale(mountPoint)) {
    process.stderr.write("tcfs: the daemon was gone; its stale mount is taken away\n");
    return;
  }
  throw new TcfsError("TCFS_NOT_MOUNTED", `no vault is mounted at ${mountPoint}`);
}

/** @throws TcfsError `TCFS_NOT_PERMITTED` if the mount lives: then its daemon is one that we cannot see. */
async function isStale(mountPoint: string): Promise<boolean> {
  try {
    return await healStaleMount(mountPoint);
  } catch (cause) {
    if (!isTcfsError(cause, "TCFS_ALREADY_MOUNTED")) throw cause;
    const message = `the daemon of ${mountPoint} is not visible to this user or container: unmount with umount(8)`;
    throw new TcfsError("TCFS_NOT_PERMITTED", message, { cause });
  }
}

async function ask(vault: string, mountPoint: string, lazy: boolean): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const busy = await askOnce(vault, mountPoint, lazy);
    if (busy === undefined) return;
    const holders = listHolders(mountPoint);
    if (holders.length > 0 || attempt === UNSEEN_ATTEMPTS) {
      const who = holders.length === 0 ? "a process that this user cannot see" : formatHolders(holders);
      const message = `${mountPoint} is busy, and everything in it is flushed; it is used by ${who}`;
      throw new TcfsError("TCFS_BUSY", message, { cause: busy });
    }
    await setTimeout(UNSEEN_PAUSE_MS);
  }
}

/** @returns The daemon's refusal if the mount is busy. */
async function askOnce(vault: string, mountPoint: string, lazy: boolean): Promise<TcfsError | undefined> {
  try {
    const reply = await askDaemon(vault, { operation: "unmount", lazy });
    if (reply === undefined) throw new TcfsError("TCFS_DAEMON_ENDED", `the daemon at ${mountPoint} does not listen`);
    return undefined;
  } catch (error) {
    if (isTcfsError(error, "TCFS_BUSY")) return error;
    throw error;
  }
}
