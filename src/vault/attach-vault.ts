/** A vault directory made from a store, for whoever is to live in it or to rehearse that. */
import { chmod, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { SecretKey } from "../crypto/secret-key.ts";
import { TcfsError } from "../errors.ts";
import { DEVICE_ID_BYTES } from "../keys/devices/device-list.ts";
import { EpochRooms } from "../keys/epoch-rooms.ts";
import { writeNewHeader } from "../keys/header-file.ts";
import { type VaultHeader, assertWritable, parseHeader } from "../keys/header.ts";
import { VaultKeys } from "../keys/key-epochs.ts";
import { NodeDisk } from "../platform/node-disk.ts";
import { systemRandom } from "../platform/random.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import { formatStoreUrl, parseStoreUrl } from "../remote/store-url.ts";
import { type AttachReport, attachRecords } from "../replica/attach.ts";
import { HEADER_NAME, MAX_HEADER_OBJECT_BYTES } from "../replica/object-names.ts";
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
  /** Refuses the state that it came to. */
  readonly check?: ((report: AttachReport) => Promise<void>) | undefined;
}

/** @throws what {@link attachRecords} throws. Nothing is left then. */
export async function attachVault(
  store: ObjectStore,
  { directory, header, key, url, rootName, check }: NewCopy,
): Promise<AttachReport> {
  const disk = new NodeDisk();
  const { vaultId, chunking, revision: headerRevision } = header;
  const keys = VaultKeys.open(header, key);
  const epochs = new EpochRooms(keys, { vaultId, chunking, random: systemRandom });
  keys.wipe();
  const { engine, packKeys, sealer } = epochs;
  try {
    await disk.makeDirectories(directory);
    await chmod(directory, 0o700).catch(() => undefined); // one that was there; some filesystems have no modes
    const place = formatStoreUrl(parseStoreUrl(url));
    const rooms = { engine, packKeys, vaultId, random: systemRandom };
    const identity = newIdentity(systemRandom.bytes(DEVICE_ID_BYTES));
    const source = { store, url: place, headerRevision, rootName, identity };
    const report = await attachRecords({ ...rooms, ...source, disk, directory, sealer });
    await check?.(report);
    await disk.makeDirectory(join(directory, "packs"));
    await writeNewHeader(disk, directory, header);
    await disk.syncDirectory(dirname(directory));
    return report;
  } catch (error) {
    for (const name of ["meta", "journal", "packs", "store.json", "store.packs", "store.lost", "device", "devices"]) {
      await rm(join(directory, name), { recursive: true, force: true });
    }
    throw error;
  } finally {
    epochs.close();
  }
}
