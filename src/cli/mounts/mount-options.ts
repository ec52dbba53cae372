/** `-o` options, as other FUSE filesystems, mount(8) and fstab(5) give them. What is not known is refused by name. */
import { resolve } from "node:path";
import { TcfsError } from "../../errors.ts";
import { type AccessTimes, RELATIVE_ACCESS_TIMES } from "../../fs/access-times.ts";
import type { Synchronous } from "../../fuse/mount.ts";
import type { VirtualShown } from "../../fs/snapshots/routed-operations.ts";
import { absoluteReference } from "../../keys/entry-reference.ts";

/** What one mount is asked to be. Paths are absolute. */
export interface MountOptions {
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  /** Whether it may lie over a directory that is not empty. */
  readonly nonEmpty: boolean;
  readonly suid: boolean;
  readonly dev: boolean;
  readonly exec: boolean;
  readonly followsSymlinks: boolean;
  readonly accessTimes: AccessTimes;
  readonly synchronous: Synchronous;
  /** Payload of the largest READ; undefined for as much as tcfs serves. */
  readonly maxReadBytes: number | undefined;
  /** Change a mount that is there already. */
  readonly isRemount: boolean;
  /** How the directory `.snapshots` shows at the root. */
  readonly snapshots: VirtualShown;
  /** Likewise `.versions`. */
  readonly versions: VirtualShown;
  /** How long a read waits for what only the store has; undefined for as long as usual. */
  readonly storeWaitSeconds: number | undefined;
  /** The snapshot that is mounted alone, if one is. */
  readonly snapshot: string | undefined;
  /** The source that mount tables show; the vault directory if not given. */
  readonly fsName: string | undefined;
  readonly passphraseFile: string | undefined;
  readonly recoveryFile: string | undefined;
  readonly keyFile: string | undefined;
  /** What opens the KeePass database that `passphraseFile` may name. */
  readonly kdbxPasswordFile: string | undefined;
  readonly kdbxKeyFile: string | undefined;
  /** Where the credentials for the store come from, if not as was set. */
  readonly credentials: string | undefined;
  readonly pinFile: string | undefined;
  /** How to reach the TPM, if not as usual. */
  readonly tcti: string | undefined;
  /** Unlock by the TPM or not at all: ask nobody. */
  readonly onlyTpm: boolean;
  /** At boot nobody is there to be asked. */
  readonly asksNobody: boolean;
  /** Reseal TPM slots that the machine's new state keeps shut, once another slot has opened the vault. */
  readonly autoReseal: boolean;
  /** Hold the vault's state against what the TPM remembers; false: no longer; undefined: as the vault says. */
  readonly tpmFreshness: boolean | undefined;
  /** Take an older state as it is. */
  readonly acceptOlder: boolean;
  readonly pidFile: string | undefined;
}

/** As libfuse: set-id bits and devices count only if asked for. */
export const DEFAULT_MOUNT_OPTIONS: MountOptions = {
  readOnly: false,
  allowOther: false,
  nonEmpty: false,
  suid: false,
  dev: false,
  exec: true,
  followsSymlinks: true,
  accessTimes: RELATIVE_ACCESS_TIMES,
  synchronous: "nothing",
  maxReadBytes: undefined,
  isRemount: false,
  snapshots: "hidden",
  versions: "hidden",
  storeWaitSeconds: undefined,
  snapshot: undefined,
  fsName: undefined,
  passphraseFile: undefined,
  recoveryFile: undefined,
  keyFile: undefined,
  kdbxPasswordFile: undefined,
  kdbxKeyFile: undefined,
  credentials: undefined,
  pinFile: undefined,
  tcti: undefined,
  onlyTpm: false,
  asksNobody: false,
  autoReseal: false,
  tpmFreshness: undefined,
  acceptOlder: false,
  pidFile: undefined,
};

type Change = Partial<MountOptions>;

function accessTimes(change: Partial<AccessTimes>): (options: MountOptions) => Change {
  return (options) => ({ accessTimes: { ...options.accessTimes, ...change } });
}

const FLAGS: Readonly<Record<string, Change | ((options: MountOptions) => Change)>> = {
  ro: { readOnly: true },
  rw: { readOnly: false },
  allow_other: { allowOther: true },
  nonempty: { nonEmpty: true },
  suid: { suid: true },
  nosuid: { suid: false },
  dev: { dev: true },
  nodev: { dev: false },
  exec: { exec: true },
  noexec: { exec: false },
  symfollow: { followsSymlinks: true },
  nosymfollow: { followsSymlinks: false },
  atime: accessTimes({ mode: "relative" }),
  relatime: accessTimes({ mode: "relative" }),
  nostrictatime: accessTimes({ mode: "relative" }),
  strictatime: accessTimes({ mode: "strict" }),
  noatime: accessTimes({ mode: "none" }),
  diratime: accessTimes({ ofDirectories: true }),
  nodiratime: accessTimes({ ofDirectories: false }),
  async: { synchronous: "nothing" },
  dirsync: { synchronous: "names" },
  sync: { synchronous: "everything" },
  remount: { isRemount: true },
  tpm: { onlyTpm: true },
  auto_reseal: { autoReseal: true },
  tpm_freshness: { tpmFreshness: true },
};

