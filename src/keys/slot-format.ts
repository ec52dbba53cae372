/**
 * Key slots as they stand in the header: each kind's members, in their one order (FORMAT.md §8.4). Pure; knows no key.
 * Kinds and KDFs are closed lists: what is not in them is refused by its name.
 */
import { z } from "zod";
import { TcfsError } from "../errors.ts";
import { hexField, timeField, toHex } from "./fields.ts";
import { KDF_BOUNDS, checkKdfCost } from "./kdf.ts";
import type { KdfCost } from "./kdf.ts";

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
  | { readonly kind: "key-file" };

export type SlotKindName = SlotKind["kind"];
export type KeySlot = SlotKind & SlotCommon;

/** What a person calls each kind. */
export const SLOT_KIND_NAMES: Readonly<Record<SlotKindName, string>> = {
  passphrase: "passphrase",
  "recovery-words": "recovery words",
  "key-file": "key file",
};

const OPEN_ANYWHERE: ReadonlySet<SlotKindName> = new Set(["passphrase", "recovery-words", "key-file"]);

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

export const slotSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("passphrase"), kdf: kdfSchema, ...slotCommon }),
  z.strictObject({ kind: z.literal("recovery-words"), ...slotCommon }),
  z.strictObject({ kind: z.literal("key-file"), ...slotCommon }),
]);

/** What is looked at before the schema, so that a newer kind or KDF is refused by its name and not by its shape. */
export const slotProbeSchema = z.looseObject({
  kind: z.string(),
  kdf: z.looseObject({ algorithm: z.string() }).optional(),
});

/** @returns What this version does not know about a slot, in words; undefined if it knows all. */
export function unknownInSlot({ kind, kdf }: z.infer<typeof slotProbeSchema>): string | undefined {
  if (!Object.hasOwn(SLOT_KIND_NAMES, kind)) return `key slots of the kind “${kind}”`;
  if (kdf !== undefined && kdf.algorithm !== KDF_NAME) return `the KDF “${kdf.algorithm}”`;
  return undefined;
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
  return slot.kind === "passphrase" ? slot.kdf : undefined;
}

function kindMembers(slot: SlotKind): object {
  return slot.kind === "passphrase" ? { kdf: kdfMembers(slot.kdf) } : {};
}

function kdfMembers({ memoryKiB, passes, lanes }: KdfCost): object {
  return { algorithm: KDF_NAME, memoryKiB, passes, lanes };
}
