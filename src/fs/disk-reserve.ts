/**
 * Room put by for the day when other programs fill the disk: the vault's file `reserve` (FORMAT.md §2), which is cut short
 * when a commit or an opening of the vault finds none. Deletions need room before they give any back, since LevelDB writes
 * new files. Only the file's length matters. Nothing here throws: without it the vault is a vault on a full disk.
 */
import { join } from "node:path";
import { isTcfsError } from "../errors.ts";
import type { Disk, DiskFile } from "../platform/disk.ts";
import type { RandomSource } from "../platform/random.ts";
import { RESERVE_BYTES } from "./limits.ts";

const NAME = "reserve";
/** It is not begun where it would take more than this share of what is available. */
const LARGEST_SHARE = 1 / 16;
/** Written at once. */
const PIECE_BYTES = 4 * 1024 * 1024;

export interface DiskReserveOptions {
  readonly disk: Disk;
  /** The vault directory. */
  readonly directory: string;
  readonly random: RandomSource;
  /** So much of it went. */
  readonly onGivenUp: (bytes: number) => void;
  /** Another length than {@link RESERVE_BYTES}. */
  readonly wantedBytes?: number;
}

export class DiskReserve {
  readonly #options: DiskReserveOptions;
  readonly #path: string;
  readonly #wantedBytes: number;
  /** Undefined where it was never made. */
  #lengthBytes: number | undefined;
  #making: Promise<void> | undefined;
  /** What is made is to stop. */
  #isNeeded = false;

  private constructor(options: DiskReserveOptions, path: string, lengthBytes: number | undefined) {
    this.#options = options;
    this.#path = path;
    this.#wantedBytes = options.wantedBytes ?? RESERVE_BYTES;
    this.#lengthBytes = lengthBytes;
  }

  static async open(options: DiskReserveOptions): Promise<DiskReserve> {
    const path = join(options.directory, NAME);
    return new DiskReserve(options, path, await lengthOf(options.disk, path));
  }

  /** What of it was given up and is to be made again before anything else takes the room. */
  get missingBytes(): number {
    return this.#lengthBytes === undefined ? 0 : Math.max(0, this.#wantedBytes - this.#lengthBytes);
  }

  get isEmpty(): boolean {
    return (this.#lengthBytes ?? 0) === 0;
  }

  /** Open what takes room to open, as LevelDB does: again with what is put by where there is none. */
  async opening<T>(open: () => Promise<T>): Promise<T> {
    try {
      return await open();
    } catch (error) {
      if (!isTcfsError(error, "TCFS_STORE_FULL") || !(await this.giveUp())) throw error;
      return this.opening(open);
    }
  }

  /** Give up half of it, or the rest. @returns Whether there was any. */
  async giveUp(): Promise<boolean> {
    this.#isNeeded = true;
    try {
      await this.#making;
      const before = this.#lengthBytes ?? 0;
      if (before === 0) return false;
      const after = Math.max(0, before - Math.ceil(this.#wantedBytes / 2));
      await withFile(await this.#options.disk.openToWrite(this.#path), (file) => shorten(file, after));
      this.#lengthBytes = after;
      this.#options.onGivenUp(before - after);
      return true;
    } catch (error) {
      if (!isTcfsError(error)) throw error;
      return false;
    } finally {
      this.#isNeeded = false;
    }
  }

  /**
   * Make it, or what is missing of it, unless it is there.
   * @param availableBytes - Of the disk. It is not begun where they are few; what was given up is made again in any case.
   * @param signal - Ends it between two pieces; what is there by then stays.
   */
  restore(availableBytes: number, signal: AbortSignal): Promise<void> {
    if (this.#isNeeded) return Promise.resolve(); // some of it is being given up
    const isNew = this.#lengthBytes === undefined;
    const isMade = !isNew && this.missingBytes === 0;
    if (isMade || (isNew && this.#wantedBytes > availableBytes * LARGEST_SHARE)) return Promise.resolve();
    this.#making ??= this.#make(signal).finally(() => {
      this.#making = undefined;
    });
    return this.#making;
  }

  async #make(signal: AbortSignal): Promise<void> {
    const { disk, directory, random } = this.#options;
    const before = this.#lengthBytes;
    try {
      const file = await (before === undefined ? disk.create(this.#path) : disk.openToWrite(this.#path));
      const piece = random.bytes(PIECE_BYTES); // that no filesystem makes smaller
      this.#lengthBytes ??= 0;
      await withFile(file, async () => {
        for (let end = before ?? 0; end < this.#wantedBytes && !this.#isNeeded && !signal.aborted;) {
          const bytes = piece.subarray(0, this.#wantedBytes - end);
          await file.write([bytes], end);
          end += bytes.length;
          this.#lengthBytes = end;
        }
        await file.sync();
      });
      await disk.syncDirectory(directory);
    } catch (error) {
      if (!isTcfsError(error)) throw error;
      await this.#takeBack(before);
    }
  }

  /** The disk has filled up meanwhile: what it was made of goes back. */
  async #takeBack(before: number | undefined): Promise<void> {
    const { disk } = this.#options;
    try {
      if (before === undefined) await disk.remove(this.#path);
      else await withFile(await disk.openToWrite(this.#path), (file) => shorten(file, before));
    } catch (error) {
      if (!isTcfsError(error)) throw error;
    }
    this.#lengthBytes = await lengthOf(disk, this.#path);
  }
}

async function withFile<T>(file: DiskFile, action: (file: DiskFile) => Promise<T>): Promise<T> {
  try {
    return await action(file);
  } finally {
    await file.close();
  }
}

/** Blocks that were freed can be used once that is on the device. */
async function shorten(file: DiskFile, lengthBytes: number): Promise<void> {
  await file.truncate(lengthBytes);
  await file.sync();
}

async function lengthOf(disk: Disk, path: string): Promise<number | undefined> {
  try {
    return await withFile(await disk.open(path), (file) => file.length());
  } catch (error) {
    if (!isTcfsError(error)) throw error;
    return undefined;
  }
}
