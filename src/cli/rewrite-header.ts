/** Writing `vault.json` of a vault that may be mounted: one process at a time, by a lock on the vault directory. */
import type { TcfsError } from "../errors.ts";
import { refreshHeaderCopy, replaceHeader } from "../keys/header-file.ts";
import type { VaultHeader } from "../keys/header.ts";
import { lockPath } from "../platform/file-lock.ts";
import { NodeDisk } from "../platform/node-disk.ts";

/** Writing a header takes milliseconds; whoever holds the lock for longer hangs on its disk. */
const LOCK_SECONDS = 30;

/**
 * Replace the header that `after` was made from.
 * @returns See {@link replaceHeader}.
 * @throws TcfsError `TCFS_BUSY` if another process changed it since; what the disk throws. The old header stands then.
 */
export async function rewriteHeader(
  directory: string,
  before: VaultHeader,
  after: VaultHeader,
): Promise<TcfsError | undefined> {
  await using _lock = await lockHeader(directory);
  return await replaceHeader(new NodeDisk(), directory, before, after);
}

/** Make `vault.json.bak` equal to the header. */
export async function renewHeaderCopy(directory: string): Promise<void> {
  await refreshHeaderCopy(new NodeDisk(), directory, () => lockHeader(directory));
}

function lockHeader(directory: string): Promise<AsyncDisposable> {
  return lockPath(directory, "is changing the vault's header", LOCK_SECONDS);
}
