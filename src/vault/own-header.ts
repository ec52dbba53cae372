/** `vault.json` of a vault that is open: whether it still is the header that its keys go with. */
import { TcfsError } from "../errors.ts";
import type { EpochRooms } from "../keys/epoch-rooms.ts";
import { readHeader } from "../keys/header-file.ts";
import { type VaultHeader, formatHeader } from "../keys/header.ts";
import { keyringMembers, rotatedMeanwhile } from "../keys/key-epochs.ts";
import type { Disk } from "../platform/disk.ts";

/**
 * As it lies there now: slots may have come and gone since the vault was opened.
 * @throws TcfsError `TCFS_BAD_HEADER` if it was not written under the newest key; what reading throws.
 */
export async function readOwnHeader(disk: Disk, directory: string, epochs: EpochRooms): Promise<VaultHeader> {
  const header = await readHeader(disk, directory);
  if (epochs.isAuthentic(header)) return header;
  const message =
    "vault.json is not this vault's header any more: it was tampered with, or another one put in its place";
  throw new TcfsError("TCFS_BAD_HEADER", `${message}; vault.json.bak may be the right one`);
}

/**
 * For a store.
 * @param least - Revision of the header that it has.
 * @returns The header that lies there; while the next epoch is just beginning that one is not brought yet, so that the
 *   store has `least` still.
 * @throws TcfsError `TCFS_BAD_HEADER` if it is not this vault's, or older than the store's; what reading throws.
 */
export async function headerForStore(
  disk: Disk,
  directory: string,
  epochs: EpochRooms,
  least: number,
): Promise<{ readonly content: Uint8Array; readonly revision: number }> {
  const found = await readHeader(disk, directory);
  if (least > 0 && found.keyEpoch === epochs.keyEpoch + 1) return { content: formatHeader(found), revision: least };
  const header = await readOwnHeader(disk, directory, epochs);
  const { revision } = header;
  if (revision >= least) return { content: formatHeader(header), revision };
  const message = `vault.json is older (revision ${revision}) than the one that the store has (${least})`;
  throw new TcfsError("TCFS_BAD_HEADER", `${message}: an older copy was put back; vault.json.bak may be the newer one`);
}

/**
 * Between reading the header and locking the vault another process may have given it another key, while a passphrase was
 * typed, say.
 * @param header - What was read. @throws TcfsError `TCFS_BUSY` if its key is not the vault's any more.
 */
export async function requirePresent(disk: Disk, directory: string, header: VaultHeader): Promise<void> {
  if (keysOf(await readHeader(disk, directory)) === keysOf(header)) return;
  throw rotatedMeanwhile();
}

function keysOf({ keyEpoch, keyring }: VaultHeader): string {
  return JSON.stringify([keyEpoch, keyring && keyringMembers(keyring)]);
}
