/**
 * The cache of unsealed frames as the chunk store uses it. A frame's number in its pack is never used twice, so what is
 * cached never becomes stale.
 */
import type { Frame } from "./frame-memory.ts";

/** Frame numbers are u32; a session sees fewer than 2^21 packs. */
export const FRAMES_PER_PACK = 2 ** 32;

export interface FrameCache {
  /**
   * @param packNumber - This session's number for the pack, below 2^21.
   * @returns The frame, borrowed: to be held by whoever keeps it beyond the next call that changes the cache.
   */
  get(packNumber: number, frame: number): Frame | undefined;
  /** Whether it is there, without counting as a use. */
  has(packNumber: number, frame: number): boolean;
  /** @param content - Held by the cache too, until it drops it. */
  set(packNumber: number, frame: number, content: Frame): void;
  delete(packNumber: number, frame: number): void;
  /** Bytes held now, overhead included. */
  readonly usedBytes: number;
  clear(): void;
}

/** One number names a frame of the session: a map of numbers is faster than one of strings. */
export function frameKey(packNumber: number, frame: number): number {
  return packNumber * FRAMES_PER_PACK + frame;
}
