/**
 * Snapshots of an open volume: taken, listed, compared, forgotten, gone back to. One of these at a time; what forgotten
 * ones kept is cleared away in the background.
 */
import { counted } from "../../counted.ts";
import { TcfsError, isTcfsError } from "../../errors.ts";
import type { PolicyUnit } from "../../format/policy-codec.ts";
import type { SnapshotRecord } from "../../format/snapshot-codec.ts";
import { ROOT_INODE, type InodeNumber } from "../../ids.ts";
import type { ChangedRecord, SnapshotStore, WantedSnapshot } from "../../metadata/snapshot-store.ts";
import type { Defragmenter } from "../defragmenter.ts";
import type { VolumeParts } from "../volume-parts.ts";
import { AutomaticSnapshots } from "./automatic-snapshots.ts";
import { ChangedCaches } from "./changed-caches.ts";
import { diffTrees, type TreeChange } from "./diff.ts";
import type { KernelCaches } from "./kernel-caches.ts";
import { NO_KERNEL } from "./kernel-caches.ts";
import { isoTime } from "../../platform/iso-time.ts";
import { noSuchSnapshot, quote } from "./near-names.ts";
import { SNAPSHOTS_DIRECTORY, entryName, numberOutside } from "./numbers.ts";
import { PastTrees, type PastSource } from "./past-trees.ts";
import {
  type PathRestoreReport,
  commentOfPaths,
  describePlan,
  pathsOfComment,
  planPaths,
  shownComment,
  undoPointOf,
} from "./path-restore.ts";
import type { RoutedOperations } from "./routed-operations.ts";
import type { SnapshotForest } from "./snapshot-forest.ts";
import { SnapshotReader } from "./snapshot-reader.ts";
import { applyTrees } from "./tree-apply.ts";
import { type TreePath, outermost, parseTreePath, requirePath } from "./tree-path.ts";
import type { TreePlan } from "./tree-plan.ts";
import { planTrees } from "./tree-planner.ts";

/** What a restored record may take on the disk, with what it supersedes. */
const RESTORED_RECORD_BYTES = 1024;

export interface SnapshotManagerOptions {
  readonly parts: VolumeParts;
  readonly defragmenter: Defragmenter;
  readonly forest: SnapshotForest;
  readonly operations: RoutedOperations;
  readonly onFailure: (error: unknown) => void;
  /** The policy was kept, or could not be. */
  readonly onPolicy: (error: unknown) => void;
}

/** What is told of a snapshot. Times are ISO 8601. */
export interface SnapshotFigures {
  readonly name: string;
  readonly comment: string;
  readonly takenAt: string;
  /** Taken by tcfs itself before it went back to another. */
  readonly isSafety: boolean;
  /** Taken by the policy, which also drops it. */
  readonly isAutomatic: boolean;
  /** As which of its classes the policy keeps it; none but the newest has none. */
  readonly classes: readonly PolicyUnit[];
  readonly inodeCount: number;
  /** Bytes of all files' data, holes not counted. */
  readonly logicalBytes: number;
  /** Bytes of data that only this snapshot holds, before compression: an estimate. */
  readonly exclusiveBytesEstimate: number;
}

export interface ForgetReport {
  readonly forgotten: readonly SnapshotFigures[];
  /** Bytes of data that only these snapshots hold, what several of them share included: an estimate. */
  readonly togetherBytesEstimate: number;
  /** Where an undo would have gone back to one of them: the older one that it goes back to without it, if there is any. */
  readonly nextUndo?: SnapshotTime | null;
}

export type SnapshotTime = Pick<SnapshotFigures, "name" | "takenAt">;

export interface RestoreReport {
  /** The snapshot whose state is the present one again. */
  readonly restored: string;
  /** The snapshot of the state before. */
  readonly safety: string;
  readonly changedRecords: number;
}

/** A restore of paths, before anything is held back for it. */
interface PlannedRestore {
  /** The snapshot's name, or the time. */
  readonly label: string;
  readonly plan: () => Promise<TreePlan>;
}

export class SnapshotManager {
  readonly #options: SnapshotManagerOptions;
  readonly #stop = new AbortController();
  readonly automatic: AutomaticSnapshots;
  readonly #past: PastTrees;
  kernel: KernelCaches = NO_KERNEL;
  #last: Promise<unknown> = Promise.resolve();
  #clearing: Promise<void> | undefined;

