/**
 * Clears away what only a forgotten snapshot kept (FORMAT.md §7.12), in bounded steps that can be broken off anywhere.
 * What an older snapshot needs too moves to where that one's history stands: written there in one batch, deleted here
 * in the next, so that a reader who looks from old to new always finds it.
 */
import { TcfsError, isTcfsError } from "../errors.ts";
import { decodeExtentPage } from "../format/extent-codec.ts";
import {
  epochOfRecord,
  historyKey,
  keyOfSuperseded,
  ownerOfVersioned,
  supersededIn,
  supersededKey,
} from "../format/history-keys.ts";
import { RECORD_KIND, inodeOfKey, pageOfKey, type KeyRange } from "../format/record-keys.ts";
import type { SnapshotRecord } from "../format/snapshot-codec.ts";
import type { Epoch } from "../ids.ts";
import { encodeNote } from "./batch-history.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import type { JournaledDatabase } from "./journaled-database.ts";
import type { RecordReader } from "./record-reader.ts";
import { supersedingEpoch } from "./snapshot-table.ts";

export interface SweepOptions {
  readonly database: JournaledDatabase;
  readonly reader: RecordReader;
  readonly forgotten: SnapshotRecord;
  /** The newest one older than the forgotten, when the sweep begins. */
  readonly before: SnapshotRecord | undefined;
  /** Write these with the next batch, and wait for it. */
  readonly write: (operations: readonly RecordChange[]) => Promise<void>;
  readonly signal: AbortSignal;
  /** Notes handled in one step. */
  readonly stepRecords: number;
}

/**
 * @returns The operations that must still be written, and how many bytes of files went out of use.
 * @throws TcfsError `TCFS_INTERRUPTED` on the signal; `TCFS_IO`, `TCFS_STORE_FULL`: what is left is left as it was.
 */
export async function sweepHistory(options: SweepOptions): Promise<{ rest: RecordChange[]; releasedBytes: number }> {
  const { database, forgotten, write, signal } = options;
  const epoch = supersedingEpoch(forgotten);
  const { first, end } = supersededIn(epoch, epoch + 1);
  let next = first;
  let deletions: RecordChange[] = [];
  let releasedBytes = 0;
  for (;;) {
    if (signal.aborted) throw new TcfsError("TCFS_INTERRUPTED", "clearing away a snapshot was interrupted");
    const notes = await firstKeys(database, { first: next, end }, options.stepRecords);
    const last = notes.at(-1);
    if (last === undefined) return { rest: deletions, releasedBytes };
    const step = planStep(options, epoch, notes);
    await write([...deletions, ...step.moved]);
    deletions = step.deletions;
    releasedBytes += step.releasedBytes;
    next = successorOf(last);
  }
}

async function firstKeys(database: JournaledDatabase, range: KeyRange, maxCount: number): Promise<Uint8Array[]> {
  const keys: Uint8Array[] = [];
  for await (const entries of database.walk(range)) {
    for (const [key] of entries) keys.push(key);
    if (keys.length >= maxCount) break;
  }
  return keys.slice(0, maxCount);
}

interface Step {
  readonly moved: readonly RecordChange[];
  readonly deletions: RecordChange[];
  readonly releasedBytes: number;
}

function planStep({ reader, before }: SweepOptions, epoch: Epoch, notes: readonly Uint8Array[]): Step {
  const moved: RecordChange[] = [];
  const deletions: RecordChange[] = [];
  let releasedBytes = 0;
  const target = before && supersedingEpoch(before);
  for (const note of notes) {
    const key = keyOfSuperseded(note);
    const history = historyKey(key, epoch);
    const old = readAnyway(reader, history);
    deletions.push({ key: note, value: undefined });
    if (old !== undefined) deletions.push({ key: history, value: undefined });
    // An inode made after the older snapshot is told by its number.
    const mayConcern = before !== undefined && (ownerOfVersioned(key) ?? 0) < before.nextInode;
    const isNeeded = mayConcern && (old === undefined || bornIn(old) <= before.epoch);
    if (!isNeeded || target === undefined) releasedBytes += old === undefined ? 0 : fileBytes(key, old);
    else {
      if (old !== undefined) moved.push({ key: historyKey(key, target), value: old });
      moved.push({ key: supersededKey(target, key), value: encodeNote(target) });
    }
  }
  return { moved, deletions, releasedBytes };
}

/** One that does not verify stays unreadable wherever it goes. */
function readAnyway(reader: RecordReader, key: Uint8Array): Uint8Array | undefined {
  try {
    return reader.plain(key, "history record", 0);
  } catch (error) {
    if (isTcfsError(error, "TCFS_CORRUPT")) return new Uint8Array(0);
    throw error;
  }
}

/** What cannot be read may be as old as can be. */
function bornIn(plain: Uint8Array): number {
  return plain.length === 0 ? 0 : epochOfRecord(plain);
}

function fileBytes(key: Uint8Array, plain: Uint8Array): number {
  if (key[0] !== RECORD_KIND.extents || plain.length === 0) return 0;
  const extents = decodeExtentPage(inodeOfKey(key), pageOfKey(key), plain);
  return extents.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
}

function successorOf(key: Uint8Array): Uint8Array {
  const successor = new Uint8Array(key.length + 1);
  successor.set(key);
  return successor;
}
