/**
 * Reads ranges of packed chunks: which frames, from the cache or the pack, each fetched once however many ask, and lent
 * without a copy. Cached is what was prefetched, and frames of which a read took a part: their neighbours want the rest.
 * A frame taken whole is the reader's, which is the kernel's page cache: keeping it here as well would only push out
 * others.
 */
import { FRAME_BYTES, type FrameRun } from "../crypto/engine.ts";
import { isTcfsError } from "../errors.ts";
import { type MaybePromise, isPromise } from "../maybe-promise.ts";
import type { BorrowedBytes } from "../borrowed-bytes.ts";
import type { ByteRange } from "../remote/object-store.ts";
import { type FrameCache, frameKey } from "./frame-cache.ts";
import { type Frame, FrameMemory } from "./frame-memory.ts";
import type { PackedChunkRecord } from "./pack-format.ts";
import type { PackReader, PackReaders } from "./pack-readers.ts";

/** Frames that are worth unsealing on the calling thread when the page cache has them: less than a hop to the pool. */
const SYNC_FRAMES = 2;
/** Prefetches under way at once; more are dropped. */
const MAX_PREFETCHES = 8;
/** Frames of one hop to the pool: more go to several threads. */
const FETCH_FRAMES = 8;

/** Frames being fetched as one. */
interface Fetch {
  /** Index of the first within the chunk. */
  readonly first: number;
  readonly frames: readonly Frame[];
  readonly done: Promise<void>;
}

/** Part of one chunk, as frames of it. */
interface Span {
  readonly reader: PackReader;
  readonly record: PackedChunkRecord;
  readonly offset: number;
  readonly lengthBytes: number;
  /** Frames [first, end) of the chunk hold it. */
  readonly first: number;
  readonly end: number;
}

/** Frames [from, from + count) of a chunk. */
interface Gap {
  readonly from: number;
  count: number;
}

export class FrameReader {
  readonly #packs: PackReaders;
  readonly #cache: FrameCache;
  readonly #memory = new FrameMemory();
  readonly #fetches = new Map<number, Fetch>();
  #prefetchCount = 0;

  constructor(packs: PackReaders, cache: FrameCache) {
    this.#packs = packs;
    this.#cache = cache;
  }

  /**
   * @param offset - With `lengthBytes` inside the chunk; at least one byte.
   * @returns At once where cached or cheap.
   * @throws TcfsError `TCFS_CORRUPT`, `TCFS_IO`.
   */
  read(record: PackedChunkRecord, offset: number, lengthBytes: number): MaybePromise<BorrowedBytes> {
    const reader = this.#packs.acquire(record.pack, () => storedRange(record, offset, lengthBytes));
    if (isPromise(reader)) {
      return reader.then((opened) => this.#readLater(spanOf(opened, record, offset, lengthBytes)));
    }
    const span = spanOf(reader, record, offset, lengthBytes);
    let now: BorrowedBytes | undefined;
    try {
      now = this.#readNow(span);
    } catch (error) {
      this.#packs.release(reader);
      throw error;
    }
    if (now === undefined) return this.#readLater(span);
    this.#packs.release(reader);
    return now;
  }

  /** Fetch into the cache in the background what is not there yet. Never fails; dropped when much is under way. */
  prefetch(record: PackedChunkRecord, offset: number, lengthBytes: number): void {
    if (this.#prefetchCount >= MAX_PREFETCHES) return;
    this.#prefetchCount += 1;
    void this.#prefetch(record, offset, lengthBytes)
      .catch(() => undefined) // the read that comes for it meets the same failure, and reports it
      .finally(() => {
        this.#prefetchCount -= 1;
      });
  }

  async #prefetch(record: PackedChunkRecord, offset: number, lengthBytes: number): Promise<void> {
    const reader = await this.#packs.acquire(record.pack, () => storedRange(record, offset, lengthBytes));
    try {
      const span = spanOf(reader, record, offset, lengthBytes);
      const fetches = this.#gaps(span).map((gap) => this.#fetch(span, gap, true));
      await Promise.all(fetches.map(({ done }) => done));
    } finally {
      this.#packs.release(reader);
    }
  }

  /** @returns Undefined where a hop to the pool is the way. */
  #readNow(span: Span): BorrowedBytes | undefined {
    const missing = this.#gaps(span).reduce((sum, { count }) => sum + count, 0);
    if (missing > SYNC_FRAMES) return undefined;
    const frames: Frame[] = [];
    try {
      for (let index = span.first; index < span.end; index++) {
        const frame = this.#frameNow(span, index);
        if (frame === undefined) break;
        frames.push(frame);
      }
    } catch (error) {
      releaseAll(frames);
      throw error;
    }
    if (frames.length === span.end - span.first) return this.#lend(span, frames);
    releaseAll(frames);
    return undefined;
  }

