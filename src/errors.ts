/** The one error class and the one table from error code to errno (docs/ERRORS.md says what each means). */
import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";

export const ERRNO_OF = {
  TCFS_NO_ENTRY: "ENOENT",
  TCFS_EXISTS: "EEXIST",
  TCFS_NOT_DIRECTORY: "ENOTDIR",
  TCFS_IS_DIRECTORY: "EISDIR",
  TCFS_NOT_EMPTY: "ENOTEMPTY",
  TCFS_INVALID: "EINVAL",
  TCFS_NOT_PERMITTED: "EPERM",
  TCFS_ACCESS: "EACCES",
  TCFS_READ_ONLY: "EROFS",
  TCFS_NAME_TOO_LONG: "ENAMETOOLONG",
  TCFS_FILE_TOO_LARGE: "EFBIG",
  TCFS_TOO_MANY_LINKS: "EMLINK",
  TCFS_CROSS_DEVICE: "EXDEV",
  TCFS_NO_DATA: "ENODATA",
  TCFS_NO_OFFSET: "ENXIO",
  TCFS_RANGE: "ERANGE",
  TCFS_TOO_BIG: "E2BIG",
  TCFS_UNSUPPORTED: "EOPNOTSUPP",
  TCFS_NOT_IMPLEMENTED: "ENOSYS",
  TCFS_INTERRUPTED: "EINTR",
  TCFS_STALE: "ESTALE",
  TCFS_CORRUPT: "EIO",
  TCFS_IO: "EIO",
  TCFS_STORE_FULL: "ENOSPC",
  TCFS_TOO_MANY_FILES: "ENFILE",
  TCFS_CLOSED: "ENOTCONN",
  TCFS_BUSY: "EBUSY",
  TCFS_NO_DEVICE_ACCESS: "EACCES",
  TCFS_NO_VAULT: "ENOENT",
  TCFS_VAULT_EXISTS: "EEXIST",
  TCFS_VAULT_IN_USE: "EBUSY",
  TCFS_WRONG_KEY: "EACCES",
  TCFS_BAD_HEADER: "EINVAL",
  TCFS_UNKNOWN_FORMAT: "EPROTONOSUPPORT",
  TCFS_KDF_BOUNDS: "EINVAL",
  TCFS_UNSAFE_FILE: "EPERM",
  TCFS_LAST_SLOT: "EPERM",
  TCFS_BAD_KDBX: "EINVAL",
  TCFS_NO_SECRETS: "EACCES",
  TCFS_NO_TPM: "ENODEV",
  TCFS_TPM: "EIO",
  TCFS_TPM_CHANGED: "EACCES",
  TCFS_TPM_FOREIGN: "EACCES",
  TCFS_TPM_LOCKED: "EACCES",
  TCFS_BAD_MOUNT_POINT: "EINVAL",
  TCFS_MOUNT_POINT_MISSING: "ENOENT",
  TCFS_MOUNT_POINT_NOT_DIRECTORY: "ENOTDIR",
  TCFS_MOUNT_POINT_NOT_EMPTY: "ENOTEMPTY",
  TCFS_ALREADY_MOUNTED: "EBUSY",
  TCFS_NOT_MOUNTED: "EINVAL",
  TCFS_NO_SNAPSHOT: "ENOENT",
  TCFS_SNAPSHOT_EXISTS: "EEXIST",
  TCFS_REMOTE_CONFLICT: "EBUSY",
  TCFS_REMOTE_DENIED: "EACCES",
  TCFS_REMOTE_DIVERGED: "ESTALE",
  TCFS_REMOTE_FULL: "ENOSPC",
  TCFS_REMOTE_MISSING: "ENOENT",
  TCFS_REMOTE_THROTTLED: "EAGAIN",
  TCFS_REMOTE_UNAVAILABLE: "ETIMEDOUT",
  TCFS_DEVICE_UNKNOWN: "EACCES",
  TCFS_DEVICE_REVOKED: "EACCES",
  TCFS_BAD_SIGNATURE: "EBADMSG",
  TCFS_NOT_ATTESTED: "EACCES",
  TCFS_STALE_STATE: "ESTALE",
  TCFS_DAEMON_ENDED: "ECHILD",
  TCFS_DAEMON_SILENT: "ETIMEDOUT",
  TCFS_CANCELLED: "ECANCELED",
  TCFS_USAGE: "EINVAL",
} as const satisfies Record<string, keyof typeof constants.errno>;

export type TcfsErrorCode = keyof typeof ERRNO_OF;

/** Every failure that the world can cause. Callers branch on `code`, never on the text. */
export class TcfsError extends Error {
  readonly code: TcfsErrorCode;

  constructor(code: TcfsErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "TcfsError";
    this.code = code;
  }

  /** The positive errno number that a caller of the kernel sees. */
  get errno(): number {
    return constants.errno[ERRNO_OF[this.code]];
  }
}

/** @returns Whether `error` is a {@link TcfsError}, of `code` if one is given. */
export function isTcfsError(error: unknown, code?: TcfsErrorCode): error is TcfsError {
  return error instanceof TcfsError && (code === undefined || error.code === code);
}

/** Whether a system call failed so. @param code - `ENOENT`, … */
export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

/** @returns `ENOENT, no such file or directory`: the name to look up, and what it means. @param error - Of a system call. */
export function describeErrno(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { errno = 0, code = error.message } = error as NodeJS.ErrnoException;
  const words = getSystemErrorMap().get(errno)?.[1];
  return words === undefined ? code : `${code}, ${words}`;
}

/** Whether the process, or the machine, has no file descriptor left. @param error - Of a system call. */
export function isOutOfDescriptors(error: unknown): boolean {
  return isErrno(error, "EMFILE") || isErrno(error, "ENFILE");
}

/** @returns What `read` does; undefined where what it reads is damaged. */
export function unlessCorrupt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (isTcfsError(error, "TCFS_CORRUPT")) return undefined;
    throw error;
  }
}
