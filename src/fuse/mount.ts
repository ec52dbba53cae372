/** Mounting and unmounting: mount(2) as root, fusermount3 for everybody else. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, readdir, realpath, stat, statfs, writeFile } from "node:fs/promises";
import { constants } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { TcfsError, isErrno } from "../errors.ts";
import type { TcfsErrorCode } from "../errors.ts";
import { binding } from "./binding.ts";
import { errnoName } from "./errno.ts";
import { MAX_READAHEAD_BYTES, MAX_WRITE_BYTES } from "./protocol.ts";

/** What is on the disk before it is answered, without an fsync (sync, dirsync). */
export type Synchronous = "nothing" | "names" | "everything";

export interface FuseMountOptions {
  /** What stands in the first column of /proc/mounts (fsname=). */
  readonly source: string;
  readonly readOnly: boolean;
  /** Let every user in, not only the one who mounts. Permission bits hold either way. */
  readonly allowOther: boolean;
  /** Honour set-id bits. Root only. */
  readonly suid: boolean;
  /** Honour device files. Root only. */
  readonly dev: boolean;
  readonly noExec: boolean;
  readonly noSymlinkFollow: boolean;
  /** For the mount table: the kernel leaves access times to us. */
  readonly accessTimes: { readonly mode: "relative" | "strict" | "none"; readonly ofDirectories: boolean };
  readonly synchronous: Synchronous;
  /** Payload of the largest READ; undefined for as much as is served. */
  readonly maxReadBytes: number | undefined;
  /** Mount over a directory that has entries; they are hidden meanwhile. */
  readonly nonEmpty: boolean;
}

export interface MountEntry {
  readonly mountPoint: string;
  /** `fuse.tcfs` for ours. */
  readonly type: string;
  readonly source: string;
  /** `major:minor` of st_dev. */
  readonly device: string;
}

const TYPE = "tcfs";
const MOUNT_TYPE = `fuse.${TYPE}`;
/** linux/mount.h */
const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  SYNCHRONOUS: 16,
  DIRSYNC: 128,
  NOSYMFOLLOW: 256,
  NOATIME: 1024,
  NODIRATIME: 2048,
  STRICTATIME: 1 << 24,
} as const;
const MAX_HELPER_OUTPUT = 4096;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

/**
 * Mount at `mountPoint`, a directory. A dead tcfs mount left there by a killed daemon is cleared away first.
 * @returns The FUSE descriptor, owned by the caller: for {@link FuseSession.start}.
 * @throws {@link TcfsError} `TCFS_BAD_MOUNT_POINT`, `TCFS_ALREADY_MOUNTED`, `TCFS_NO_DEVICE_ACCESS`,
 *   `TCFS_NOT_PERMITTED`, each with a sentence for the user.
 */
export async function mountFuse(mountPoint: string, options: FuseMountOptions): Promise<number> {
  const path = await prepareMountPoint(mountPoint, options);
  if (process.geteuid?.() !== 0) return mountByHelper(path, options);
  const fd = mountDirectly(path, options);
  await raiseReadAhead(path);
  return fd;
}

/**
 * Unmount. Never run by the process's own loop: the kernel may first write back pages that this process must take.
 * @param lazy - Detach at once; what is still in use goes on until it is closed.
 * @throws {@link TcfsError} `TCFS_BUSY`, `TCFS_NOT_MOUNTED`, `TCFS_NOT_PERMITTED`.
 */
export async function unmountFuse(mountPoint: string, { lazy }: { readonly lazy: boolean }): Promise<void> {
  const path = await resolveMountPoint(mountPoint);
  if (process.geteuid?.() !== 0) {
    await unmountByHelper(path, lazy);
    return;
  }
  const errno = -(await binding.unmount(asBytes(path), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)));
  if (errno !== 0) throw unmountError(errno, path);
}

/** @returns The uppermost mount at exactly `mountPoint`, from /proc/self/mountinfo; asks no filesystem mounted there. */
export async function findMount(mountPoint: string): Promise<MountEntry | undefined> {
  const path = await resolveMountPoint(mountPoint);
  return parseMountInfo(await readFile("/proc/self/mountinfo", "latin1")).findLast(
    (entry) => entry.mountPoint === path,
  );
}

/** @param text - /proc/self/mountinfo, latin1-decoded (proc_pid_mountinfo(5)). @returns Its mounts, oldest first. */
function parseMountInfo(text: string): MountEntry[] {
  return text.split("\n").flatMap((line) => {
    const [before, after] = line.split(" - ");
    const [, , device, , mountPoint] = before?.split(" ") ?? [];
    const [type, source] = after?.split(" ") ?? [];
    if (device === undefined || mountPoint === undefined || type === undefined || source === undefined) return [];
    return [{ mountPoint: unescapeOctal(mountPoint), type, source: unescapeOctal(source), device }];
  });
}

