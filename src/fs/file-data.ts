/**
 * One file's contents in three layers, newest first: live changes, frozen changes (being committed), stored extents.
 * Answers "what is at these bytes" and takes changes; seals nothing and waits for nothing.
 */
import { EXTENT_PAGE_BYTES, type InodeRecord } from "../format/records.ts";
import { isZeroChunk } from "../format/zero-chunk.ts";
import type { InodeNumber } from "../ids.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import { DataSource, HOLE, type Run, type RunSource, ZERO, firstRunAfter, walkRuns } from "./dirty-runs.ts";
import { type HeldBytes, Overlay } from "./overlay.ts";
import type { WriteLog } from "./write-log.ts";
import type { WriteMemory } from "./write-memory.ts";

/** Above this a growing run gets memory of its own instead of a share of a slab. */
const OWN_MEMORY_BYTES = 16 * 1024;

/** Where stored extents come from. */
export type PageSource = Pick<MetadataStore, "getExtentPage">;

export type VisitRun = (start: number, end: number, source: RunSource, sourceOffset: number) => void;

/** Progress of sealing a stream of full pages while it is written. */
export interface StreamProgress {
  /** Where the next cut begins. */
  page: number;
  rest: number;
  /** Pages before this one, from `page` on, are full. */
  fullUntil: number;
  /** Whether the next cuts are being looked for. */
  isNaming: boolean;
}

/** What all files share. */
export interface FileDataParts {
  readonly memory: WriteMemory;
  readonly held: HeldBytes;
  readonly log: WriteLog;
}

export class FileData {
  readonly ino: InodeNumber;
  live: Overlay;
  frozen: Overlay | undefined;
  stream: StreamProgress | undefined;
  /** Whether extents may be stored under this inode: a file that never was committed needs no look-ups. */
  mayBeStored: boolean;
  /** The eager sealings under way; they never reject. */
  readonly sealings = new Set<Promise<void>>();
  readonly #metadata: PageSource;
  readonly #memory: WriteMemory;
  readonly #ledger: HeldBytes;
  readonly #log: WriteLog;

  constructor(inode: InodeRecord, metadata: PageSource, { memory, held, log }: FileDataParts) {
    this.ino = inode.ino;
    this.mayBeStored = inode.allocatedBytes > 0;
    this.live = new Overlay(held, log);
    this.#metadata = metadata;
    this.#memory = memory;
    this.#ledger = held;
    this.#log = log;
  }

  get isClean(): boolean {
    return this.live.isEmpty && this.frozen === undefined && this.sealings.size === 0;
  }

