/**
 * How often the kernel refers to each inode: to all that it has in its cache, a million or more. Numbers of neighbours lie
 * side by side in typed arrays: 4 to 5 bytes an inode where most of a page are referred to, which a garbage collection does
 * not look through. (A Map takes 36, twice that while it grows, and ends at 2^24.)
 */
import type { InodeNumber } from "../ids.ts";

const PAGE_INODES = 64;
const SLAB_PAGES = 1024;
/** A count that has come so far stays: the inode is kept for longer than it need be, never for less. */
const MOST = 2 ** 32 - 1;

export class ReferenceCounts {
  /** By inode number / {@link PAGE_INODES}: the page's index among all pages of all slabs. */
  readonly #pages = new Map<number, number>();
  readonly #slabs: Uint32Array[] = [];
  /** Of each page: how many of its inodes are referred to. */
  readonly #used: number[] = [];
  /** Pages that no inode uses: all zeros. */
  readonly #free: number[] = [];

  add(ino: InodeNumber): void {
    const pageNumber = Math.floor(ino / PAGE_INODES);
    const page = this.#pages.get(pageNumber) ?? this.#take(pageNumber);
    const slab = this.#slabs[Math.floor(page / SLAB_PAGES)] as Uint32Array;
    const at = placeOf(page, ino);
    const count = slab[at] as number;
    if (count === 0) this.#used[page] = (this.#used[page] as number) + 1;
    if (count < MOST) slab[at] = count + 1;
  }

  /** @returns How many references are left; 0 for an inode that had none. */
  drop(ino: InodeNumber, count: number): number {
    const pageNumber = Math.floor(ino / PAGE_INODES);
    const page = this.#pages.get(pageNumber);
    if (page === undefined) return 0;
    const slab = this.#slabs[Math.floor(page / SLAB_PAGES)] as Uint32Array;
    const at = placeOf(page, ino);
    const before = slab[at] as number;
    if (before === 0 || before === MOST) return before;
    const left = Math.max(0, before - count);
    slab[at] = left;
    if (left === 0) this.#drain(pageNumber, page);
    return left;
  }

  has(ino: InodeNumber): boolean {
    const page = this.#pages.get(Math.floor(ino / PAGE_INODES));
    if (page === undefined) return false;
    return this.#slabs[Math.floor(page / SLAB_PAGES)]?.[placeOf(page, ino)] !== 0;
  }

  #take(pageNumber: number): number {
    if (this.#free.length === 0) this.#addSlab();
    const page = this.#free.pop() as number;
    this.#pages.set(pageNumber, page);
    return page;
  }

  #addSlab(): void {
    const first = this.#slabs.length * SLAB_PAGES;
    this.#slabs.push(new Uint32Array(SLAB_PAGES * PAGE_INODES));
    for (let page = first + SLAB_PAGES - 1; page >= first; page--) {
      this.#used[page] = 0;
      this.#free.push(page);
    }
  }

  /** One of its inodes is not referred to any more. */
  #drain(pageNumber: number, page: number): void {
    const used = (this.#used[page] as number) - 1;
    this.#used[page] = used;
    if (used > 0) return;
    this.#pages.delete(pageNumber);
    this.#free.push(page);
  }
}

/** @returns The index in the page's slab. */
function placeOf(page: number, ino: InodeNumber): number {
  return (page % SLAB_PAGES) * PAGE_INODES + (ino % PAGE_INODES);
}
