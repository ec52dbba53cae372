/**
 * Memory of unsealed frames, used again once nobody holds it: allocating and collecting 64 KiB for each frame would
 * cost as much as unsealing it, and a copy for each reader half of that.
 */
import { FRAME_BYTES } from "../crypto/engine.ts";

/** Whole frames' memory kept for the next ones: what readers and prefetches have under way at once. */
const MAX_SPARE_FRAMES = 128;

/** One frame's plaintext, shared by whoever holds it: read-only once it is filled. */
export class Frame {
  readonly bytes: Uint8Array;
  readonly #memory: FrameMemory;
  #holds = 1;

  constructor(bytes: Uint8Array, memory: FrameMemory) {
    this.bytes = bytes;
    this.#memory = memory;
  }

  /** Keep it until one more {@link release}. */
  hold(): void {
    this.#holds += 1;
  }

  /** The last one gives the memory to the next frame. @throws RangeError if nobody holds it. */
  release(): void {
    if (this.#holds === 0) throw new RangeError("a frame was released more often than held");
    this.#holds -= 1;
    if (this.#holds === 0) this.#memory.giveBack(this.bytes);
  }
}

export class FrameMemory {
  readonly #spare: Uint8Array[] = [];

  /** @returns A frame to fill whole, held once, by the caller. Holds old plaintext. */
  take(lengthBytes: number): Frame {
    const spare = lengthBytes === FRAME_BYTES ? this.#spare.pop() : undefined;
    return new Frame(spare ?? unfilled(lengthBytes), this);
  }

  giveBack(memory: Uint8Array): void {
    if (memory.length === FRAME_BYTES && this.#spare.length < MAX_SPARE_FRAMES) this.#spare.push(memory);
  }
}

/** @returns Memory of its own that will be overwritten whole: zeros first would cost a tenth of an unsealing. */
function unfilled(lengthBytes: number): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(lengthBytes);
  return new Uint8Array(bytes.buffer, bytes.byteOffset, lengthBytes);
}
