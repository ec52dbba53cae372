/**
 * Where tpm2-tools keep what one step hands to the next (sessions and loaded objects, as the TPM saves them): a directory
 * in memory that only this user can enter, gone on every way out, and one caller at a time.
 */
import { constants, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync } from "node:fs";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { TcfsError, isErrno } from "../../errors.ts";
import { onEndingSignal } from "../../platform/ending-signals.ts";
import { lockPath } from "../../platform/file-lock.ts";

/** statfs(2), tmpfs. */
const TMPFS_MAGIC = 0x0102_1994;
/** A TPM that makes a key takes seconds, and others may stand in the queue. */
const LOCK_SECONDS = 60;
const PREFIX = "scratch-";

/**
 * Run `action` with a fresh directory while nobody else of this user talks to a TPM through tcfs.
 * @throws TcfsError `TCFS_BUSY` if somebody else does for a minute; `TCFS_IO` where there is no tmpfs; what `action` throws.
 */
export async function withScratch<T>(action: (directory: string) => Promise<T>): Promise<T> {
  const base = await privateBase();
  await using _lock = await lockPath(join(base, "lock"), "of yours is using the TPM", LOCK_SECONDS);
  // The lock is ours: what is there was left by a process that was killed.
  for (const name of readdirSync(base)) if (name.startsWith(PREFIX)) remove(join(base, name));
  const directory = mkdtempSync(join(base, PREFIX));
  const removeIt = (): void => {
    remove(directory);
  };
  const endWatch = onEndingSignal(removeIt);
  process.on("exit", removeIt);
  try {
    return await action(directory);
  } finally {
    removeIt();
    process.removeListener("exit", removeIt);
    endWatch();
  }
}

/** `tcfs-tpm-UID` on a tmpfs: `/dev/shm` is everyone's, so what is found there is checked before it is used. */
async function privateBase(): Promise<string> {
  const uid = process.geteuid?.() ?? 0;
  for (const parent of [`/run/user/${uid}`, "/dev/shm", "/run"]) {
    if (!isTmpfs(parent)) continue;
    const isOpen = await access(parent, constants.W_OK | constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isOpen) return checkedDirectory(join(parent, `tcfs-tpm-${uid}`), uid);
  }
  throw new TcfsError("TCFS_IO", "there is no tmpfs (/run/user/UID, /dev/shm or /run) to talk to the TPM by");
}

function isTmpfs(path: string): boolean {
  try {
    return statfsSync(path).type === TMPFS_MAGIC;
  } catch {
    return false;
  }
}

function checkedDirectory(path: string, uid: number): string {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (cause) {
    if (!isErrno(cause, "EEXIST")) throw new TcfsError("TCFS_IO", `${path} cannot be made`, { cause });
  }
  const stat = lstatSync(path);
  if (!stat.isDirectory() || stat.uid !== uid || (stat.mode & 0o077) !== 0)
    throw new TcfsError("TCFS_UNSAFE_FILE", `${path} was made by somebody else, or is open to others: remove it`);
  return path;
}

function remove(path: string): void {
  rmSync(path, { recursive: true, force: true });
}
