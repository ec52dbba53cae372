/** The chunk id that stands for allocated zeros in an extent: no chunk is stored under it (FORMAT.md §7.6). */
import type { ChunkId } from "../ids.ts";

export const ZERO_CHUNK = new Uint8Array(32) as ChunkId;

/** @returns Whether an extent's chunk stands for allocated zeros. */
export function isZeroChunk(id: ChunkId): boolean {
  return id[0] === 0 && Buffer.compare(id, ZERO_CHUNK) === 0;
}
