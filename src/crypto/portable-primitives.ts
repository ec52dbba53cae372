/**
 * Keyed BLAKE3, LZ4 blocks and AES-256-GCM for the portable engine: blake3-wasm, lz4-napi, node:crypto. The two
 * packages take 40 ms to load, so they are loaded when the engine is opened, not when this file is.
 */
import { createCipheriv, createDecipheriv } from "node:crypto";
import { createRequire } from "node:module";

import type * as Blake3 from "blake3-wasm";
import type * as Lz4 from "lz4-napi";

import { TAG_BYTES } from "./engine.ts";

/** lz4-napi puts the plain length, u32 little-endian, before the block; tcfs has it in the frame's header. */
const LENGTH_PREFIX_BYTES = 4;
/** Given to WebAssembly at once; it is copied there, and its memory never shrinks. */
const HASH_STEP_BYTES = 256 * 1024;
const NONCE_BYTES = 12;

export class PortablePrimitives {
  readonly #blake3: typeof Blake3;
  readonly #lz4: typeof Lz4;

  constructor() {
    const require = createRequire(import.meta.url);
    this.#blake3 = require("blake3-wasm") as typeof Blake3;
    this.#lz4 = require("lz4-napi") as typeof Lz4;
  }

  /** @returns Fresh `lengthBytes` of keyed BLAKE3 over all pieces. (`keyedHash` of the package leaks memory.) */
  keyedHash(key: Uint8Array, pieces: Iterable<Uint8Array>, lengthBytes: number): Uint8Array {
    const hasher = this.#blake3.createKeyed(Buffer.from(key.buffer, key.byteOffset, key.length));
    for (const piece of pieces) {
      for (let at = 0; at < piece.length; at += HASH_STEP_BYTES)
        hasher.update(piece.subarray(at, at + HASH_STEP_BYTES));
    }
    return new Uint8Array(hasher.digest({ length: lengthBytes }));
  }

  /** @returns One LZ4 block; it may be longer than `plain`. */
  compress(plain: Uint8Array): Uint8Array {
    const buffer = Buffer.from(plain.buffer, plain.byteOffset, plain.length);
    return this.#lz4.compressSync(buffer).subarray(LENGTH_PREFIX_BYTES);
  }

  /** @returns Exactly `lengthBytes`, or undefined where the block does not give them. Never allocates more. */
  decompress(block: Uint8Array, lengthBytes: number): Uint8Array | undefined {
    const prefixed = new Uint8Array(LENGTH_PREFIX_BYTES + block.length);
    new DataView(prefixed.buffer).setUint32(0, lengthBytes, true);
    prefixed.set(block, LENGTH_PREFIX_BYTES);
    let plain: Uint8Array;
    try {
      plain = this.#lz4.uncompressSync(prefixed);
    } catch {
      return undefined;
    }
    return plain.length === lengthBytes ? plain : undefined;
  }
}

/** @returns `value || zeros`, 12 bytes, the value little-endian in 8: the nonce of frames and records. */
export function counterNonce(value: number): Uint8Array {
  const nonce = new Uint8Array(NONCE_BYTES);
  new DataView(nonce.buffer).setBigUint64(0, BigInt(value), true);
  return nonce;
}

/** AES-256-GCM into `output`: ciphertext || tag. The nonce is the caller's counter, never repeated under one key. */
export function sealInto(
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  parts: readonly Uint8Array[],
  output: Uint8Array,
): void {
  const cipher = createCipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(aad);
  let at = 0;
  for (const part of parts) {
    output.set(cipher.update(part), at);
    at += part.length;
  }
  cipher.final();
  output.set(cipher.getAuthTag(), at);
}

/** @param sealed - ciphertext || tag. @returns Fresh plaintext, or undefined where it does not verify. */
export function openSealed(
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  const end = sealed.length - TAG_BYTES;
  if (end < 0) return undefined;
  const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(aad);
  decipher.setAuthTag(sealed.subarray(end));
  const plain = decipher.update(sealed.subarray(0, end));
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return plain;
}
