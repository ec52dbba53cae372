/**
 * When the volume is quiet: moves inline chunks to packs, puts room by, lets go of memory for writes. Starts a collection
 * when enough bytes went out of use to be worth it. One at a time; failures are reported.
 */
import type { ChunkStore, CollectionReport } from "../chunkstore/chunk-store.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { FileTable } from "./file-table.ts";
import type { SpaceGuard } from "./space-guard.ts";

/** With room on the disk: collect after so much went out of use, and this share of what is stored. */
const ROOMY_BYTES = 256 * 1024 * 1024;
const ROOMY_SHARE = 0.25;
/** Below this share of the disk (or so many bytes) free, much less is worth the work. */
const TIGHT_SHARE = 0.1;
const TIGHT_FREE_BYTES = 512 * 1024 * 1024;
const TIGHT_BYTES = 4 * 1024 * 1024;
/** The volume is quiet after so long without a commit; longer than the defragmenter waits, which goes first. */
const QUIET_MS = 8000;
/** Time between two collections that start by themselves. */
const PAUSE_MS = 10_000;

export interface HousekeeperOptions {
  readonly files: FileTable;
  readonly chunks: ChunkStore;
  readonly space: SpaceGuard;
  readonly clock: Clock;
  readonly barrier: () => Promise<void>;
  readonly onFailure: (error: unknown) => void;
}

export class Housekeeper {
  readonly #options: HousekeeperOptions;
  readonly #stop = new AbortController();
  #running: Promise<CollectionReport> | undefined;
  #lastMs = -Infinity;
  #quiet: Timer | undefined;
  #tidying: Promise<void> | undefined;

  constructor(options: HousekeeperOptions) {
    this.#options = options;
  }

  /** A commit is done: look whether a collection is worth it; tidy up once no other follows for a while. */
  consider(): void {
    const { clock, onFailure } = this.#options;
    this.#quiet?.cancel();
    this.#quiet = clock.after(QUIET_MS, () => {
      this.#tidying = this.#tidy().catch(onFailure);
    });
    if (this.#running !== undefined || this.#isStopped() || clock.monotonicMs() - this.#lastMs < PAUSE_MS) return;
    if (this.#isWorthwhile()) this.collect(this.#stop.signal).catch(onFailure);
  }

  async #tidy(): Promise<void> {
    const { files, chunks, space } = this.#options;
    files.dropSpareMemory();
    if (this.#isStopped() || !space.isAmple) return;
    if (chunks.statistics().inlineBytes > 0) await this.#moveInline();
    if (!this.#isStopped()) await space.putBy(this.#stop.signal);
  }

  /** Little synced writes ride in the metadata: move them to packs. */
  async #moveInline(): Promise<void> {
    const { chunks, barrier } = this.#options;
    await chunks.migrateInline();
    if (chunks.isDirty && !this.#isStopped()) await barrier();
  }

  #isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  #isWorthwhile(): boolean {
    const { files, chunks, space } = this.#options;
    const { totalBytes, availableBytes } = space.space;
    const isTight = availableBytes < TIGHT_FREE_BYTES || availableBytes < totalBytes * TIGHT_SHARE;
    if (isTight) return this.mayCollect;
    const { storedBytes } = chunks.statistics();
    return files.releasedBytes >= ROOMY_BYTES && files.releasedBytes >= storedBytes * ROOMY_SHARE;
  }

  /** Whether a collection is under way, or so much went out of use that one is worthwhile on a full disk. */
  get mayCollect(): boolean {
    return this.#running !== undefined || this.#options.files.releasedBytes >= TIGHT_BYTES;
  }

  /**
   * Collect now; joins a collection that is under way.
   * @param refusedBytes - Of a write that finds no room.
   */
  collect(signal: AbortSignal, refusedBytes = 0): Promise<CollectionReport> {
    const { chunks, files, clock, barrier, space } = this.#options;
    this.#running ??= (async (): Promise<CollectionReport> => {
      try {
        files.takeReleasedBytes();
        const neededBytes = space.lackingBytes + refusedBytes;
        return await chunks.collect(barrier, AbortSignal.any([signal, this.#stop.signal]), neededBytes);
      } finally {
        this.#running = undefined;
        this.#lastMs = clock.monotonicMs();
        void space.refresh();
      }
    })();
    return this.#running;
  }

  /** Stop what is under way and start nothing more. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#quiet?.cancel();
    await this.#tidying;
    await this.#running?.catch(() => undefined);
  }
}
