/** A vault directory made from a store, for whoever is to live in it or to rehearse that. */
import { join } from "node:path";
import type { SecretKey } from "../crypto/secret-key.ts";
import { TcfsError } from "../errors.ts";
import { DEVICE_ID_BYTES } from "../keys/devices/device-list.ts";
import { EpochRooms } from "../keys/epoch-rooms.ts";
import { type VaultHeader, assertWritable, parseHeader } from "../keys/header.ts";
import { VaultKeys } from "../keys/key-epochs.ts";
import { NodeDisk } from "../platform/node-disk.ts";
import { systemRandom } from "../platform/random.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import { formatStoreUrl, parseStoreUrl } from "../remote/store-url.ts";
import { type AttachReport, attachRecords } from "../replica/attach.ts";
import { HEADER_NAME, MAX_HEADER_OBJECT_BYTES } from "../replica/object-names.ts";
import { AttachPlace } from "./attach-place.ts";
import { newIdentity } from "./device-setup.ts";

/** @throws TcfsError `TCFS_NO_VAULT`; what is wrong with the header; what the store throws. */
export async function readRemoteHeader(store: ObjectStore): Promise<VaultHeader> {
  const found = await store.get(HEADER_NAME, { maxBytes: MAX_HEADER_OBJECT_BYTES });
  if (found === undefined) throw new TcfsError("TCFS_NO_VAULT", `there is no vault in ${store.place}`);
  const header = parseHeader(found.content);
  assertWritable(header);
  return header;
}

export interface NewCopy {
  readonly directory: string;
  readonly header: VaultHeader;
  readonly key: SecretKey;
  readonly url: string;
  /** Of a kept root, if not the present one. */
  readonly rootName?: string | undefined;
  /** Refuses the state that it came to, and writes what else the vault is to have, before it is one. */
  readonly prepare?: ((report: AttachReport) => Promise<void>) | undefined;
}

/**
 * Killed at any instant, the directory is a whole vault, or one that the next attach clears and fills ({@link AttachPlace}).
 * @throws what {@link attachRecords} and {@link AttachPlace.begin} throw. Nothing is left then.
 */
export async function attachVault(
  store: ObjectStore,
  { directory, header, key, url, rootName, prepare }: NewCopy,
): Promise<AttachReport> {
  const disk = new NodeDisk();
  const { vaultId, chunking, revision: headerRevision } = header;
  const keys = VaultKeys.open(header, key);
  const epochs = new EpochRooms(keys, { vaultId, chunking, random: systemRandom });
  keys.wipe();
  const { engine, packKeys, sealer } = epochs;
  try {
    await using vaultPlace = await AttachPlace.begin(disk, directory);
    const place = formatStoreUrl(parseStoreUrl(url));
    const rooms = { engine, packKeys, vaultId, random: systemRandom };
    const identity = newIdentity(systemRandom.bytes(DEVICE_ID_BYTES));
    const source = { store, url: place, headerRevision, rootName, identity };
    const report = await attachRecords({ ...rooms, ...source, disk, directory, sealer });
    await disk.makeDirectory(join(directory, "packs"));
    await prepare?.(report);
    await vaultPlace.finish(header);
    return report;
  } finally {
    epochs.close();
  }
}
