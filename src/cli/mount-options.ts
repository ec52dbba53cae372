/** `-o` options, as other FUSE filesystems, mount(8) and fstab(5) give them. What is not known is refused by name. */
import { resolve } from "node:path";
import { TcfsError } from "../errors.ts";
import type { SnapshotsShown } from "../fs/snapshots/routed-operations.ts";

/** What one mount is asked to be. Paths are absolute. */
export interface MountOptions {
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  /** Whether it may lie over a directory that is not empty. */
  readonly nonEmpty: boolean;
  readonly suid: boolean;
  readonly dev: boolean;
  readonly exec: boolean;
  readonly atime: boolean;
  /** How the directory `.snapshots` shows at the root. */
  readonly snapshots: SnapshotsShown;
  /** The snapshot that is mounted alone, if one is. */
  readonly snapshot: string | undefined;
  /** The source that mount tables show; the vault directory if not given. */
  readonly fsName: string | undefined;
  readonly passphraseFile: string | undefined;
  readonly recoveryFile: string | undefined;
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
  atime: true,
  snapshots: "hidden",
  snapshot: undefined,
  fsName: undefined,
  passphraseFile: undefined,
  recoveryFile: undefined,
  pidFile: undefined,
};

type Change = Partial<MountOptions>;

const FLAGS: Readonly<Record<string, Change>> = {
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
  atime: { atime: true },
  noatime: { atime: false },
};

/** Said to mount(8) and not to us, or true of every tcfs mount anyway. */
const IGNORED = new Set([
  ...["defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "comment"],
  ...[
    "default_permissions",
    "relatime",
    "norelatime",
    "diratime",
    "nodiratime",
    "lazytime",
    "nolazytime",
    "auto_unmount",
    "async",
  ],
  ...["big_writes", "subtype", "max_read", "helper", "uhelper", "blksize", "blkdev"],
]);

const VALUES: Readonly<Record<string, (value: string) => Change>> = {
  fsname: (value) => ({ fsName: value }),
  passphrase_file: (value) => ({ passphraseFile: resolve(value) }),
  recovery_file: (value) => ({ recoveryFile: resolve(value) }),
  pid_file: (value) => ({ pidFile: resolve(value) }),
  snapshots: readSnapshotsShown,
  snapshot: (value) => ({ snapshot: value }),
};

function readSnapshotsShown(value: string): Change {
  if (value !== "listed" && value !== "hidden" && value !== "none") {
    throw new TcfsError("TCFS_USAGE", "the mount option “snapshots” is one of listed, hidden and none");
  }
  return { snapshots: value };
}

/**
 * Apply comma-separated options (a backslash keeps a comma in a value) in their order.
 * @throws TcfsError `TCFS_USAGE` for an option that is not known or lacks its value.
 */
export function parseMountOptions(lists: readonly string[], base: MountOptions = DEFAULT_MOUNT_OPTIONS): MountOptions {
  return lists.flatMap(splitOptions).reduce((options, word) => ({ ...options, ...readOption(word) }), base);
}

function readOption(word: string): Change {
  const equals = word.indexOf("=");
  const name = equals === -1 ? word : word.slice(0, equals);
  const value = equals === -1 ? undefined : word.slice(equals + 1);
  const readValue = Object.hasOwn(VALUES, name) ? VALUES[name] : undefined;
  if (readValue !== undefined) {
    if (value === undefined || value === "")
      throw new TcfsError("TCFS_USAGE", `the mount option “${name}” needs a value`);
    return readValue(value);
  }
  if (Object.hasOwn(FLAGS, name) && value === undefined) return FLAGS[name] ?? {};
  if (IGNORED.has(name) || name.startsWith("x-") || name.startsWith("X-")) return {};
  throw new TcfsError("TCFS_USAGE", `the mount option “${word}” is not known`);
}

function splitOptions(list: string): string[] {
  return list
    .split(/(?<!\\),/u)
    .map((word) => word.replaceAll("\\,", ",").trim())
    .filter((word) => word !== "");
}
