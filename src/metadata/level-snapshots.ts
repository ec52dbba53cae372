/** Snapshots over LevelDB: puts the table, the history of batches, views, sweeps and rollbacks together. */
import { corrupt } from "../bytes.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import { RECORD_KIND, extentsOf, inodeOfKey, pageOfKey, singleKey } from "../format/record-keys.ts";
import type { ExtentPage, VolumeRecord } from "../format/records.ts";
import { decodeDentry } from "../format/dentry-codec.ts";
import type { PolicyClass, PolicyRecord } from "../format/policy-codec.ts";
import { decodeExtentPage } from "../format/extent-codec.ts";
import { decodeInode } from "../format/inode-codec.ts";
import type { RollbackRecord, SnapshotRecord } from "../format/snapshot-codec.ts";
import type { Epoch, InodeNumber } from "../ids.ts";
import type { Timestamp } from "../platform/clock.ts";
import { BatchHistory } from "./batch-history.ts";
import { changedRecords, type RecordVersions } from "./changed-records.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import { exclusiveBytes } from "./exclusive-bytes.ts";
import type { JournaledDatabase } from "./journaled-database.ts";
import { GenerationCache } from "./generation-cache.ts";
import { sweepHistory } from "./history-sweep.ts";
import type { NameHasher } from "./name-hasher.ts";
import type { RecordReader } from "./record-reader.ts";
import { rollBackRecords } from "./rollback.ts";
import type { Barrier, ChangedRecord, MetadataView, SnapshotStore, WantedSnapshot } from "./snapshot-store.ts";
import type { SnapshotTable } from "./snapshot-table.ts";
import { SnapshotView } from "./snapshot-view.ts";

const LAST_EPOCH = 2 ** 32 - 2;
/** Sees everything. */
const PRESENT = { epoch: (2 ** 32 - 1) as Epoch, nextInode: Number.MAX_SAFE_INTEGER as InodeNumber };
/** Keys known to be changed since the newest snapshot: a few megabytes. */
const TOUCHED_KEYS = 65_536;

export interface LevelSnapshotsOptions {
  readonly database: JournaledDatabase;
  readonly reader: RecordReader;
  readonly hasher: NameHasher;
  readonly table: SnapshotTable;
  /** The live one. */
  readonly volume: VolumeRecord;
  readonly onDamage: (error: TcfsError) => void;
  /** Records that one batch of a rollback, or one step of a sweep, handles. */
  readonly stepRecords: number;
  /** Put records into the next batch. */
  readonly put: (operations: readonly RecordChange[]) => void;
  /** Everything read so far is out of date. */
  readonly forgetRead: () => void;
  /** Have directories not listed until the function that this returns is called. */
  readonly pauseListings: () => () => void;
}

export class LevelSnapshots implements SnapshotStore {
  readonly #options: LevelSnapshotsOptions;
  readonly #table: SnapshotTable;
  #touched = new GenerationCache<string, true>(TOUCHED_KEYS, () => 1);
  #touchedSince: Epoch | undefined;
  #interrupted: RollbackRecord | undefined;

  /** @throws TcfsError `TCFS_CORRUPT` if the record of an interrupted rollback cannot be read. */
  constructor(options: LevelSnapshotsOptions) {
    this.#options = options;
    this.#table = options.table;
    this.#interrupted = readRollback(options);
  }

  list(): readonly SnapshotRecord[] {
    return this.#table.listed;
  }

  find(name: string): SnapshotRecord | undefined {
    return this.#table.find(name);
  }

  request(wanted: WantedSnapshot): void {
    if (this.#options.volume.epoch >= LAST_EPOCH) {
      throw new TcfsError("TCFS_STORE_FULL", "the vault has had as many snapshots as it can count");
    }
    this.#table.want(wanted);
  }

  withdraw(): void {
    this.#table.withdraw();
  }

  /** Whether a batch has to keep what it replaces. */
  get hasAny(): boolean {
    return this.#table.newest !== undefined;
  }

