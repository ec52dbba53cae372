/** Exit codes of the command line: stable, named, one per kind of failure (docs/ERRORS.md says what each means). */
import { TcfsError, isOutOfDescriptors } from "../errors.ts";
import type { TcfsErrorCode } from "../errors.ts";
import { printable } from "./printable.ts";

export const EXIT_CODE = {
  OK: 0,
  INTERNAL: 1,
  USAGE: 2,
  NO_VAULT: 3,
  VAULT_EXISTS: 4,
  VAULT_IN_USE: 5,
  WRONG_KEY: 6,
  BAD_HEADER: 7,
  UNKNOWN_FORMAT: 8,
  KDF_BOUNDS: 9,
  UNSAFE_FILE: 10,
  MOUNT_POINT_MISSING: 11,
  MOUNT_POINT_NOT_DIRECTORY: 12,
  MOUNT_POINT_NOT_EMPTY: 13,
  ALREADY_MOUNTED: 14,
  BAD_MOUNT_POINT: 15,
  NOT_MOUNTED: 16,
  BUSY: 17,
  NO_DEVICE_ACCESS: 18,
  STORE_FULL: 19,
  CORRUPT: 20,
  IO: 21,
  DAEMON_ENDED: 22,
  NOT_PERMITTED: 23,
  NO_SNAPSHOT: 24,
  SNAPSHOT_EXISTS: 25,
  INCOMPLETE: 26,
  TOO_MANY_FILES: 27,
  DAEMON_SILENT: 28,
  REMOTE_UNAVAILABLE: 50,
  REMOTE_DENIED: 51,
  REMOTE_FULL: 52,
  REMOTE_MISSING: 53,
  REMOTE_DIVERGED: 54,
  DEVICE_UNKNOWN: 60,
  DEVICE_REVOKED: 61,
  BAD_SIGNATURE: 62,
  NOT_ATTESTED: 63,
  STALE_STATE: 64,
  LAST_SLOT: 40,
  NO_TPM: 41,
  TPM: 42,
  TPM_CHANGED: 43,
  TPM_FOREIGN: 44,
  TPM_LOCKED: 45,
  BAD_KDBX: 46,
  NO_SECRETS: 47,
  CANCELLED: 130,
} as const;

export type ExitName = keyof typeof EXIT_CODE;

/** The exit code of each error that can reach the command line; errors not named here are bugs there (`INTERNAL`). */
export const EXIT_OF: Partial<Readonly<Record<TcfsErrorCode, ExitName>>> = {
  TCFS_USAGE: "USAGE",
  TCFS_EXISTS: "USAGE",
  TCFS_NO_ENTRY: "USAGE",
  TCFS_NOT_DIRECTORY: "USAGE",
  TCFS_NO_VAULT: "NO_VAULT",
  TCFS_VAULT_EXISTS: "VAULT_EXISTS",
  TCFS_VAULT_IN_USE: "VAULT_IN_USE",
  TCFS_WRONG_KEY: "WRONG_KEY",
  TCFS_BAD_HEADER: "BAD_HEADER",
  TCFS_UNKNOWN_FORMAT: "UNKNOWN_FORMAT",
  TCFS_KDF_BOUNDS: "KDF_BOUNDS",
  TCFS_UNSAFE_FILE: "UNSAFE_FILE",
  TCFS_LAST_SLOT: "LAST_SLOT",
  TCFS_BAD_KDBX: "BAD_KDBX",
  TCFS_NO_SECRETS: "NO_SECRETS",
  TCFS_NO_TPM: "NO_TPM",
  TCFS_TPM: "TPM",
  TCFS_TPM_CHANGED: "TPM_CHANGED",
  TCFS_TPM_FOREIGN: "TPM_FOREIGN",
  TCFS_TPM_LOCKED: "TPM_LOCKED",
  TCFS_MOUNT_POINT_MISSING: "MOUNT_POINT_MISSING",
  TCFS_MOUNT_POINT_NOT_DIRECTORY: "MOUNT_POINT_NOT_DIRECTORY",
  TCFS_MOUNT_POINT_NOT_EMPTY: "MOUNT_POINT_NOT_EMPTY",
  TCFS_ALREADY_MOUNTED: "ALREADY_MOUNTED",
  TCFS_BAD_MOUNT_POINT: "BAD_MOUNT_POINT",
  TCFS_NOT_MOUNTED: "NOT_MOUNTED",
  TCFS_BUSY: "BUSY",
  TCFS_NO_DEVICE_ACCESS: "NO_DEVICE_ACCESS",
  TCFS_STORE_FULL: "STORE_FULL",
  TCFS_TOO_MANY_FILES: "TOO_MANY_FILES",
  TCFS_CORRUPT: "CORRUPT",
  TCFS_IO: "IO",
  TCFS_NO_SNAPSHOT: "NO_SNAPSHOT",
  TCFS_SNAPSHOT_EXISTS: "SNAPSHOT_EXISTS",
  TCFS_DAEMON_ENDED: "DAEMON_ENDED",
  TCFS_DAEMON_SILENT: "DAEMON_SILENT",
  TCFS_NOT_PERMITTED: "NOT_PERMITTED",
  TCFS_ACCESS: "NOT_PERMITTED",
  TCFS_READ_ONLY: "NOT_PERMITTED",
  TCFS_REMOTE_UNAVAILABLE: "REMOTE_UNAVAILABLE",
  TCFS_REMOTE_THROTTLED: "REMOTE_UNAVAILABLE",
  TCFS_REMOTE_DENIED: "REMOTE_DENIED",
  TCFS_REMOTE_FULL: "REMOTE_FULL",
  TCFS_REMOTE_MISSING: "REMOTE_MISSING",
  TCFS_REMOTE_DIVERGED: "REMOTE_DIVERGED",
  TCFS_REMOTE_CONFLICT: "REMOTE_DIVERGED",
  TCFS_DEVICE_UNKNOWN: "DEVICE_UNKNOWN",
  TCFS_DEVICE_REVOKED: "DEVICE_REVOKED",
  TCFS_BAD_SIGNATURE: "BAD_SIGNATURE",
  TCFS_NOT_ATTESTED: "NOT_ATTESTED",
  TCFS_STALE_STATE: "STALE_STATE",
  TCFS_CANCELLED: "CANCELLED",
};

/** @returns The exit code for a failure of any kind. */
export function exitCodeOf(error: unknown): number {
  if (isOutOfDescriptors(error)) return EXIT_CODE.TOO_MANY_FILES;
  if (!(error instanceof TcfsError)) return EXIT_CODE.INTERNAL;
  return EXIT_CODE[EXIT_OF[error.code] ?? "INTERNAL"];
}

/** @returns The failure in a sentence for a person: one line for what the world did, the stack for what is a bug. */
export function describeFailure(error: unknown): string {
  if (isOutOfDescriptors(error)) return "tcfs: too many open files: more must be allowed (ulimit -n)";
  if (error instanceof TcfsError && EXIT_OF[error.code] !== undefined) return `tcfs: ${printable(error.message)}`;
  return `tcfs: unexpected failure, please report it\n${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
}
