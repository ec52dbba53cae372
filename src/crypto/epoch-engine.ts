/**
 * An engine that opens what two key epochs sealed, and goes over from one to the next while it is in use (FORMAT.md
 * §8.8). Names are the same in all of them.
 */
import { inspect } from "node:util";
import { isTcfsError } from "../errors.ts";
import type { InodeNumber, Name, PackId } from "../ids.ts";
import type { MaybePromise } from "../maybe-promise.ts";
import type { ChunkInput, NamedChunk, PackCipher, PlainRecord, RecordCipher, SealingEngine } from "./engine.ts";

class EpochRecords implements RecordCipher {
  #newest: RecordCipher;
  #older: readonly RecordCipher[];

  constructor(newest: RecordCipher, older: readonly RecordCipher[]) {
    this.#newest = newest;
    this.#older = older;
  }

  get keyEpoch(): number {
    return this.#newest.keyEpoch;
  }

  seal(records: readonly PlainRecord[]): Uint8Array[] {
    return this.#newest.seal(records);
  }

  sealInto(record: PlainRecord, output: Uint8Array): Uint8Array {
    return this.#newest.sealInto(record, output);
  }

  sealChanges(changes: Uint8Array): MaybePromise<Uint8Array> {
    return this.#newest.sealChanges(changes);
  }

  unseal(key: Uint8Array, sealed: Uint8Array): Uint8Array {
    if (this.#older.length === 0) return this.#newest.unseal(key, sealed);
    return this.#tryAll((cipher) => cipher.unseal(key, sealed));
  }

  epochOf(key: Uint8Array, sealed: Uint8Array): number {
    return this.#tryAll((cipher) => cipher.epochOf(key, sealed));
  }

  wipe(): void {
    for (const cipher of [this.#newest, ...this.#older]) cipher.wipe();
  }

  begin(next: RecordCipher): void {
    this.#older = [this.#newest, ...this.#older];
    this.#newest = next;
  }

  forgetOlder(): void {
    for (const cipher of this.#older) cipher.wipe();
    this.#older = [];
  }

  /** A value does not say its epoch; the newer is tried first. */
  #tryAll<T>(open: (cipher: RecordCipher) => T): T {
    try {
      return open(this.#newest);
    } catch (error) {
      if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
      for (const cipher of this.#older) {
        try {
          return open(cipher);
        } catch (failure) {
          if (!isTcfsError(failure, "TCFS_CORRUPT")) throw failure;
        }
      }
      throw error;
    }
  }
}

export class EpochEngine implements SealingEngine {
  readonly records: RecordCipher;
  readonly #records: EpochRecords;
  #newest: SealingEngine;
  #older: readonly SealingEngine[];

  /** @param newest - Owned, as are the older ones: their records alone are used. */
  constructor(newest: SealingEngine, older: readonly SealingEngine[]) {
    this.#newest = newest;
    this.#older = older;
    this.#records = new EpochRecords(
      newest.records,
      older.map(({ records }) => records),
    );
    this.records = this.#records;
  }

  get kind(): SealingEngine["kind"] {
    return this.#newest.kind;
  }

  get keyEpoch(): number {
    return this.#newest.keyEpoch;
  }

  /** Seal under a newer epoch from now on. @param next - Owned; names as this one does. */
  begin(next: SealingEngine): void {
    if (next.keyEpoch <= this.keyEpoch) throw new RangeError("a key epoch follows an older one");
    this.#records.begin(next.records);
    this.#older = [this.#newest, ...this.#older];
    this.#newest = next;
  }

  /** What older epochs sealed opens no longer. */
  forgetOlder(): void {
    this.#records.forgetOlder();
    for (const engine of this.#older) engine.close();
    this.#older = [];
  }

  nameChunks(inputs: readonly ChunkInput[]): MaybePromise<NamedChunk[][]> {
    return this.#newest.nameChunks(inputs);
  }

  sealBoundBytes(lengthBytes: number): number {
    return this.#newest.sealBoundBytes(lengthBytes);
  }

  packCipher(packId: PackId, packKey: Uint8Array, keyEpoch: number): PackCipher {
    return this.#newest.packCipher(packId, packKey, keyEpoch);
  }

  namePrf(directory: InodeNumber, name: Name): Uint8Array {
    return this.#newest.namePrf(directory, name);
  }

  close(): void {
    for (const engine of [this.#newest, ...this.#older]) engine.close();
  }

  [inspect.custom](): string {
    return "EpochEngine [key]";
  }
}
