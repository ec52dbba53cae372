/** Seals a frozen generation: gathers its contiguous runs and hands them to the chunk store. */
import type { ChunkStore } from "../chunkstore/chunk-store.ts";
import { EXTENT_PAGE_BYTES } from "../format/records.ts";
import { type MaybePromise, andThen } from "../maybe-promise.ts";
import { DataSource, type Run } from "./dirty-runs.ts";
import type { FileData } from "./file-data.ts";
import { SEALS_IN_FLIGHT, SEAL_BATCH_BYTES } from "./limits.ts";
import type { Overlay, Segment } from "./overlay.ts";
import { type Stretch, convert, pieceOf, release } from "./stretch.ts";

function isContinuation(last: Segment | undefined, page: number, run: Run): boolean {
  if (last === undefined) return false;
  if (last.page === page) return last.end === run.start;
  return last.page + 1 === page && last.end === EXTENT_PAGE_BYTES && run.start === 0;
}

/** @returns The stretches of a frozen generation, in file order. */
function stretchesOf(file: FileData, overlay: Overlay): Stretch[] {
  const stretches: Stretch[] = [];
  let current: Stretch | undefined;
  const pages = [...overlay.pages.keys()].sort((a, b) => a - b);
  for (const page of pages) {
    for (const run of overlay.pages.get(page) ?? []) {
      if (!(run.source instanceof DataSource)) {
        current = undefined;
        continue;
      }
      if (current === undefined || !isContinuation(current.segments.at(-1), page, run)) {
        current = { file, segments: [], lengthBytes: 0 };
        stretches.push(current);
      }
      current.segments.push({
        page,
        start: run.start,
        end: run.end,
        source: run.source,
        sourceOffset: run.sourceOffset,
      });
      current.lengthBytes += run.end - run.start;
    }
  }
  return stretches;
}

function batchesOf(stretches: readonly Stretch[]): Stretch[][] {
  const batches: Stretch[][] = [];
  let current: Stretch[] = [];
  let bytes = 0;
  for (const stretch of stretches) {
    if (bytes > 0 && bytes + stretch.lengthBytes > SEAL_BATCH_BYTES) {
      batches.push(current);
      current = [];
      bytes = 0;
    }
    current.push(stretch);
    bytes += stretch.lengthBytes;
  }
  if (current.length > 0) batches.push(current);
  return batches;
}

/**
 * Store everything that the files' frozen generations hold in memory; at once where that is little.
 * Can be called again after a failure: what was stored by then is not stored twice, and no memory is lent any more.
 * @param inlineLimitBytes - Up to this much in all goes into the metadata batch.
 */
export function sealFrozen(
  files: readonly FileData[],
  chunks: ChunkStore,
  inlineLimitBytes: number,
): MaybePromise<void> {
  const sealing = files.flatMap((file) => [...file.sealings]);
  if (sealing.length === 0) return sealStretches(files, chunks, inlineLimitBytes);
  // What began since is of later generations: a stream that goes on would hold the commit up as long as it does.
  return Promise.all(sealing).then(() => sealStretches(files, chunks, inlineLimitBytes));
}

function sealStretches(files: readonly FileData[], chunks: ChunkStore, inlineLimitBytes: number): MaybePromise<void> {
  const stretches: Stretch[] = [];
  let totalBytes = 0;
  for (const file of files) {
    if (file.frozen === undefined || file.frozen.heldBytes === 0) continue;
    for (const stretch of stretchesOf(file, file.frozen)) {
      stretches.push(stretch);
      totalBytes += stretch.lengthBytes;
    }
  }
  const place = totalBytes <= inlineLimitBytes ? "inline" : "pack";
  const queue = batchesOf(stretches);
  const [first] = queue;
  if (first === undefined) return;
  if (queue.length === 1) return sealBatch(first, chunks, place);
  const worker = async (): Promise<void> => {
    try {
      for (let batch = queue.shift(); batch !== undefined; batch = queue.shift()) await sealBatch(batch, chunks, place);
    } catch (error) {
      queue.length = 0;
      throw error;
    }
  };
  return allEnded(Array.from({ length: Math.min(SEALS_IN_FLIGHT, queue.length) }, worker));
}

/** A failure is told once nothing is under way any more. */
async function allEnded(workers: readonly Promise<void>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(workers)) if (outcome.status === "rejected") throw outcome.reason;
}

function sealBatch(batch: readonly Stretch[], chunks: ChunkStore, place: "inline" | "pack"): MaybePromise<void> {
  const inputs = batch.map((stretch) => ({ pieces: stretch.segments.map(pieceOf), isFinal: true }));
  return andThen(chunks.store(inputs, place), (stored) => {
    batch.forEach((stretch, index) => {
      convert(stretch, stored[index] ?? []);
      release(stretch);
    });
  });
}
