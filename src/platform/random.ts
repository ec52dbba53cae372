/** Randomness, behind an interface so that whole histories replay from a seed. */
import { randomFillSync } from "node:crypto";

export interface RandomSource {
  /** @returns `lengthBytes` fresh unpredictable bytes, owned by the caller. */
  bytes(lengthBytes: number): Uint8Array;
}

/** The operating system's generator. */
export const systemRandom: RandomSource = {
  bytes: (lengthBytes) => randomFillSync(new Uint8Array(lengthBytes)),
};
