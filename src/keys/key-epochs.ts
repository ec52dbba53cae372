/**
 * Key epochs (FORMAT.md §8.8): what the header keeps of earlier vault keys, wrapped under the present one, and all the
 * keys that it gives. Does no I/O.
 */
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { z } from "zod";
import { toHex } from "../bytes.ts";
import type { VaultSubkeys } from "../crypto/engine.ts";
import { EpochKeys } from "../crypto/epoch-keys.ts";
import type { SecretKey } from "../crypto/secret-key.ts";
import { KEY_BYTES, type Subkeys, deriveSubkeys, wipeSubkeys } from "../crypto/subkeys.ts";
import { TcfsError } from "../errors.ts";
import type { RandomSource } from "../platform/random.ts";
import { hexField } from "./fields.ts";

const NONCE_BYTES = 24;
const TAG_BYTES = 16;

/** What a rotation makes anew: what wraps the keys of packs, or the packs too. Records always. */
export type Renewal = "wraps" | "data";

/** An epoch that is ending: something may still be under it. */
export interface OlderEpoch {
  readonly keyEpoch: number;
  readonly renewal: Renewal;
  readonly nonce: Uint8Array;
  /** The epoch's vault key. */
  readonly wrappedKey: Uint8Array;
}

/** What a header of a later key epoch than the first has besides its slots. */
export interface Keyring {
  readonly naming: { readonly nonce: Uint8Array; readonly wrappedKeys: Uint8Array };
  /** At most one. */
  readonly older: readonly OlderEpoch[];
}

export const keyringSchema = z.strictObject({
  naming: z.strictObject({ nonce: hexField(NONCE_BYTES), wrappedKeys: hexField(3 * KEY_BYTES + TAG_BYTES) }),
  older: z
    .array(
      z.strictObject({
        keyEpoch: z.int().min(1).max(0xffff_ffff),
        renewal: z.enum(["wraps", "data"]),
        nonce: hexField(NONCE_BYTES),
        wrappedKey: hexField(KEY_BYTES + TAG_BYTES),
      }),
    )
    .max(1),
});

/** Its members in the header's order. */
export function keyringMembers({ naming, older }: Keyring): object {
  return {
    naming: { nonce: toHex(naming.nonce), wrappedKeys: toHex(naming.wrappedKeys) },
    older: older.map(({ keyEpoch, renewal, nonce, wrappedKey }) => {
      return { keyEpoch, renewal, nonce: toHex(nonce), wrappedKey: toHex(wrappedKey) };
    }),
  };
}

/** As much of a header as says which keys there are. */
export interface EpochHeader {
  readonly vaultId: Uint8Array;
  readonly keyEpoch: number;
  readonly keyring: Keyring | undefined;
}

/** The subkeys of one epoch. */
export interface EpochSubkeys {
  readonly keyEpoch: number;
  readonly subkeys: Subkeys;
}

/** Every key that a vault's header gives. */
export class VaultKeys {
  readonly newest: EpochSubkeys;
  /** Of the epoch that is ending; at most one. */
  readonly older: readonly EpochSubkeys[];

  private constructor(newest: EpochSubkeys, older: readonly EpochSubkeys[]) {
    this.newest = newest;
    this.older = older;
  }

  /**
   * @param header - Authenticated.
   * @param key - Its vault key; borrowed for the call.
   * @throws TcfsError `TCFS_BAD_HEADER` if what it keeps of earlier epochs does not open.
   */
  static open(header: EpochHeader, key: SecretKey): VaultKeys {
    const { vaultId, keyEpoch, keyring } = header;
    const own = deriveSubkeys(key.expose(), vaultId);
    if (keyring === undefined) return new VaultKeys({ keyEpoch, subkeys: own }, []);
    const naming = openNaming(header, own.keyring, keyring);
    const older = keyring.older.map((epoch): EpochSubkeys => {
      const oldKey = openOlder(header, own.keyring, epoch);
      const subkeys = withNaming(deriveSubkeys(oldKey, vaultId), naming);
      oldKey.fill(0);
      return { keyEpoch: epoch.keyEpoch, subkeys };
    });
    return new VaultKeys({ keyEpoch, subkeys: withNaming(own, naming) }, older);
  }

