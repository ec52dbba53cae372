/** Contiguous changed bytes on their way from memory to chunks. */
import type { StoredChunk } from "../chunkstore/chunk-store.ts";
import type { DataSource, Run } from "./dirty-runs.ts";
import type { FileData } from "./file-data.ts";
import type { Segment } from "./overlay.ts";

/** Contiguous bytes of one file that are held in memory. */
export interface Stretch {
  readonly file: FileData;
  readonly segments: Segment[];
  lengthBytes: number;
}

/** @returns A view of the segment's bytes. */
export function pieceOf(segment: Segment): Uint8Array {
  return segment.source.bytes.subarray(segment.sourceOffset, segment.sourceOffset + (segment.end - segment.start));
}

/** Replace a stretch's runs, in whichever generation they are by now, by runs of its chunks. */
export function convert(stretch: Stretch, chunks: readonly StoredChunk[]): void {
  let index = 0;
  let chunkOffset = 0;
  for (const segment of stretch.segments) {
    const runs: Run[] = [];
    let position = segment.start;
    while (position < segment.end) {
      const chunk = chunks[index];
      if (chunk === undefined) break;
      const take = Math.min(segment.end - position, chunk.lengthBytes - chunkOffset);
      runs.push({ start: position, end: position + take, source: chunk.id, sourceOffset: chunkOffset });
      position += take;
      chunkOffset += take;
      if (chunkOffset === chunk.lengthBytes) {
        index++;
        chunkOffset = 0;
      }
    }
    if (runs.length > 0) {
      stretch.file.live.convert(segment, runs);
      stretch.file.frozen?.convert(segment, runs);
    }
    if (index === chunks.length) return;
  }
}

/** Give memory back that no run refers to any more. */
export function release(stretch: Stretch): void {
  let last: DataSource | undefined;
  for (const { page, source } of stretch.segments) {
    if (source !== last) stretch.file.release(page, source);
    last = source;
  }
}
