/**
 * Seals manifests, root and devices of a store, and a device's own key: XChaCha20-Poly1305 under subkey `store`, with its
 * kind and step bound (FORMAT.md §11.1).
 */
import { createHmac } from "node:crypto";
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { TcfsError } from "../errors.ts";
import type { RandomSource } from "../platform/random.ts";
import { padContent, unpadContent } from "../format/replica-codec.ts";
import { FORMAT_VERSION, KEY_EPOCH } from "./aad.ts";
import { TAG_BYTES } from "./engine.ts";
import { SecretKey } from "./secret-key.ts";

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
const PREFIX_BYTES = 16;
const NONCE_BYTES = 24;

export class ObjectSealer {
  readonly #key: SecretKey;
  readonly #vaultId: Uint8Array;
  readonly #random: RandomSource;

  /** @param storeSubkey - Copied. */
  constructor(storeSubkey: Uint8Array, vaultId: Uint8Array, random: RandomSource) {
    this.#key = new SecretKey(storeSubkey);
    this.#vaultId = Uint8Array.from(vaultId);
    this.#random = random;
  }

  /** @param number - Its step; 0 for the root. @returns Fresh memory. */
  seal(kind: SealedKind, number: number, content: Uint8Array): Uint8Array {
    const prefix = prefixOf(kind);
    const nonce = this.#random.bytes(NONCE_BYTES);
    const sealed = this.#cipher(nonce, prefix, number).encrypt(padContent(content));
    return new Uint8Array(Buffer.concat([prefix, nonce, sealed]));
  }

  /**
   * @returns The content, fresh.
   * @throws TcfsError `TCFS_UNKNOWN_FORMAT` for another version, flag or key epoch; `TCFS_CORRUPT` if it is truncated,
   *   forged, of another kind, step or vault.
   */
  unseal(kind: SealedKind, number: number, object: Uint8Array): Uint8Array {
    const prefix = object.slice(0, PREFIX_BYTES);
    const expected = prefixOf(kind);
    if (object.length < PREFIX_BYTES + NONCE_BYTES + TAG_BYTES || !startsEqual(prefix, expected, 8)) {
      throw new TcfsError("TCFS_CORRUPT", `this is no ${kind} of a tcfs store`);
    }
    if (!startsEqual(prefix, expected, PREFIX_BYTES)) {
      throw new TcfsError("TCFS_UNKNOWN_FORMAT", `the store's ${kind} has a format that this tcfs does not know`);
    }
    const nonce = object.slice(PREFIX_BYTES, PREFIX_BYTES + NONCE_BYTES);
    let padded: Uint8Array;
    try {
      padded = this.#cipher(nonce, prefix, number).decrypt(object.slice(PREFIX_BYTES + NONCE_BYTES));
    } catch (cause) {
      throw new TcfsError("TCFS_CORRUPT", `the store's ${kind} does not verify`, { cause });
    }
    return unpadContent(padded);
  }

  /** For `store.json` (FORMAT.md §11.5). @returns 32 bytes. */
  mac(text: string): Uint8Array {
    return createHmac("sha256", this.#key.expose()).update(text).digest();
  }

  /** What a device signs (FORMAT.md §11.6): not the key epoch, so that a signature outlasts it. @returns Fresh memory. */
  signable(kind: SignedKind, number: number, fields: Uint8Array): Uint8Array {
    const place = [Buffer.from(`tcfs signed${MAGICS[kind]}`, "latin1"), this.#vaultId, placeOf(number)];
    return new Uint8Array(Buffer.concat([...place, fields]));
  }

  wipe(): void {
    this.#key.wipe();
  }

  #cipher(nonce: Uint8Array, prefix: Uint8Array, number: number): ReturnType<typeof xchacha20poly1305> {
    const aad = Buffer.concat([Buffer.from("tcfs store", "latin1"), prefix, this.#vaultId, placeOf(number)]);
    return xchacha20poly1305(this.#key.expose(), nonce, aad);
  }
}

function placeOf(number: number): Uint8Array {
  const place = new Uint8Array(8);
  new DataView(place.buffer).setBigUint64(0, BigInt(number), true);
  return place;
}

function prefixOf(kind: SealedKind): Uint8Array {
  const prefix = new Uint8Array(PREFIX_BYTES);
  prefix.set(Buffer.from(MAGICS[kind], "latin1"));
  const view = new DataView(prefix.buffer);
  view.setUint16(8, FORMAT_VERSION, true);
  view.setUint16(10, kind === "devices" || kind === "device" ? 0 : SIGNED_FLAG, true);
  view.setUint32(12, KEY_EPOCH, true);
  return prefix;
}

function startsEqual(left: Uint8Array, right: Uint8Array, lengthBytes: number): boolean {
  return Buffer.compare(left.subarray(0, lengthBytes), right.subarray(0, lengthBytes)) === 0;
}
