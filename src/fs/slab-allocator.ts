/** Memory for small writes: carved from shared slabs, so that ten thousand tiny files cost forty allocations. */
import { DataSource } from "./dirty-runs.ts";

const SLAB_BYTES = 1024 * 1024;

export class SlabAllocator {
  #slab = new DataSource(SLAB_BYTES);

  /** @returns A place for `lengthBytes` (at most a slab) in a source that others share. */
  allocate(lengthBytes: number): { source: DataSource; offset: number } {
    if (this.#slab.isBusy || SLAB_BYTES - this.#slab.usedBytes < lengthBytes) this.#slab = new DataSource(SLAB_BYTES);
    const offset = this.#slab.usedBytes;
    this.#slab.usedBytes += lengthBytes;
    return { source: this.#slab, offset };
  }
}
