/** Wraps the random key of each pack under subkey `packs`: XChaCha20-Poly1305 (FORMAT.md §5). */
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";

import { TcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { RandomSource } from "../platform/random.ts";
import { packKeyAad } from "./aad.ts";
import { TAG_BYTES } from "./engine.ts";
import type { EpochKeys } from "./epoch-keys.ts";
import { KEY_BYTES } from "./subkeys.ts";

/** 24 random bytes: with them one key wraps 2^80 packs before two nonces meet with probability 2^-32 (draft-irtf-cfrg-xchacha-03 §2.1). */
const NONCE_BYTES = 24;
/** `nonce[24] || ciphertext[32] || tag[16]`. */
export const WRAPPED_PACK_KEY_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES;

/** A pack's key, wrapped under subkey `packs` of a key epoch. */
export interface PackKeyWrap {
  readonly keyEpoch: number;
  /** {@link WRAPPED_PACK_KEY_BYTES}. */
  readonly wrappedKey: Uint8Array;
}

export class PackKeyWrapper {
  readonly #keys: EpochKeys;
  readonly #vaultId: Uint8Array;
  readonly #random: RandomSource;

  /** @param keys - `VaultSubkeys.packs` of each epoch. Borrowed: wiped by its owner. */
  constructor(keys: EpochKeys, vaultId: Uint8Array, random: RandomSource) {
    this.#keys = keys;
    this.#vaultId = Uint8Array.from(vaultId);
    this.#random = random;
  }

  /** Of new wraps. */
  get keyEpoch(): number {
    return this.#keys.keyEpoch;
  }

  /** @returns A wrap under the newest epoch and a nonce of its own, in fresh memory. */
  wrap(packId: PackId, packKey: Uint8Array): PackKeyWrap {
    if (packKey.length !== KEY_BYTES) throw new RangeError(`a pack key has ${KEY_BYTES} bytes`);
    const nonce = this.#random.bytes(NONCE_BYTES);
    const { keyEpoch } = this;
    const cipher = xchacha20poly1305(this.#keys.newest(), nonce, packKeyAad(this.#vaultId, packId, keyEpoch));
    const wrappedKey = new Uint8Array(WRAPPED_PACK_KEY_BYTES);
    wrappedKey.set(nonce);
    wrappedKey.set(cipher.encrypt(packKey), NONCE_BYTES);
    return { keyEpoch, wrappedKey };
  }

  /**
   * The key, from the newest wrap that verifies.
   * @returns Fresh, the caller's to wipe.
   * @throws TcfsError `TCFS_CORRUPT` if none does: truncated, forged, or of another pack or vault;
   *   `TCFS_UNKNOWN_FORMAT` if there is none of an epoch whose key is known.
   */
  unwrap(packId: PackId, wraps: readonly PackKeyWrap[]): Uint8Array {
    const known = wraps.filter(({ keyEpoch }) => this.#keys.of(keyEpoch) !== undefined);
    if (known.length === 0) {
      const epochs = wraps.map(({ keyEpoch }) => keyEpoch).join(", ");
      throw new TcfsError("TCFS_UNKNOWN_FORMAT", `its key is wrapped under key epoch ${epochs || "none"}`);
    }
    for (const wrap of known.toSorted((left, right) => right.keyEpoch - left.keyEpoch)) {
      const packKey = this.open(packId, wrap);
      if (packKey !== undefined) return packKey;
    }
    throw new TcfsError("TCFS_CORRUPT", "a wrapped pack key does not verify");
  }

  /** @returns As {@link unwrap}, from this very wrap; undefined if it does not verify or its epoch's key is not known. */
  open(packId: PackId, { keyEpoch, wrappedKey }: PackKeyWrap): Uint8Array | undefined {
    const key = this.#keys.of(keyEpoch);
    if (key === undefined || wrappedKey.length !== WRAPPED_PACK_KEY_BYTES) return undefined;
    const nonce = wrappedKey.slice(0, NONCE_BYTES);
    const cipher = xchacha20poly1305(key, nonce, packKeyAad(this.#vaultId, packId, keyEpoch));
    try {
      return cipher.decrypt(wrappedKey.slice(NONCE_BYTES));
    } catch {
      return undefined;
    }
  }
}
