/**
 * The records that may differ between a snapshot and a later state (FORMAT.md §7.12), each once, with its versions: those
 * noted as changed since, and whatever belongs to an inode made since. Costs what changed, however many snapshots there are.
 */
import { isTcfsError, type TcfsError } from "../errors.ts";
import {
  ALL_HISTORY,
  VERSIONED_KINDS,
  epochOfHistoryKey,
  epochOfRecord,
  historyKey,
  historyOf,
  keyOfSuperseded,
  liveKeyOf,
  ownerOfVersioned,
  supersededIn,
  versionedFrom,
  versionsOf,
} from "../format/history-keys.ts";
import { inodeOfKey } from "../format/record-keys.ts";
import type { SnapshotRecord } from "../format/snapshot-codec.ts";
import type { Epoch } from "../ids.ts";
import { isPromise } from "../maybe-promise.ts";
import type { StoredEntry } from "./database.ts";
import type { JournaledDatabase } from "./journaled-database.ts";
import { mergedKeys } from "./merged-keys.ts";
import type { RecordReader } from "./record-reader.ts";
import { supersedingEpoch, type SnapshotTable } from "./snapshot-table.ts";
import { requireIntact } from "./walks.ts";

/** Notes held in memory at a time, of all lists together; and of each list. */
const HELD_NOTES = 65_536;
const FEWEST_NOTES = 16;
const MOST_NOTES = 1000;

/** In batches, in order; borrowed. */
type Keys = AsyncGenerator<readonly Uint8Array[]>;

export interface ChangedRecordsOptions {
  readonly database: JournaledDatabase;
  readonly reader: RecordReader;
  readonly table: SnapshotTable;
  /** Whoever reads also writes, records that have come, and nobody else does. */
  readonly isStill?: boolean;
}

/** A state to ask for: a snapshot's. */
export type Moment = Pick<SnapshotRecord, "epoch" | "nextInode">;

/** When the older versions were read. */
interface Since {
  /** Of the newest snapshot then: what is moved to history later stands there or above. */
  readonly newest: number;
  /** Whether no record of any kind has changed. */
  readonly isSame: () => boolean;
}

/** One record with its older versions. */
export class RecordVersions {
  readonly key: Uint8Array;
  readonly #options: ChangedRecordsOptions;
  readonly #old: readonly StoredEntry[];
  readonly #since: Since;
  #live: Uint8Array | TcfsError | null | undefined;

  constructor(options: ChangedRecordsOptions, key: Uint8Array, old: readonly StoredEntry[], since: Since) {
    this.#options = options;
    this.key = key;
    this.#old = old;
    this.#since = since;
  }

  /** The record's plaintext in the last commit; borrowed. @throws TcfsError as {@link RecordReader.plain} does. */
  present(): Uint8Array | undefined {
    const live = this.#readLive();
    if (live instanceof Error) throw live;
    return live ?? undefined;
  }

  /** As of a snapshot; borrowed. @throws TcfsError as {@link RecordReader.plain} does. */
  asOf({ epoch, nextInode }: Moment): Uint8Array | undefined {
    if ((ownerOfVersioned(this.key) ?? 0) >= nextInode) return undefined;
    const live = this.#readLive();
    if (live instanceof Uint8Array && epochOfRecord(live) <= epoch) return live;
    const old = this.#old.find(([key]) => epochOfHistoryKey(key) > epoch);
    if (old !== undefined) return bornBy(epoch, this.#open(old));
    const moved = this.#movedSince(epoch);
    if (moved === undefined && live instanceof Error) throw live; // it was not superseded
    return bornBy(epoch, moved);
  }

  /** The version that stood until `superseded`; borrowed. */
  supersededIn(superseded: Epoch): Uint8Array | undefined {
    const old = this.#old.find(([key]) => epochOfHistoryKey(key) === superseded);
    return old && this.#open(old);
  }

  #open(entry: StoredEntry): Uint8Array {
    return this.#options.reader.storedPlain(entry, "older version of a record of inode", inodeOfKey(this.key));
  }

