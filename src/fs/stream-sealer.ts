/**
 * Seals files while they are written in one stream, so that memory holds little of them and a commit finds little to do.
 * Naming goes on from where the last cut was, one batch after the other; while one batch is written, the next is named.
 */
import type { ChunkStore } from "../chunkstore/chunk-store.ts";
import { EXTENT_PAGE_BYTES } from "../format/records.ts";
import { DataSource } from "./dirty-runs.ts";
import type { FileData, StreamProgress } from "./file-data.ts";
import { STREAM_BATCHES_IN_FLIGHT, STREAM_BATCH_PAGES } from "./limits.ts";
import { type Stretch, convert, pieceOf, release } from "./stretch.ts";

export class StreamSealer {
  readonly #chunks: ChunkStore;
  readonly #onSealed: () => void;

  /** @param onSealed - Called when sealing has freed memory. */
  constructor(chunks: ChunkStore, onSealed: () => void) {
    this.#chunks = chunks;
    this.#onSealed = onSealed;
  }

  /** Begin with the next batch, if the file is a stream with enough full pages and not too much is under way. */
  consider(file: FileData): void {
    const { stream } = file;
    if (stream === undefined || stream.isNaming || file.sealings.size >= STREAM_BATCHES_IN_FLIGHT) return;
    if (stream.fullUntil - stream.page < STREAM_BATCH_PAGES) return;
    const stretch = gather(file, stream);
    if (stretch === undefined) {
      file.stream = undefined;
      return;
    }
    const sealing = this.#seal(file, stream, stretch).then(() => {
      file.sealings.delete(sealing);
      this.consider(file);
      this.#onSealed();
    });
    file.sealings.add(sealing);
  }

  /** What fails stays in memory and is tried again, and reported, by the next commit. Never rejects. */
  async #seal(file: FileData, stream: StreamProgress, stretch: Stretch): Promise<void> {
    for (const { source } of stretch.segments) source.hold();
    stream.isNaming = true;
    try {
      const inputs = [{ pieces: stretch.segments.map(pieceOf), isFinal: false }];
      const named = await this.#chunks.name(inputs);
      advance(stream, named.flat());
      this.consider(file);
      const [stored = []] = await this.#chunks.store(inputs, "pack", named);
      convert(stretch, stored);
    } catch {
      if (file.stream === stream) file.stream = undefined;
    } finally {
      for (const { source } of stretch.segments) source.letGo();
      release(stretch);
    }
  }
}

/** @returns The full pages from the last cut on; undefined if some of it is no longer in memory. */
function gather(file: FileData, stream: StreamProgress): Stretch | undefined {
  const stretch: Stretch = { file, segments: [], lengthBytes: 0 };
  for (let page = stream.page; page < stream.fullUntil; page++) {
    const from = page === stream.page ? stream.rest : 0;
    for (const run of file.live.pages.get(page) ?? []) {
      if (run.end <= from) continue;
      if (!(run.source instanceof DataSource)) return undefined;
      const start = Math.max(run.start, from);
      const sourceOffset = run.sourceOffset + (start - run.start);
      stretch.segments.push({ page, start, end: run.end, source: run.source, sourceOffset });
      stretch.lengthBytes += run.end - start;
    }
  }
  return stretch;
}

function advance(stream: StreamProgress, chunks: readonly { readonly lengthBytes: number }[]): void {
  const position = chunks.reduce((sum, { lengthBytes }) => sum + lengthBytes, stream.rest);
  stream.page += Math.floor(position / EXTENT_PAGE_BYTES);
  stream.rest = position % EXTENT_PAGE_BYTES;
  stream.isNaming = false;
}