  /** @returns The frame, held, if it was cached or in the page cache. */
  #frameNow({ reader, record }: Span, index: number): Frame | undefined {
    const number = record.firstFrame + index;
    const cached = this.#cache.get(reader.number, number);
    if (cached !== undefined) {
      cached.hold();
      return cached;
    }
    if (this.#fetches.has(frameKey(reader.number, number))) return undefined;
    const run = runOf(record, index, 1);
    const frame = this.#memory.take(run.lengthBytes);
    let isRead = false;
    try {
      isRead = reader.readSync(run, frameOffset(record, index), [frame.bytes]);
    } finally {
      if (!isRead) frame.release();
    }
    return isRead ? frame : undefined;
  }

  /** Takes over the hold on the reader. */
  async #readLater(span: Span): Promise<BorrowedBytes> {
    const frames: Frame[] = [];
    try {
      for (const gap of this.#gaps(span)) this.#fetch(span, gap, false);
      const waits: Promise<void>[] = [];
      for (let index = span.first; index < span.end; index++) frames.push(this.#frameLater(span, index, waits));
      await this.#settle(span, frames, waits);
      return this.#lend(span, frames);
    } catch (error) {
      releaseAll(frames);
      throw error;
    } finally {
      this.#packs.release(span.reader);
    }
  }

  /** @param waits - Gets what has to end before the frame is filled. @returns The frame, held. */
  #frameLater({ reader, record }: Span, index: number, waits: Promise<void>[]): Frame {
    const number = record.firstFrame + index;
    const fetch = this.#fetches.get(frameKey(reader.number, number));
    const frame = fetch?.frames[index - fetch.first] ?? this.#cache.get(reader.number, number);
    if (frame === undefined) throw new RangeError("a frame is neither cached nor on its way");
    frame.hold();
    if (fetch !== undefined && waits.at(-1) !== fetch.done) waits.push(fetch.done);
    return frame;
  }

