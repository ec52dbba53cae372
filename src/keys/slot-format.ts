/**
 * Key slots as they stand in the header: each kind's members, in their one order (FORMAT.md §8.4). Pure; knows no key.
 * Kinds and KDFs are closed lists: what is not in them is refused by its name.
 */
import { z } from "zod";
import { toHex } from "../bytes.ts";
import { TcfsError } from "../errors.ts";
import { hexField, timeField } from "./fields.ts";
import { KEM_CIPHERTEXT_BYTES, KEM_HASH_BYTES, KEM_NAME } from "./hybrid.ts";
import type { HybridKem } from "./hybrid.ts";
import { KDF_BOUNDS, checkKdfCost } from "./kdf.ts";
import type { KdfCost } from "./kdf.ts";
import { pcrFields } from "./tpm/pcr-fields.ts";
import { PCR_BANK_BYTES } from "./tpm/pcr-selection.ts";
import type { PcrSelection } from "./tpm/pcr-selection.ts";

export const MAX_SLOTS = 8;
export const SLOT_ID_BYTES = 8;
const KDF_NAME = "argon2id";

interface SlotCommon {
  /** 8 random bytes: which slot this is. */
  readonly id: Uint8Array;
  readonly createdAt: string;
  /** 16 random bytes for the derivation of the KEK. */
  readonly salt: Uint8Array;
  /** Tells a wrong secret from a damaged slot (FORMAT.md §8.4). */
  readonly commitment: Uint8Array;
  readonly nonce: Uint8Array;
  /** The vault key, wrapped: 48 bytes. */
  readonly wrappedKey: Uint8Array;
}

/** A slot's kind with what belongs to it alone. */
export type SlotKind =
  | { readonly kind: "passphrase"; readonly kdf: KdfCost }
  | { readonly kind: "recovery-words" }
  | { readonly kind: "key-file" }
  | { readonly kind: "hybrid"; readonly kdf: KdfCost; readonly kem: HybridKem }
  | TpmSlotKind;

export type TpmSlotKind =
  | { readonly kind: "tpm2"; readonly tpm: TpmSealing }
  | { readonly kind: "tpm2-pin"; readonly tpm: TpmSealing; readonly pin: TpmPin };

/** A secret as a TPM sealed it (FORMAT.md §8.7). */
export interface TpmSealing extends PcrSelection {
  /** What each PCR was, in the order of `pcrs`: to say which one has changed. */
  readonly pcrDigests: readonly Uint8Array[];
  /** Name of the storage key that it is sealed under: whose TPM it was. */
  readonly parentName: Uint8Array;
  readonly public: Uint8Array;
  readonly private: Uint8Array;
}

/** The TPM's object that stands for the PIN. */
export interface TpmPin {
  readonly kdf: KdfCost;
  readonly salt: Uint8Array;
  readonly public: Uint8Array;
  readonly private: Uint8Array;
}

export type SlotKindName = SlotKind["kind"];
export type KeySlot = SlotKind & SlotCommon;
export type TpmSlot = TpmSlotKind & SlotCommon;

export function isTpmSlot(slot: KeySlot): slot is TpmSlot {
  return slot.kind === "tpm2" || slot.kind === "tpm2-pin";
}

/** What a person calls each kind. */
export const SLOT_KIND_NAMES: Readonly<Record<SlotKindName, string>> = {
  passphrase: "passphrase",
  "recovery-words": "recovery words",
  "key-file": "key file",
  hybrid: "passphrase and post-quantum key file",
  tpm2: "TPM",
  "tpm2-pin": "TPM and PIN",
};

const OPEN_ANYWHERE: ReadonlySet<SlotKindName> = new Set(["passphrase", "recovery-words", "key-file", "hybrid"]);

const slotCommon = {
  id: hexField(SLOT_ID_BYTES),
  createdAt: timeField,
  salt: hexField(16),
  commitment: hexField(32),
  nonce: hexField(24),
  wrappedKey: hexField(48),
};

const kdfSchema = z
  .strictObject({ algorithm: z.literal(KDF_NAME), memoryKiB: z.int(), passes: z.int(), lanes: z.int() })
  .transform(({ memoryKiB, passes, lanes }): KdfCost => ({ memoryKiB, passes, lanes }));

const kemSchema = z
  .strictObject({
    algorithm: z.literal(KEM_NAME),
    publicHash: hexField(KEM_HASH_BYTES),
    ciphertext: hexField(KEM_CIPHERTEXT_BYTES),
  })
  .transform(({ publicHash, ciphertext }): HybridKem => ({ publicHash, ciphertext }));

/** What a TPM's structures may have: those of tcfs have 50 to 300 bytes. */
const tpmBlob = hexField(1, 1024);

const tpmSchema = z
  .strictObject({
    ...pcrFields,
    pcrDigests: z.array(hexField(32, 64)),
    parentName: hexField(34, 66),
    public: tpmBlob,
    private: tpmBlob,
  })
  .refine(({ pcrs }) => pcrs.every((pcr, at) => at === 0 || pcr > (pcrs[at - 1] ?? 0)), "PCRs are out of order")
  .refine(
    ({ pcrBank, pcrs, pcrDigests }) =>
      pcrDigests.length === pcrs.length && pcrDigests.every(({ length }) => length === PCR_BANK_BYTES[pcrBank]),
    "PCR digests do not fit the PCRs",
  );

