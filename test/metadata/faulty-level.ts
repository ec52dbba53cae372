/** The real LevelDB with failures on order: of batches and openings; both can be made to wait. */
import { openLevel, type LevelDatabase, type OpenLevel } from "../../src/metadata/database.ts";

export class FaultyLevel {
  /** The next so many batches fail, after they reached the disk if `areWritten`. */
  failingWrites = 0;
  areWritten = false;
  failingOpenings = 0;
  openings = 0;
  /** An opening waits for it. */
  gate: Promise<void> = Promise.resolve();
  /** A batch waits for it before it is written. */
  batchGate: Promise<void> = Promise.resolve();
  /** Batches begun, and those of them that are under way. */
  batches = 0;
  batchesUnderWay = 0;
  message = "IO error: 000003.log: No space left on device";

  readonly open: OpenLevel = async (directory, createIfMissing) => {
    this.openings++;
    await this.gate;
    if (this.failingOpenings > 0) {
      this.failingOpenings--;
      throw this.#failure();
    }
    const level = await openLevel(directory, createIfMissing);
    return {
      getSync: (key: Uint8Array) => level.getSync(key),
      iterator: level.iterator.bind(level),
      close: () => level.close(),
      compactRange: (start: Uint8Array, end: Uint8Array) => level.compactRange(start, end),
      batch: () => this.#wrapBatch(level),
    } as unknown as LevelDatabase;
  };

  #wrapBatch(level: LevelDatabase): unknown {
    const batch = level.batch();
    return {
      put: batch.put.bind(batch),
      del: batch.del.bind(batch),
      write: async (options: object) => {
        this.batches++;
        this.batchesUnderWay++;
        try {
          await this.batchGate;
          const fails = this.failingWrites > 0;
          if (fails) this.failingWrites--;
          if (!fails || this.areWritten) await batch.write(options);
          if (fails) throw this.#failure();
        } finally {
          this.batchesUnderWay--;
        }
      },
    };
  }

  #failure(): Error {
    return Object.assign(new Error(this.message), { code: "LEVEL_IO_ERROR" });
  }
}
