/** `tcfs key reseal`: let the TPM open the vault in the machine's present state. */
import { TcfsError } from "../../errors.ts";
import { findSlot } from "../../keys/keyring.ts";
import { isTpmSlot } from "../../keys/slot-format.ts";
import { describeSlot } from "../access/describe-slot.ts";
import { resealSlots } from "../access/tpm-slots.ts";
import type { Settings } from "../settings.ts";
import { secretSource, unlockVault, vaultDirectory } from "../access/vault-access.ts";
import type { VaultArguments } from "../access/vault-access.ts";

export interface ResealArguments extends VaultArguments {
  /** The beginning of a slot's id: this one in any case. Without it all that the present state keeps shut. */
  readonly slot?: string | undefined;
}

export async function runKeyReseal(parameters: ResealArguments, settings: Settings): Promise<void> {
  const directory = await vaultDirectory(parameters, settings);
  const source = secretSource(parameters);
  const { header, key } = await unlockVault(directory, source, settings);
  try {
    const named = parameters.slot === undefined ? undefined : findSlot(header, parameters.slot);
    const slots = (named === undefined ? header.slots : [named]).filter(isTpmSlot);
    if (named !== undefined && slots.length === 0)
      throw new TcfsError("TCFS_USAGE", `the ${describeSlot(named)} is in no TPM: there is nothing to reseal`);
    if (slots.length === 0)
      throw new TcfsError("TCFS_USAGE", "the vault has no key slot in a TPM: tcfs key add --tpm makes one");
    const { count } = await resealSlots(directory, { header, key }, slots, named !== undefined, source, settings);
    const told = count === 0 ? "The TPM opens the vault as it is: nothing to reseal." : `Resealed: ${count}.`;
    process.stdout.write(`${told}\n`);
  } finally {
    key.wipe();
  }
}
