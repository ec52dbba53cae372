/**
 * Which files the kernel may hold old pages of. Linux clears the page cache before an asynchronous direct write, not
 * after it (fs/fuse/file.c, fuse_aio_complete; seen on 6.18): a buffered read that comes between keeps the old bytes for
 * good. So whoever answers such a write must clear the cache himself, if there was a read.
 */
import type { InodeNumber } from "../ids.ts";

/** How long a read is remembered, at least. */
const MEMORY_MS = 30_000;
/** Inodes share bits: a bit too many costs a needless notice. */
const BIT_COUNT = 2 ** 17;

export class CachedReads {
  readonly #now: () => number;
  #young = new Uint8Array(BIT_COUNT / 8);
  #old = new Uint8Array(BIT_COUNT / 8);
  #turnedMs: number;

  /** @param now - Monotonic milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
    this.#turnedMs = now();
  }

  /** A read that fills the page cache has come. */
  note(ino: InodeNumber): void {
    this.#turn();
    const at = byteOf(ino);
    this.#young[at] = (this.#young[at] ?? 0) | (1 << (ino & 7));
  }

  /** @param sinceMs - When the write came. @returns Whether a read may have come just before it, or since. */
  mayHold(ino: InodeNumber, sinceMs: number): boolean {
    this.#turn();
    const at = byteOf(ino);
    const bits = (this.#young[at] ?? 0) | (this.#old[at] ?? 0);
    return (bits & (1 << (ino & 7))) !== 0 || this.#now() - sinceMs > MEMORY_MS;
  }

  #turn(): void {
    const now = this.#now();
    if (now - this.#turnedMs < MEMORY_MS) return;
    const isLongAgo = now - this.#turnedMs >= 2 * MEMORY_MS;
    [this.#young, this.#old] = [this.#old, this.#young];
    this.#young.fill(0);
    if (isLongAgo) this.#old.fill(0);
    this.#turnedMs = now;
  }
}

function byteOf(ino: InodeNumber): number {
  return (ino % BIT_COUNT) >>> 3;
}
