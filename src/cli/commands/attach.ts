/** `tcfs attach URL`: a vault directory made from the store alone, with the passphrase or the words. */
import { chmod, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { openEngine } from "../../crypto/open-engine.ts";
import { ObjectSealer } from "../../crypto/object-seal.ts";
import { PackKeyWrapper } from "../../crypto/pack-key.ts";
import type { SecretKey } from "../../crypto/secret-key.ts";
import { deriveSubkeys, wipeSubkeys } from "../../crypto/subkeys.ts";
import { TcfsError } from "../../errors.ts";
import { writeNewHeader } from "../../keys/header-file.ts";
import { type VaultHeader, assertWritable, parseHeader } from "../../keys/header.ts";
import { unlockHeader } from "../../keys/keyring.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import { systemRandom } from "../../platform/random.ts";
import type { ObjectStore } from "../../remote/object-store.ts";
import { formatStoreUrl, parseStoreUrl } from "../../remote/store-url.ts";
import { type AttachReport, attachRecords } from "../../replica/attach.ts";
import { HEADER_NAME, MAX_HEADER_OBJECT_BYTES } from "../../replica/object-names.ts";
import { withSecret } from "../secrets.ts";
import type { Settings } from "../settings.ts";
import { formatBytes } from "../status.ts";
import { openNamedStore } from "../store-setup.ts";
import { secretSource, vaultDirectory } from "../vault-access.ts";
import type { VaultArguments } from "../vault-access.ts";
import { refuseOccupied } from "./init.ts";

const SESSION_ID_BYTES = 8;

export interface AttachArguments extends VaultArguments {
  readonly url: string;
}

/** @throws TcfsError `TCFS_NO_VAULT`, `TCFS_WRONG_KEY`, `TCFS_VAULT_EXISTS`; what {@link attachRecords} throws. Nothing is left then. */
export async function runAttach(parameters: AttachArguments, settings: Settings): Promise<void> {
  const directory = await vaultDirectory(parameters, settings);
  const disk = new NodeDisk();
  await refuseOccupied(disk, directory);
  const store = await openNamedStore(parameters.url, settings, { create: false });
  try {
    const header = await readRemoteHeader(store);
    const { key } = await withSecret(secretSource(parameters), settings, (secret) => unlockHeader(header, secret));
    try {
      const report = await attach(store, { directory, header, key, url: parameters.url });
      tell(store, directory, report);
    } finally {
      key.wipe();
    }
  } finally {
    await store.close();
  }
}

async function readRemoteHeader(store: ObjectStore): Promise<VaultHeader> {
  const found = await store.get(HEADER_NAME, { maxBytes: MAX_HEADER_OBJECT_BYTES });
  if (found === undefined) throw new TcfsError("TCFS_NO_VAULT", `there is no vault in ${store.place}`);
  const header = parseHeader(found.content);
  assertWritable(header);
  return header;
}

interface NewCopy {
  readonly directory: string;
  readonly header: VaultHeader;
  readonly key: SecretKey;
  readonly url: string;
}

async function attach(store: ObjectStore, { directory, header, key, url }: NewCopy): Promise<AttachReport> {
  const disk = new NodeDisk();
  const { vaultId, chunking, revision: headerRevision } = header;
  const subkeys = deriveSubkeys(key.expose(), vaultId);
  const sealer = new ObjectSealer(subkeys.store, vaultId, systemRandom);
  const packKeys = new PackKeyWrapper(subkeys.packs, vaultId, systemRandom);
  const engine = openEngine({ vaultId, subkeys, chunking, sessionId: systemRandom.bytes(SESSION_ID_BYTES) });
  wipeSubkeys(subkeys);
  try {
    await disk.makeDirectory(directory);
    await chmod(directory, 0o700).catch(() => undefined); // one that was there; some filesystems have no modes
    const place = formatStoreUrl(parseStoreUrl(url));
    const rooms = { engine, packKeys, vaultId, random: systemRandom };
    const report = await attachRecords({ ...rooms, store, url: place, disk, directory, sealer, headerRevision });
    await disk.makeDirectory(join(directory, "packs"));
    await writeNewHeader(disk, directory, header);
    await disk.syncDirectory(dirname(directory));
    return report;
  } catch (error) {
    for (const name of ["meta", "journal", "packs", "store.json", "store.packs"]) {
      await rm(join(directory, name), { recursive: true, force: true });
    }
    throw error;
  } finally {
    engine.close();
    packKeys.wipe();
    sealer.wipe();
  }
}

function tell(store: ObjectStore, directory: string, { volume, root, packCount }: AttachReport): void {
  const state = new Date(root.time.seconds * 1000).toISOString();
  const size = `${volume.inodeCount} inodes, ${formatBytes(volume.allocatedBytes)} in ${packCount} packs`;
  process.stdout.write(`The vault of ${store.place} is in ${directory}, as it was at ${state}: ${size}.
What files hold is brought when it is read. Mount it: tcfs mount MOUNTPOINT --vault ${directory}
`);
}