  /** Visit what a range of one page holds, in order, holes included; the newest layer wins. */
  visit(page: number, start: number, end: number, visit: VisitRun): void {
    this.#visitLayer(this.live, page, start, end, visit, (from, to) => {
      if (this.frozen === undefined) this.visitStored(page, from, to, visit);
      else {
        this.#visitLayer(this.frozen, page, from, to, visit, (innerFrom, innerTo) => {
          this.visitStored(page, innerFrom, innerTo, visit);
        });
      }
    });
  }

  /** Visit what the metadata store holds of a range of one page. */
  visitStored(page: number, start: number, end: number, visit: VisitRun): void {
    if (this.mayBeStored) visitExtents(this.#metadata, this.ino, page, start, end, visit);
    else visit(start, end, HOLE, 0);
  }

  #visitLayer(
    layer: Overlay,
    page: number,
    start: number,
    end: number,
    visit: VisitRun,
    below: (start: number, end: number) => void,
  ): void {
    const visible = layer.visibleBytes(page);
    walkRuns(layer.pages.get(page), start, end, visit, (from, to) => {
      if (from < visible) below(from, Math.min(to, visible));
      if (to > visible) visit(Math.max(from, visible), to, HOLE, 0);
    });
  }

  /** Bytes of a range of one page that are not holes. */
  occupiedBytes(page: number, start: number, end: number): number {
    let bytes = 0;
    this.visit(page, start, end, (from, to, source) => {
      if (source !== HOLE) bytes += to - from;
    });
    return bytes;
  }

  /** Take written bytes of one page: a copy. `data` is at most a page. */
  write(page: number, start: number, data: Uint8Array): void {
    const end = start + data.length;
    this.#log.note(this, page, start, end);
    const runs = this.live.runsOf(page);
    const last = runs.at(-1);
    if (last !== undefined && last.end === start && this.#append(page, last, data)) return;
    if (overwriteInPlace(runs, start, data)) return;
    const { source, offset } = this.#allocate(page, start, data.length);
    source.bytes.set(data, offset);
    this.live.replace(page, start, end, source, offset);
  }

  /** Grow the last run of a page, giving it memory of its own once it is no longer tiny. */
  #append(page: number, last: Run, data: Uint8Array): boolean {
    const source = last.source;
    if (!(source instanceof DataSource) || source.isBusy) return false;
    const lengthBytes = last.end - last.start;
    const sourceEnd = last.sourceOffset + lengthBytes;
    if (source.usedBytes === sourceEnd && source.bytes.length - sourceEnd >= data.length) {
      source.bytes.set(data, sourceEnd);
      source.usedBytes += data.length;
      last.end += data.length;
      this.live.noteHeld(data.length);
      return true;
    }
    const wanted = lengthBytes + data.length;
    if (wanted < OWN_MEMORY_BYTES) return false;
    const capacity = Math.min(EXTENT_PAGE_BYTES - last.start, Math.max(64 * 1024, wanted * 4));
    const grown = this.#memory.take(capacity);
    grown.bytes.set(source.bytes.subarray(last.sourceOffset, sourceEnd), 0);
    grown.bytes.set(data, lengthBytes);
    grown.usedBytes = wanted;
    this.live.replace(page, last.start, last.start + wanted, grown, 0);
    this.release(page, source);
    return true;
  }

  #allocate(page: number, start: number, lengthBytes: number): { source: DataSource; offset: number } {
    const isStream = start === 0 && this.stream?.fullUntil === page;
    if (!isStream && lengthBytes < OWN_MEMORY_BYTES) return this.#memory.carve(lengthBytes);
    const source = this.#memory.take(isStream ? EXTENT_PAGE_BYTES : lengthBytes);
    source.usedBytes = lengthBytes;
    return { source, offset: 0 };
  }

  /** Note that a page's end was written: it is the stream's next full one, or the first of another stream. */
  noteStream(page: number): void {
    if (!isHeldThroughout(this.live.pages.get(page))) return;
    if (this.stream?.fullUntil === page) this.stream.fullUntil = page + 1;
    else this.stream = { page, rest: 0, fullUntil: page + 1, isNaming: false };
  }

  /** A source was sealed or copied: back to the pool with it, unless a run of its page still refers to it. */
  release(page: number, source: DataSource): void {
    if (!source.isPooled || source.isBusy) return;
    for (const layer of [this.live, this.frozen]) {
      if (layer?.pages.get(page)?.some((run) => run.source === source) === true) return;
    }
    this.#memory.giveBack(source);
  }

  /** The live generation becomes the frozen one. */
  freeze(): void {
    this.frozen = this.live;
    this.live = new Overlay(this.#ledger, this.#log);
    this.stream = undefined;
  }
}

/** Visit the stored extents of a range of one page. */
export function visitExtents(
  metadata: PageSource,
  ino: InodeNumber,
  page: number,
  start: number,
  end: number,
  visit: VisitRun,
): void {
  let position = start;
  for (const extent of metadata.getExtentPage(ino, page)) {
    const extentEnd = extent.start + extent.lengthBytes;
    if (extentEnd <= position) continue;
    if (extent.start >= end) break;
    if (extent.start > position) visit(position, extent.start, HOLE, 0);
    const from = Math.max(extent.start, position);
    const to = Math.min(extentEnd, end);
    if (isZeroChunk(extent.chunk)) visit(from, to, ZERO, 0);
    else visit(from, to, extent.chunk, extent.chunkOffset + (from - extent.start));
    position = to;
  }
  if (position < end) visit(position, end, HOLE, 0);
}

/** Overwrite bytes that one live run holds in memory; not while an engine reads them. */
function overwriteInPlace(runs: readonly Run[], start: number, data: Uint8Array): boolean {
  const run = runs[firstRunAfter(runs, start)];
  if (run === undefined || run.start > start || run.end < start + data.length) return false;
  if (!(run.source instanceof DataSource) || run.source.isBusy) return false;
  run.source.bytes.set(data, run.sourceOffset + (start - run.start));
  return true;
}

function isHeldThroughout(runs: readonly Run[] | undefined): boolean {
  let position = 0;
  for (const run of runs ?? []) {
    if (run.start !== position || !(run.source instanceof DataSource)) return false;
    position = run.end;
  }
  return position === EXTENT_PAGE_BYTES;
}
