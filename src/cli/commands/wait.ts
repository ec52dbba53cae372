/** `tcfs wait`: until everything acknowledged so far is in the store, and its root names it. */
import { realpath } from "node:fs/promises";
import { resolve } from "node:path";
import { TcfsError } from "../../errors.ts";
import type { ReplicaStatus } from "../../replica/replica-status.ts";
import { askDaemon } from "../control/control-client.ts";
import type { DaemonStatus } from "../daemon/serve-mount.ts";
import type { Settings } from "../settings.ts";
import { etaOf, formatBytes } from "../../vault/status.ts";
import { daemonOf, findVault } from "../access/find-vault.ts";

const PROGRESS_MS = 500;
const BAR_CHARACTERS = 24;

export interface WaitArguments {
  readonly path?: string | undefined;
  readonly vault?: string | undefined;
  /** Seconds. */
  readonly timeout?: number | undefined;
}

export async function runWait(parameters: WaitArguments, settings: Settings): Promise<void> {
  await waitForStore(await vaultOf(parameters, settings), parameters.timeout);
}

/**
 * @param timeoutSeconds - For ever if undefined.
 * @throws TcfsError `TCFS_NOT_MOUNTED` if no daemon serves the vault; `TCFS_USAGE` if it has no store;
 *   `TCFS_REMOTE_UNAVAILABLE` when time is up; `TCFS_REMOTE_DIVERGED`; `TCFS_CORRUPT` for what is lost, once all else is there.
 */
export async function waitForStore(vault: string, timeoutSeconds: number | undefined): Promise<void> {
  const timeoutMs = timeoutSeconds === undefined ? null : Math.round(timeoutSeconds * 1000);
  const bar = { totalBytes: 0 };
  const progress = process.stderr.isTTY ? setInterval(() => void showProgress(vault, bar), PROGRESS_MS) : undefined;
  try {
    const reply = await askDaemon(vault, { operation: "wait", timeoutMs });
    if (reply === undefined) {
      throw new TcfsError(
        "TCFS_NOT_MOUNTED",
        `no daemon serves ${vault}: mount it, and it uploads what the store lacks`,
      );
    }
  } finally {
    if (progress !== undefined) {
      clearInterval(progress);
      process.stderr.write("\r\u001b[K");
    }
  }
}

/** A path within a mount means the whole vault: the store holds states, not files. */
async function vaultOf({ path, vault }: WaitArguments, settings: Settings): Promise<string> {
  if (path === undefined) return findVault({ vault }, settings);
  const absolute = await realpath(path).catch(() => resolve(path));
  const daemon = daemonOf(absolute);
  if (daemon === undefined) throw new TcfsError("TCFS_NOT_MOUNTED", `${path} is in no mounted vault`);
  return daemon.vault;
}

async function showProgress(vault: string, bar: { totalBytes: number }): Promise<void> {
  const reply = await askDaemon(vault, { operation: "status" }).catch(() => undefined);
  const store = (reply?.result as DaemonStatus | undefined)?.figures.store;
  if (store === null || store === undefined) return;
  process.stderr.write(`\r\u001b[K${formatProgress(store, bar)}`);
}

/** @param bar - The most that there was to go: what is added meanwhile lengthens it. */
export function formatProgress(store: ReplicaStatus, bar: { totalBytes: number }): string {
  const { backlogBytes, bytesPerSecond, lastError, activity } = store;
  bar.totalBytes = Math.max(bar.totalBytes, backlogBytes);
  const share = bar.totalBytes === 0 ? 0 : 1 - backlogBytes / bar.totalBytes;
  const filled = Math.floor(share * BAR_CHARACTERS);
  const drawn = `[${"#".repeat(filled)}${"-".repeat(BAR_CHARACTERS - filled)}]`;
  const speed = bytesPerSecond === null ? "" : `, ${formatBytes(bytesPerSecond)}/s`;
  const trouble = lastError === null ? "" : ` (${lastError})`;
  return `${drawn} ${activity}: ${formatBytes(backlogBytes)} to go${speed}${etaOf(store)}${trouble}`;
}
