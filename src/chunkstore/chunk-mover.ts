/** Moves chunks into the open packs: inline ones that have become many, and live ones out of packs mostly dead. */
import type { SealingEngine } from "../crypto/engine.ts";
import type { ChunkRecord } from "../format/records.ts";
import type { ChunkId } from "../ids.ts";
import type { ChunkLedger } from "./chunk-ledger.ts";
import type { OpenPacks } from "./open-packs.ts";
import { chunkIdKey } from "../format/record-keys.ts";
import type { ChunkToPack } from "./pack-writer.ts";
import { type JobLimits, groupIntoJobs } from "./wanted-chunks.ts";

/** A chunk to be moved, with its content. */
export interface ChunkMove {
  readonly id: ChunkId;
  /** Where it is now. */
  readonly from: ChunkRecord;
  readonly content: Uint8Array;
}

interface MovingChunk extends ChunkToPack {
  readonly from: ChunkRecord;
}

export class ChunkMover {
  readonly #packs: OpenPacks;
  readonly #ledger: ChunkLedger;
  readonly #engine: SealingEngine;
  readonly #limits: JobLimits;

  constructor(packs: OpenPacks, ledger: ChunkLedger, engine: SealingEngine, limits: JobLimits) {
    this.#packs = packs;
    this.#ledger = ledger;
    this.#engine = engine;
    this.#limits = limits;
  }

  /**
   * Write the chunks into open packs and note their new places for the next batch; one job after another, so that
   * foreground work goes on beside it. A chunk that was stored anew meanwhile keeps the newer place.
   * @throws TcfsError `TCFS_STORE_FULL`, `TCFS_IO`; what was not moved by then is where it was.
   */
  async move(moves: readonly ChunkMove[]): Promise<void> {
    const chunks = moves.map(({ id, from, content }): MovingChunk => ({
      id,
      from,
      pieces: [content],
      lengthBytes: content.length,
    }));
    const sealBoundBytes = (lengthBytes: number): number => this.#engine.sealBoundBytes(lengthBytes);
    for (const job of groupIntoJobs(chunks, this.#limits, sealBoundBytes)) {
      const records = await this.#packs.append(job);
      job.forEach(({ id, from }, i) => {
        const key = chunkIdKey(id);
        const current = this.#ledger.durableRecord(id, key);
        if (this.#ledger.uncommitted(key) !== undefined || !isSamePlace(current, from)) return;
        this.#ledger.add({ id, key, replaces: current, record: records[i], written: undefined });
      });
    }
  }
}

/** @returns Whether both records name the same stored bytes; never for no record. */
export function isSamePlace(left: ChunkRecord | undefined, right: ChunkRecord | undefined): boolean {
  if (left === undefined || right === undefined) return false;
  if (left.kind === "inline" || right.kind === "inline") return left.kind === right.kind;
  return left.firstFrame === right.firstFrame && Buffer.compare(left.pack, right.pack) === 0;
}
