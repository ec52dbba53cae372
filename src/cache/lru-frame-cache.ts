/** Plaintext of frames in memory, bounded by bytes, least recently used first out (DESIGN §3). */
import { LRUCache } from "lru-cache";

import { type FrameCache, frameKey } from "../chunkstore/frame-cache.ts";
import type { Frame } from "../chunkstore/frame-memory.ts";

/** What a cached frame costs beside its bytes: its key, links, holder and typed-array header. */
const ENTRY_OVERHEAD_BYTES = 256;

export interface LruFrameCacheOptions {
  /** Bound of the cached plaintext, overhead included; 0 caches nothing. */
  readonly cacheBytes: number;
}

export class LruFrameCache implements FrameCache {
  readonly #frames: LRUCache<number, Frame> | undefined;
  readonly #limitBytes: number;

  constructor({ cacheBytes }: LruFrameCacheOptions) {
    this.#limitBytes = cacheBytes;
    if (cacheBytes <= 0) return;
    this.#frames = new LRUCache({
      maxSize: cacheBytes,
      sizeCalculation: (frame) => frame.bytes.length + ENTRY_OVERHEAD_BYTES,
      dispose: (frame) => {
        frame.release();
      },
    });
  }

  get(packNumber: number, frame: number): Frame | undefined {
    return this.#frames?.get(frameKey(packNumber, frame));
  }

  has(packNumber: number, frame: number): boolean {
    return this.#frames?.has(frameKey(packNumber, frame)) ?? false;
  }

  set(packNumber: number, frame: number, content: Frame): void {
    const frames = this.#frames;
    // What does not fit the cache drops, and releases, by itself: it would not have been held yet.
    if (frames === undefined || content.bytes.length + ENTRY_OVERHEAD_BYTES > this.#limitBytes) return;
    const key = frameKey(packNumber, frame);
    if (frames.peek(key) === content) return;
    content.hold();
    frames.set(key, content);
  }

  delete(packNumber: number, frame: number): void {
    this.#frames?.delete(frameKey(packNumber, frame));
  }

  get usedBytes(): number {
    return this.#frames?.calculatedSize ?? 0;
  }

  clear(): void {
    this.#frames?.clear();
  }
}