function unescapeOctal(text: string): string {
  const bytes = text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return Buffer.from(bytes, "latin1").toString("utf8");
}

function asBytes(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

/** An absolute path without symlinks; a dead mount at its end does no harm. */
async function resolveMountPoint(mountPoint: string): Promise<string> {
  const path = resolve(mountPoint);
  try {
    return await realpath(path);
  } catch (error) {
    if (!isErrno(error, "ENOTCONN")) throw badMountPoint(path, error);
    return join(await realpath(dirname(path)), basename(path));
  }
}

function badMountPoint(path: string, error: unknown): TcfsError {
  const reason = isErrno(error, "ENOENT")
    ? "does not exist: create it first"
    : isErrno(error, "ENOTDIR")
      ? "is not a directory"
      : `cannot be used: ${error instanceof Error ? error.message : String(error)}`;
  return new TcfsError("TCFS_BAD_MOUNT_POINT", `the mount point ${path} ${reason}`, { cause: error });
}

async function prepareMountPoint(mountPoint: string, options: FuseMountOptions): Promise<string> {
  const path = await resolveMountPoint(mountPoint);
  const isOurs = (await findMount(path))?.type === MOUNT_TYPE;
  const status = await statusOf(path);
  if (status === "dead" && isOurs) {
    await unmountFuse(path, { lazy: true });
    return prepareMountPoint(path, options);
  }
  if (isOurs) throw new TcfsError("TCFS_ALREADY_MOUNTED", `something of tcfs is already mounted at ${path}`);
  if (status === "dead") {
    throw new TcfsError("TCFS_BAD_MOUNT_POINT", `a filesystem mounted at ${path} is dead: unmount it first`);
  }
  if (!options.nonEmpty && (await readdir(path)).length > 0) {
    throw new TcfsError("TCFS_BAD_MOUNT_POINT", `the mount point ${path} is not empty`);
  }
  return path;
}

async function statusOf(path: string): Promise<"alive" | "dead"> {
  try {
    await statfs(path); // the kernel may still know a dead mount's attributes
    if ((await stat(path)).isDirectory()) return "alive";
  } catch (error) {
    if (isErrno(error, "ENOTCONN")) return "dead";
    throw badMountPoint(path, error);
  }
  throw new TcfsError("TCFS_BAD_MOUNT_POINT", `the mount point ${path} is not a directory`);
}

function mountFlags(options: FuseMountOptions): number {
  const { accessTimes, synchronous } = options;
  return (
    (options.readOnly ? MS.RDONLY : 0) |
    (options.suid ? 0 : MS.NOSUID) |
    (options.dev ? 0 : MS.NODEV) |
    (options.noExec ? MS.NOEXEC : 0) |
    (options.noSymlinkFollow ? MS.NOSYMFOLLOW : 0) |
    (accessTimes.mode === "none" ? MS.NOATIME : 0) |
    (accessTimes.mode === "strict" ? MS.STRICTATIME : 0) |
    (accessTimes.ofDirectories ? 0 : MS.NODIRATIME) |
    (synchronous === "everything" ? MS.SYNCHRONOUS : 0) |
    (synchronous === "names" ? MS.DIRSYNC : 0)
  );
}

function maxRead({ maxReadBytes }: FuseMountOptions): string {
  return `max_read=${String(Math.min(maxReadBytes ?? MAX_WRITE_BYTES, MAX_WRITE_BYTES))}`;
}

function mountDirectly(path: string, options: FuseMountOptions): number {
  const fd = binding.openDevice();
  if (fd < 0) throw noDevice(-fd);
  const flags = mountFlags(options);
  const data = [
    `fd=${String(fd)}`,
    "rootmode=40000",
    `user_id=${String(process.getuid?.() ?? 0)}`,
    `group_id=${String(process.getgid?.() ?? 0)}`,
    "default_permissions",
    ...(options.allowOther ? ["allow_other"] : []),
    maxRead(options),
  ].join(",");
  const errno = -binding.mount(asBytes(options.source), asBytes(path), MOUNT_TYPE, flags, data);
  if (errno === 0) return fd;
  binding.closeDescriptor(fd);
  if (errno === constants.errno.ENODEV) throw noDevice(errno);
  const code: TcfsErrorCode = errno === constants.errno.EPERM ? "TCFS_NOT_PERMITTED" : "TCFS_BAD_MOUNT_POINT";
  const hint = errno === constants.errno.EPERM ? " (in a container, mounting needs CAP_SYS_ADMIN)" : "";
  throw new TcfsError(code, `mounting at ${path} failed: ${errnoName(errno)}${hint}`);
}

/** New mounts read 128 KiB ahead, FUSE_INIT can only lower that, and root alone may raise it. Costs speed at worst. */
async function raiseReadAhead(path: string): Promise<void> {
  const device = (await findMount(path))?.device ?? "";
  try {
    await writeFile(`/sys/class/bdi/${device}/read_ahead_kb`, String(MAX_READAHEAD_BYTES / 1024));
  } catch {
    // sysfs is read-only in many containers.
  }
}

function noDevice(errno: number): TcfsError {
  const reason =
    errno === constants.errno.EACCES || errno === constants.errno.EPERM
      ? "may not be opened by this user"
      : `cannot be opened (${errnoName(errno)}): is the fuse kernel module there, and the device passed into this container?`;
  return new TcfsError("TCFS_NO_DEVICE_ACCESS", `/dev/fuse ${reason}`);
}

/** fusermount3 mounts with its set-id right and passes the descriptor through the socket that _FUSE_COMMFD names. */
async function mountByHelper(path: string, options: FuseMountOptions): Promise<number> {
  const ends = binding.socketPair();
  if (typeof ends === "number") throw new TcfsError("TCFS_IO", `no socket pair: ${errnoName(-ends)}`);
  const [ours, theirs] = ends;
  try {
    const complaint = await runHelper(["-o", helperOptions(options).join(","), "--", path], theirs);
    if (complaint !== undefined) {
      const isDevice = /device|\/dev\/fuse/i.test(complaint.replaceAll(path, ""));
      throw new TcfsError(isDevice ? "TCFS_NO_DEVICE_ACCESS" : "TCFS_NOT_PERMITTED", complaint);
    }
    const fd = binding.receiveDescriptor(ours);
    if (fd < 0) throw new TcfsError("TCFS_NO_DEVICE_ACCESS", `fusermount3 passed no descriptor: ${errnoName(-fd)}`);
    return fd;
  } finally {
    binding.closeDescriptor(ours);
    binding.closeDescriptor(theirs);
  }
}

function helperOptions(options: FuseMountOptions): string[] {
  return [
    `fsname=${options.source.replace(/[\\,]/g, "\\$&")}`,
    `subtype=${TYPE}`,
    "default_permissions",
    maxRead(options),
    options.readOnly ? "ro" : "rw",
    options.suid ? "suid" : "nosuid",
    options.dev ? "dev" : "nodev",
    ...(options.noExec ? ["noexec"] : []),
    ...(options.accessTimes.mode === "none" ? ["noatime"] : []),
    ...(options.synchronous === "everything" ? ["sync"] : []),
    ...(options.synchronous === "names" ? ["dirsync"] : []),
    ...(options.allowOther ? ["allow_other"] : []),
  ];
}

async function unmountByHelper(path: string, lazy: boolean): Promise<void> {
  const complaint = await runHelper(["-u", ...(lazy ? ["-z"] : []), "--", path], undefined);
  if (complaint === undefined) return;
  const reason = complaint.replaceAll(path, ""); // a name is no reason
  if (/resource busy/i.test(reason)) throw unmountError(constants.errno.EBUSY, path);
  if (/not found|not mounted|invalid argument/i.test(reason)) throw unmountError(constants.errno.EINVAL, path);
  throw new TcfsError("TCFS_NOT_PERMITTED", complaint);
}

/**
 * Run fusermount3; `socket` becomes its descriptor 3. `env` adds to our own environment, and ends with 127 if it is missing.
 * @returns Why it failed, in its own words; undefined if it did as it was asked.
 * @throws {@link TcfsError} `TCFS_NO_DEVICE_ACCESS` if there is no fusermount3.
 */
async function runHelper(args: readonly string[], socket: number | undefined): Promise<string | undefined> {
  const helper = spawn("env", ["LC_ALL=C", "_FUSE_COMMFD=3", "fusermount3", ...args], {
    stdio: ["ignore", "ignore", "pipe", socket ?? "ignore"],
  });
  let output = "";
  helper.stderr?.setEncoding("utf8").on("data", (text: string) => {
    output = (output + text).slice(0, MAX_HELPER_OUTPUT);
  });
  const [status, signal] = (await once(helper, "close")) as [number | null, string | null];
  if (status === 0) return undefined;
  if (status === 127) {
    throw new TcfsError("TCFS_NO_DEVICE_ACCESS", "fusermount3 is missing: install the package fuse3, or run as root");
  }
  return output.trim() || `fusermount3 ended with ${String(status ?? signal)}`;
}

function unmountError(errno: number, path: string): TcfsError {
  if (errno === constants.errno.EBUSY) return new TcfsError("TCFS_BUSY", `${path} is in use`);
  if (errno === constants.errno.EINVAL) return new TcfsError("TCFS_NOT_MOUNTED", `nothing is mounted at ${path}`);
  if (errno === constants.errno.EPERM) return new TcfsError("TCFS_NOT_PERMITTED", `unmounting ${path} needs root`);
  return new TcfsError("TCFS_IO", `unmounting ${path} failed: ${errnoName(errno)}`);
}