  /** Whether the next freeze takes one. */
  get isRequested(): boolean {
    return this.#table.isWanted;
  }

  /**
   * The freeze of a batch, whose records are of the volume's epoch as it was before.
   * @returns What the batch has to keep, and the records of the snapshot that it takes.
   */
  freeze(now: Timestamp): { history: BatchHistory | undefined; taken: readonly RecordChange[] } {
    const snapshot = this.#table.newest;
    if (snapshot?.epoch !== this.#touchedSince) {
      this.#touched = new GenerationCache(TOUCHED_KEYS, () => 1);
      this.#touchedSince = snapshot?.epoch;
    }
    const { reader, volume } = this.#options;
    const history = snapshot && new BatchHistory({ reader, snapshot, touched: this.#touched });
    return { history, taken: this.#table.take(volume, now) };
  }

  /** The batch last frozen is durable. */
  committed(): void {
    this.#table.committed();
  }

  get policy(): PolicyRecord {
    return this.#table.policy.record;
  }

  get policyDamage(): TcfsError | undefined {
    return this.#table.policy.damage;
  }

  setPolicy(classes: readonly PolicyClass[]): void {
    this.#options.put([this.#table.policy.change(classes, this.#options.volume.epoch)]);
  }

  view(snapshot: SnapshotRecord): MetadataView {
    return this.#view(snapshot);
  }

  committedView(): MetadataView {
    return this.#view(PRESENT);
  }

  #view({ epoch, nextInode }: Pick<SnapshotRecord, "epoch" | "nextInode">): SnapshotView {
    const { database, reader, hasher, onDamage } = this.#options;
    const supersedingEpochs = (): readonly Epoch[] => this.#table.supersedingEpochs(epoch);
    return new SnapshotView({ database, reader, hasher, epoch, nextInode, supersedingEpochs, onDamage });
  }

  async *changes(from: SnapshotRecord, to: SnapshotRecord | undefined): AsyncGenerator<ChangedRecord> {
    for await (const record of changedRecords(this.#options, from, to)) {
      const after = to === undefined ? record.present() : record.asOf(to);
      const change = describeChange(record.key, record.asOf(from), after);
      if (change !== undefined) yield change;
    }
  }

  async checkRollback(target: SnapshotRecord): Promise<number> {
    let count = 0;
    for await (const record of changedRecords(this.#options, target, undefined)) {
      record.present();
      record.asOf(target);
      count++;
    }
    return count;
  }

  async exclusiveBytes(snapshots: readonly SnapshotRecord[]): Promise<number> {
    let bytes = 0;
    for (const run of this.#table.runsOf(snapshots)) bytes += await exclusiveBytes(this.#options, run);
    return bytes;
  }

  forget(snapshot: SnapshotRecord): void {
    this.#requireAll();
    this.#options.put([this.#table.forget(snapshot)]);
  }

  get hasForgotten(): boolean {
    return this.#table.forgotten.length > 0;
  }

  async clearForgotten(barrier: Barrier, signal: AbortSignal): Promise<number> {
    const { database, reader, stepRecords } = this.#options;
    const write = async (operations: readonly RecordChange[]): Promise<void> => {
      this.#options.put(operations);
      await barrier();
    };
    this.#requireAll();
    let released = 0;
    for (const forgotten of this.#table.forgotten) {
      const before = this.#table.before(forgotten.epoch);
      const { rest, releasedBytes } = await sweepHistory({
        database,
        reader,
        forgotten,
        before,
        write,
        signal,
        stepRecords,
      });
      await write([...rest, this.#table.clear(forgotten)]);
      released += releasedBytes;
    }
    return released;
  }

  get interruptedRollback(): RollbackRecord | undefined {
    return this.#interrupted;
  }

  async rollBack(target: SnapshotRecord, barrier: Barrier, onChange: (record: ChangedRecord) => void): Promise<void> {
    this.#requireAll();
    const safety = this.#table.newest;
    if (safety === undefined || safety.epoch <= target.epoch) throw new RangeError("no snapshot of the state before");
    const resumeListings = this.#options.pauseListings(); // whoever lists beside it would keep what is half one state
    try {
      await this.#rollBack(target, safety, barrier, onChange);
    } finally {
      resumeListings();
    }
  }

  async #rollBack(
    target: SnapshotRecord,
    safety: SnapshotRecord,
    barrier: Barrier,
    onChange: (record: ChangedRecord) => void,
  ): Promise<void> {
    const { volume, put, forgetRead, stepRecords: batchRecords } = this.#options;
    const isResumed = this.#interrupted !== undefined;
    const onRecord = (record: RecordVersions): void => {
      if (isResumed) return; // nobody has seen anything yet
      const change = describeChange(record.key, record.asOf(safety), record.asOf(target));
      if (change !== undefined) onChange(change);
    };
    const { epoch } = volume;
    const { database, reader } = this.#options;
    const records = changedRecords({ database, reader, table: this.#table, isStill: true }, target, undefined);
    const hasInode = (ino: InodeNumber): boolean => mayHaveInode(this.#view(target), ino);
    const pagesOf = (ino: InodeNumber): AsyncIterable<Uint8Array> => pageKeysOf(database, ino);
    const state = { records, target, safety, epoch, isResumed, batchRecords };
    put(await rollBackRecords({ ...state, hasInode, pagesOf, put, barrier, onRecord }));
    volume.inodeCount = target.inodeCount;
    volume.allocatedBytes = target.allocatedBytes;
    forgetRead();
    await barrier();
    forgetRead();
    this.#interrupted = undefined;
  }

  #requireAll(): void {
    if (this.#table.damage !== undefined) throw this.#table.damage;
  }
}

/** @returns undefined where nothing of a tree differs. */
function describeChange(
  key: Uint8Array,
  before: Uint8Array | undefined,
  after: Uint8Array | undefined,
): ChangedRecord | undefined {
  const ino = inodeOfKey(key);
  switch (key[0]) {
    case RECORD_KIND.inode:
      return {
        kind: "inode",
        ino,
        before: before && decodeInode(ino, before),
        after: after && decodeInode(ino, after),
      };
    case RECORD_KIND.xattrs:
      return { kind: "xattrs", ino };
    case RECORD_KIND.extents: {
      const page = pageOfKey(key);
      const pageOf = (plain: Uint8Array | undefined): ExtentPage => (plain ? decodeExtentPage(ino, page, plain) : []);
      return { kind: "extents", ino, page, before: pageOf(before), after: pageOf(after) };
    }
    case RECORD_KIND.dentry: {
      const old = before && decodeDentry(ino, before);
      const now = after && decodeDentry(ino, after);
      if (old?.ino === now?.ino && old?.type === now?.type) return undefined;
      return { kind: "dentry", directory: ino, before: old, after: now };
    }
    default:
      throw corrupt("history", "a note of what has no history");
  }
}

/** Where the database is damaged not all may be found: these only take room, and going back must not end at them. */
async function* pageKeysOf(database: JournaledDatabase, ino: InodeNumber): AsyncGenerator<Uint8Array> {
  const range = extentsOf(ino, 0, Number.MAX_SAFE_INTEGER);
  for await (const entries of database.walk(range)) for (const [key] of entries) yield key;
}

function mayHaveInode(view: SnapshotView, ino: InodeNumber): boolean {
  try {
    return view.getInode(ino) !== undefined;
  } catch (error) {
    if (isTcfsError(error, "TCFS_CORRUPT")) return true;
    throw error;
  }
}

/** In a damaged database one that is not found is taken for absent: rollbacks are rare, and reading must go on. */
function readRollback({ reader, database }: LevelSnapshotsOptions): RollbackRecord | undefined {
  try {
    return reader.rollback();
  } catch (error) {
    if (isTcfsError(error, "TCFS_CORRUPT") && database.damage.ofRecord(singleKey("rollback"), false) !== undefined) {
      return undefined;
    }
    throw error;
  }
}
