/** What the engine's tests share: fixed keys and ids, data of known kinds, ways to cut it into pieces, forged frames. */
import { createCipheriv, createHash } from "node:crypto";
import * as fc from "fast-check";
import { expect } from "vitest";
import { frameAad } from "../../src/crypto/aad.ts";
import {
  type ChunkingParameters,
  type EngineOptions,
  FRAME_BYTES,
  type FrameRun,
  type SealedChunk,
} from "../../src/crypto/engine.ts";
import { EpochKeys, FIRST_KEY_EPOCH } from "../../src/crypto/epoch-keys.ts";
import { deriveSubkeys } from "../../src/crypto/subkeys.ts";
import type { PackId } from "../../src/ids.ts";

/** One purpose's keys as a vault has them that was never rotated. */
export function firstEpoch(key: Uint8Array): EpochKeys {
  return new EpochKeys({ keyEpoch: FIRST_KEY_EPOCH, key });
}

/** Small, so that short inputs have many cuts. */
export const SMALL_CHUNKING: ChunkingParameters = { minBytes: 256, averageBytes: 1024, maxBytes: 4096 };

/** @returns Fresh bytes that depend on `seed` alone and do not compress. */
export function noise(seed: string, lengthBytes: number): Uint8Array {
  return Uint8Array.from(createHash("shake256", { outputLength: lengthBytes }).update(seed).digest());
}

/** @returns Fresh bytes that compress well, without being the same everywhere. */
export function prose(lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  for (let at = 0, line = 0; at < lengthBytes; line++) {
    const text = Buffer.from(`line ${line}: the quick brown fox jumps over the lazy dog\n`).subarray(
      0,
      lengthBytes - at,
    );
    bytes.set(text, at);
    at += text.length;
  }
  return bytes;
}

export const VAULT_ID = noise("vault id", 16);
export const PACK_ID = noise("pack id", 16) as PackId;
export const PACK_KEY = noise("pack key", 32);

/** @returns Fresh options; `change` replaces some of them. */
export function engineOptions(change: Partial<EngineOptions> = {}): EngineOptions {
  const vaultId = change.vaultId ?? VAULT_ID;
  return {
    vaultId,
    subkeys: deriveSubkeys(noise("vault key", 32), VAULT_ID),
    chunking: SMALL_CHUNKING,
    sessionId: noise("session", 8),
    keyEpoch: 1,
    ...change,
  };
}

/** @returns Views of `bytes` cut at `cuts`, which may repeat (empty pieces) and need no order. */
export function cutInto(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const ends = [...cuts.map((cut) => Math.min(cut, bytes.length)), bytes.length].sort((a, b) => a - b);
  return ends.map((end, i) => bytes.subarray(i === 0 ? 0 : ends[i - 1], end));
}

/** Runs of noise, prose and zeros one after another: what real files look like to a chunker. */
export const content: fc.Arbitrary<Uint8Array> = fc
  .array(
    fc.record({
      kind: fc.constantFrom("noise", "prose", "zeros"),
      seed: fc.nat(1000),
      lengthBytes: fc.nat(9000),
    }),
    { maxLength: 5 },
  )
  .map((runs) => {
    const parts = runs.map(({ kind, seed, lengthBytes }) => {
      if (kind === "noise") return noise(`run ${seed}`, lengthBytes);
      return kind === "prose" ? prose(lengthBytes + seed).subarray(seed) : new Uint8Array(lengthBytes);
    });
    return Uint8Array.from(Buffer.concat(parts));
  });

export const splits = fc.array(fc.nat(45_000), { maxLength: 8 });

/** @returns The run of all of a sealed chunk's frames. */
export function wholeRun({ firstFrame, storedFrameBytes, lengthBytes }: SealedChunk): FrameRun {
  return { firstFrame, storedFrameBytes, lengthBytes };
}

/** @returns Stored bytes of all frames. */
export function storedBytes({ storedFrameBytes }: FrameRun): number {
  return storedFrameBytes.reduce((sum, bytes) => sum + bytes, 0);
}

/** @returns Frame `frameNumber` of {@link PACK_ID}, authentic, with whatever header and payload a forger likes. */
export function forgeFrame(frameNumber: number, header: number, payload: Uint8Array): Uint8Array {
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64LE(BigInt(frameNumber));
  const cipher = createCipheriv("aes-256-gcm", PACK_KEY, nonce);
  cipher.setAAD(frameAad(VAULT_ID, PACK_ID, 1));
  const headerBytes = Buffer.alloc(4);
  headerBytes.writeUInt32LE(header);
  const sealed = [cipher.update(headerBytes), cipher.update(payload), cipher.final(), cipher.getAuthTag()];
  return Uint8Array.from(Buffer.concat(sealed));
}

/** @returns An LZ4 block of zeros that opens to `lengthBytes` (at least 32), much shorter than they are. */
export function zerosBlock(lengthBytes: number): Uint8Array {
  // One literal, a match at distance 1 of all but the last five bytes, then five literals (LZ4 block format).
  const extra = lengthBytes - 6 - 4 - 15;
  const matchLength = [...Array.from({ length: Math.floor(extra / 255) }, () => 255), extra % 255];
  return Uint8Array.from([0x1f, 0, 1, 0, ...matchLength, 0x50, 0, 0, 0, 0, 0]);
}

/** As `expect(actual).toEqual(expected)`, a hundred times faster on long arrays. */
export function expectSameBytes(actual: Uint8Array, expected: Uint8Array): void {
  if (Buffer.compare(actual, expected) !== 0) expect(actual).toEqual(expected);
}

/** Views of `bytes`, a frame each: places to read a run into. */
export function framesOf(bytes: Uint8Array): Uint8Array[] {
  const count = Math.ceil(bytes.length / FRAME_BYTES);
  return Array.from({ length: count }, (_, i) => bytes.subarray(i * FRAME_BYTES, (i + 1) * FRAME_BYTES));
}
