/** `tcfs umount`: flush, unmount, wait for the daemon's end; or say who keeps the mount busy. */
import { setTimeout } from "node:timers/promises";
import { TcfsError, isTcfsError } from "../../errors.ts";
import { formatHolders, listHolders } from "../mounts/busy.ts";
import { askDaemon } from "../control/control-client.ts";
import { notMounted } from "../access/find-vault.ts";
import { canonicalMountPoint, healStaleMount } from "../mounts/mount-point.ts";
import { type DaemonProcess, findMount, isDaemonAlive, listDaemons } from "../mounts/mount-table.ts";
import { waitFor } from "../wait.ts";
import { waitForStore } from "./wait.ts";
import { printable, warn } from "../printable.ts";

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
  const loss = parameters.wait === true ? await waitForAll(daemon.vault) : undefined;
  if (findMount(mountPoint) !== undefined) {
    const users = parameters.lazy === true ? listHolders(mountPoint) : [];
    if (!(await ask(daemon, parameters.lazy === true))) {
      const who = users.length === 0 ? "programs that this user cannot see" : formatHolders(users);
      process.stdout.write(`${printable(mountPoint)} is detached; the daemon (pid ${daemon.pid}) goes on for ${who}
`);
      if (loss !== undefined) throw loss;
      return;
    }
  }
  const hasEnded = await waitFor(END_TIMEOUT_MS, () => !isDaemonAlive(daemon.pid));
  if (!hasEnded) {
    const why = "it is still flushing, or has files open for programs that go on";
    throw new TcfsError("TCFS_IO", `${mountPoint} is unmounted, but its daemon (pid ${daemon.pid}) goes on: ${why}`);
  }
  if (loss !== undefined) throw loss;
}

/** @returns What is lost, once all else is in the store: no later time would bring it. @throws what {@link waitForStore} throws */
async function waitForAll(vault: string): Promise<TcfsError | undefined> {
  try {
    await waitForStore(vault, undefined);
    return undefined;
  } catch (error) {
    if (isTcfsError(error, "TCFS_CORRUPT")) return error;
    throw error;
  }
}

/** A mount without a daemon is stale: take it away, since that is what was asked for. */
async function withoutDaemon(mountPoint: string): Promise<void> {
  if (await isStale(mountPoint)) {
    warn("tcfs: the daemon was gone; its stale mount is taken away");
    return;
  }
  throw notMounted(mountPoint);
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

/** @returns Whether the daemon has closed the vault: not yet, if it was asked to be lazy and programs go on. */
async function ask(daemon: DaemonProcess, lazy: boolean): Promise<boolean> {
  const { mountPoint } = daemon;
  for (let attempt = 1; ; attempt++) {
    const answer = await askOnce(daemon, lazy);
    if (!isTcfsError(answer)) return answer;
    const holders = listHolders(mountPoint);
    if (holders.length > 0 || attempt === UNSEEN_ATTEMPTS) {
      const who = holders.length === 0 ? "a process that this user cannot see" : formatHolders(holders);
      const message = `${mountPoint} is busy, and everything in it is flushed; it is used by ${who}`;
      throw new TcfsError("TCFS_BUSY", message, { cause: answer });
    }
    await setTimeout(UNSEEN_PAUSE_MS);
  }
}

/** @returns As {@link ask}; or the daemon's refusal if the mount is busy. */
async function askOnce({ pid, vault, mountPoint }: DaemonProcess, lazy: boolean): Promise<boolean | TcfsError> {
  try {
    const reply = await askDaemon(vault, { operation: "unmount", lazy });
    if (reply !== undefined) return reply.result === true;
    const silent = `the daemon (pid ${pid}) at ${mountPoint} does not listen in ${vault}`;
    throw new TcfsError(
      "TCFS_DAEMON_ENDED",
      `${silent}: if it runs, umount(8) unmounts, and it flushes before it ends`,
    );
  } catch (error) {
    if (isTcfsError(error, "TCFS_BUSY")) return error;
    if (isTcfsError(error, "TCFS_IO") && findMount(mountPoint) !== undefined) {
      const advice = `what is not on the disk yet stays readable in ${mountPoint}: copy what you need, then unmount with umount(8)`;
      throw new TcfsError("TCFS_IO", `${error.message}; ${advice}`, { cause: error });
    }
    throw error;
  }
}
