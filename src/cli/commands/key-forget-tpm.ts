/** `tcfs key forget-tpm`: the TPM that remembers the vault's state is gone for good; nothing waits for it any more. */
import { toHex } from "../../bytes.ts";
import { readIsAnchored } from "../../keys/devices/device-book.ts";
import { readHeader } from "../../keys/header-file.ts";
import { unlockHeader } from "../../keys/keyring.ts";
import { isTpmSlot } from "../../keys/slot-format.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import { describeSlot } from "../access/describe-slot.ts";
import { openDeviceBook, withSealer } from "../../vault/device-setup.ts";
import { withSecret } from "../access/secrets.ts";
import type { Settings } from "../settings.ts";
import { type VaultArguments, secretSource, vaultDirectory } from "../access/vault-access.ts";

/** No TPM is asked: what opens the vault here is what opens it without one. A mount notices by itself. */
export async function runKeyForgetTpm(parameters: VaultArguments, settings: Settings): Promise<void> {
  const directory = await vaultDirectory(parameters, settings);
  const disk = new NodeDisk();
  const header = await readHeader(disk, directory);
  const { key, slot } = await withSecret(secretSource(parameters), settings, (secret) => unlockHeader(header, secret));
  let wasAnchored: boolean;
  try {
    wasAnchored = await withSealer(header, key, async (sealer) => {
      const place = { disk, directory, sealer };
      if (!(await readIsAnchored(place))) return false;
      const book = await openDeviceBook(place, header.deviceId);
      await book.keep({ isAnchored: false });
      return true;
    });
  } finally {
    key.wipe();
  }
  const said = wasAnchored ? FORGOTTEN : "No TPM remembers the vault's state: nothing was changed.";
  process.stdout.write(`${said}\nThe vault opens with the ${describeSlot(slot)}.\n`);
  for (const { id } of header.slots.filter(isTpmSlot))
    process.stdout.write(`A slot of the TPM is left: tcfs key remove ${toHex(id)}\n`);
}

const FORGOTTEN =
  "No TPM is asked any more whether the vault's state is its newest, and a rotation of the key ends without it. " +
  "Until a mount with --tpm-freshness nobody notices an older copy of the vault.";
