/** A device's Ed25519 key (RFC 8032, FORMAT.md §11.6): signs, verifies; the private half stays in OpenSSL's memory. */
import { createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { inspect } from "node:util";

export const SIGNATURE_BYTES = 64;
export const PUBLIC_KEY_BYTES = 32;
export const SEED_BYTES = 32;

/** What stands before the 32 bytes in DER (RFC 8410): a private key as PKCS #8, a public one as SPKI. */
const PRIVATE_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");
const PUBLIC_PREFIX = Buffer.from("302a300506032b6570032100", "hex");

export class SigningKey {
  readonly publicKey: Uint8Array;
  readonly #key: KeyObject;

  /** @param seed - Lent. */
  constructor(seed: Uint8Array) {
    if (seed.length !== SEED_BYTES) throw new RangeError(`a seed has ${SEED_BYTES} bytes`);
    const der = Buffer.concat([PRIVATE_PREFIX, seed]);
    this.#key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    der.fill(0);
    const spki = createPublicKey(this.#key).export({ format: "der", type: "spki" });
    this.publicKey = Uint8Array.from(spki.subarray(PUBLIC_PREFIX.length));
  }

  /** @returns 64 bytes. */
  sign(message: Uint8Array): Uint8Array {
    return Uint8Array.from(sign(null, message, this.#key));
  }

  [inspect.custom](): string {
    return "[signing key]";
  }
}

/** @param publicKey - 32 bytes. @returns Whether the key's owner signed the message. Never throws on what a stranger wrote. */
export function isSignedBy(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== PUBLIC_KEY_BYTES || signature.length !== SIGNATURE_BYTES) return false;
  try {
    const key = createPublicKey({ key: Buffer.concat([PUBLIC_PREFIX, publicKey]), format: "der", type: "spki" });
    return verify(null, message, key, signature);
  } catch {
    return false; // not a point of the curve
  }
}
