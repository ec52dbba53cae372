/** What is likely to be read next, brought nearer before it is: into memory, or out of the store onto this disk. Never fails. */
import { chunkIdKey } from "../format/record-keys.ts";
import type { ChunkRecord } from "../format/records.ts";
import type { ChunkId } from "../ids.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import type { ChunkLedger } from "./chunk-ledger.ts";
import type { FrameReader } from "./frame-reader.ts";
import { type PackedChunkRecord, sumBytes } from "./pack-format.ts";
import type { PackShelf } from "./pack-shelf.ts";

export interface ChunkPrefetcherParts {
  readonly ledger: Pick<ChunkLedger, "uncommitted">;
  readonly metadata: Pick<MetadataStore, "getChunk">;
  readonly frames: Pick<FrameReader, "prefetch">;
  readonly shelf: PackShelf | undefined;
}

export class ChunkPrefetcher {
  readonly #parts: ChunkPrefetcherParts;

  constructor(parts: ChunkPrefetcherParts) {
    this.#parts = parts;
  }

  prefetch(id: ChunkId, offset: number, lengthBytes: number): void {
    const record = this.#record(id);
    if (record?.kind !== "packed") return;
    const end = Math.min(offset + lengthBytes, record.lengthBytes);
    if (offset < end) this.#parts.frames.prefetch(record, offset, end - offset);
  }

  /** Chunks that adjoin in their pack are asked for as one. @returns False where enough is under way. */
  approach(ids: readonly ChunkId[]): boolean {
    const { shelf } = this.#parts;
    if (shelf === undefined) return true;
    let isTaken = true;
    for (const { pack, offset, end } of stretchesOf(ids.map((id) => this.#record(id)))) {
      isTaken = shelf.approach(pack, offset, end - offset) && isTaken;
    }
    return isTaken;
  }

  /** What is wrong with a record is told to the read that comes for it. */
  #record(id: ChunkId): ChunkRecord | undefined {
    const { ledger, metadata } = this.#parts;
    const uncommitted = ledger.uncommitted(chunkIdKey(id));
    if (uncommitted?.written !== undefined) return undefined;
    try {
      return uncommitted?.record ?? metadata.getChunk(id);
    } catch {
      return undefined; // whatever it is, a read that does well must not fail for it
    }
  }
}

/** Bytes [offset, end) of a pack. */
interface Stretch {
  readonly pack: PackedChunkRecord["pack"];
  readonly offset: number;
  end: number;
}

function stretchesOf(records: readonly (ChunkRecord | undefined)[]): Stretch[] {
  const stretches: Stretch[] = [];
  for (const record of records) {
    if (record?.kind !== "packed") continue;
    const { pack, packOffset: offset } = record;
    const end = offset + sumBytes(record.storedFrameBytes);
    const last = stretches.at(-1);
    if (last?.end === offset && Buffer.compare(last.pack, pack) === 0) last.end = end;
    else stretches.push({ pack, offset, end });
  }
  return stretches;
}