  /** @returns One purpose's keys; the caller wipes them. */
  keysFor(purpose: "header" | "packs" | "store"): EpochKeys {
    const keyOf = ({ keyEpoch, subkeys }: EpochSubkeys) => ({ keyEpoch, key: subkeys[purpose] });
    return new EpochKeys(keyOf(this.newest), this.older.map(keyOf));
  }

  wipe(): void {
    for (const { subkeys } of [this.newest, ...this.older]) wipeSubkeys(subkeys);
  }
}

/**
 * What the header of the next epoch keeps of this one.
 * @param key - Of `header`. Borrowed for the call, as is `nextKey`.
 * @throws TcfsError `TCFS_BUSY` if an older epoch has not ended yet.
 */
export function nextKeyring(
  header: EpochHeader,
  key: SecretKey,
  nextKey: SecretKey,
  renewal: Renewal,
  random: RandomSource,
): Keyring {
  if (header.keyring !== undefined && header.keyring.older.length > 0) {
    throw new TcfsError("TCFS_BUSY", "an earlier rotation has not ended yet");
  }
  const next: EpochHeader = { ...header, keyEpoch: header.keyEpoch + 1 };
  const keys = VaultKeys.open(header, key);
  const { keyring } = deriveSubkeys(nextKey.expose(), header.vaultId);
  try {
    const { chunkId, gear, names } = keys.newest.subkeys;
    const namingKeys = Buffer.concat([chunkId, gear, names]);
    const namingNonce = random.bytes(NONCE_BYTES);
    const wrappedKeys = xchacha20poly1305(keyring, namingNonce, namingAad(next)).encrypt(namingKeys);
    namingKeys.fill(0);
    const nonce = random.bytes(NONCE_BYTES);
    const { keyEpoch } = header;
    const wrappedKey = xchacha20poly1305(keyring, nonce, olderAad(next, keyEpoch)).encrypt(key.expose());
    return { naming: { nonce: namingNonce, wrappedKeys }, older: [{ keyEpoch, renewal, nonce, wrappedKey }] };
  } finally {
    keys.wipe();
    keyring.fill(0);
  }
}

/** For who holds keys that are not the vault's any more. */
export function rotatedMeanwhile(): TcfsError {
  return new TcfsError("TCFS_BUSY", "the vault's key was rotated by another process meanwhile; try again");
}

function openNaming(header: EpochHeader, key: Uint8Array, { naming }: Keyring): Uint8Array {
  return unwrap(key, naming.nonce, namingAad(header), naming.wrappedKeys);
}

function openOlder(header: EpochHeader, key: Uint8Array, { keyEpoch, nonce, wrappedKey }: OlderEpoch): Uint8Array {
  return unwrap(key, nonce, olderAad(header, keyEpoch), wrappedKey);
}

function unwrap(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, wrapped: Uint8Array): Uint8Array {
  try {
    return xchacha20poly1305(key, nonce, aad).decrypt(wrapped);
  } catch (cause) {
    const message = "the vault's header is damaged or was tampered with: its keys of an earlier epoch do not open";
    throw new TcfsError("TCFS_BAD_HEADER", message, { cause });
  }
}

function withNaming(own: Subkeys, naming: Uint8Array): Subkeys {
  const [chunkId, gear, names] = [0, 1, 2].map((i) => naming.slice(i * KEY_BYTES, (i + 1) * KEY_BYTES));
  if (chunkId === undefined || gear === undefined || names === undefined) throw new RangeError("there are three");
  const kept: Pick<VaultSubkeys, "chunkId" | "gear" | "names"> = { chunkId, gear, names };
  return { ...own, ...kept };
}

function namingAad({ vaultId, keyEpoch }: EpochHeader): Uint8Array {
  return Buffer.concat([Buffer.from("tcfs v1 naming keys"), vaultId, u32(keyEpoch)]);
}

function olderAad({ vaultId, keyEpoch }: EpochHeader, olderEpoch: number): Uint8Array {
  return Buffer.concat([Buffer.from("tcfs v1 older key"), vaultId, u32(keyEpoch), u32(olderEpoch)]);
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
