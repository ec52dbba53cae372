/**
 * Reads ranges of packed chunks: which frames, from the cache or the pack, each fetched once however many ask.
 * Cached is what was prefetched, and frames of which a read took a part: their neighbours want the rest. A frame taken
 * whole is the reader's, which is the kernel's page cache: keeping it here as well would only push out others.
 */
import { FRAME_BYTES, type FrameRun } from "../crypto/engine.ts";
import { isTcfsError } from "../errors.ts";
import { type FrameCache, frameKey, unfilled } from "./frame-cache.ts";
import type { PackedChunkRecord } from "./pack-format.ts";
import type { PackReader, PackReaders } from "./pack-readers.ts";

/** Frames that are worth unsealing on the calling thread when the page cache has them: less than a hop to the pool. */
const SYNC_FRAMES = 2;
/** Prefetches under way at once; more are dropped. */
const MAX_PREFETCHES = 4;

/** Frames being fetched as one. */
interface Fetch {
  /** Index within the chunk. */
  readonly first: number;
  readonly count: number;
  readonly plaintext: Uint8Array;
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

export class FrameReader {
  readonly #packs: PackReaders;
  readonly #cache: FrameCache;
  readonly #fetches = new Map<number, Fetch>();
  #prefetchCount = 0;

  constructor(packs: PackReaders, cache: FrameCache) {
    this.#packs = packs;
    this.#cache = cache;
  }

  /**
   * @param offset - With `lengthBytes` inside the chunk; at least one byte.
   * @returns Fresh memory; at once where cached or cheap.
   * @throws TcfsError `TCFS_CORRUPT`, `TCFS_IO`.
   */
  read(record: PackedChunkRecord, offset: number, lengthBytes: number): Uint8Array | Promise<Uint8Array> {
    const reader = this.#packs.acquire(record.pack);
    if (reader instanceof Promise) {
      return reader.then((opened) => this.#readLater(spanOf(opened, record, offset, lengthBytes)));
    }
    const span = spanOf(reader, record, offset, lengthBytes);
    let now: Uint8Array | undefined;
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
    const reader = await this.#packs.acquire(record.pack);
    try {
      const span = spanOf(reader, record, offset, lengthBytes);
      const fetches = this.#missing(span).map(([first, count]) => this.#fetch(span, first, count, true));
      await Promise.all(fetches.map(({ done }) => done));
    } finally {
      this.#packs.release(reader);
    }
  }

  /** @returns Undefined where a hop to the pool is the way. */
  #readNow(span: Span): Uint8Array | undefined {
    const missing = this.#missing(span).reduce((sum, [, count]) => sum + count, 0);
    if (missing > SYNC_FRAMES) return undefined;
    const output = unfilled(span.lengthBytes);
    for (let frame = span.first; frame < span.end; frame++) {
      if (!this.#copyNow(span, output, frame)) return undefined;
    }
    this.#dropTaken(span);
    return output;
  }

  /** @returns Whether the frame was cached, or in the page cache. */
  #copyNow(span: Span, output: Uint8Array, frame: number): boolean {
    const { reader, record } = span;
    const number = record.firstFrame + frame;
    const cached = this.#cache.get(reader.number, number);
    if (cached !== undefined) {
      copyFrame(span, output, frame, cached);
      return true;
    }
    if (this.#fetches.has(frameKey(reader.number, number))) return false;
    const run = runOf(record, frame, 1);
    const fileOffset = frameOffset(record, frame);
    if (isTakenWhole(span, frame)) return reader.readSync(run, fileOffset, placeOf(span, output, frame));
    const plaintext = this.#cache.take(run.lengthBytes);
    let isRead = false;
    try {
      isRead = reader.readSync(run, fileOffset, plaintext);
    } finally {
      if (!isRead) this.#cache.giveBack(plaintext);
    }
    if (!isRead) return false;
    copyFrame(span, output, frame, plaintext);
    this.#cache.set(reader.number, number, plaintext);
    return true;
  }

  /** Prefetched frames that were taken whole have done their duty. */
  #dropTaken(span: Span): void {
    for (let frame = span.first; frame < span.end; frame++) {
      if (isTakenWhole(span, frame)) this.#cache.delete(span.reader.number, span.record.firstFrame + frame);
    }
  }

  /** Takes over the hold on the reader. */
  async #readLater(span: Span): Promise<Uint8Array> {
    try {
      const missing = this.#missing(span);
      const [whole] = missing;
      if (whole !== undefined && whole[0] === span.first && whole[1] === span.end - span.first) {
        const fetch = this.#fetch(span, span.first, whole[1], false);
        await fetch.done;
        const start = span.offset - span.first * FRAME_BYTES;
        return fetch.plaintext.subarray(start, start + span.lengthBytes);
      }
      for (const [first, count] of missing) this.#fetch(span, first, count, false);
      return await this.#assemble(span);
    } finally {
      this.#packs.release(span.reader);
    }
  }

