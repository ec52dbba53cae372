/**
 * Secrets on their way to the daemon: a new vault key, credentials for the store. They are wrapped under the key that the
 * daemon has, so that none crosses the socket, whoever made that.
 */
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { SecretKey } from "../crypto/secret-key.ts";
import { deriveSubkeys, wipeSubkeys } from "../crypto/subkeys.ts";
import { TcfsError } from "../errors.ts";
import type { RandomSource } from "../platform/random.ts";

const NONCE_BYTES = 24;
const AAD = Buffer.from("tcfs v1 handover");
const CREDENTIALS_AAD = Buffer.from("tcfs v1 credentials");
/** Nonce, key, tag. */
export const HANDOVER_BYTES = NONCE_BYTES + 32 + 16;

/** @param key - The vault's present key. @returns {@link HANDOVER_BYTES}. Both keys are borrowed. */
export function wrapHandover(
  vaultId: Uint8Array,
  key: SecretKey,
  nextKey: SecretKey,
  random: RandomSource,
): Uint8Array {
  return seal(vaultId, key, { aad: AAD, content: nextKey.expose() }, random);
}

/** @param key - The vault's present key, borrowed. @param content - Lent. @returns What {@link KeyHandover.unseal} opens. */
export function sealCredentials(
  vaultId: Uint8Array,
  key: SecretKey,
  content: Uint8Array,
  random: RandomSource,
): Uint8Array {
  return seal(vaultId, key, { aad: CREDENTIALS_AAD, content }, random);
}

function seal(
  vaultId: Uint8Array,
  key: SecretKey,
  { aad, content }: { readonly aad: Uint8Array; readonly content: Uint8Array },
  random: RandomSource,
): Uint8Array {
  const subkeys = deriveSubkeys(key.expose(), vaultId);
  const nonce = random.bytes(NONCE_BYTES);
  const sealed = xchacha20poly1305(subkeys.handover, nonce, aad).encrypt(content);
  wipeSubkeys(subkeys);
  return new Uint8Array(Buffer.concat([nonce, sealed]));
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
    const bytes = this.#open(wrapped, AAD, "the new key was");
    const key = new SecretKey(bytes);
    bytes.fill(0);
    return key;
  }

  /** @returns As {@link sealCredentials} got it; the caller's to wipe. @throws TcfsError `TCFS_WRONG_KEY` */
  unseal(sealed: Uint8Array): Uint8Array {
    return this.#open(sealed, CREDENTIALS_AAD, "the credentials were");
  }

  #open(sealed: Uint8Array, aad: Uint8Array, what: string): Uint8Array {
    try {
      const cipher = xchacha20poly1305(this.#key.expose(), sealed.slice(0, NONCE_BYTES), aad);
      return cipher.decrypt(sealed.slice(NONCE_BYTES));
    } catch (cause) {
      throw new TcfsError("TCFS_WRONG_KEY", `${what} not wrapped under this vault's present key`, { cause });
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
