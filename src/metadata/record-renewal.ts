/**
 * Seals anew, in the database, what is under an older key epoch (FORMAT.md §8.8): records as they are, in batches between
 * which other changes are written. It may be ended and begun again anywhere: what is done is met as such.
 */
import type { RecordCipher } from "../crypto/engine.ts";
import { TcfsError, unlessCorrupt } from "../errors.ts";
import { EVERYTHING } from "../format/record-keys.ts";
import type { Database, SealedChange, StoredEntry } from "./database.ts";

/** Records of one batch; few enough that whoever writes besides does not wait for long. */
const BATCH_RECORDS = 256;

/** Follows slow work, and slows it down. */
export interface RenewalWatch {
  readonly signal: AbortSignal;
  /** Called between steps; what was done since is told. */
  readonly pause: (doneCount: number) => Promise<void>;
}

/** What a walk of all stored records found. */
export interface RecordCount {
  readonly recordCount: number;
  /** Under an older key epoch. */
  readonly olderCount: number;
  /** Under none whose key is known: damage. */
  readonly damagedCount: number;
}

export class RecordRenewal {
  readonly #database: Database;
  readonly #records: RecordCipher;
  /** Runs an action while nothing else writes to the database. */
  readonly #inLine: <T>(action: () => Promise<T>) => Promise<T>;

  constructor(database: Database, records: RecordCipher, inLine: <T>(action: () => Promise<T>) => Promise<T>) {
    this.#database = database;
    this.#records = records;
    this.#inLine = inLine;
  }

  /** @throws TcfsError `TCFS_INTERRUPTED`; as {@link Database.write} and {@link Database.walk}. */
  async renew(watch: RenewalWatch): Promise<void> {
    for await (const entries of this.#database.walk(EVERYTHING, BATCH_RECORDS)) {
      throwIfAborted(watch.signal);
      const older = entries.filter((entry) => this.#epochOf(entry) === "older");
      if (older.length > 0) await this.#inLine(() => this.#renewBatch(older));
      await watch.pause(entries.length);
    }
  }

  /** Opens every stored record. @throws as {@link renew}. */
  async count(watch: RenewalWatch): Promise<RecordCount> {
    const count = { recordCount: 0, olderCount: 0, damagedCount: 0 };
    for await (const entries of this.#database.walk(EVERYTHING, BATCH_RECORDS)) {
      throwIfAborted(watch.signal);
      for (const entry of entries) {
        const epoch = this.#epochOf(entry);
        count.recordCount += 1;
        if (epoch === "older") count.olderCount += 1;
        else if (epoch === undefined) count.damagedCount += 1;
      }
      await watch.pause(entries.length);
    }
    return count;
  }

  /** @param entries - As they were when the walk began; what is there now is what is written. */
  async #renewBatch(entries: readonly StoredEntry[]): Promise<void> {
    const plain = entries.flatMap(([key]) => {
      const sealed = this.#database.get(key);
      if (sealed === undefined || this.#epochOf([key, sealed]) !== "older") return [];
      return [{ key, value: this.#records.unseal(key, sealed) }];
    });
    const sealed = this.#records.seal(plain);
    const changes = plain.map(({ key }, i): SealedChange => ({ key, sealed: sealed[i] }));
    if (changes.length > 0) await this.#database.write(changes);
  }

  #epochOf([key, sealed]: StoredEntry): "newest" | "older" | undefined {
    return unlessCorrupt(() => (this.#records.epochOf(key, sealed) === this.#records.keyEpoch ? "newest" : "older"));
  }
}

function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw new TcfsError("TCFS_INTERRUPTED", "the rotation was interrupted, and goes on later");
}
