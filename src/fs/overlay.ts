/**
 * One generation of a file's changes: dirty runs by extent page, and where the file was cut off.
 * The live generation takes writes; at a commit it becomes the frozen one and is never changed again,
 * except that runs held in memory turn into runs of the chunks they were sealed to.
 */
import { EXTENT_PAGE_BYTES } from "../format/records.ts";
import type { WriteLog } from "./write-log.ts";
import { DataSource, HOLE, type Run, type RunSource, heldBytes, replaceRuns, walkRuns } from "./dirty-runs.ts";

/** Changed bytes held in memory by all files together: what back-pressure looks at. */
export class HeldBytes {
  bytes = 0;
}

export class Overlay {
  readonly pages = new Map<number, Run[]>();
  readonly #ledger: HeldBytes;
  readonly #log: Pick<WriteLog, "refuse">;
  #heldBytes = 0;
  /** Everything older at or after this place is gone; undefined: nothing was cut off. */
  #cutPage: number | undefined;
  #cutRest = 0;
  /** Pages before this one may hold older content that the cut hides; meaningless without a cut. */
  #cutEndPage = 0;

  /** @param log - Told of every change but plain writes: it cannot take it. */
  constructor(ledger: HeldBytes, log: Pick<WriteLog, "refuse">) {
    this.#ledger = ledger;
    this.#log = log;
  }

  /** Bytes of runs held in memory. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** A run grew by `bytes` (or shrank, if negative) without `replace`. */
  noteHeld(bytes: number): void {
    this.#heldBytes += bytes;
    this.#ledger.bytes += bytes;
  }

  /** Forget everything. */
  clear(): void {
    this.noteHeld(-this.#heldBytes);
    this.pages.clear();
    this.#cutPage = undefined;
  }

  get isEmpty(): boolean {
    return this.pages.size === 0 && this.#cutPage === undefined;
  }

  /** How much of a page's older content still shows, from its start. */
  visibleBytes(page: number): number {
    if (this.#cutPage === undefined || page < this.#cutPage) return EXTENT_PAGE_BYTES;
    return page === this.#cutPage ? this.#cutRest : 0;
  }

  /** The pages whose older content a cut removes wholly: [from, to). */
  get cutPages(): { readonly from: number; readonly to: number } | undefined {
    if (this.#cutPage === undefined) return undefined;
    return { from: this.#cutRest === 0 ? this.#cutPage : this.#cutPage + 1, to: this.#cutEndPage };
  }

  /** The page that a cut goes through the middle of. */
  get splitPage(): number | undefined {
    return this.#cutRest === 0 ? undefined : this.#cutPage;
  }

  runsOf(page: number): Run[] {
    let runs = this.pages.get(page);
    if (runs === undefined) {
      runs = [];
      this.pages.set(page, runs);
    }
    return runs;
  }

  /** Replace [start, end) of a page; within one page. */
  replace(page: number, start: number, end: number, source: RunSource, sourceOffset: number): void {
    const runs = this.runsOf(page);
    this.noteHeld(-replaceRuns(runs, start, end, [{ start, end, source, sourceOffset }]));
    if (source instanceof DataSource) this.noteHeld(end - start);
    else this.#log.refuse();
  }

  /**
   * Cut the file off at (page, rest).
   * @param endPage - First page that no older content reaches.
   */
  cut(page: number, rest: number, endPage: number): void {
    this.#log.refuse();
    for (const [number, runs] of this.pages) {
      if (number < page) continue;
      const from = number === page ? rest : 0;
      this.noteHeld(-replaceRuns(runs, from, EXTENT_PAGE_BYTES, []));
      if (runs.length === 0) this.pages.delete(number);
    }
    if (this.#cutPage === undefined || page < this.#cutPage || (page === this.#cutPage && rest < this.#cutRest)) {
      this.#cutPage = page;
      this.#cutRest = rest;
    }
    this.#cutEndPage = Math.max(this.#cutEndPage, endPage);
  }

  /**
   * Turn what is still held of a sealed segment into runs of its chunks. What was overwritten since stays as it is, in
   * the same source too: a slab holds older and newer bytes of one place.
   * @param chunkRuns - Sorted runs within the segment.
   */
  convert(segment: Segment, chunkRuns: readonly Run[]): void {
    const runs = this.pages.get(segment.page);
    if (runs === undefined) return;
    const held: { readonly start: number; readonly end: number }[] = [];
    const keep = (): void => undefined;
    const base = segment.sourceOffset - segment.start;
    const collect = (start: number, end: number, source: RunSource, sourceOffset: number): void => {
      if (source === segment.source && sourceOffset - start === base) held.push({ start, end });
    };
    walkRuns(runs, segment.start, segment.end, collect, keep);
    for (const part of held) {
      const replacement: Run[] = [];
      const take = (start: number, end: number, source: RunSource, sourceOffset: number): void => {
        replacement.push({ start, end, source, sourceOffset });
      };
      walkRuns(chunkRuns, part.start, part.end, take, (start, end) => {
        take(start, end, segment.source, segment.sourceOffset + (start - segment.start));
      });
      this.noteHeld(-replaceRuns(runs, part.start, part.end, replacement));
      for (const run of replacement) this.noteHeld(heldBytes(run));
    }
  }

  /** Punch [start, end) of a page. */
  punch(page: number, start: number, end: number): void {
    this.replace(page, start, end, HOLE, 0);
  }
}

/** A run held in memory, as handed to the chunk store. */
export interface Segment {
  readonly page: number;
  readonly start: number;
  readonly end: number;
  readonly source: DataSource;
  readonly sourceOffset: number;
}
