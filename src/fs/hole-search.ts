/** Data and holes as SEEK_DATA and SEEK_HOLE tell them: holes are whole blocks, as on a disk, however finely they are kept. */
import { HOLE, type RunSource, ZERO } from "./dirty-runs.ts";

/** st_blksize: programs take it, or what they find between data, for the size of the smallest hole. */
const BLOCK_BYTES = 4096;

/** Visits what an extent page holds from an offset within it to its end, in order. */
export type VisitFrom = (start: number, visit: (start: number, end: number, source: RunSource) => void) => void;

/**
 * Allocated zeros count as holes, as unwritten extents do on ext4.
 * @param start - Offset within the page.
 * @returns The first offset within the page, from `start` on, that is data, or a hole; undefined if there is none.
 */
export function findInPage(visitFrom: VisitFrom, start: number, whence: "data" | "hole"): number | undefined {
  let found: number | undefined;
  let emptyFrom = blockStart(start);
  visitFrom(emptyFrom, (from, to, source) => {
    if (found !== undefined) return;
    const isHole = source === HOLE || source === ZERO;
    if (whence === "data") {
      if (!isHole) found = Math.max(start, blockStart(from));
    } else if (!isHole) {
      emptyFrom = blockStart(to + BLOCK_BYTES - 1);
    } else if (to - emptyFrom >= BLOCK_BYTES) {
      found = Math.max(start, emptyFrom);
    }
  });
  return found;
}

function blockStart(offset: number): number {
  return offset - (offset % BLOCK_BYTES);
}
