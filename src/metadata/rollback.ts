/**
 * Makes an older state the present one (FORMAT.md §7.12): every record that changed since gets its old value again, as
 * a record of the present epoch. One batch where it fits; otherwise a rollback record stands until the last one, and an
 * interrupted rollback is done again from the start.
 */
import { ByteWriter } from "../bytes.ts";
import { isTcfsError } from "../errors.ts";
import { encodeOrphan, decodeInode } from "../format/inode-codec.ts";
import { epochOfRecord, withEpoch } from "../format/history-keys.ts";
import { RECORD_KIND, inodeKey, inodeOfKey, singleKey } from "../format/record-keys.ts";
import { encodeRollback, type SnapshotRecord } from "../format/snapshot-codec.ts";
import type { Epoch, InodeNumber } from "../ids.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import type { RecordVersions } from "./changed-records.ts";

/** No decoder accepts it. */
const UNREADABLE = new Uint8Array(0);
/** What one batch takes at most. */
const BATCH_BYTES = 8 * 1024 * 1024;

export interface RollbackOptions {
  /** Those that may differ between the target and the present. */
  readonly records: AsyncIterable<RecordVersions>;
  readonly target: SnapshotRecord;
  /** Of the state before. */
  readonly safety: SnapshotRecord;
  /** The present one, in which the restored records are written. */
  readonly epoch: Epoch;
  readonly isResumed: boolean;
  /** Records that one batch restores at most: a rollback of more takes several. */
  readonly batchRecords: number;
  /** Whether the target has an inode; true where that cannot be read. */
  readonly hasInode: (ino: InodeNumber) => boolean;
  /** The keys of all extent pages that an inode has in the last commit; borrowed. */
  readonly pagesOf: (ino: InodeNumber) => AsyncIterable<Uint8Array>;
  /** Put these into the next batch. */
  readonly put: (operations: readonly RecordChange[]) => void;
  readonly barrier: () => Promise<void>;
  /** Told of every record that may differ, before it is restored. */
  readonly onRecord: (record: RecordVersions) => void;
}

/**
 * Whatever else commits meanwhile finds a batch whole or not at all: each is put in one synchronous step.
 * @returns The operations of the last batch, for the caller to put together with what goes with them.
 */
export async function rollBackRecords(options: RollbackOptions): Promise<RecordChange[]> {
  const { records, put, barrier, onRecord, batchRecords } = options;
  let isRecorded = options.isResumed;
  let batch: RecordChange[] = [];
  let bytes = 0;
  const makeRoom = async (): Promise<void> => {
    if (batch.length < batchRecords && bytes < BATCH_BYTES) return;
    put(isRecorded ? batch : [recordOf(options), ...batch]);
    isRecorded = true;
    await barrier();
    batch = [];
    bytes = 0;
  };
  const isLeft = pagesLeft(options.hasInode);
  for await (const record of records) {
    await makeRoom();
    onRecord(record);
    // Before the inode itself: done again, this would not be found any more.
    for await (const key of pagesGone(options, record)) {
      batch.push({ key, value: undefined });
      await makeRoom();
    }
    for (const operation of restore(options, record, isLeft(record.key))) {
      batch.push(operation);
      bytes += operation.value?.length ?? 0;
    }
  }
  if (isRecorded) batch.push({ key: singleKey("rollback"), value: undefined });
  return batch;
}

function recordOf({ target, safety, epoch }: RollbackOptions): RecordChange {
  const writer = new ByteWriter();
  encodeRollback(writer, epoch, { target: target.epoch, safety: safety.epoch });
  return { key: singleKey("rollback"), value: writer.take() };
}

/** Which records are pages that an inode, gone by then, had left for its versions: these keep them, the target does not. */
function pagesLeft(hasInode: (ino: InodeNumber) => boolean): (key: Uint8Array) => boolean {
  let last: { readonly ino: InodeNumber; readonly isGone: boolean } | undefined; // records come in the order of inodes
  return (key) => {
    if (key[0] !== RECORD_KIND.extents) return false;
    const ino = inodeOfKey(key);
    if (last?.ino !== ino) last = { ino, isGone: !hasInode(ino) };
    return last.isGone;
  };
}

/**
 * All pages of an inode that goes though it is older than the target: it was brought back in between, to the pages that
 * its versions shared, so that not all of them differ. Those of newer ones do.
 */
async function* pagesGone(
  { target, isResumed, pagesOf }: RollbackOptions,
  record: RecordVersions,
): AsyncGenerator<Uint8Array> {
  if (record.key[0] !== RECORD_KIND.inode) return;
  const ino = inodeOfKey(record.key);
  if (ino >= target.nextInode || readOf(() => record.present(), isResumed) === undefined) return;
  if (readOf(() => record.asOf(target), isResumed) === undefined) yield* pagesOf(ino);
}

function restore(
  { target, epoch, isResumed }: RollbackOptions,
  record: RecordVersions,
  isLeft: boolean,
): RecordChange[] {
  const live = readOf(() => record.present(), isResumed);
  if (isLeft) return live === undefined ? [] : [{ key: record.key, value: undefined }];
  if (live !== undefined && live !== UNREADABLE && epochOfRecord(live) <= target.epoch) return [];
  const old = readOf(() => record.asOf(target), isResumed);
  if (live === undefined && old === undefined) return [];
  const { key } = record;
  if (old === UNREADABLE) return [{ key, value: UNREADABLE }];
  const operations: RecordChange[] = [{ key, value: old && withEpoch(old, epoch) }];
  if (key[0] === RECORD_KIND.inode) operations.push(...orphanOperations(key, live, old, epoch));
  return operations;
}

/**
 * Before a rollback begins everything is read once; damage found later must not keep the vault closed for ever: then a
 * record of which the old value cannot be read becomes one that no reader accepts.
 */
function readOf(read: () => Uint8Array | undefined, isResumed: boolean): Uint8Array | undefined {
  try {
    return read();
  } catch (error) {
    if (isResumed && isTcfsError(error, "TCFS_CORRUPT")) return UNREADABLE;
    throw error;
  }
}

/** Which inodes are orphans has no history: it follows from their link counts. */
function orphanOperations(
  key: Uint8Array,
  live: Uint8Array | undefined,
  old: Uint8Array | undefined,
  epoch: Epoch,
): RecordChange[] {
  const ino = inodeOfKey(key);
  const isOrphan = old !== undefined && decodeInode(ino, old).linkCount === 0;
  const wasOrphan = live !== undefined && live !== UNREADABLE && decodeInode(ino, live).linkCount === 0;
  if (isOrphan === wasOrphan) return [];
  const writer = new ByteWriter();
  if (isOrphan) encodeOrphan(writer, epoch);
  return [{ key: inodeKey("orphan", ino), value: isOrphan ? writer.take() : undefined }];
}
