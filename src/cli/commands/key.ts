/** `tcfs key list|remove|test|passwd`: what opens a vault. The data is not touched, and a running mount goes on. */
import { toHex } from "../../bytes.ts";
import { readHeader } from "../../keys/header-file.ts";
import { calibrateKdfCost } from "../../keys/kdf.ts";
import { changePassphrase, findSlot, removeSlot } from "../../keys/keyring.ts";
import { SLOT_KIND_NAMES } from "../../keys/slot-format.ts";
import { readSlotUses } from "../../keys/slot-use.ts";
import { TcfsError } from "../../errors.ts";
import { systemClock } from "../../platform/clock.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import { systemRandom } from "../../platform/random.ts";
import { describeSlot } from "../access/describe-slot.ts";
import { rewriteHeader } from "../../vault/rewrite-header.ts";
import { newPassphrase } from "../access/secrets.ts";
import type { Settings } from "../settings.ts";
import { tell } from "../access/tpm-slots.ts";
import { secretSource, tryUnlock, unlockVault, vaultDirectory } from "../access/vault-access.ts";
import type { VaultArguments } from "../access/vault-access.ts";

export interface PasswdArguments extends VaultArguments {
  readonly newPassphraseFile?: string | undefined;
}

export interface ListArguments extends VaultArguments {
  readonly json?: boolean | undefined;
}

export interface SlotArguments extends VaultArguments {
  /** The beginning of a slot's id. */
  readonly slot: string;
}

/** Needs no secret, and so tells what the header claims. */
export async function runKeyList(parameters: ListArguments, settings: Settings): Promise<void> {
  const directory = await vaultDirectory(parameters, settings);
  const disk = new NodeDisk();
  const { slots, keyEpoch, keyring } = await readHeader(disk, directory);
  const uses = await readSlotUses(disk, directory);
  const rows = slots.map(({ id, kind, createdAt }) => {
    return { id: toHex(id), kind, createdAt, lastUsedAt: uses[toHex(id)] ?? null };
  });
  if (parameters.json === true) {
    process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
    return;
  }
  const line = (id: string, kind: string, made: string, used: string): string =>
    `${id.padEnd(18)}${kind.padEnd(16)}${made.padEnd(26)}${used}\n`;
  process.stdout.write(line("slot", "kind", "made", "last used"));
  for (const { id, kind, createdAt, lastUsedAt } of rows)
    process.stdout.write(line(id, SLOT_KIND_NAMES[kind], createdAt, lastUsedAt ?? "never"));
  for (const older of keyring?.older ?? []) {
    const how = "it goes on with each mount (tcfs status says how far it is) and with tcfs key rotate";
    process.stdout.write(`The rotation from key epoch ${older.keyEpoch} to ${keyEpoch} has not ended: ${how}.\n`);
  }
}

export async function runKeyRemove(parameters: SlotArguments, settings: Settings): Promise<void> {
  const directory = await vaultDirectory(parameters, settings);
  const { header, key } = await unlockVault(directory, secretSource(parameters), settings);
  try {
    const slot = findSlot(header, parameters.slot);
    tell(await rewriteHeader(directory, header, removeSlot(header, key, slot.id)));
    process.stdout.write(`The ${describeSlot(slot)} is removed. ${OLD_COPIES}\n`);
  } finally {
    key.wipe();
  }
}

/** Says which slot the secret opens, and changes nothing. */
export async function runKeyTest(
  parameters: VaultArguments & { readonly slot?: string | undefined },
  settings: Settings,
): Promise<void> {
  const directory = await vaultDirectory(parameters, settings);
  const { header, key, slot } = await tryUnlock(directory, secretSource(parameters), settings);
  key.wipe();
  const wanted = parameters.slot === undefined ? slot : findSlot(header, parameters.slot);
  if (toHex(wanted.id) !== toHex(slot.id))
    throw new TcfsError("TCFS_WRONG_KEY", `this opens the ${describeSlot(slot)}, not the ${describeSlot(wanted)}`);
  process.stdout.write(`The vault opens with the ${describeSlot(slot)}.\n`);
}

export async function runPasswd(parameters: PasswdArguments, settings: Settings): Promise<void> {
  const directory = await vaultDirectory(parameters, settings);
  const { header, key, slot } = await unlockVault(directory, secretSource(parameters), settings);
  try {
    const passphrase = await newPassphrase(
      parameters.newPassphraseFile,
      settings,
      "--new-passphrase-file FILE",
      parameters,
    );
    const kdf = await calibrateKdfCost(systemClock);
    const options = { random: systemRandom, clock: systemClock, kdf };
    const changed = await changePassphrase(header, { key, slot }, passphrase, options);
    passphrase.fill(0);
    tell(await rewriteHeader(directory, header, changed));
  } finally {
    key.wipe();
  }
  process.stdout.write(
    `The vault has a new passphrase; the old one does not open it any more. ${OLD_COPIES} tcfs key rotate changes the key.\n`,
  );
}

/** SECURITY.md §5, in a sentence. */
const OLD_COPIES =
  "This changes the lock, not the key: a copy of vault.json made earlier still opens with what opened it then.";
