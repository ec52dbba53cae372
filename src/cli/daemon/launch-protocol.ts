/**
 * What the command tells a daemon that it starts, over a socket pair that nobody else has: one JSON line, then the
 * vault key. The daemon answers with one JSON line. No secret is on argv, in the environment, or in a file.
 */
import type { TpmOptions } from "../../keys/tpm/tpm-tools.ts";
import type { S3Credentials } from "../../remote/s3-store.ts";
import type { RenewalRequest } from "../access/credentials.ts";
import type { MountOptions } from "../mounts/mount-options.ts";

/** The descriptor of the socket pair in the daemon. */
export const LAUNCH_FD = 3;
export const LAUNCH_KEY_BYTES = 32;

export interface LaunchRequest {
  /** Absolute. */
  readonly vault: string;
  /** Canonical. */
  readonly mountPoint: string;
  readonly options: MountOptions;
  /** Log to standard error as well, and unmount when the command that started us ends. */
  readonly isForeground: boolean;
  /** For the vault's store. */
  readonly credentials?: S3Credentials | undefined;
  /** How it gets them again. */
  readonly renewal?: RenewalRequest | undefined;
  /** The machine's, should the vault's state be held against what it remembers. */
  readonly tpm: TpmOptions;
}
