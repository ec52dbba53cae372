/** Snapshots as the filesystem uses them: taken with a freeze, read by views, forgotten and rolled back to in steps. */
import type { TcfsError } from "../errors.ts";
import type { AutomaticSnapshot, PolicyClass, PolicyRecord } from "../format/policy-codec.ts";
import type { DentryRecord, DirectoryEntryRecord, ExtentPage, InodeRecord } from "../format/records.ts";
import type { RollbackRecord, SnapshotRecord } from "../format/snapshot-codec.ts";
import type { InodeNumber, Name } from "../ids.ts";

/** Makes everything that was put so far durable: a commit. */
export type Barrier = () => Promise<void>;

export interface WantedSnapshot {
  readonly name: string;
  readonly comment: string;
  readonly isSafety: boolean;
  /** Of one that the policy has taken: goes into the policy record, in the same batch. */
  readonly automatic?: Omit<AutomaticSnapshot, "epoch">;
}

/** The metadata as of one snapshot, or of the last commit. Reads as {@link MetadataStore} does, and throws as it does. */
export interface MetadataView {
  getInode(ino: InodeNumber): InodeRecord | undefined;
  getDentry(directory: InodeNumber, name: Name): DentryRecord | undefined;
  /** In cookie order; fresh. */
  listDirectory(directory: InodeNumber): Promise<DirectoryEntryRecord[]>;
  getXattrs(ino: InodeNumber): ReadonlyMap<Name, Uint8Array>;
  getExtentPage(ino: InodeNumber, page: number): ExtentPage;
  extentPages(ino: InodeNumber, fromPage: number, toPage: number): Promise<number[]>;
}

/** A record that may differ between two states, as it is in each; undefined: not there. */
export type ChangedRecord =
  | {
      readonly kind: "inode";
      readonly ino: InodeNumber;
      readonly before: InodeRecord | undefined;
      readonly after: InodeRecord | undefined;
    }
  | { readonly kind: "xattrs"; readonly ino: InodeNumber }
  | {
      readonly kind: "extents";
      readonly ino: InodeNumber;
      readonly page: number;
      readonly before: ExtentPage;
      readonly after: ExtentPage;
    }
  | {
      readonly kind: "dentry";
      readonly directory: InodeNumber;
      readonly before: DentryRecord | undefined;
      readonly after: DentryRecord | undefined;
    };

export interface SnapshotStore {
  /** Those that are there, oldest first. */
  list(): readonly SnapshotRecord[];
  find(name: string): SnapshotRecord | undefined;

  /**
   * Have the next freeze take a snapshot: of the state at that moment.
   * @throws TcfsError `TCFS_USAGE` for a name or comment that cannot be, `TCFS_SNAPSHOT_EXISTS`, `TCFS_STORE_FULL` beyond 8,190;
   *   `RangeError` while another one is asked for.
   */
  request(wanted: WantedSnapshot): void;
  /** Whether the next freeze takes one. */
  readonly isRequested: boolean;
  /** The commit failed that was to take it: it is not to be. Nothing happens once it is durable. */
  withdraw(): void;

  /** The policy, and the automatic snapshots among those that there are (others may be named). */
  readonly policy: PolicyRecord;
  /** Why the policy cannot be read, if so: then it is as if there were none. */
  readonly policyDamage: TcfsError | undefined;
  /** Put other classes into the next batch. */
  setPolicy(classes: readonly PolicyClass[]): void;

  view(snapshot: SnapshotRecord): MetadataView;
  /** The database as of the last commit: changes not committed do not show. */
  committedView(): MetadataView;
  /**
   * What may differ between a snapshot and a later one (or the last commit), each record once. Costs what changed in
   * between.
   */
  changes(from: SnapshotRecord, to: SnapshotRecord | undefined): AsyncIterable<ChangedRecord>;

  /**
   * Whether a rollback would get through: one that fails in the middle is tried again by every opening.
   * @returns How many records it would restore, at most.
   * @throws TcfsError `TCFS_CORRUPT` if one of them cannot be read, live or as it was; `TCFS_IO`
   */
  checkRollback(target: SnapshotRecord): Promise<number>;
  /** An estimate of the bytes of files that would go out of use with all of these, before compression. */
  exclusiveBytes(snapshots: readonly SnapshotRecord[]): Promise<number>;

  /**
   * Take the name away with the next batch. What only this snapshot kept stays until {@link clearForgotten}.
   * @throws TcfsError `TCFS_CORRUPT`, as the following do, where a damaged database may hide a snapshot.
   */
  forget(snapshot: SnapshotRecord): void;
  readonly hasForgotten: boolean;
  /**
   * Clear away what forgotten snapshots kept, in bounded steps. An interrupted one goes on where it was when called again.
   * @returns Bytes of files that went out of use, before deduplication.
   */
  clearForgotten(barrier: Barrier, signal: AbortSignal): Promise<number>;

  /** A rollback that a crash interrupted: {@link rollBack} it again before anything else. */
  readonly interruptedRollback: RollbackRecord | undefined;
  /**
   * Make the state of `target` the present one. Nothing may be changed or read meanwhile, everything is committed, and
   * the newest snapshot is of the state before.
   * @param onChange - Told of every record that may have changed.
   */
  rollBack(target: SnapshotRecord, barrier: Barrier, onChange: (record: ChangedRecord) => void): Promise<void>;
}
