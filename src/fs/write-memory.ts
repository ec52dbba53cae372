/**
 * Memory for written bytes. Small writes are carved from shared slabs, so that ten thousand tiny files cost forty
 * allocations; streams take whole pages from a pool, so that a gigabyte costs no page faults and no collections.
 */
import { EXTENT_PAGE_BYTES } from "../format/records.ts";
import { DataSource } from "./dirty-runs.ts";

const SLAB_BYTES = 1024 * 1024;
/** Spare pages kept for the next stream. */
const MAX_SPARE_PAGES = (48 * 1024 * 1024) / EXTENT_PAGE_BYTES;

export class WriteMemory {
  #slab = new DataSource(SLAB_BYTES);
  readonly #spare: DataSource[] = [];

  /** @returns A place for `lengthBytes` (at most a slab) in a source that others share. */
  carve(lengthBytes: number): { source: DataSource; offset: number } {
    if (this.#slab.isBusy || SLAB_BYTES - this.#slab.usedBytes < lengthBytes) this.#slab = new DataSource(SLAB_BYTES);
    const offset = this.#slab.usedBytes;
    this.#slab.usedBytes += lengthBytes;
    return { source: this.#slab, offset };
  }

  /** @returns A source of at least `capacityBytes` for one page of one file. */
  take(capacityBytes: number): DataSource {
    if (capacityBytes <= EXTENT_PAGE_BYTES / 2) return new DataSource(capacityBytes);
    const source = this.#spare.pop() ?? new DataSource(EXTENT_PAGE_BYTES, true);
    source.isSpare = false;
    return source;
  }

  /** Nothing refers to the source any more: no run, no engine, no reply. Only what {@link take} pooled is kept. */
  giveBack(source: DataSource): void {
    if (!source.isPooled || source.isSpare || this.#spare.length >= MAX_SPARE_PAGES) return;
    source.isSpare = true;
    source.usedBytes = 0;
    this.#spare.push(source);
  }

  /** No stream is under way: what the last one used is nobody's. */
  dropSpare(): void {
    this.#spare.length = 0;
  }
}
