/**
 * The cache of unsealed frames as the chunk store uses it. It owns its memory and may use it again. A frame's number
 * in its pack is never used twice, so what is cached never becomes stale.
 */
import { FRAME_BYTES } from "../crypto/engine.ts";

/** Length of every frame but a chunk's last: the memory worth using again. */
export const WHOLE_FRAME_BYTES = FRAME_BYTES;
/** Frame numbers are u32; a session sees fewer than 2^21 packs. */
const FRAMES_PER_PACK = 2 ** 32;

export interface FrameCache {
  /**
   * @param packNumber - This session's number for the pack, below 2^21.
   * @returns The frame's plaintext. Borrowed until the next call that changes the cache: copy at once.
   */
  get(packNumber: number, frame: number): Uint8Array | undefined;
  /** Whether it is there, without counting as a use. */
  has(packNumber: number, frame: number): boolean;
  /** @returns Memory to fill whole and hand to `set`, or to `giveBack`. Holds old plaintext. */
  take(lengthBytes: number): Uint8Array;
  giveBack(memory: Uint8Array): void;
  /** @param plaintext - From `take`; the cache's from now on. */
  set(packNumber: number, frame: number, plaintext: Uint8Array): void;
  delete(packNumber: number, frame: number): void;
  /** Bytes held now, overhead included. */
  readonly usedBytes: number;
  clear(): void;
}

/** One number names a frame of the session: a map of numbers is faster than one of strings. */
export function frameKey(packNumber: number, frame: number): number {
  return packNumber * FRAMES_PER_PACK + frame;
}

/** @returns Memory of its own that will be overwritten whole: zeros first would cost a tenth of an unsealing. */
export function unfilled(lengthBytes: number): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(lengthBytes);
  return new Uint8Array(bytes.buffer, bytes.byteOffset, lengthBytes);
}