  /** Gather frames that are cached or on their way by now. */
  async #assemble(span: Span): Promise<Uint8Array> {
    const output = unfilled(span.lengthBytes);
    const waiting: Promise<void>[] = [];
    for (let frame = span.first; frame < span.end; frame++) {
      const number = span.record.firstFrame + frame;
      const cached = this.#cache.get(span.reader.number, number);
      if (cached !== undefined) copyFrame(span, output, frame, cached);
      else waiting.push(this.#copyFetched(span, output, frame, number));
    }
    await Promise.all(waiting);
    this.#dropTaken(span);
    return output;
  }

  /** A fetch of others may fail over a frame that nobody asks for here: then this one is fetched alone. */
  async #copyFetched(span: Span, output: Uint8Array, frame: number, number: number): Promise<void> {
    const key = frameKey(span.reader.number, number);
    let fetch = this.#fetches.get(key) ?? this.#fetch(span, frame, 1, false);
    try {
      await fetch.done;
    } catch (error) {
      if (!isTcfsError(error) || fetch.count === 1) throw error;
      fetch = this.#fetch(span, frame, 1, false);
      await fetch.done;
    }
    const start = (frame - fetch.first) * FRAME_BYTES;
    copyFrame(span, output, frame, fetch.plaintext.subarray(start, start + FRAME_BYTES));
  }

  /** @returns Runs [first, count) of the span's frames that are neither cached nor on their way. */
  #missing(span: Span): [first: number, count: number][] {
    const runs: [number, number][] = [];
    for (let frame = span.first; frame < span.end; frame++) {
      const number = span.record.firstFrame + frame;
      const isThere =
        this.#cache.has(span.reader.number, number) || this.#fetches.has(frameKey(span.reader.number, number));
      if (isThere) continue;
      const last = runs.at(-1);
      if (last !== undefined && last[0] + last[1] === frame) last[1] += 1;
      else runs.push([frame, 1]);
    }
    return runs;
  }

  /** Start fetching frames. The fetch holds the reader for itself: whoever asked may have gone before it is done. */
  #fetch(span: Span, first: number, count: number, isPrefetch: boolean): Fetch {
    const { reader, record } = span;
    const run = runOf(record, first, count);
    const plaintext = unfilled(run.lengthBytes);
    reader.userCount += 1;
    const done = reader.read(run, frameOffset(record, first), plaintext).then(() => {
      this.#keep(span, fetch, isPrefetch);
    });
    const fetch: Fetch = { first, count, plaintext, done };
    const base = record.firstFrame + first;
    for (let i = 0; i < count; i++) this.#fetches.set(frameKey(reader.number, base + i), fetch);
    const forget = (): void => {
      this.#packs.release(reader);
      for (let i = 0; i < count; i++) {
        const key = frameKey(reader.number, base + i);
        if (this.#fetches.get(key) === fetch) this.#fetches.delete(key);
      }
    };
    done.then(forget, forget);
    return fetch;
  }

  /** Cache copies: whoever waits for the fetch still reads its memory. */
  #keep(span: Span, { first, count, plaintext }: Fetch, isPrefetch: boolean): void {
    for (let i = 0; i < count; i++) {
      const frame = first + i;
      if (!isPrefetch && isTakenWhole(span, frame)) continue;
      const bytes = plaintext.subarray(i * FRAME_BYTES, (i + 1) * FRAME_BYTES);
      const own = this.#cache.take(bytes.length);
      own.set(bytes);
      this.#cache.set(span.reader.number, span.record.firstFrame + frame, own);
    }
  }
}

/** Whether the span has all of a frame's bytes. */
function isTakenWhole({ record, offset, lengthBytes }: Span, frame: number): boolean {
  const start = frame * FRAME_BYTES;
  return start >= offset && Math.min(start + FRAME_BYTES, record.lengthBytes) <= offset + lengthBytes;
}

/** @returns The part of the span's output that is a frame taken whole. */
function placeOf(span: Span, output: Uint8Array, frame: number): Uint8Array {
  const start = frame * FRAME_BYTES - span.offset;
  return output.subarray(start, Math.min(start + FRAME_BYTES, span.record.lengthBytes - span.offset));
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

/** @returns Where a frame of the chunk begins in the pack file. */
function frameOffset(record: PackedChunkRecord, frame: number): number {
  let offset = record.packOffset;
  for (let i = 0; i < frame; i++) offset += record.storedFrameBytes[i] ?? 0;
  return offset;
}

/** Copy what a frame's plaintext has of the span to its place in the output. */
function copyFrame(span: Span, output: Uint8Array, frame: number, plaintext: Uint8Array): void {
  const frameStart = frame * FRAME_BYTES;
  const from = Math.max(span.offset, frameStart);
  const to = Math.min(span.offset + span.lengthBytes, frameStart + plaintext.length);
  output.set(plaintext.subarray(from - frameStart, to - frameStart), from - span.offset);
}
