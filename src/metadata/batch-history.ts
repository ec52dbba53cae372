/**
 * What a batch overwrites or deletes and the newest snapshot still needs: moved to history in the same batch
 * (FORMAT.md §7.12). Costs one look-up for each record first changed after a snapshot, none for names that are in memory
 * or known to be new, nothing without snapshots, and nothing for records of inodes that are newer than the newest one.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { latin1Of } from "../bytes.ts";
import { isTcfsError } from "../errors.ts";
import { epochOfRecord, historyKey, ownerOfVersioned, supersededKey } from "../format/history-keys.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import type { SnapshotRecord } from "../format/snapshot-codec.ts";
import type { Epoch } from "../ids.ts";
import type { MaybePromise } from "../maybe-promise.ts";
import type { GenerationCache } from "./generation-cache.ts";
import type { RecordReader } from "./record-reader.ts";
import { supersedingEpoch } from "./snapshot-table.ts";

/** Look-ups between two turns of the event loop: a few milliseconds. */
const LOOKUPS_PER_TURN = 512;
/** Stands for a record that cannot be read: no decoder accepts it, so the snapshot's reader is told. */
const UNREADABLE = new Uint8Array(0);

export interface BatchHistoryOptions {
  readonly reader: RecordReader;
  /** The newest snapshot at the freeze. */
  readonly snapshot: SnapshotRecord;
  /** Keys known to be changed since that snapshot; shared by the batches after it. */
  readonly touched: GenerationCache<string, true>;
}

/** Of one batch; asked again when the batch is written again, it answers the same and more, never from what it wrote. */
export class BatchHistory {
  readonly #options: BatchHistoryOptions;
  readonly #epoch: Epoch;
  readonly #noteValue: Uint8Array;
  /** So many of the changes were looked at. */
  #done = 0;
  readonly #operations: RecordChange[] = [];

  constructor(options: BatchHistoryOptions) {
    this.#options = options;
    this.#epoch = supersedingEpoch(options.snapshot);
    this.#noteValue = encodeNote(this.#epoch);
  }

  /** The records to write together with `changes`, which may have grown since the last call; borrowed. */
  of(changes: readonly RecordChange[]): MaybePromise<readonly RecordChange[]> {
    this.#look(changes);
    if (this.#done === changes.length) return this.#operations;
    return (async () => {
      while (this.#done < changes.length) {
        await nextTurn();
        this.#look(changes);
      }
      return this.#operations;
    })();
  }

  /** Until a turn of the event loop is due. */
  #look(changes: readonly RecordChange[]): void {
    const { snapshot, touched } = this.#options;
    let lookups = 0;
    for (; this.#done < changes.length && lookups < LOOKUPS_PER_TURN; this.#done++) {
      const { key, replaced } = changes[this.#done] as RecordChange;
      const owner = ownerOfVersioned(key);
      if (owner === undefined || owner >= snapshot.nextInode) continue;
      const name = latin1Of(key);
      if (touched.get(name) === true) continue;
      if (replaced === null) this.#note(key);
      else this.#keep(key, replaced ?? this.#read(key));
      touched.set(name, true);
      lookups++;
    }
  }

  #keep(key: Uint8Array, old: Uint8Array | undefined): void {
    const isUnreadable = old?.length === 0;
    if (old !== undefined && !isUnreadable && epochOfRecord(old) > this.#options.snapshot.epoch) return;
    // What does not open tells no epoch: an earlier batch may have kept what the snapshot needs.
    if (isUnreadable && this.#isNoted(key)) return;
    if (old !== undefined) this.#operations.push({ key: historyKey(key, this.#epoch), value: old });
    this.#note(key);
  }

  #note(key: Uint8Array): void {
    this.#operations.push({ key: supersededKey(this.#epoch, key), value: this.#noteValue });
  }

  #isNoted(key: Uint8Array): boolean {
    return this.#read(supersededKey(this.#epoch, key)) !== undefined;
  }

  #read(key: Uint8Array): Uint8Array | undefined {
    try {
      return this.#options.reader.plain(key, "record", 0);
    } catch (error) {
      if (isTcfsError(error, "TCFS_CORRUPT")) return UNREADABLE;
      throw error;
    }
  }
}

/** The value of a note: its epoch alone. */
export function encodeNote(epoch: Epoch): Uint8Array {
  const note = new Uint8Array(4);
  new DataView(note.buffer).setUint32(0, epoch, true);
  return note;
}
