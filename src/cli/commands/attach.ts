/** `tcfs attach URL`: a vault directory made from the store alone, with the passphrase or the words. */
import { counted } from "../../counted.ts";
import { preciseIsoTime } from "../../platform/iso-time.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import { TcfsError } from "../../errors.ts";
import { unlockHeader } from "../../keys/keyring.ts";
import type { ObjectStore } from "../../remote/object-store.ts";
import type { AttachReport } from "../../replica/attach.ts";
import { describeLost, lostPackNames } from "../../replica/lost-packs.ts";
import { isKeptRoot } from "../../replica/object-names.ts";
import { requireAttachable } from "../../vault/attach-place.ts";
import { type NewCopy, attachVault, readRemoteHeader } from "../../vault/attach-vault.ts";
import { withSealer } from "../../vault/device-setup.ts";
import { openFreshness } from "../../vault/freshness-setup.ts";
import { noteCacheSize, parseCacheSize } from "../cache-size.ts";
import { withSecret } from "../access/secrets.ts";
import type { Settings } from "../settings.ts";
import { SILENT_LOGGER } from "../../vault/silent-logger.ts";
import { formatBytes } from "../../vault/status.ts";
import { keepCredentials, openNamedStore } from "../access/store-setup.ts";
import { tpmOptions } from "../access/tpm-slots.ts";
import { secretSource, vaultDirectory } from "../access/vault-access.ts";
import type { VaultArguments } from "../access/vault-access.ts";
import { warn } from "../printable.ts";

export interface AttachArguments extends VaultArguments {
  readonly url: string;
  /** The name of a kept root. */
  readonly root?: string | undefined;
  readonly tpmFreshness?: boolean | undefined;
  readonly acceptOlder?: boolean | undefined;
  readonly cacheSize?: string | undefined;
}

/** @throws TcfsError `TCFS_NO_VAULT`, `TCFS_WRONG_KEY`, `TCFS_VAULT_EXISTS`; what {@link attachRecords} throws. Nothing is left then; what a killed one left is cleared by the next. */
export async function runAttach(parameters: AttachArguments, settings: Settings): Promise<void> {
  const { url, root: rootName } = parameters;
  if (rootName !== undefined && !isKeptRoot(rootName)) {
    throw new TcfsError("TCFS_USAGE", `“${rootName}” is no kept root: tcfs store accept told its name`);
  }
  const cacheBytes = parameters.cacheSize === undefined ? undefined : parseCacheSize(parameters.cacheSize);
  const directory = await vaultDirectory(parameters, settings);
  await requireAttachable(new NodeDisk(), directory);
  const store = await openNamedStore(url, settings, secretSource(parameters), { create: false });
  try {
    const header = await readRemoteHeader(store);
    const { key } = await withSecret(secretSource(parameters), settings, (secret) => unlockHeader(header, secret));
    try {
      const prepare = async (report: AttachReport): Promise<void> => {
        await checkFreshness(report, { directory, header, key }, parameters, settings);
        await keepCredentials(directory, secretSource(parameters));
        await noteCacheSize(directory, cacheBytes);
      };
      const report = await attachVault(store, { directory, header, key, url, rootName, prepare });
      tell(store, directory, report);
    } finally {
      key.wipe();
    }
  } finally {
    await store.close();
  }
}

/** With `--tpm-freshness`: is the store's state what this machine's TPM remembers? @throws as {@link Freshness.check}. */
async function checkFreshness(
  { volume, root }: AttachReport,
  { directory, header, key }: Pick<NewCopy, "directory" | "header" | "key">,
  parameters: AttachArguments,
  settings: Settings,
): Promise<void> {
  if (parameters.tpmFreshness !== true) return;
  const request = {
    tpm: tpmOptions(parameters, settings),
    wish: true,
    isOlderAccepted: parameters.acceptOlder === true,
  };
  await withSealer(header, key, async (sealer) => {
    const vault = { disk: new NodeDisk(), directory, header, sealer, isReadOnly: false, logger: SILENT_LOGGER };
    const freshness = await openFreshness(vault, request);
    try {
      await freshness?.check({ commit: volume.commit, root: root.number });
    } finally {
      freshness?.close();
    }
  });
}

function tell(store: ObjectStore, directory: string, { volume, root, packCount, lost }: AttachReport): void {
  const state = preciseIsoTime(root.time);
  const size = `${counted(volume.inodeCount, "inode")}, ${formatBytes(volume.allocatedBytes)} in ${counted(packCount, "pack")}`;
  if (lost.length > 0) warn(`tcfs: the store lacks ${describeLost(lostPackNames(lost))}`);
  process.stdout.write(`The vault of ${store.place} is in ${directory}, as it was at ${state}: ${size}.
What files hold is brought when it is read. Mount it: tcfs mount MOUNTPOINT --vault ${directory}
`);
}
