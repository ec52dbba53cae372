/** Writing `vault.json` of a vault that may be mounted: one process at a time, by a lock on the vault directory. */
import { toHex } from "../bytes.ts";
import type { TcfsError } from "../errors.ts";
import { readHeader, refreshHeaderCopy, replaceHeader } from "../keys/header-file.ts";
import type { VaultHeader } from "../keys/header.ts";
import { lockDirectory } from "../platform/file-lock.ts";
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

/**
 * Whether what opens the last slot of `header` may be needed: that is the new one of a header that was to be written.
 * @returns True as well where it cannot be told: a secret that nothing needs does less harm than one that is missed.
 */
export async function mayHaveLastSlot(directory: string, header: VaultHeader): Promise<boolean> {
  const found = await readHeader(new NodeDisk(), directory).catch(() => undefined);
  const last = header.slots.at(-1);
  return found === undefined || last === undefined || found.slots.some(({ id }) => toHex(id) === toHex(last.id));
}

function lockHeader(directory: string): Promise<AsyncDisposable> {
  return lockDirectory(directory, "is changing the vault's header", LOCK_SECONDS);
}
