/** The vault's subkeys (FORMAT.md §3). Pure. */
import { hkdf } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";

import type { VaultSubkeys } from "./engine.ts";

export const KEY_BYTES = 32;
export const VAULT_ID_BYTES = 16;

/** All that a vault key gives. */
export interface Subkeys extends VaultSubkeys {
  /** Authenticates `vault.json`. */
  readonly header: Uint8Array;
  /** Seals a store's root. */
  readonly store: Uint8Array;
  /** Wraps what a newer key epoch keeps of older ones. */
  readonly keyring: Uint8Array;
  /** Wraps a new vault key on its way to the daemon. */
  readonly handover: Uint8Array;
}

/** @returns Fresh keys of 32 bytes each, the caller's to wipe. */
export function deriveSubkeys(vaultKey: Uint8Array, vaultId: Uint8Array): Subkeys {
  if (vaultKey.length !== KEY_BYTES) throw new RangeError(`a vault key has ${KEY_BYTES} bytes`);
  if (vaultId.length !== VAULT_ID_BYTES) throw new RangeError(`a vault id has ${VAULT_ID_BYTES} bytes`);
  const subkey = (label: string) =>
    hkdf(sha256, vaultKey, vaultId, Buffer.from(`tcfs v1 ${label}`, "latin1"), KEY_BYTES);
  return {
    chunkId: subkey("chunk-id"),
    gear: subkey("gear"),
    records: subkey("records"),
    names: subkey("names"),
    packs: subkey("packs"),
    header: subkey("header"),
    store: subkey("store"),
    keyring: subkey("keyring"),
    handover: subkey("handover"),
  };
}

/** Overwrite all of them with zeros. */
export function wipeSubkeys(subkeys: Subkeys): void {
  const { chunkId, gear, records, names, packs, header, store, keyring, handover } = subkeys;
  for (const subkey of [chunkId, gear, records, names, packs, header, store, keyring, handover]) subkey.fill(0);
}
