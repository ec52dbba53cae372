/** `tcfs key passwd`: another passphrase for the same vault key. The data is not touched, a running mount goes on. */
import { replaceHeader } from "../../keys/header-file.ts";
import { calibrateKdfCost } from "../../keys/kdf.ts";
import { changePassphrase } from "../../keys/keyring.ts";
import { systemClock } from "../../platform/clock.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import { systemRandom } from "../../platform/random.ts";
import { newPassphrase } from "../secrets.ts";
import type { Settings } from "../settings.ts";
import { secretSource, unlockVault, vaultDirectory } from "../vault-access.ts";
import type { VaultArguments } from "../vault-access.ts";

export interface PasswdArguments extends VaultArguments {
  readonly newPassphraseFile?: string | undefined;
}

export async function runPasswd(parameters: PasswdArguments, settings: Settings): Promise<void> {
  const directory = await vaultDirectory(parameters, settings);
  const { header, key } = await unlockVault(directory, secretSource(parameters), settings);
  try {
    const passphrase = await newPassphrase(parameters.newPassphraseFile, settings, "--new-passphrase-file FILE");
    const kdf = await calibrateKdfCost(systemClock);
    const options = { random: systemRandom, clock: systemClock, kdf };
    const changed = await changePassphrase(header, key, passphrase, options);
    passphrase.fill(0);
    await replaceHeader(new NodeDisk(), directory, header, changed);
  } finally {
    key.wipe();
  }
  process.stdout.write("The vault has a new passphrase; the old one does not open it any more.\n");
}
