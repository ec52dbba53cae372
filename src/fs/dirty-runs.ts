/**
 * Changed bytes of one extent page of a file, as sorted runs: what was written, punched or shared since the last
 * commit. Pure list work; offsets are within the page. Knows neither inodes nor the stores.
 */
import type { ChunkId } from "../ids.ts";

/** Memory that holds written bytes. Not written to while an engine reads it. */
export class DataSource {
  readonly bytes: Uint8Array;
  /** Bytes handed out so far, from the front. */
  usedBytes: number;
  /** Engines that read it: small runs of several files share one source. */
  #readerCount = 0;
  /** Belongs to one page of one file and goes back to a pool. */
  readonly isPooled: boolean;
  /** In the pool: nobody's. */
  isSpare = false;

  constructor(capacityBytes: number, isPooled = false) {
    this.isPooled = isPooled;
    this.bytes = new Uint8Array(Buffer.allocUnsafeSlow(capacityBytes).buffer);
    this.usedBytes = 0;
  }

  get isBusy(): boolean {
    return this.#readerCount > 0;
  }

  /** An engine begins to read it; to be followed by one {@link letGo}. */
  hold(): void {
    this.#readerCount += 1;
  }

  letGo(): void {
    this.#readerCount -= 1;
  }
}

/** Nothing stored: reads as zeros. */
export const HOLE = Symbol("hole");
/** Allocated but never written: reads as zeros, counts as occupied (fallocate). */
export const ZERO = Symbol("zero");

/** Where a run's bytes are: memory, a stored chunk, or nowhere. */
export type RunSource = DataSource | ChunkId | typeof HOLE | typeof ZERO;

export interface Run {
  readonly start: number;
  end: number;
  readonly source: RunSource;
  /** Where the byte at `start` lies in the source; 0 for holes and zeros. */
  readonly sourceOffset: number;
}

/** @returns Bytes of the list that are held in memory. */
export function heldBytes(run: Run): number {
  return run.source instanceof DataSource ? run.end - run.start : 0;
}

function subRun(run: Run, start: number, end: number): Run {
  const isPlaced = run.source !== HOLE && run.source !== ZERO;
  return { start, end, source: run.source, sourceOffset: isPlaced ? run.sourceOffset + (start - run.start) : 0 };
}

/** @returns Index of the first run that ends after `offset`. */
export function firstRunAfter(runs: readonly Run[], offset: number): number {
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((runs[middle] as Run).end > offset) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * Put `replacement` (sorted, within [start, end)) in place of whatever the list has in [start, end).
 * @returns Bytes in memory that the list no longer refers to.
 */
export function replaceRuns(runs: Run[], start: number, end: number, replacement: readonly Run[]): number {
  const first = firstRunAfter(runs, start);
  let last = first;
  let releasedBytes = 0;
  const inserted: Run[] = [];
  while (last < runs.length && (runs[last] as Run).start < end) {
    const run = runs[last] as Run;
    if (run.source instanceof DataSource) releasedBytes += Math.min(run.end, end) - Math.max(run.start, start);
    last++;
  }
  if (last > first) {
    const head = runs[first] as Run;
    const tail = runs[last - 1] as Run;
    if (head.start < start) inserted.push(subRun(head, head.start, start));
    inserted.push(...replacement);
    if (tail.end > end) inserted.push(subRun(tail, end, tail.end));
  } else {
    inserted.push(...replacement);
  }
  runs.splice(first, last - first, ...inserted);
  return releasedBytes;
}

/**
 * Call `visit` for what the list has in [start, end) and `gap` for what it has not, in order.
 * @param visit - Gets the part of a run that lies in the range.
 */
export function walkRuns(
  runs: readonly Run[] | undefined,
  start: number,
  end: number,
  visit: (start: number, end: number, source: RunSource, sourceOffset: number) => void,
  gap: (start: number, end: number) => void,
): void {
  let position = start;
  if (runs !== undefined) {
    for (let index = firstRunAfter(runs, start); index < runs.length; index++) {
      const run = runs[index] as Run;
      if (run.start >= end) break;
      if (run.start > position) gap(position, run.start);
      const from = Math.max(run.start, position);
      const to = Math.min(run.end, end);
      const isPlaced = run.source !== HOLE && run.source !== ZERO;
      visit(from, to, run.source, isPlaced ? run.sourceOffset + (from - run.start) : 0);
      position = to;
    }
  }
  if (position < end) gap(position, end);
}