  /** A fetch of others may fail over a frame that nobody asks for here: then those that are needed are fetched alone. */
  async #settle(span: Span, frames: Frame[], waits: readonly Promise<void>[]): Promise<void> {
    const outcomes = await Promise.allSettled(waits);
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (failed === undefined) return;
    if (!isTcfsError(failed.reason) || frames.length === 1) throw failed.reason;
    for (let at = 0; at < frames.length; at++) {
      const index = span.first + at;
      const fetch = this.#fetch(span, { from: index, count: 1 }, false);
      const [frame] = fetch.frames;
      if (frame === undefined) continue;
      frame.hold();
      frames[at]?.release();
      frames[at] = frame;
      await fetch.done;
    }
  }

  /** Takes over the holds on the frames. */
  #lend(span: Span, frames: readonly Frame[]): BorrowedBytes {
    const { reader, record, offset, lengthBytes } = span;
    const pieces = frames.map((frame, at) => {
      const index = span.first + at;
      const start = index * FRAME_BYTES;
      const isWhole = start >= offset && start + frame.bytes.length <= offset + lengthBytes;
      if (isWhole) {
        this.#cache.delete(reader.number, record.firstFrame + index); // if it was prefetched, it has done its duty
        return frame.bytes;
      }
      this.#cache.set(reader.number, record.firstFrame + index, frame);
      return frame.bytes.subarray(Math.max(0, offset - start), offset + lengthBytes - start);
    });
    return {
      pieces,
      release: () => {
        releaseAll(frames);
      },
    };
  }

  /** @returns The span's frames that are neither cached nor on their way, in runs fit for one hop. */
  #gaps({ reader, record, first, end }: Span): Gap[] {
    const gaps: Gap[] = [];
    for (let index = first; index < end; index++) {
      const number = record.firstFrame + index;
      if (this.#cache.has(reader.number, number) || this.#fetches.has(frameKey(reader.number, number))) continue;
      const last = gaps.at(-1);
      const isNext = last !== undefined && last.from + last.count === index;
      if (isNext && last.count < FETCH_FRAMES) last.count += 1;
      else gaps.push({ from: index, count: 1 });
    }
    return gaps;
  }

  /**
   * Start fetching frames. The fetch holds the reader and the frames for itself: whoever asked may have gone before it
   * is done.
   */
  #fetch({ reader, record }: Span, { from, count }: Gap, isPrefetch: boolean): Fetch {
    const run = runOf(record, from, count);
    const frames = Array.from({ length: count }, (_, i) =>
      this.#memory.take(Math.min(FRAME_BYTES, run.lengthBytes - i * FRAME_BYTES)),
    );
    reader.userCount += 1;
    const places = frames.map(({ bytes }) => bytes);
    const done = reader.read(run, frameOffset(record, from), places);
    const fetch: Fetch = { first: from, frames, done };
    const base = record.firstFrame + from;
    for (let i = 0; i < count; i++) this.#fetches.set(frameKey(reader.number, base + i), fetch);
    const forget = (): void => {
      this.#packs.release(reader);
      for (let i = 0; i < count; i++) {
        const key = frameKey(reader.number, base + i);
        if (this.#fetches.get(key) === fetch) this.#fetches.delete(key);
      }
      releaseAll(frames);
    };
    done.then(() => {
      if (isPrefetch)
        frames.forEach((frame, i) => {
          this.#cache.set(reader.number, base + i, frame);
        });
      forget();
    }, forget);
    return fetch;
  }
}

function releaseAll(frames: readonly Frame[]): void {
  for (const frame of frames) frame.release();
}

function spanOf(reader: PackReader, record: PackedChunkRecord, offset: number, lengthBytes: number): Span {
  const first = Math.floor(offset / FRAME_BYTES);
  const end = Math.ceil((offset + lengthBytes) / FRAME_BYTES);
  return { reader, record, offset, lengthBytes, first, end };
}

function runOf(record: PackedChunkRecord, first: number, count: number): FrameRun {
  const start = first * FRAME_BYTES;
  return {
    firstFrame: record.firstFrame + first,
    storedFrameBytes: record.storedFrameBytes.subarray(first, first + count),
    lengthBytes: Math.min(record.lengthBytes, start + count * FRAME_BYTES) - start,
  };
}

/** @returns Where the frames that hold part of the chunk are in the pack file. */
function storedRange(record: PackedChunkRecord, offset: number, lengthBytes: number): ByteRange {
  const from = frameOffset(record, Math.floor(offset / FRAME_BYTES));
  return { offset: from, lengthBytes: frameOffset(record, Math.ceil((offset + lengthBytes) / FRAME_BYTES)) - from };
}

/** @returns Where a frame of the chunk begins in the pack file. */
function frameOffset(record: PackedChunkRecord, frame: number): number {
  let offset = record.packOffset;
  for (let i = 0; i < frame; i++) offset += record.storedFrameBytes[i] ?? 0;
  return offset;
}
