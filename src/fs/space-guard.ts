/**
 * Admission to a filling disk: what is acknowledged must find room when it is committed, so writes are refused with
 * ENOSPC while RESERVED_BYTES are still free. The estimate is asked anew when it runs low, and after every commit.
 */
import { TcfsError } from "../errors.ts";
import type { MaybePromise } from "../maybe-promise.ts";
import type { Clock } from "../platform/clock.ts";
import type { Disk, DiskSpace } from "../platform/disk.ts";
import type { DiskReserve } from "./disk-reserve.ts";
import { RESERVED_BYTES } from "./limits.ts";

/** Ask the disk again after this much was admitted, even when there seems to be plenty. */
const RECHECK_BYTES = 64 * 1024 * 1024;

/** With less on the disk, packs that the store has make room. */
const RELIEF_BYTES = 256 * 1024 * 1024;

/** With plenty of room, commits make the disk be asked no more often than this. */
const RECHECK_MS = 500;

/** A bound of the vault's packs below what the disk has: they are a cache of its store. */
export interface PackRoom {
  /** Bytes that all packs may take. */
  readonly maxBytes: number;
  /** Of these, what may be written now: the rest is not in the store yet. */
  readonly freeBytes: number;
  /** Wait for room, as long as some may come. @returns Whether there is more than `bytes`. */
  awaitRoom(bytes: number): Promise<boolean>;
  /** Give so much back to the disk, if there is so much. */
  relieve(bytes: number): Promise<void>;
}

export interface SpaceGuardOptions {
  readonly clock: Clock;
  readonly disk: Disk;
  readonly directory: string;
  readonly room?: PackRoom | undefined;
  /** Borrowed. */
  readonly reserve?: DiskReserve | undefined;
  /** Admitted bytes that no commit has put on the disk yet. */
  readonly heldBytes: () => number;
  /** Before something is refused: whoever can make room should. Never rejects. @returns Whether to try again. */
  readonly onFull: (bytes: number) => Promise<boolean>;
}

export class SpaceGuard {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #room: PackRoom | undefined;
  readonly #reserve: DiskReserve | undefined;
  readonly #heldBytes: () => number;
  readonly #onFull: SpaceGuardOptions["onFull"];
  #space: DiskSpace;
  #admittedBytes = 0;
  #askedMs = -Infinity;
  readonly #clock: Clock;
  #refreshing: Promise<void> | undefined;

  private constructor(options: SpaceGuardOptions, space: DiskSpace) {
    this.#disk = options.disk;
    this.#clock = options.clock;
    this.#directory = options.directory;
    this.#room = options.room;
    this.#reserve = options.reserve;
    this.#heldBytes = options.heldBytes;
    this.#onFull = options.onFull;
    this.#space = space;
  }

  static async open(options: SpaceGuardOptions): Promise<SpaceGuard> {
    return new SpaceGuard(options, await options.disk.space(options.directory));
  }

  /** What ordinary writes never get, of what is free: what was given up of the reserve is for deletions, and to be made again. */
  get #reservedBytes(): number {
    return RESERVED_BYTES + (this.#reserve?.missingBytes ?? 0);
  }

