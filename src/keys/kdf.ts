/**
 * Passphrase → KEK: Argon2id (RFC 9106) within a floor and a ceiling (FORMAT.md §8.3).
 * A header may come from an attacker, so the bounds are checked before anything is computed.
 */
import { totalmem } from "node:os";
import { TcfsError } from "../errors.ts";
import type { Clock } from "../platform/clock.ts";

/** Cost of one Argon2id computation. */
export interface KdfCost {
  readonly memoryKiB: number;
  readonly passes: number;
  readonly lanes: number;
}

/** What a reader accepts. The floor is RFC 9106's second recommended choice: weaker than that is an attack. */
export const KDF_BOUNDS = {
  memoryKiB: { min: 64 * 1024, max: 1024 * 1024 },
  passes: { min: 3, max: 16 },
  lanes: { min: 1, max: 16 },
  /** `memoryKiB × passes` summed over all slots of a header: bounds the time that a hostile header can cost. */
  totalMemoryPassesKiB: 8 * 1024 * 1024,
} as const;

/** The least that is ever used: 64 MiB, 3 passes, 4 lanes. */
export const FLOOR_KDF_COST: KdfCost = { memoryKiB: 64 * 1024, passes: 3, lanes: 4 };

const KEK_BYTES = 32;
const TARGET_MS = 500;
/** A vault made on a big machine must open on a small one. */
const MOST_CALIBRATED_KIB = 256 * 1024;
const MEMORY_SHARE = 8;

/** @throws TcfsError `TCFS_KDF_BOUNDS`, naming the parameter, unless `cost` is within {@link KDF_BOUNDS}. */
export function checkKdfCost(cost: KdfCost): void {
  for (const name of ["memoryKiB", "passes", "lanes"] as const) {
    const { min, max } = KDF_BOUNDS[name];
    const value = cost[name];
    if (!Number.isSafeInteger(value) || value < min || value > max) {
      throw new TcfsError(
        "TCFS_KDF_BOUNDS",
        `the header asks for Argon2id with ${name} = ${value}; tcfs accepts ${min} to ${max}`,
      );
    }
  }
}

/** @returns The one that takes more to guess at. */
export function costlier(one: KdfCost, other: KdfCost): KdfCost {
  return one.memoryKiB * one.passes >= other.memoryKiB * other.passes ? one : other;
}

/**
 * Derive a KEK from a passphrase.
 * @param passphrase - As {@link normalizePassphrase} gave it. Lent until settled.
 * @returns 32 bytes, owned by the caller, who wipes them.
 * @throws TcfsError `TCFS_KDF_BOUNDS` before computing.
 */
export async function deriveKek(passphrase: Uint8Array, salt: Uint8Array, cost: KdfCost): Promise<Uint8Array> {
  checkKdfCost(cost);
  const native = await import("@node-rs/argon2").catch(() => undefined);
  if (native === undefined) return derivePortably(passphrase, salt, cost);
  // Argon2id is the package's default; its name is a const enum, which has no value at run time.
  const raw = await native.hashRaw(passphrase, {
    memoryCost: cost.memoryKiB,
    timeCost: cost.passes,
    parallelism: cost.lanes,
    outputLen: KEK_BYTES,
    salt,
  });
  const kek = Uint8Array.from(raw);
  raw.fill(0);
  return kek;
}

/** The same in JavaScript: where the prebuilt library does not load, and the oracle of its test. Some 20 times slower. */
export async function derivePortably(passphrase: Uint8Array, salt: Uint8Array, cost: KdfCost): Promise<Uint8Array> {
  const { argon2idAsync } = await import("@noble/hashes/argon2.js");
  return argon2idAsync(passphrase, salt, { m: cost.memoryKiB, t: cost.passes, p: cost.lanes, dkLen: KEK_BYTES });
}

/**
 * The cost that takes about half a second on this machine: 64, 128 or 256 MiB, and never more than an eighth of
 * its memory unless that is below the floor.
 */
export async function calibrateKdfCost(clock: Clock): Promise<KdfCost> {
  const startedAt = clock.monotonicMs();
  await deriveKek(new Uint8Array(8), new Uint8Array(16), FLOOR_KDF_COST);
  const floorMs = clock.monotonicMs() - startedAt;
  const mostKiB = Math.min(MOST_CALIBRATED_KIB, totalmem() / 1024 / MEMORY_SHARE);
  let memoryKiB = FLOOR_KDF_COST.memoryKiB;
  while (memoryKiB * 2 <= mostKiB && (floorMs * memoryKiB * 2) / FLOOR_KDF_COST.memoryKiB <= TARGET_MS) memoryKiB *= 2;
  return { ...FLOOR_KDF_COST, memoryKiB };
}
