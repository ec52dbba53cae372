/** Is this a place to mount on? Asked of the mount table first: a dead or hung mount must not be touched. */
import { spawn } from "node:child_process";
import { readdir, realpath, stat, statfs } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { TcfsError, isErrno } from "../../errors.ts";
import { FILESYSTEM_TYPE, findMount, listDaemons } from "./mount-table.ts";

/**
 * The mount point's one name: what the mount table shows. The last part is not followed where something is mounted,
 * since the mount may be dead.
 */
export async function canonicalMountPoint(path: string): Promise<string> {
  const absolute = resolve(path);
  const parent = await realpath(dirname(absolute)).catch(() => dirname(absolute));
  const candidate = join(parent, basename(absolute));
  if (findMount(candidate) !== undefined) return candidate;
  return realpath(candidate).catch(() => candidate);
}

/**
 * Check a canonical mount point; a stale mount that a killed daemon left there is taken away first.
 * @returns Whether a stale mount was healed.
 * @throws TcfsError `TCFS_MOUNT_POINT_MISSING`, `TCFS_MOUNT_POINT_NOT_DIRECTORY`, `TCFS_MOUNT_POINT_NOT_EMPTY`,
 *   `TCFS_ALREADY_MOUNTED`, `TCFS_BAD_MOUNT_POINT`.
 */
export async function prepareMountPoint(mountPoint: string, vault: string, mayBeNonEmpty: boolean): Promise<boolean> {
  refuseOverlap(mountPoint, vault);
  const healed = await healStaleMount(mountPoint);
  const status = await stat(mountPoint).catch((error: unknown) => {
    throw explain(mountPoint, error);
  });
  if (!status.isDirectory())
    throw new TcfsError("TCFS_MOUNT_POINT_NOT_DIRECTORY", `the mount point ${mountPoint} is not a directory`);
  const names = await readdir(mountPoint).catch((error: unknown) => {
    throw explain(mountPoint, error);
  });
  if (names.length > 0 && !mayBeNonEmpty) {
    throw new TcfsError(
      "TCFS_MOUNT_POINT_NOT_EMPTY",
      `the mount point ${mountPoint} is not empty; -o nonempty mounts over what is there`,
    );
  }
  return healed;
}

/**
 * Take away a tcfs mount whose daemon is gone.
 * @returns Whether there was one.
 * @throws TcfsError `TCFS_ALREADY_MOUNTED` if a tcfs is mounted here and answers; `TCFS_BUSY` if it cannot be taken away.
 */
export async function healStaleMount(mountPoint: string): Promise<boolean> {
  let healed = false;
  while (findMount(mountPoint)?.type === FILESYSTEM_TYPE) {
    const daemon = listDaemons().find((candidate) => candidate.mountPoint === mountPoint);
    if (daemon !== undefined) {
      const where = `${mountPoint} (daemon ${daemon.pid}, vault ${daemon.vault})`;
      throw new TcfsError("TCFS_ALREADY_MOUNTED", `a vault is mounted already at ${where}`);
    }
    if (!(await isDisconnected(mountPoint)))
      throw new TcfsError("TCFS_ALREADY_MOUNTED", `a vault is mounted already at ${mountPoint}`);
    await unmountLazily(mountPoint);
    healed = true;
  }
  return healed;
}

/** By statfs, which no cache of the kernel answers: attributes it goes on telling for an hour after the daemon's end. */
async function isDisconnected(mountPoint: string): Promise<boolean> {
  return statfs(mountPoint).then(
    () => false,
    (error: unknown) => isErrno(error, "ENOTCONN"),
  );
}

/** umount(8) as root, fusermount3 as anyone else: no native code is loaded in the command. */
async function unmountLazily(mountPoint: string): Promise<void> {
  const [program, flag] = process.geteuid?.() === 0 ? ["umount", "-l"] : ["fusermount3", "-uz"];
  const { code, output } = await runQuietly(program, [flag, "--", mountPoint]);
  if (code !== 0)
    throw new TcfsError("TCFS_BUSY", `the stale mount at ${mountPoint} cannot be taken away: ${output.trim()}`);
}

function runQuietly(program: string, parameters: readonly string[]): Promise<{ code: number | null; output: string }> {
  return new Promise((settle) => {
    const child = spawn(program, parameters, { stdio: ["ignore", "ignore", "pipe"] });
    let output = "";
    child.stderr.on("data", (piece: Buffer) => (output += piece.toString()));
    child.on("error", (error) => {
      settle({ code: null, output: error.message });
    });
    child.on("close", (code) => {
      settle({ code, output });
    });
  });
}

function refuseOverlap(mountPoint: string, vault: string): void {
  const isWithin = (inner: string, outer: string): boolean => inner === outer || inner.startsWith(`${outer}/`);
  if (isWithin(mountPoint, vault))
    throw new TcfsError("TCFS_BAD_MOUNT_POINT", `the mount point ${mountPoint} lies in the vault directory`);
  if (isWithin(vault, mountPoint))
    throw new TcfsError("TCFS_BAD_MOUNT_POINT", `the mount point ${mountPoint} would hide the vault directory`);
}

function explain(mountPoint: string, error: unknown): TcfsError {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOENT")
    return new TcfsError("TCFS_MOUNT_POINT_MISSING", `the mount point ${mountPoint} does not exist`, { cause: error });
  if (code === "ENOTDIR") {
    const message = `the mount point ${mountPoint} is not a directory`;
    return new TcfsError("TCFS_MOUNT_POINT_NOT_DIRECTORY", message, { cause: error });
  }
  const why = error instanceof Error ? error.message : String(error);
  return new TcfsError("TCFS_BAD_MOUNT_POINT", `the mount point ${mountPoint} cannot be used: ${why}`, {
    cause: error,
  });
}