  constructor(options: SnapshotManagerOptions) {
    this.#options = options;
    const { onPolicy, parts, forest } = options;
    const { metadata, isReadOnly, committer } = parts;
    this.#past = new PastTrees({
      metadata,
      forest,
      commit: async () => (isReadOnly ? undefined : committer.commit()),
      whileStill: (read) => options.operations.whileStill(read),
    });
    this.automatic = new AutomaticSnapshots({
      parts,
      onPolicy,
      take: (automatic) =>
        this.inTurn(() => this.#take({ name: this.#freeName("auto"), comment: "", isSafety: false, automatic })),
      drop: (choose) => this.inTurn(() => this.#drop(choose())),
      inTurn: (action) => this.inTurn(action),
      requireWritable: () => {
        this.#requireWritable();
      },
    });
  }

  get #store(): SnapshotStore {
    return this.#options.parts.metadata.snapshots;
  }

  /** @throws TcfsError `TCFS_NO_SNAPSHOT` */
  find(name: string): SnapshotRecord {
    const snapshot = this.#store.find(name);
    if (snapshot === undefined) throw noSuchSnapshot(name, this.#store.list());
    return snapshot;
  }

  /** The newest from a time (ISO 8601) or before. @throws TcfsError `TCFS_NO_SNAPSHOT` if there is none. */
  at(time: string): SnapshotTime {
    return timeOf(this.#past.snapshotAt(time));
  }

  /** @throws TcfsError `TCFS_NO_SNAPSHOT` */
  reader(source: PastSource): SnapshotReader {
    if ("at" in source) return this.#past.reader(source.at);
    const snapshot = this.find(source.name);
    if (source.epoch !== undefined && source.epoch !== snapshot.epoch) {
      const why = `the snapshot ${quote(source.name)} was forgotten, and another one of that name was taken`;
      throw new TcfsError("TCFS_NO_SNAPSHOT", why);
    }
    const [tree, view] = [this.#options.forest.tree(snapshot), this.#store.view(snapshot)];
    const find = (path: TreePath): Promise<void> => requirePath(view, path, snapshot.name);
    return new SnapshotReader({ tree, view, epoch: snapshot.epoch, find });
  }

  /** Oldest first. */
  async list(): Promise<SnapshotFigures[]> {
    return this.#figuresOf(this.#store.list());
  }

  async #figuresOf(snapshots: readonly SnapshotRecord[]): Promise<SnapshotFigures[]> {
    const kept = this.automatic.kept();
    const figures: SnapshotFigures[] = [];
    for (const snapshot of snapshots) {
      const { name, isSafety, inodeCount, allocatedBytes: logicalBytes } = snapshot;
      const [takenAt, comment] = [
        isoTime(snapshot.takenAt.seconds),
        snapshot.isSafety ? shownComment(snapshot.comment) : snapshot.comment,
      ];
      const [isAutomatic, classes] = [kept.has(snapshot.epoch), kept.get(snapshot.epoch) ?? []];
      const exclusiveBytesEstimate = await this.#store.exclusiveBytes([snapshot]);
      const told = { name, comment, takenAt, isSafety, isAutomatic, classes };
      figures.push({ ...told, inodeCount, logicalBytes, exclusiveBytesEstimate });
    }
    return figures;
  }

  /**
   * Freeze the whole tree as it is, changes in memory included; durable when the promise resolves.
   * @throws TcfsError `TCFS_SNAPSHOT_EXISTS`, `TCFS_USAGE` for a name that cannot be, `TCFS_READ_ONLY`, and what a commit throws.
   */
  take(name: string, comment: string): Promise<void> {
    this.#requireWritable();
    return this.inTurn(() => this.#take({ name, comment, isSafety: false }));
  }

  async #take(wanted: WantedSnapshot): Promise<void> {
    this.#store.request(wanted);
    try {
      await this.#options.parts.committer.commit();
    } catch (error) {
      this.#store.withdraw();
      throw error;
    }
    await this.kernel.forgetEntry(SNAPSHOTS_DIRECTORY, entryName(wanted.name));
    await this.kernel.forgetInode(SNAPSHOTS_DIRECTORY);
  }

  /**
   * Take the names away; what only these snapshots kept is cleared away in the background.
   * @returns What they were. With `isDryRun` that is all.
   * @throws TcfsError `TCFS_NO_SNAPSHOT` for any that is not there: then none is forgotten.
   */
  async forget(names: readonly string[], isDryRun: boolean): Promise<ForgetReport> {
    if (!isDryRun) this.#requireWritable();
    return this.inTurn(async () => {
      const snapshots = [...new Set(names)].map((name) => this.find(name));
      const forgotten = await this.#figuresOf(snapshots);
      const togetherBytesEstimate = await this.#store.exclusiveBytes(snapshots);
      const undoPoint = undoPointOf(this.#store);
      const next = undoPointOf({ list: () => this.#store.list().filter((each) => !snapshots.includes(each)) });
      if (!isDryRun) await this.#drop(snapshots);
      const nextUndo = next === undefined ? null : timeOf(next);
      return { forgotten, togetherBytesEstimate, ...(next === undoPoint ? {} : { nextUndo }) };
    });
  }

  async #drop(snapshots: readonly SnapshotRecord[]): Promise<void> {
    for (const snapshot of snapshots) {
      this.#store.forget(snapshot);
      this.#options.forest.drop(snapshot); // what it kept may be cleared away from now on
    }
    await this.#options.parts.committer.commit();
    for (const snapshot of snapshots) {
      await this.kernel.forgetEntry(SNAPSHOTS_DIRECTORY, entryName(snapshot.name));
      await this.kernel.forgetInode(numberOutside(snapshot.slot, ROOT_INODE));
    }
    await this.kernel.forgetInode(SNAPSHOTS_DIRECTORY);
    this.clearInBackground();
  }

  /** Clear away what forgotten snapshots kept, if there are any, unless that is under way. */
  clearInBackground(): void {
    if (this.#clearing !== undefined || this.#stop.signal.aborted || !this.#store.hasForgotten) return;
    this.#clearing = this.#clear()
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted) this.#options.onFailure(error);
      })
      .finally(() => {
        this.#clearing = undefined;
      });
  }

  async #clear(): Promise<void> {
    const { committer, files } = this.#options.parts;
    while (this.#store.hasForgotten) {
      files.noteReleased(await this.#store.clearForgotten(async () => committer.commit(), this.#stop.signal));
    }
  }

  /** Resolves when nothing is left of what forgotten snapshots kept, or it cannot be cleared away now. */
  async cleared(): Promise<void> {
    await this.#clearing;
  }

  /**
   * What changed from one snapshot to another, or to the present.
   * @throws TcfsError `TCFS_NO_SNAPSHOT`
   */
  async diff(fromName: string, toName: string | undefined): Promise<TreeChange[]> {
    const [from, to] = [this.find(fromName), toName === undefined ? undefined : this.find(toName)];
    if (from === to) return [];
    const { isReadOnly, committer } = this.#options.parts;
    if (to === undefined && !isReadOnly) await committer.commit();
    const isBackward = to !== undefined && to.epoch < from.epoch;
    const records = isBackward ? this.#store.changes(to, from) : this.#store.changes(from, to);
    const after = to === undefined ? this.#store.committedView() : this.#store.view(to);
    return diffTrees(isBackward ? reversed(records) : records, this.#store.view(from), after);
  }

  /**
   * Make a snapshot's state the present one, after a snapshot of the state before.
   * @throws TcfsError `TCFS_NO_SNAPSHOT`, `TCFS_STORE_FULL`, `TCFS_CORRUPT` before anything is changed; a failure in the
   *   middle ends all writing: the next opening has the old state or the new one.
   */
  restore(name: string): Promise<RestoreReport> {
    this.#requireWritable();
    return this.inTurn(() => this.#restore(this.find(name), "restore"));
  }

  /**
   * Make files and trees of the present what they were in a snapshot, or at a time, after a snapshot of the state before. A crash leaves
   * all of them as they were, or as they are to be.
   * @param paths - From the root.
   * @param isDryRun - Only tell what would change.
   * @throws TcfsError `TCFS_NO_SNAPSHOT`, `TCFS_NO_ENTRY` for a path that was not there, `TCFS_STORE_FULL`,
   *   and what {@link planTrees} throws, before anything is changed.
   */
  restorePaths(source: PastSource, paths: readonly string[], isDryRun: boolean): Promise<PathRestoreReport> {
    if (!isDryRun) this.#requireWritable();
    return this.inTurn(async () => {
      const trees = outermost(paths.map(parseTreePath));
      if (trees.some((path) => path.length === 0))
        throw new TcfsError("TCFS_USAGE", "to restore everything, leave --path away");
      if ("at" in source) {
        const plan = (): Promise<TreePlan> => this.#planAt(source.at, trees);
        return this.#restorePaths({ label: source.at, plan }, { doing: "restore", isDryRun });
      }
      const snapshot = this.find(source.name);
      for (const path of trees) await requirePath(this.#store.view(snapshot), path, snapshot.name);
      return this.#restorePaths(this.#pathsOf(snapshot, trees), { doing: "restore", isDryRun });
    });
  }

  #pathsOf(snapshot: SnapshotRecord, trees: readonly TreePath[]): PlannedRestore {
    const plan = (): Promise<TreePlan> => planPaths(this.#store, this.#options.parts.metadata, snapshot, trees);
    return { label: snapshot.name, plan };
  }

  async #planAt(at: string, paths: readonly TreePath[]): Promise<TreePlan> {
    const view = this.#past.view(at);
    for (const path of paths) await this.#past.requirePath(view, path, at);
    return planTrees({ live: this.#options.parts.metadata, view, changed: undefined, paths });
  }

  /**
   * Go back to what the last restore replaced: the whole tree, or the paths that it was about. A second time brings the
   * restored state again.
   * @throws TcfsError `TCFS_NO_SNAPSHOT`
   */
  undo(): Promise<RestoreReport | PathRestoreReport> {
    this.#requireWritable();
    return this.inTurn<RestoreReport | PathRestoreReport>(() => {
      const safety = undoPointOf(this.#store);
      const why = "there is nothing to undo: no restore was done, or the snapshot of the state before it was forgotten";
      if (safety === undefined) throw new TcfsError("TCFS_NO_SNAPSHOT", why);
      const paths = pathsOfComment(safety.comment);
      if (paths === undefined) return this.#restore(safety, "undo");
      return this.#restorePaths(this.#pathsOf(safety, paths.map(parseTreePath)), { doing: "undo", isDryRun: false });
    });
  }

  async #restorePaths(
    { label, plan: makePlan }: PlannedRestore,
    { doing, isDryRun }: { readonly doing: "restore" | "undo"; readonly isDryRun: boolean },
  ): Promise<PathRestoreReport> {
    const { parts, operations, defragmenter } = this.#options;
    const changes = new ChangedCaches();
    const report = operations.whileHeld(async () => {
      defragmenter.isPaused = true;
      try {
        if (!parts.isReadOnly) await parts.committer.commit();
        const plan = await makePlan();
        if (isDryRun) return describePlan(label, plan, true);
        if (plan.inodes.length + plan.detached.length + plan.attached.length === 0) {
          const earlierSafety = doing === "restore" ? undoPointOf(this.#store)?.name : undefined;
          return { ...describePlan(label, plan, false), ...(earlierSafety === undefined ? {} : { earlierSafety }) };
        }
        const comment = commentOfPaths(label, plan.trees);
        this.#requireRoom(plan.inodes.length + plan.detached.length + plan.attached.length);
        const safety = this.#freeName(`before-${doing}`);
        await this.#take({ name: safety, comment, isSafety: true });
        this.#apply(plan, changes);
        await parts.committer.commit();
        return { ...describePlan(label, plan, isDryRun), safety };
      } finally {
        defragmenter.isPaused = false;
      }
    });
    return report.finally(() => changes.tell(this.kernel));
  }

  #apply(plan: TreePlan, changes: ChangedCaches): void {
    const { committer } = this.#options.parts;
    try {
      changes.noteAll(applyTrees(plan, this.#options.parts));
    } catch (cause) {
      const why = "a restore failed in the middle: unmount, and the next mount has the state before it";
      const failure = new TcfsError("TCFS_IO", why, { cause });
      committer.giveUp(failure);
      throw failure;
    }
  }

  async #restore(target: SnapshotRecord, doing: "restore" | "undo"): Promise<RestoreReport> {
    const { parts, operations, defragmenter } = this.#options;
    const safety = this.#freeName(`before-${doing}`);
    const changes = new ChangedCaches();
    await operations.whileHeld(async () => {
      defragmenter.isPaused = true;
      try {
        await parts.committer.commit(); // nothing changes any more: what is checked is what will be restored
        this.#requireRoom(await this.#store.checkRollback(target));
        const comment = `the state before “${target.name}” was restored`;
        await this.#take({ name: safety, comment, isSafety: true });
        await this.#rollBack(target, changes);
      } finally {
        defragmenter.isPaused = false;
      }
    });
    await changes.tell(this.kernel);
    return { restored: target.name, safety, changedRecords: changes.count };
  }

  async #rollBack(target: SnapshotRecord, changes: ChangedCaches): Promise<void> {
    const { committer, metadata } = this.#options.parts;
    try {
      await this.#store.rollBack(
        target,
        async () => committer.commit(),
        (record) => changes.note(record),
      );
      for (const ino of await metadata.listOrphans()) this.#clearOrphan(ino);
      await committer.commit();
    } catch (cause) {
      const why = "a restore failed in the middle: unmount, and the next mount has the state before it or after it";
      const failure = new TcfsError("TCFS_IO", why, { cause });
      committer.giveUp(failure);
      throw failure;
    }
  }

  /** One that does not verify stays, and takes its room. */
  #clearOrphan(ino: InodeNumber): void {
    const { metadata, inodes } = this.#options.parts;
    try {
      const inode = metadata.getInode(ino);
      if (inode === undefined) metadata.removeOrphan(ino);
      else if (!inodes.isReferenced(ino)) inodes.remove(inode);
    } catch (error) {
      if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
    }
  }

  /** Finish what a crash interrupted; before anything reads the volume. */
  async resume(): Promise<void> {
    const interrupted = this.#store.interruptedRollback;
    if (interrupted === undefined) return;
    const target = this.#store.list().find(({ epoch }) => epoch === interrupted.target);
    if (target === undefined) throw new TcfsError("TCFS_CORRUPT", "the snapshot of an interrupted restore is missing");
    this.#requireWritable();
    try {
      await this.#rollBack(target, new ChangedCaches());
    } catch (error) {
      if (!(error instanceof TcfsError) || !isTcfsError(error.cause, "TCFS_STORE_FULL")) throw error;
      const advice = "free some there and mount again; nothing is lost, and until then the vault cannot be opened";
      const what = `a restore of ${quote(target.name)} was interrupted, and the vault's disk has no room to finish it`;
      throw new TcfsError("TCFS_STORE_FULL", `${what}: ${advice}`, { cause: error });
    }
  }

  #requireRoom(recordCount: number): void {
    if (recordCount * RESTORED_RECORD_BYTES <= this.#options.parts.space.space.availableBytes) return;
    throw new TcfsError("TCFS_STORE_FULL", `too little room on the disk to restore ${counted(recordCount, "record")}`);
  }

  /** A name that sorts by time, and that no snapshot has, whoever made it. */
  #freeName(prefix: string): string {
    const base = `${prefix}-${isoTime(this.#options.parts.clock.now().seconds)}`;
    let name = base;
    for (let count = 2; this.#store.find(name) !== undefined; count++) name = `${base}-${count}`;
    return name;
  }

  #requireWritable(): void {
    if (!this.#options.parts.isReadOnly) return;
    const advice =
      this.#store.interruptedRollback === undefined
        ? ""
        : ", and a restore waits to be finished: mount it once for writing";
    throw new TcfsError("TCFS_READ_ONLY", `the volume is open read-only${advice}`);
  }

  /** Run one thing after another: nothing that changes records behind the filesystem's back runs beside a restore. */
  inTurn<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#last.then(action);
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Stop clearing away; it goes on at the next opening. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#last;
    await this.#clearing;
  }
}

function timeOf({ name, takenAt }: SnapshotRecord): SnapshotTime {
  return { name, takenAt: isoTime(takenAt.seconds) };
}

async function* reversed(records: AsyncIterable<ChangedRecord>): AsyncGenerator<ChangedRecord> {
  for await (const record of records) yield turned(record);
}

function turned(record: ChangedRecord): ChangedRecord {
  switch (record.kind) {
    case "inode":
      return { ...record, before: record.after, after: record.before };
    case "extents":
      return { ...record, before: record.after, after: record.before };
    case "dentry":
      return { ...record, before: record.after, after: record.before };
    case "xattrs":
      return record;
  }
}
