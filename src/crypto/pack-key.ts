/** Wraps the random key of each pack under subkey `packs`: XChaCha20-Poly1305 (FORMAT.md §5). */
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";

import { TcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { RandomSource } from "../platform/random.ts";
import { packKeyAad } from "./aad.ts";
import { TAG_BYTES } from "./engine.ts";
import { SecretKey } from "./secret-key.ts";
import { KEY_BYTES } from "./subkeys.ts";

/** 24 random bytes: with them one key wraps 2^80 packs before two nonces meet with probability 2^-32 (draft-irtf-cfrg-xchacha-03 §2.1). */
const NONCE_BYTES = 24;
/** `nonce[24] || ciphertext[32] || tag[16]`. */
export const WRAPPED_PACK_KEY_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES;

export class PackKeyWrapper {
  readonly #key: SecretKey;
  readonly #vaultId: Uint8Array;
  readonly #random: RandomSource;

  /** @param packsSubkey - `VaultSubkeys.packs`; copied. */
  constructor(packsSubkey: Uint8Array, vaultId: Uint8Array, random: RandomSource) {
    this.#key = new SecretKey(packsSubkey);
    this.#vaultId = Uint8Array.from(vaultId);
    this.#random = random;
  }

  /** @returns Fresh {@link WRAPPED_PACK_KEY_BYTES}, under a nonce of its own. */
  wrap(packId: PackId, packKey: Uint8Array): Uint8Array {
    if (packKey.length !== KEY_BYTES) throw new RangeError(`a pack key has ${KEY_BYTES} bytes`);
    const nonce = this.#random.bytes(NONCE_BYTES);
    const cipher = xchacha20poly1305(this.#key.expose(), nonce, packKeyAad(this.#vaultId, packId));
    const wrapped = new Uint8Array(WRAPPED_PACK_KEY_BYTES);
    wrapped.set(nonce);
    wrapped.set(cipher.encrypt(packKey), NONCE_BYTES);
    return wrapped;
  }

  /**
   * @returns The pack's key, fresh, the caller's to wipe.
   * @throws TcfsError `TCFS_CORRUPT` if truncated, forged, or of another pack or vault.
   */
  unwrap(packId: PackId, wrapped: Uint8Array): Uint8Array {
    const key = this.#key.expose();
    if (wrapped.length !== WRAPPED_PACK_KEY_BYTES)
      throw new TcfsError("TCFS_CORRUPT", "a wrapped pack key is truncated");
    const nonce = wrapped.slice(0, NONCE_BYTES);
    const cipher = xchacha20poly1305(key, nonce, packKeyAad(this.#vaultId, packId));
    try {
      return cipher.decrypt(wrapped.slice(NONCE_BYTES));
    } catch (cause) {
      throw new TcfsError("TCFS_CORRUPT", "a wrapped pack key does not verify", { cause });
    }
  }

  wipe(): void {
    this.#key.wipe();
  }
}
