/**
 * Reads many small ranges of the database in ascending order, all as they are at one moment: ranges close to each other
 * come in one batch, one farther on is sought.
 */
import type { KeyRange } from "../format/record-keys.ts";
import type { MaybePromise } from "../maybe-promise.ts";
import type { StoredEntry } from "./database.ts";
import type { WalkOverlay } from "./pending-records.ts";

/** Entries of one batch, at least and at most: more while they are wanted. */
const FEWEST_ENTRIES = 16;
const MOST_ENTRIES = 256;

/** What is used of LevelDB's iterator. */
export interface SeekableIterator {
  nextv(size: number): Promise<StoredEntry[]>;
  seek(target: Uint8Array): void;
  close(): Promise<void>;
}

export class SortedReader implements AsyncDisposable {
  readonly #iterator: SeekableIterator;
  readonly #overlay: WalkOverlay;
  #batch: readonly StoredEntry[] = [];
  #next = 0;
  #isAtEnd = false;
  /** Of the batch: how many entries were wanted. */
  #wantedCount = 0;
  #batchEntries = FEWEST_ENTRIES;

  /** @param iterator - Owned, not yet read. @param overlay - What the database lacked when the iterator was made. */
  constructor(iterator: SeekableIterator, overlay: WalkOverlay) {
    this.#iterator = iterator;
    this.#overlay = overlay;
  }

  /**
   * @param range - Not before the last one.
   * @returns Its records in the order of their keys.
   * @throws TcfsError as a walk of the database does.
   */
  within(range: KeyRange): MaybePromise<readonly StoredEntry[]> {
    const found: StoredEntry[] = [];
    return this.#collect(range, found) ? this.#overlay.within(range, found) : this.#collectMore(range, found);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#iterator.close();
  }

  async #collectMore(range: KeyRange, found: StoredEntry[]): Promise<readonly StoredEntry[]> {
    if (found.length === 0) this.#iterator.seek(range.first);
    do {
      const wasWanted = this.#wantedCount * 4 > this.#batch.length;
      this.#batchEntries = wasWanted ? Math.min(this.#batchEntries * 2, MOST_ENTRIES) : FEWEST_ENTRIES;
      this.#batch = await this.#iterator.nextv(this.#batchEntries);
      this.#isAtEnd = this.#batch.length === 0;
      this.#next = 0;
      this.#wantedCount = 0;
    } while (!this.#collect(range, found));
    return this.#overlay.within(range, found);
  }

  /** @returns Whether the batch shows where the range ends. */
  #collect({ first, end }: KeyRange, into: StoredEntry[]): boolean {
    for (let entry = this.#batch[this.#next]; entry !== undefined; entry = this.#batch[++this.#next]) {
      if (Buffer.compare(entry[0], first) < 0) continue;
      if (Buffer.compare(entry[0], end) >= 0) return true;
      into.push(entry);
      this.#wantedCount++;
    }
    return this.#isAtEnd;
  }
}
