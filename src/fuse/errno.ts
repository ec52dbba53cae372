/** The one door from errors to errno (STYLE §5): what it does not know is a bug, answered with EIO. */
import { constants } from "node:os";
import { isTcfsError } from "../errors.ts";

/** @returns The positive errno for the kernel, or undefined for an error that nobody meant to throw. */
export function toErrno(error: unknown): number | undefined {
  return isTcfsError(error) ? error.errno : undefined;
}

export const {
  ENODATA,

  EIO,
  ENODEV,
  ENOENT,
  ENOSYS,
  ENOTTY,
  EOPNOTSUPP,
  EPROTO,
  EROFS,

  ECONNABORTED,
  ENOTCONN,
} = constants.errno;

/** @returns The symbol of a positive errno, for messages: `ENOENT`. */
export function errnoName(errno: number): string {
  return Object.entries(constants.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${String(errno)}`;
}
