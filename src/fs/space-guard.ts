/**
 * Admission to a filling disk: what is acknowledged must find room when it is committed, so writes are refused with
 * ENOSPC while RESERVED_BYTES are still free. The estimate is asked anew when it runs low, and after every commit.
 */
import { TcfsError } from "../errors.ts";
import type { Clock } from "../platform/clock.ts";
import type { Disk, DiskSpace } from "../platform/disk.ts";
import { RESERVED_BYTES } from "./limits.ts";

/** Ask the disk again after this much was admitted, even when there seems to be plenty. */
const RECHECK_BYTES = 64 * 1024 * 1024;

/** With plenty of room, commits make the disk be asked no more often than this. */
const RECHECK_MS = 500;

export interface SpaceGuardOptions {
  readonly clock: Clock;
  readonly disk: Disk;
  readonly directory: string;
  /** Admitted bytes that no commit has put on the disk yet. */
  readonly heldBytes: () => number;
  /** Called when something is refused: whoever can make room should. */
  readonly onFull: () => void;
}

export class SpaceGuard {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #heldBytes: () => number;
  readonly #onFull: () => void;
  #space: DiskSpace;
  #admittedBytes = 0;
  #askedMs = -Infinity;
  readonly #clock: Clock;
  #refreshing: Promise<void> | undefined;

  private constructor(options: SpaceGuardOptions, space: DiskSpace) {
    this.#disk = options.disk;
    this.#clock = options.clock;
    this.#directory = options.directory;
    this.#heldBytes = options.heldBytes;
    this.#onFull = options.onFull;
    this.#space = space;
  }

  static async open(options: SpaceGuardOptions): Promise<SpaceGuard> {
    return new SpaceGuard(options, await options.disk.space(options.directory));
  }

  /** What users of the volume see: the reserve and what waits in memory are taken off. */
  get space(): DiskSpace {
    const withheld = RESERVED_BYTES + this.#heldBytes();
    return {
      totalBytes: this.#space.totalBytes,
      freeBytes: Math.max(0, this.#space.freeBytes - withheld),
      availableBytes: Math.max(0, this.#space.availableBytes - withheld),
    };
  }

  /** Whether there is more than what writes and commits need at once: work that can wait may take some. */
  get isAmple(): boolean {
    return this.#fits(RECHECK_BYTES);
  }

  /** A commit is done: ask the disk, unless it was asked just now and has plenty. */
  noteCommit(): void {
    const now = this.#clock.monotonicMs();
    if (now - this.#askedMs < RECHECK_MS && this.#fits(RECHECK_BYTES)) return;
    this.#askedMs = now;
    void this.refresh();
  }

  /** Ask the disk. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#disk.space(this.#directory).then(
      (space) => {
        this.#space = space;
        this.#admittedBytes = 0;
        this.#refreshing = undefined;
      },
      () => {
        this.#refreshing = undefined;
      },
    );
    return this.#refreshing;
  }

  /**
   * Admit `bytes` more, or not.
   * @returns Nothing when there is plenty; otherwise a promise of the answer, which rejects with `TCFS_STORE_FULL`.
   */
  admit(bytes: number): undefined | Promise<void> {
    this.#admittedBytes += bytes;
    if (this.#admittedBytes < RECHECK_BYTES && this.#fits(this.#admittedBytes)) return undefined;
    return this.refresh().then(() => {
      if (!this.#fits(bytes)) {
        this.#onFull();
        throw new TcfsError("TCFS_STORE_FULL", "the disk that holds the vault is full");
      }
      this.#admittedBytes += bytes;
    });
  }

  #fits(bytes: number): boolean {
    return this.#space.availableBytes - RESERVED_BYTES - this.#heldBytes() - bytes > 0;
  }
}