/** Said to mount(8) and not to us, or true of every tcfs mount anyway (lazytime: times may be stored later, or sooner). */
const IGNORED = new Set([
  ...["defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "comment"],
  ...["default_permissions", "norelatime", "lazytime", "nolazytime", "silent", "loud"],
  ...["big_writes", "subtype", "helper", "uhelper", "blksize", "blkdev"],
]);

/** What other FUSE filesystems mean by it cannot be had here, and why. */
const REFUSED: Readonly<Record<string, string>> = {
  uid: "every file has its own owner: use chown",
  gid: "every file has its own group: use chgrp",
  umask: "every file has its own permissions: use chmod",
  fmask: "every file has its own permissions: use chmod",
  dmask: "every file has its own permissions: use chmod",
  auto_unmount: "use tcfs umount; what a killed daemon leaves mounted goes with the next tcfs mount there",
  allow_root: "use allow_other: permissions are checked for everyone",
};

/** What the mount table shows of a mount and mount(8) hands on when it is to be changed: no part of a remount. */
const OF_THE_TABLE = new Set(["fd", "rootmode", "user_id", "group_id"]);

/** A page: the kernel takes no less. */
const SMALLEST_READ_BYTES = 4096;

const VALUES: Readonly<Record<string, (value: string) => Change>> = {
  fsname: (value) => ({ fsName: value }),
  passphrase_file: (value) => ({ passphraseFile: absoluteReference(value) }),
  credentials: (value) => ({ credentials: value }),
  kdbx_password_file: (value) => ({ kdbxPasswordFile: absoluteReference(value) }),
  kdbx_key_file: (value) => ({ kdbxKeyFile: resolve(value) }),
  recovery_file: (value) => ({ recoveryFile: resolve(value) }),
  pin_file: (value) => ({ pinFile: resolve(value) }),
  tcti: (value) => ({ tcti: value }),
  key_file: (value) => ({ keyFile: resolve(value) }),
  pid_file: (value) => ({ pidFile: resolve(value) }),
  max_read: (value) => ({ maxReadBytes: readBytes(value) }),
  snapshots: (value) => ({ snapshots: readShown("snapshots", value) }),
  versions: (value) => ({ versions: readShown("versions", value) }),
  snapshot: (value) => ({ snapshot: value }),
  store_wait: (value) => ({ storeWaitSeconds: readSeconds("store_wait", value) }),
};

function readBytes(value: string): number {
  const bytes = Number(value);
  if (/^\d+$/u.test(value) && bytes >= SMALLEST_READ_BYTES && Number.isSafeInteger(bytes)) return bytes;
  throw new TcfsError("TCFS_USAGE", `max_read=${value} is no number of bytes from ${String(SMALLEST_READ_BYTES)} on`);
}

function readSeconds(option: string, value: string): number {
  const seconds = Number(value);
  if (/^\d{1,5}$/u.test(value) && seconds >= 1) return seconds;
  throw new TcfsError("TCFS_USAGE", `${option}=${value} is no number of seconds from 1 on`);
}

function readShown(option: string, value: string): VirtualShown {
  if (value === "listed" || value === "hidden" || value === "none") return value;
  throw new TcfsError("TCFS_USAGE", `the mount option “${option}” is one of listed, hidden and none`);
}

/**
 * Apply comma-separated options (a backslash keeps a comma in a value) in their order.
 * @throws TcfsError `TCFS_USAGE` for an option that is not known or lacks its value.
 */
export function parseMountOptions(lists: readonly string[], base: MountOptions = DEFAULT_MOUNT_OPTIONS): MountOptions {
  const words = lists.flatMap(splitOptions);
  const isRemount = words.includes("remount");
  return words
    .filter((word) => !isRemount || !OF_THE_TABLE.has(nameOf(word)))
    .reduce((options, word) => ({ ...options, ...readOption(word, options) }), base);
}

/** What a mount is now: where a remount begins. @param shown - As the mount table shows it, the kernel's defaults left out. */
export function optionsInEffect(shown: readonly string[]): MountOptions {
  const base: MountOptions = {
    ...DEFAULT_MOUNT_OPTIONS,
    suid: true,
    dev: true,
    accessTimes: { mode: "strict", ofDirectories: true },
  };
  const known = shown.filter((word) => Object.hasOwn(FLAGS, word));
  return parseMountOptions([known.join(",")], base);
}

function nameOf(word: string): string {
  const equals = word.indexOf("=");
  return equals === -1 ? word : word.slice(0, equals);
}

function readOption(word: string, options: MountOptions): Change {
  const name = nameOf(word);
  const value = name === word ? undefined : word.slice(name.length + 1);
  const readValue = Object.hasOwn(VALUES, name) ? VALUES[name] : undefined;
  if (readValue !== undefined) {
    if (value === undefined || value === "")
      throw new TcfsError("TCFS_USAGE", `the mount option “${name}” needs a value`);
    return readValue(value);
  }
  const flag = Object.hasOwn(FLAGS, name) && value === undefined ? FLAGS[name] : undefined;
  if (flag !== undefined) return typeof flag === "function" ? flag(options) : flag;
  const reason = Object.hasOwn(REFUSED, name) ? REFUSED[name] : undefined;
  if (reason !== undefined) throw new TcfsError("TCFS_USAGE", `the mount option “${word}” is not supported: ${reason}`);
  if (IGNORED.has(name) || name.startsWith("x-") || name.startsWith("X-")) return {};
  throw new TcfsError("TCFS_USAGE", `the mount option “${word}” is not known`);
}

function splitOptions(list: string): string[] {
  return list
    .split(/(?<!\\),/u)
    .map((word) => word.replaceAll("\\,", ",").trim())
    .filter((word) => word !== "");
}
