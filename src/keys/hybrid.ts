/**
 * Hybrid slots (FORMAT.md §8.9): a passphrase by Argon2id and a secret by ML-KEM-768 (FIPS 203), of which either alone keeps the
 * vault's key: the KEK is derived from both. The decapsulation key is in a key file of the user's, as the seed that makes it.
 */
import { createHash, hkdfSync, timingSafeEqual } from "node:crypto";
import type { RandomSource } from "../platform/random.ts";
import { HYBRID_FILE_BYTES, HYBRID_SEED_BYTES, parseKeyFile } from "./key-file.ts";
import { deriveKek } from "./kdf.ts";
import type { KdfCost } from "./kdf.ts";
import { normalizePassphrase } from "./normalize.ts";

export const KEM_NAME = "ml-kem-768";
export const KEM_CIPHERTEXT_BYTES = 1088;
export const KEM_HASH_BYTES = 32;
const KEK_BYTES = 32;
const MESSAGE_BYTES = 32;

/** What a slot has of ML-KEM. */
export interface HybridKem {
  /** SHA-256 of the encapsulation key: which key file it is, and nothing more. */
  readonly publicHash: Uint8Array;
  /** The shared secret, encapsulated to the key file's key. */
  readonly ciphertext: Uint8Array;
}

/**
 * @param secret - The key file's bytes, and the passphrase after them. Lent.
 * @returns Its seed, and the passphrase in NFC after it: the caller's to wipe.
 * @throws TcfsError `TCFS_WRONG_KEY` if it is no key file for a hybrid slot.
 */
export function hybridMaterial(secret: Uint8Array): Uint8Array {
  const seed = parseKeyFile(secret.subarray(0, HYBRID_FILE_BYTES), "hybrid");
  const passphrase = normalizePassphrase(secret.subarray(HYBRID_FILE_BYTES));
  const material = joinBytes(seed, passphrase);
  seed.fill(0);
  passphrase.fill(0);
  return material;
}

/** @returns A shared secret of a slot's own, encapsulated for whoever has the seed. */
export async function encapsulate(seed: Uint8Array, random: RandomSource): Promise<HybridKem> {
  const { ml_kem768: kem } = await import("@noble/post-quantum/ml-kem.js");
  const keys = kem.keygen(seed);
  const message = random.bytes(MESSAGE_BYTES);
  const { cipherText, sharedSecret } = kem.encapsulate(keys.publicKey, message);
  for (const secret of [keys.secretKey, message, sharedSecret]) secret.fill(0);
  return { publicHash: sha256(keys.publicKey), ciphertext: cipherText };
}

/** The slot's members that the derivation takes. */
export interface HybridSlot {
  readonly salt: Uint8Array;
  readonly kdf: KdfCost;
  readonly kem: HybridKem;
}

/**
 * `HKDF-SHA256(shared secret || Argon2id(passphrase), salt, label || hash of the encapsulation key || hash of the ciphertext)`.
 * @param material - As {@link hybridMaterial} gives it. Lent until settled.
 * @returns 32 bytes, the caller's to wipe; undefined if the key file is another slot's, which is found out before the
 *   passphrase is tried.
 */
export async function deriveHybridKek(slot: HybridSlot, material: Uint8Array): Promise<Uint8Array | undefined> {
  const { ml_kem768: kem } = await import("@noble/post-quantum/ml-kem.js");
  const keys = kem.keygen(material.subarray(0, HYBRID_SEED_BYTES));
  try {
    if (!timingSafeEqual(sha256(keys.publicKey), slot.kem.publicHash)) return undefined;
    const shared = kem.decapsulate(slot.kem.ciphertext, keys.secretKey);
    const stretched = await deriveKek(material.subarray(HYBRID_SEED_BYTES), slot.salt, slot.kdf);
    const both = joinBytes(shared, stretched);
    const info = Buffer.concat([Buffer.from("tcfs v1 hybrid"), slot.kem.publicHash, sha256(slot.kem.ciphertext)]);
    try {
      return new Uint8Array(hkdfSync("sha256", both, slot.salt, info, KEK_BYTES));
    } finally {
      for (const secret of [shared, stretched, both]) secret.fill(0);
    }
  } finally {
    keys.secretKey.fill(0);
  }
}

/** @returns Fresh memory, in no pool: the caller wipes it. */
export function joinBytes(left: Uint8Array, right: Uint8Array): Uint8Array {
  const both = new Uint8Array(left.length + right.length);
  both.set(left);
  both.set(right, left.length);
  return both;
}

function sha256(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(createHash("sha256").update(bytes).digest());
}
