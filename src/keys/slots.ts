/**
 * Key slots: the vault key wrapped under a KEK by XChaCha20-Poly1305, with a key commitment (FORMAT.md §8.4).
 * Holds keys only while a call runs; does no I/O.
 */
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { hkdfSync, timingSafeEqual } from "node:crypto";
import { SecretKey } from "../crypto/secret-key.ts";
import { TcfsError } from "../errors.ts";
import type { RandomSource } from "../platform/random.ts";
import { deriveKek } from "./kdf.ts";
import { deriveHybridKek, hybridMaterial } from "./hybrid.ts";
import { parseKeyFile } from "./key-file.ts";
import { normalizePassphrase } from "./normalize.ts";
import { parseRecoveryWords } from "./recovery-words.ts";
import { SLOT_ID_BYTES, slotBinding } from "./slot-format.ts";
import type { KeySlot, SlotKind } from "./slot-format.ts";

/** What opens a slot. The caller wipes `bytes`. */
export type Secret =
  | { readonly kind: "passphrase"; readonly bytes: Uint8Array }
  /** The words as text: typed, or read from a file. */
  | { readonly kind: "recovery-words"; readonly bytes: Uint8Array }
  /** The whole file. */
  | { readonly kind: "key-file"; readonly bytes: Uint8Array }
  /** The whole file, 80 bytes, and the passphrase after it. */
  | { readonly kind: "hybrid"; readonly bytes: Uint8Array }
  /** What the TPM gave for this slot and no other: unsealFromTpm's result. */
  | { readonly kind: "tpm2" | "tpm2-pin"; readonly slotId: Uint8Array; readonly bytes: Uint8Array };

export interface SlotContext {
  readonly vaultId: Uint8Array;
  readonly random: RandomSource;
  /** ISO 8601, for the new slot. */
  readonly createdAt: string;
}

const NONCE_BYTES = 24;

/** HKDF's info for the kinds whose secrets have full entropy and need no slow KDF. */
const KEK_LABELS: Readonly<Record<Exclude<SlotKind["kind"], "passphrase" | "hybrid">, string>> = {
  "recovery-words": "tcfs v1 recovery words",
  "key-file": "tcfs v1 key file",
  tpm2: "tcfs v1 tpm2",
  "tpm2-pin": "tcfs v1 tpm2 pin",
};

/**
 * Wrap the vault key for one more secret.
 * @param material - What {@link secretMaterial} gives. Lent until settled.
 */
export async function sealSlot(
  key: SecretKey,
  kind: SlotKind,
  material: Uint8Array,
  context: SlotContext,
): Promise<KeySlot> {
  const { random, createdAt } = context;
  const place = { ...kind, id: random.bytes(SLOT_ID_BYTES), createdAt, salt: random.bytes(16) };
  const kek = await deriveSlotKek(place, material);
  if (kek === undefined) throw new RangeError("this is not what the slot is made for");
  try {
    const { wrapKey, commitment } = expandKek(kek, place.salt);
    const nonce = random.bytes(NONCE_BYTES);
    const cipher = xchacha20poly1305(wrapKey, nonce, slotAad(context.vaultId, place));
    const wrappedKey = cipher.encrypt(key.expose());
    wrapKey.fill(0);
    return { ...place, commitment, nonce, wrappedKey };
  } finally {
    kek.fill(0);
  }
}

/**
 * Unwrap the vault key.
 * @param material - As for {@link sealSlot}.
 * @returns undefined if this secret is not the slot's.
 * @throws TcfsError `TCFS_BAD_HEADER` if the secret is right but the slot was altered or belongs to another vault.
 */
export async function openSlot(
  slot: KeySlot,
  material: Uint8Array,
  vaultId: Uint8Array,
): Promise<SecretKey | undefined> {
  const kek = await deriveSlotKek(slot, material);
  if (kek === undefined) return undefined;
  const { wrapKey, commitment } = expandKek(kek, slot.salt);
  kek.fill(0);
  try {
    if (!timingSafeEqual(commitment, slot.commitment)) return undefined;
    const bytes = unwrap(wrapKey, slot, vaultId);
    const key = new SecretKey(bytes);
    bytes.fill(0);
    return key;
  } finally {
    wrapKey.fill(0);
  }
}

/**
 * The bytes that go into the derivation for a secret: a passphrase in Unicode NFC, so that it opens the vault whichever
 * keyboard typed it (bytes that are not UTF-8 are taken as they are); recovery words as their entropy; a key file as its
 * key.
 * @returns Fresh memory, owned by the caller, who wipes it.
 * @throws TcfsError `TCFS_WRONG_KEY` for what cannot be recovery words or a key file.
 */
export function secretMaterial(secret: Secret): Uint8Array {
  switch (secret.kind) {
    case "passphrase":
      return normalizePassphrase(secret.bytes);
    case "recovery-words":
      return parseRecoveryWords(new TextDecoder().decode(secret.bytes));
    case "key-file":
      return parseKeyFile(secret.bytes);
    case "hybrid":
      return hybridMaterial(secret.bytes);
    case "tpm2":
    case "tpm2-pin":
      return secret.bytes.slice();
  }
}

/** @returns Undefined where it is clear before the derivation that the secret is not this slot's. */
async function deriveSlotKek(
  slot: SlotKind & { readonly salt: Uint8Array },
  material: Uint8Array,
): Promise<Uint8Array | undefined> {
  if (slot.kind === "hybrid") return deriveHybridKek(slot, material);
  if (slot.kind === "passphrase") return deriveKek(material, slot.salt, slot.kdf);
  return new Uint8Array(hkdfSync("sha256", material, slot.salt, KEK_LABELS[slot.kind], 32));
}

function expandKek(kek: Uint8Array, salt: Uint8Array): { wrapKey: Uint8Array; commitment: Uint8Array } {
  return {
    wrapKey: new Uint8Array(hkdfSync("sha256", kek, salt, "tcfs v1 slot wrap", 32)),
    commitment: new Uint8Array(hkdfSync("sha256", kek, salt, "tcfs v1 slot commitment", 32)),
  };
}

function slotAad(vaultId: Uint8Array, slot: Parameters<typeof slotBinding>[0]): Uint8Array {
  return Buffer.concat([Buffer.from("tcfs v1 slot"), vaultId, Buffer.from(JSON.stringify(slotBinding(slot)))]);
}

function unwrap(wrapKey: Uint8Array, slot: KeySlot, vaultId: Uint8Array): Uint8Array {
  try {
    return xchacha20poly1305(wrapKey, slot.nonce, slotAad(vaultId, slot)).decrypt(slot.wrappedKey);
  } catch (cause) {
    throw new TcfsError(
      "TCFS_BAD_HEADER",
      "the vault's header is damaged or was tampered with: the secret is right, but its key slot was altered or belongs to another vault",
      { cause },
    );
  }
}
