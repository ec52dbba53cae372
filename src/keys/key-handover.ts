/** A new vault key on its way to the daemon: wrapped under the key that the daemon has, so that no secret crosses the socket. */
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { SecretKey } from "../crypto/secret-key.ts";
import { deriveSubkeys, wipeSubkeys } from "../crypto/subkeys.ts";
import { TcfsError } from "../errors.ts";
import type { RandomSource } from "../platform/random.ts";

const NONCE_BYTES = 24;
const AAD = Buffer.from("tcfs v1 handover");
/** Nonce, key, tag. */
export const HANDOVER_BYTES = NONCE_BYTES + 32 + 16;

/** @param key - The vault's present key. @returns {@link HANDOVER_BYTES}. Both keys are borrowed. */
export function wrapHandover(
  vaultId: Uint8Array,
  key: SecretKey,
  nextKey: SecretKey,
  random: RandomSource,
): Uint8Array {
  const subkeys = deriveSubkeys(key.expose(), vaultId);
  const nonce = random.bytes(NONCE_BYTES);
  const wrapped = xchacha20poly1305(subkeys.handover, nonce, AAD).encrypt(nextKey.expose());
  wipeSubkeys(subkeys);
  return new Uint8Array(Buffer.concat([nonce, wrapped]));
}

/** The daemon's end. */
export class KeyHandover {
  #key: SecretKey;

  /** @param subkey - `handover` of the present epoch; copied. */
  constructor(subkey: Uint8Array) {
    this.#key = new SecretKey(subkey);
  }

  /** @returns The next epoch's vault key, the caller's to wipe. @throws TcfsError `TCFS_WRONG_KEY` */
  unwrap(wrapped: Uint8Array): SecretKey {
    try {
      const cipher = xchacha20poly1305(this.#key.expose(), wrapped.slice(0, NONCE_BYTES), AAD);
      const bytes = cipher.decrypt(wrapped.slice(NONCE_BYTES));
      const key = new SecretKey(bytes);
      bytes.fill(0);
      return key;
    } catch (cause) {
      throw new TcfsError("TCFS_WRONG_KEY", "the new key was not wrapped under this vault's present key", { cause });
    }
  }

  /** @param subkey - Of the epoch that has begun; copied. */
  renew(subkey: Uint8Array): void {
    this.#key.wipe();
    this.#key = new SecretKey(subkey);
  }

  wipe(): void {
    this.#key.wipe();
  }
}
