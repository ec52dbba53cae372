/**
 * Which key slots a rotated vault has: a slot can be made anew only with its secret at hand (FORMAT.md §8.8). The others
 * are dropped, and that is said before anything begins.
 */
import { toHex } from "../../bytes.ts";
import type { SecretKey } from "../../crypto/secret-key.ts";
import { TcfsError } from "../../errors.ts";
import type { VaultHeader } from "../../keys/header.ts";
import { type NewSlot, unlockHeader } from "../../keys/keyring.ts";
import { type KeySlot, type SlotKind, type SlotKindName, isTpmSlot } from "../../keys/slot-format.ts";
import { keyFileKind } from "../../keys/key-file.ts";
import { readKeyFile } from "../../keys/secret-file.ts";
import { secretMaterial } from "../../keys/slots.ts";
import { systemRandom } from "../../platform/random.ts";
import { describeSlot } from "./describe-slot.ts";
import { type SecretSource, isNamed, withSecret } from "./secrets.ts";
import type { Settings } from "../settings.ts";
import { rotatedTpmSlot } from "./tpm-slots.ts";
import { type VaultArguments, secretSource } from "./vault-access.ts";

const ENTROPY_BYTES = 32;

/** How a slot's secret could have been given. */
const FLAG_OF: Readonly<Record<SlotKindName, string>> = {
  passphrase: "--passphrase-file FILE",
  "recovery-words": "--recovery-file FILE",
  "key-file": "--key-file FILE",
  hybrid: "--key-file FILE with --passphrase-file FILE",
  tpm2: "this machine's TPM, in the state that it was made for",
  "tpm2-pin": "--pin-file FILE",
};

export interface SlotPlan {
  /** The present vault key. Wiped with the plan, as is the slots' material. */
  readonly key: SecretKey;
  readonly slots: readonly NewSlot[];
  readonly kept: readonly KeySlot[];
  readonly dropped: readonly { readonly slot: KeySlot; readonly why: string }[];
  /** Of new recovery words; undefined where the old ones were given. */
  readonly words: Uint8Array | undefined;
}

/**
 * Read every secret that was named, or ask for the passphrase; make TPM slots anew where the TPM lets us.
 * @throws TcfsError `TCFS_WRONG_KEY` for a secret that opens nothing: better than to drop its slot; what reading throws.
 */
export async function planSlots(
  header: VaultHeader,
  parameters: VaultArguments,
  settings: Settings,
): Promise<SlotPlan> {
  const source = secretSource(parameters);
  const made = new Map<string, NewSlot>();
  let key: SecretKey | undefined;
  for (const one of await singleSources(source, settings)) {
    await withSecret(one, settings, async (secret) => {
      const opened = await unlockHeader(header, secret);
      if (key === undefined) key = opened.key;
      else opened.key.wipe();
      const { slot } = opened;
      const kind: SlotKind = slot.kind === "passphrase" ? { kind: slot.kind, kdf: slot.kdf } : slot;
      made.set(toHex(slot.id), { kind, material: secretMaterial(secret) });
    });
  }
  if (key === undefined) throw new RangeError("no secret was read");
  const dropped: { slot: KeySlot; why: string }[] = [];
  for (const slot of header.slots) {
    if (made.has(toHex(slot.id))) continue;
    if (!isTpmSlot(slot)) {
      const isReplaced = slot.kind === "recovery-words";
      dropped.push({ slot, why: isReplaced ? "new words take its place" : `${FLAG_OF[slot.kind]} keeps it` });
      continue;
    }
    try {
      made.set(toHex(slot.id), await rotatedTpmSlot(slot, source, settings));
    } catch (error) {
      if (!(error instanceof TcfsError) || ["TCFS_CANCELLED", "TCFS_WRONG_KEY"].includes(error.code)) throw error;
      dropped.push({ slot, why: `${FLAG_OF[slot.kind]} is needed: ${error.message}` });
    }
  }
  const kept = header.slots.filter(({ id }) => made.has(toHex(id)));
  const slots = [...made.values()];
  if (kept.some(({ kind }) => kind === "recovery-words")) return { key, slots, kept, dropped, words: undefined };
  const words = systemRandom.bytes(ENTROPY_BYTES);
  slots.push({ kind: { kind: "recovery-words" }, material: words });
  return { key, slots, kept, dropped, words };
}

/** What begins, what opens the vault afterwards, and what does not any more. */
export function formatPlan({ kept, dropped, words }: SlotPlan, renewsData: boolean): string {
  const lines = [
    renewsData
      ? "The vault gets a new key; every record and every pack is sealed anew."
      : "The vault gets a new key; every record is sealed anew, the key of every pack wrapped anew.",
    "Afterwards it opens with:",
    ...kept.map((slot) => `  the ${describeSlot(slot)}, as before`),
    ...(words === undefined ? [] : ["  24 new recovery words, which you get when it begins"]),
  ];
  if (dropped.length > 0) {
    lines.push("and no longer with:", ...dropped.map(({ slot, why }) => `  the ${describeSlot(slot)}: ${why}`));
  }
  lines.push(STAYS);
  return `${lines.join("\n")}\n`;
}

/** SECURITY.md §5, in a sentence. */
const STAYS =
  "What no rotation changes: by which keys names and contents are looked up. Who had the old key and reads the vault's " +
  "directory later can still tell whether a name or content that he guesses is in it; only a new vault, copied into, hides that.";

export function wipePlan({ key, slots }: SlotPlan): void {
  key.wipe();
  for (const { material } of slots) material.fill(0);
}

/** A source for each secret that was named; the asked one where none was. What a hybrid slot takes is one secret. */
async function singleSources(source: SecretSource, settings: Settings): Promise<SecretSource[]> {
  if (!isNamed(source)) return [source];
  const { passphraseFile, recoveryFile, keyFile, ...rest } = source;
  const nothing = { passphraseFile: undefined, recoveryFile: undefined, keyFile: undefined };
  const isHybrid = keyFile !== undefined && (await isHybridFile(keyFile, settings));
  const sources = isHybrid
    ? [{ recoveryFile }, { keyFile, passphraseFile }]
    : [{ passphraseFile }, { recoveryFile }, { keyFile }];
  return sources
    .filter((one) => Object.values(one).some((file) => file !== undefined))
    .map((one) => ({ ...rest, ...nothing, ...one }));
}

async function isHybridFile(file: string, { secretOwners }: Settings): Promise<boolean> {
  const bytes = await readKeyFile(file, { owners: secretOwners });
  try {
    return keyFileKind(bytes) === "hybrid";
  } finally {
    bytes.fill(0);
  }
}
