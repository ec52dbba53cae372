/**
 * Plaintext of frames in memory, bounded by bytes, least recently used first out (DESIGN §3).
 * A frame's number in its pack is never used twice, so what is cached never becomes stale.
 */
import { LRUCache } from "lru-cache";

/** What a cached frame costs beside its bytes: its key, links and typed-array header. */
const ENTRY_OVERHEAD_BYTES = 256;
/** Frame numbers are u32; a session sees fewer than 2^21 packs. */
const FRAMES_PER_PACK = 2 ** 32;

export interface FrameCacheOptions {
  /** Bound of the cached plaintext, overhead included; 0 caches nothing. */
  readonly cacheBytes: number;
}

export class FrameCache {
  readonly #frames: LRUCache<number, Uint8Array> | undefined;

  constructor(options: FrameCacheOptions) {
    if (options.cacheBytes <= 0) return;
    this.#frames = new LRUCache({
      maxSize: options.cacheBytes,
      sizeCalculation: (frame) => frame.length + ENTRY_OVERHEAD_BYTES,
    });
  }

  /**
   * @param packNumber - This session's number for the pack, below 2^21.
   * @returns The frame's plaintext, borrowed: read-only, valid until garbage collected.
   */
  get(packNumber: number, frame: number): Uint8Array | undefined {
    return this.#frames?.get(frameKey(packNumber, frame));
  }

  /** As {@link get}, without counting as a use. */
  has(packNumber: number, frame: number): boolean {
    return this.#frames?.has(frameKey(packNumber, frame)) ?? false;
  }

  /** @param plaintext - Kept: the caller never changes it again, and it is no view of something much larger. */
  set(packNumber: number, frame: number, plaintext: Uint8Array): void {
    this.#frames?.set(frameKey(packNumber, frame), plaintext);
  }

  delete(packNumber: number, frame: number): void {
    this.#frames?.delete(frameKey(packNumber, frame));
  }

  /** Bytes held now, overhead included. */
  get usedBytes(): number {
    return this.#frames?.calculatedSize ?? 0;
  }

  clear(): void {
    this.#frames?.clear();
  }
}

/** One number names a frame of the session: a map of numbers is faster than one of strings. */
export function frameKey(packNumber: number, frame: number): number {
  return packNumber * FRAMES_PER_PACK + frame;
}