const pinSchema = z.strictObject({ kdf: kdfSchema, salt: hexField(16), public: tpmBlob, private: tpmBlob });

export const slotSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("passphrase"), kdf: kdfSchema, ...slotCommon }),
  z.strictObject({ kind: z.literal("recovery-words"), ...slotCommon }),
  z.strictObject({ kind: z.literal("key-file"), ...slotCommon }),
  z.strictObject({ kind: z.literal("hybrid"), kdf: kdfSchema, kem: kemSchema, ...slotCommon }),
  z.strictObject({ kind: z.literal("tpm2"), tpm: tpmSchema, ...slotCommon }),
  z.strictObject({ kind: z.literal("tpm2-pin"), tpm: tpmSchema, pin: pinSchema, ...slotCommon }),
]);

const kdfProbeSchema = z.looseObject({ algorithm: z.string() });

/** What is looked at before the schema, so that a newer kind or KDF is refused by its name and not by its shape. */
export const slotProbeSchema = z.looseObject({
  kind: z.string(),
  kdf: kdfProbeSchema.optional(),
  pin: z.looseObject({ kdf: kdfProbeSchema }).optional(),
  kem: kdfProbeSchema.optional(),
});

/** @returns What this version does not know about a slot, in words; undefined if it knows all. */
export function unknownInSlot({ kind, kdf, pin, kem }: z.infer<typeof slotProbeSchema>): string | undefined {
  if (!Object.hasOwn(SLOT_KIND_NAMES, kind)) return `key slots of the kind “${kind}”`;
  const algorithm = [kdf, pin?.kdf].find((known) => known !== undefined && known.algorithm !== KDF_NAME)?.algorithm;
  if (kem !== undefined && kem.algorithm !== KEM_NAME) return `the KEM “${kem.algorithm}”`;
  return algorithm === undefined ? undefined : `the KDF “${algorithm}”`;
}

/** What a slot's wrapped key is bound to besides the vault: the slot's place and derivation (FORMAT.md §8.4). */
export function slotBinding(slot: Pick<SlotCommon, "id" | "createdAt" | "salt"> & SlotKind): object {
  const { id, createdAt, salt } = slot;
  return { kind: slot.kind, ...kindMembers(slot), id: toHex(id), createdAt, salt: toHex(salt) };
}

/** A slot's members in their order. */
export function slotMembers(slot: KeySlot): object {
  return {
    ...slotBinding(slot),
    commitment: toHex(slot.commitment),
    nonce: toHex(slot.nonce),
    wrappedKey: toHex(slot.wrappedKey),
  };
}

/**
 * Check the cost of every KDF before one of them is computed.
 * @throws TcfsError `TCFS_KDF_BOUNDS`.
 */
export function checkKdfBounds(slots: readonly SlotKind[]): void {
  let total = 0;
  for (const slot of slots) {
    const cost = kdfCostOf(slot);
    if (cost === undefined) continue;
    checkKdfCost(cost);
    total += cost.memoryKiB * cost.passes;
  }
  if (total > KDF_BOUNDS.totalMemoryPassesKiB)
    throw new TcfsError("TCFS_KDF_BOUNDS", "the header's key slots together ask for more than tcfs will compute");
}

/** @returns Whether the slot opens on any machine: with what a person knows or holds, and no TPM. */
export function needsNoHardware({ kind }: SlotKind): boolean {
  return OPEN_ANYWHERE.has(kind);
}

function kdfCostOf(slot: SlotKind): KdfCost | undefined {
  if (slot.kind === "passphrase" || slot.kind === "hybrid") return slot.kdf;
  return slot.kind === "tpm2-pin" ? slot.pin.kdf : undefined;
}

function kindMembers(slot: SlotKind): object {
  switch (slot.kind) {
    case "passphrase":
      return { kdf: kdfMembers(slot.kdf) };
    case "recovery-words":
    case "key-file":
      return {};
    case "hybrid": {
      const { publicHash, ciphertext } = slot.kem;
      const kem = { algorithm: KEM_NAME, publicHash: toHex(publicHash), ciphertext: toHex(ciphertext) };
      return { kdf: kdfMembers(slot.kdf), kem };
    }
    case "tpm2":
      return { tpm: tpmMembers(slot.tpm) };
    case "tpm2-pin":
      return { tpm: tpmMembers(slot.tpm), pin: pinMembers(slot.pin) };
  }
}

function tpmMembers(tpm: TpmSealing): object {
  const { pcrBank, pcrs } = tpm;
  return {
    pcrBank,
    pcrs,
    pcrDigests: tpm.pcrDigests.map(toHex),
    parentName: toHex(tpm.parentName),
    public: toHex(tpm.public),
    private: toHex(tpm.private),
  };
}

function pinMembers(pin: TpmPin): object {
  return {
    kdf: kdfMembers(pin.kdf),
    salt: toHex(pin.salt),
    public: toHex(pin.public),
    private: toHex(pin.private),
  };
}

function kdfMembers({ memoryKiB, passes, lanes }: KdfCost): object {
  return { algorithm: KDF_NAME, memoryKiB, passes, lanes };
}
