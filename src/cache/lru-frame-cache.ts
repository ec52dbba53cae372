/**
 * Plaintext of frames in memory, bounded by bytes, least recently used first out (DESIGN §3). The cache owns its
 * memory and uses it again: allocating and collecting 64 KiB for each frame would cost as much as unsealing it.
 */
import { LRUCache } from "lru-cache";

import { type FrameCache, WHOLE_FRAME_BYTES, frameKey, unfilled } from "../chunkstore/frame-cache.ts";

/** What a cached frame costs beside its bytes: its key, links and typed-array header. */
const ENTRY_OVERHEAD_BYTES = 256;
/** Whole frames' memory kept for the next ones: as much as one batch of evictions. */
const MAX_SPARE_FRAMES = 32;

export interface LruFrameCacheOptions {
  /** Bound of the cached plaintext, overhead included; 0 caches nothing. */
  readonly cacheBytes: number;
}

export class LruFrameCache implements FrameCache {
  readonly #frames: LRUCache<number, Uint8Array> | undefined;
  readonly #spare: Uint8Array[] = [];

  constructor(options: LruFrameCacheOptions) {
    if (options.cacheBytes <= 0) return;
    this.#frames = new LRUCache({
      maxSize: options.cacheBytes,
      sizeCalculation: (frame) => frame.length + ENTRY_OVERHEAD_BYTES,
      dispose: (frame) => {
        this.giveBack(frame);
      },
    });
  }

  get(packNumber: number, frame: number): Uint8Array | undefined {
    return this.#frames?.get(frameKey(packNumber, frame));
  }

  has(packNumber: number, frame: number): boolean {
    return this.#frames?.has(frameKey(packNumber, frame)) ?? false;
  }

  take(lengthBytes: number): Uint8Array {
    const spare = lengthBytes === WHOLE_FRAME_BYTES ? this.#spare.pop() : undefined;
    return spare ?? unfilled(lengthBytes);
  }

  giveBack(memory: Uint8Array): void {
    if (memory.length === WHOLE_FRAME_BYTES && this.#spare.length < MAX_SPARE_FRAMES) this.#spare.push(memory);
  }

  set(packNumber: number, frame: number, plaintext: Uint8Array): void {
    this.#frames?.set(frameKey(packNumber, frame), plaintext);
  }

  delete(packNumber: number, frame: number): void {
    this.#frames?.delete(frameKey(packNumber, frame));
  }

  get usedBytes(): number {
    return this.#frames?.calculatedSize ?? 0;
  }

  clear(): void {
    this.#frames?.clear();
    this.#spare.length = 0;
  }
}