  /** What a batch moved to history after the older versions were read. */
  #movedSince(epoch: Epoch): Uint8Array | undefined {
    const { reader, table } = this.#options;
    if (this.#since.isSame()) return undefined;
    for (const superseded of table.supersedingEpochs(epoch)) {
      if (superseded < this.#since.newest) continue;
      const old = reader.plain(historyKey(this.key, superseded), "older version of a record", 0);
      if (old !== undefined) return old;
    }
    return undefined;
  }

  /** Read when first asked for, and so after the older versions: what is moved in between is in none of them. */
  #readLive(): Uint8Array | TcfsError | null {
    if (this.#live !== undefined) return this.#live;
    try {
      this.#live = this.#options.reader.plain(this.key, "record of inode", inodeOfKey(this.key)) ?? null;
    } catch (error) {
      if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
      this.#live = error; // of use only if the record was not superseded since
    }
    return this.#live;
  }
}

/**
 * @param to - A later snapshot; undefined: the last commit.
 * @throws TcfsError `TCFS_CORRUPT` if some may be missing, `TCFS_IO`
 */
export async function* changedRecords(
  options: ChangedRecordsOptions,
  from: SnapshotRecord,
  to: SnapshotRecord | undefined,
): AsyncGenerator<RecordVersions> {
  const { database, table } = options;
  await database.lighten();
  const epochs = table
    .supersedingEpochs(from.epoch)
    .filter((epoch) => to === undefined || epoch < supersedingEpoch(to));
  const isOlder = (key: Uint8Array): boolean => (ownerOfVersioned(key) ?? Infinity) < from.nextInode;
  for await (const record of notedRecords(options, epochs)) if (isOlder(record.key)) yield record;
  yield* withVersions(options, newerKeys(database, from, to));
}

/** The records noted under any of these epochs. */
export function notedRecords(options: ChangedRecordsOptions, epochs: readonly Epoch[]): AsyncGenerator<RecordVersions> {
  return withVersions(options, notedKeys(options.database, epochs));
}

async function* notedKeys(database: JournaledDatabase, epochs: readonly Epoch[]): Keys {
  const batchEntries = Math.min(Math.max(FEWEST_NOTES, Math.floor(HELD_NOTES / epochs.length)), MOST_NOTES);
  const ranges = epochs.map((epoch) => supersededIn(epoch, epoch + 1));
  yield* mergedKeys(ranges.map((range) => ({ entries: database.walk(range, batchEntries), keyOf: keyOfSuperseded })));
  for (const range of ranges) requireIntact(database, range);
}

/** Keys of inodes made after `from`: live, and what a later snapshot still has and has been deleted since. */
async function* newerKeys(database: JournaledDatabase, from: SnapshotRecord, to: SnapshotRecord | undefined): Keys {
  for (const kind of VERSIONED_KINDS) {
    const { first, end } = versionedFrom(kind, from.nextInode);
    const range = { first, end: to === undefined ? end : versionedFrom(kind, to.nextInode).first };
    // The live view is taken first: what a batch moves to history in between is then in both.
    const ranges = to === undefined ? [range] : [range, historyOf(range)];
    yield* mergedKeys(ranges.map((each) => ({ entries: database.walk(each), keyOf: liveKeyOf })));
    for (const each of ranges) requireIntact(database, each);
  }
}

async function* withVersions(options: ChangedRecordsOptions, keys: Keys): AsyncGenerator<RecordVersions> {
  const { database, table, isStill = false } = options;
  const isUnchanged = database.watch();
  await using history = database.readSorted(ALL_HISTORY);
  const newest = table.newest === undefined ? 0 : supersedingEpoch(table.newest);
  const since = { newest, isSame: () => isStill || isUnchanged() };
  for await (const batch of keys) {
    for (const key of batch) {
      const range = versionsOf(key);
      const old = history.within(range);
      const versions = new RecordVersions(options, key, isPromise(old) ? await old : old, since);
      requireIntact(database, range);
      yield versions;
    }
  }
}

function bornBy(epoch: Epoch, plain: Uint8Array | undefined): Uint8Array | undefined {
  return plain !== undefined && epochOfRecord(plain) <= epoch ? plain : undefined;
}
