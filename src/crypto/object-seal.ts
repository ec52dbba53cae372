/**
 * Seals manifests, root and devices of a store, and a device's own key: XChaCha20-Poly1305 under subkey `store`, with its
 * kind and step bound (FORMAT.md §11.1).
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { TcfsError } from "../errors.ts";
import type { RandomSource } from "../platform/random.ts";
import { padContent, unpadContent } from "../format/replica-codec.ts";
import { FORMAT_VERSION } from "./aad.ts";
import { TAG_BYTES } from "./engine.ts";
import type { EpochKeys } from "./epoch-keys.ts";

/** What a device signs. */
export type SignedKind = "commit" | "checkpoint" | "root";
export type SealedKind = SignedKind | "devices" | "device";

const MAGICS: Readonly<Record<SealedKind, string>> = {
  commit: "TCFSCOMM",
  checkpoint: "TCFSCHEK",
  root: "TCFSROOT",
  devices: "TCFSDEVS",
  device: "TCFSDEVI",
};
const SIGNED_FLAG = 1;
/** Of manifests: packs of the state are lost. Who does not know it would take the state for a whole one. */
const LOST_FLAG = 2;
const PREFIX_BYTES = 16;
const FLAGS_OFFSET = 10;
const EPOCH_OFFSET = 12;
const NONCE_BYTES = 24;

export class ObjectSealer {
  readonly #keys: EpochKeys;
  readonly #vaultId: Uint8Array;
  readonly #random: RandomSource;

  /** @param keys - Subkey `store` of each epoch. Borrowed: wiped by its owner. */
  constructor(keys: EpochKeys, vaultId: Uint8Array, random: RandomSource) {
    this.#keys = keys;
    this.#vaultId = Uint8Array.from(vaultId);
    this.#random = random;
  }

  /** Of what is sealed from now on. */
  get keyEpoch(): number {
    return this.#keys.keyEpoch;
  }

  /**
   * @param number - Its step; 0 for the root.
   * @param tellsLost - Of a manifest: whether it tells of packs that are lost.
   * @returns Fresh memory.
   */
  seal(kind: SealedKind, number: number, content: Uint8Array, tellsLost = false): Uint8Array {
    const prefix = prefixOf(kind, this.#keys.keyEpoch, tellsLost);
    const nonce = this.#random.bytes(NONCE_BYTES);
    const sealed = this.#cipher(this.#keys.newest(), nonce, prefix, number).encrypt(padContent(content));
    return new Uint8Array(Buffer.concat([prefix, nonce, sealed]));
  }

  /**
   * @returns The content, fresh.
   * @throws TcfsError `TCFS_UNKNOWN_FORMAT` for another version, flag or key epoch; `TCFS_CORRUPT` if it is truncated,
   *   forged, of another kind, step or vault.
   */
  unseal(kind: SealedKind, number: number, object: Uint8Array): Uint8Array {
    const prefix = object.slice(0, PREFIX_BYTES);
    const keyEpoch = epochOfObject(object);
    const expected = prefixOf(kind, keyEpoch, isManifest(kind) && tellsLost(object));
    if (object.length < PREFIX_BYTES + NONCE_BYTES + TAG_BYTES || !startsEqual(prefix, expected, 8)) {
      throw new TcfsError("TCFS_CORRUPT", `this is no ${kind} of a tcfs store`);
    }
    if (!startsEqual(prefix, expected, PREFIX_BYTES)) {
      throw new TcfsError("TCFS_UNKNOWN_FORMAT", `the store's ${kind} has a format that this tcfs does not know`);
    }
    const key = this.#keys.of(keyEpoch);
    if (key === undefined) {
      throw new TcfsError("TCFS_UNKNOWN_FORMAT", `the store's ${kind} is sealed under key epoch ${keyEpoch}`);
    }
    const nonce = object.slice(PREFIX_BYTES, PREFIX_BYTES + NONCE_BYTES);
    let padded: Uint8Array;
    try {
      padded = this.#cipher(key, nonce, prefix, number).decrypt(object.slice(PREFIX_BYTES + NONCE_BYTES));
    } catch (cause) {
      throw new TcfsError("TCFS_CORRUPT", `the store's ${kind} does not verify`, { cause });
    }
    return unpadContent(padded);
  }

  /** For `store.json` (FORMAT.md §11.5). @returns 32 bytes. */
  mac(content: string | Uint8Array): Uint8Array {
    return hmac(this.#keys.newest(), content);
  }

  /** What a device signs (FORMAT.md §11.6): not the key epoch, so that a signature outlasts it. @returns Fresh memory. */
  signable(kind: SignedKind, number: number, fields: Uint8Array): Uint8Array {
    const place = [Buffer.from(`tcfs signed${MAGICS[kind]}`, "latin1"), this.#vaultId, placeOf(number)];
    return new Uint8Array(Buffer.concat([...place, fields]));
  }

  /** Whether `mac` was made of the text under any epoch whose key is known. */
  verifies(text: string, mac: Uint8Array): boolean {
    return this.#keys.all().some((key) => timingSafeEqual(hmac(key, text), mac));
  }

  #cipher(
    key: Uint8Array,
    nonce: Uint8Array,
    prefix: Uint8Array,
    number: number,
  ): ReturnType<typeof xchacha20poly1305> {
    const aad = Buffer.concat([Buffer.from("tcfs store", "latin1"), prefix, this.#vaultId, placeOf(number)]);
    return xchacha20poly1305(key, nonce, aad);
  }
}

/** @returns What its prefix says; 0 where it is too short to say. */
export function epochOfObject(object: Uint8Array): number {
  if (object.length < PREFIX_BYTES) return 0;
  return new DataView(object.buffer, object.byteOffset, PREFIX_BYTES).getUint32(EPOCH_OFFSET, true);
}

/** Whether a manifest says before its seal that it tells of lost packs: believed once it is unsealed. */
export function tellsLost(object: Uint8Array): boolean {
  return ((object[FLAGS_OFFSET] ?? 0) & LOST_FLAG) !== 0;
}

function isManifest(kind: SealedKind): boolean {
  return kind === "commit" || kind === "checkpoint";
}

function hmac(key: Uint8Array, content: string | Uint8Array): Uint8Array {
  return createHmac("sha256", key).update(content).digest();
}

function placeOf(number: number): Uint8Array {
  const place = new Uint8Array(8);
  new DataView(place.buffer).setBigUint64(0, BigInt(number), true);
  return place;
}

function prefixOf(kind: SealedKind, keyEpoch: number, tellsLost: boolean): Uint8Array {
  const prefix = new Uint8Array(PREFIX_BYTES);
  prefix.set(Buffer.from(MAGICS[kind], "latin1"));
  const view = new DataView(prefix.buffer);
  view.setUint16(8, FORMAT_VERSION, true);
  const signed = kind === "devices" || kind === "device" ? 0 : SIGNED_FLAG;
  view.setUint16(FLAGS_OFFSET, signed + (tellsLost ? LOST_FLAG : 0), true);
  view.setUint32(EPOCH_OFFSET, keyEpoch, true);
  return prefix;
}

function startsEqual(left: Uint8Array, right: Uint8Array, lengthBytes: number): boolean {
  return Buffer.compare(left.subarray(0, lengthBytes), right.subarray(0, lengthBytes)) === 0;
}