  /** What users of the volume see: what is reserved and what waits in memory are taken off. */
  get space(): DiskSpace {
    const heldBytes = this.#heldBytes();
    const withheld = this.#reservedBytes + heldBytes;
    const roomBytes = this.#room === undefined ? Infinity : this.#room.freeBytes - heldBytes;
    return {
      totalBytes: Math.min(this.#space.totalBytes, this.#room?.maxBytes ?? Infinity),
      freeBytes: Math.max(0, Math.min(this.#space.freeBytes - withheld, roomBytes)),
      availableBytes: Math.max(0, Math.min(this.#space.availableBytes - withheld, roomBytes)),
    };
  }

  /** Whether there is more than what writes and commits need at once: work that can wait may take some. */
  get isAmple(): boolean {
    return this.#fits(RECHECK_BYTES);
  }

  /** What would have to go until there is. */
  get lackingBytes(): number {
    return Math.max(0, RECHECK_BYTES + this.#reservedBytes + this.#heldBytes() - this.#space.availableBytes);
  }

  /** A commit is done: ask the disk, unless it was asked just now and has plenty. */
  noteCommit(): void {
    const now = this.#clock.monotonicMs();
    if (now - this.#askedMs < RECHECK_MS && this.#fits(RECHECK_BYTES)) return;
    this.#askedMs = now;
    void this.refresh();
  }

  /** Nothing else goes on: put room by, or what is missing of it, where there is plenty. */
  async putBy(signal: AbortSignal): Promise<void> {
    if (this.#reserve === undefined || !this.isAmple) return;
    await this.#reserve.restore(this.#space.availableBytes, signal);
    await this.refresh();
  }

  /**
   * A commit finds no room. What is put by is given up, but not where the packs' own bound is reached.
   * @returns Whether there is more than before.
   */
  useReserve(): MaybePromise<boolean> {
    return this.#reserve?.isEmpty === false && this.#giveUp(this.#reserve);
  }

  async #giveUp(reserve: DiskReserve): Promise<boolean> {
    // Asked here and now: a refresh has the packs' cache make room, which may wait for the store.
    const availableBytes = await this.#disk.space(this.#directory).then(
      (space) => space.availableBytes,
      () => 0,
    );
    const isBoundReached = this.#room !== undefined && availableBytes > RESERVED_BYTES;
    if (isBoundReached || !(await reserve.giveUp())) return false;
    void this.refresh();
    return true;
  }

  /** Ask the disk. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#ask().then(
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

  async #ask(): Promise<DiskSpace> {
    const space = await this.#disk.space(this.#directory);
    const lacking = this.#reservedBytes + RELIEF_BYTES - space.availableBytes;
    if (this.#room === undefined || lacking <= 0) return space;
    await this.#room.relieve(lacking);
    return this.#disk.space(this.#directory);
  }

  /**
   * Admit `bytes` more, or not. Where it is the packs' bound that is reached, as long as uploads make room: wait.
   * @param mayRelieve - False for whoever holds the turn that giving up versions needs.
   * @returns Nothing when there is plenty; otherwise a promise of the answer, which rejects with `TCFS_STORE_FULL`.
   */
  admit(bytes: number, mayRelieve = true): undefined | Promise<void> {
    this.#admittedBytes += bytes;
    if (this.#admittedBytes < RECHECK_BYTES && this.#fits(this.#admittedBytes)) return undefined;
    return this.#admitLater(bytes, mayRelieve);
  }

  async #admitLater(bytes: number, mayRelieve: boolean): Promise<void> {
    await this.refresh();
    // Others that waited for the same answer were admitted meanwhile.
    while (!this.#hasPackRoom(this.#admittedBytes + bytes)) {
      if ((await this.#room?.awaitRoom(this.#heldBytes() + this.#admittedBytes + bytes)) !== true) {
        throw new TcfsError("TCFS_STORE_FULL", "the local cache is full of what is not in the store yet");
      }
      await this.refresh();
    }
    while (mayRelieve && !this.#fits(this.#admittedBytes + bytes) && (await this.#onFull(bytes))) await this.refresh();
    if (!this.#fits(this.#admittedBytes + bytes)) {
      throw new TcfsError("TCFS_STORE_FULL", "the disk that holds the vault is full");
    }
    this.#admittedBytes += bytes;
  }

  #hasPackRoom(bytes: number): boolean {
    return this.#room === undefined || this.#room.freeBytes - this.#heldBytes() - bytes > 0;
  }

  #fits(bytes: number): boolean {
    return this.#space.availableBytes - this.#reservedBytes - this.#heldBytes() - bytes > 0 && this.#hasPackRoom(bytes);
  }
}
