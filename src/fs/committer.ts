/**
 * Commits: each one a full barrier, so that the state on disk is always a prefix of what was acknowledged. One that only
 * an fsync asks for logs small writes as they are; another one stores them later, and everything else.
 *
 * Crash order of one commit that stores: seal what the frozen generation holds into packs, flush the packs, then one
 * device-flushed metadata batch that names them. Until that batch is written, a crash leaves the previous commit.
 * At most one commit runs; whoever asks meanwhile shares the next one.
 */
import type { ChunkStore } from "../chunkstore/chunk-store.ts";
import { TcfsError, type TcfsErrorCode, isTcfsError } from "../errors.ts";
import { type MaybePromise, andThen, inOrder, isPromise, settled } from "../maybe-promise.ts";
import type { LoggedRun } from "../format/records.ts";
import type { InodeNumber } from "../ids.ts";
import type { FrozenBatch, MetadataStore } from "../metadata/metadata-store.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { HeldDirectory } from "../platform/held-directory.ts";
import { type NotePage, removeExtents, writeExtents } from "./extent-writer.ts";
import type { FileData } from "./file-data.ts";
import type { DeletedFile, FileTable } from "./file-table.ts";
import {
  COMMIT_DELAY_MS,
  COMMIT_HELD_BYTES,
  COMMIT_RECORD_COUNT,
  INLINE_COMMIT_BYTES,
  MAX_HELD_BYTES,
  MAX_LOG_BYTES,
} from "./limits.ts";
import { sealFrozen } from "./sealing.ts";

/** Failures that leave everything as it was: the same commit is tried again. */
const PASSING: ReadonlySet<TcfsErrorCode> = new Set(["TCFS_STORE_FULL", "TCFS_TOO_MANY_FILES"]);

/** What one commit has to make durable. */
interface Generation {
  readonly files: readonly FileData[];
  readonly deleted: readonly DeletedFile[];
  readonly batch: FrozenBatch;
}

interface Waiters {
  /** Whether one of them needs everything stored. */
  isWhole: boolean;
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export interface CommitterOptions {
  readonly files: FileTable;
  readonly metadata: MetadataStore;
  readonly chunks: ChunkStore;
  readonly place?: Pick<HeldDirectory, "assertInPlace"> | undefined;
  readonly clock: Clock;
  /** A commit finds no room on the disk. Never rejects. @returns Whether there is some now: then it is tried again. */
  readonly onFull: () => MaybePromise<boolean>;
  /** Told of every extent page that a commit stores. */
  readonly notePage: NotePage;
  /** Called once for every failed commit, and after each good one. */
  readonly onOutcome: (error: unknown) => void;
}

export class Committer {
  readonly #files: FileTable;
  readonly #metadata: MetadataStore;
  readonly #chunks: ChunkStore;
  readonly #place: CommitterOptions["place"];
  readonly #clock: Clock;
  readonly #onOutcome: (error: unknown) => void;
  readonly #onFull: () => MaybePromise<boolean>;
  readonly #notePage: NotePage;
  /** Asked for while another commit runs. */
  #next: Waiters | undefined;
  /** Resolves, and never rejects, with the outcome of the commit that runs. */
  #running: Promise<TcfsError | undefined> | undefined;
  #isStarted = false;
  /** Frozen and not yet durable; kept through a failure that passes, so that nothing acknowledged is dropped. */
  #generation: Generation | undefined;
  #timer: Timer | undefined;
  #failure: TcfsError | undefined;
  #stall: TcfsError | undefined;
  readonly #room: (() => void)[] = [];

  constructor(options: CommitterOptions) {
    this.#files = options.files;
    this.#metadata = options.metadata;
    this.#chunks = options.chunks;
    this.#place = options.place;
    this.#clock = options.clock;
    this.#onOutcome = options.onOutcome;
    this.#onFull = options.onFull;
    this.#notePage = options.notePage;
  }

  /** The failure that ended all writing, if there was one: sticky until the volume is opened anew. */
  get failure(): TcfsError | undefined {
    return this.#failure;
  }

  /** The lack (of room, or of file descriptors) that holds up the present commit; it goes on when that is over. */
  get stall(): TcfsError | undefined {
    return this.#stall;
  }

  /** Changed bytes that only memory holds. */
  get unsavedBytes(): number {
    const { log, heldBytes } = this.#files;
    return log.isBeyond || this.#generation !== undefined ? heldBytes : log.waitingBytes;
  }

  /**
   * Make everything acknowledged so far durable: little data in the log, as it is. At once where the device is quick.
   * @throws TcfsError as {@link commit} does.
   */
  sync(): MaybePromise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#isStarted) return this.#nextCommit(false);
    const writes = this.#canLog ? this.#files.log.collect() : undefined;
    if (writes === undefined) return this.commit();
    if (writes.size === 0 && this.#metadata.dirtyRecordCount === 0) return;
    return andThen(
      this.#start(() => this.#log(writes)),
      throwIfFailed,
    );
  }

  /** Neither while something else has to be durable first, nor while records cannot be read. */
  get #canLog(): boolean {
    const { snapshots, reopening } = this.#metadata;
    return this.#generation === undefined && !snapshots.isRequested && reopening === undefined;
  }

  /**
   * Store everything acknowledged so far, durably; at once where that is little and the device is quick.
   * @throws TcfsError `TCFS_STORE_FULL` while there is no room, `TCFS_TOO_MANY_FILES` (nothing is lost), `TCFS_IO` for ever after a failed write;
   *   at once, or by the promise.
   */
  commit(): MaybePromise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (!this.#isDirty() && this.#generation === undefined) return this.#running?.then(throwIfFailed);
    if (this.#isStarted) return this.#nextCommit(true);
    return andThen(
      this.#start(() => this.#run()),
      throwIfFailed,
    );
  }

  #nextCommit(isWhole: boolean): Promise<void> {
    this.#next ??= makeWaiters();
    this.#next.isWhole ||= isWhole;
    return this.#next.promise;
  }

  /** Something changed: see to it that a commit comes, at once if much has changed. */
  noteChange(): void {
    const isMuch = this.#files.heldBytes >= COMMIT_HELD_BYTES || this.#metadata.dirtyRecordCount >= COMMIT_RECORD_COUNT;
    if (isMuch && !this.#isStarted && this.#stall === undefined) this.#commitInBackground();
    else
      this.#timer ??= this.#clock.after(COMMIT_DELAY_MS, () => {
        this.#timer = undefined;
        this.#commitInBackground();
      });
  }

  /** Whether writers have to wait for {@link room}. */
  get isOverfull(): boolean {
    return this.#files.heldBytes > MAX_HELD_BYTES && this.#failure === undefined;
  }

  /** Resolves when there is room for more changed bytes in memory (or no hope of it). */
  room(): Promise<void> {
    return new Promise((resolve) => {
      this.#room.push(resolve);
      if (!this.#isStarted) this.#commitInBackground();
    });
  }

  /** Writers look again: held bytes went down. */
  releaseRoom(): void {
    if (this.isOverfull && this.#stall === undefined) return;
    for (const resolve of this.#room.splice(0)) resolve();
  }

  /** What is under way cannot be finished in this session: end all writing, for the reason given. */
  giveUp(failure: TcfsError): void {
    this.#failure ??= failure;
    this.releaseRoom();
  }

  /** Commit what there is and stop the clockwork. */
  async close(): Promise<void> {
    try {
      await this.#running; // one that fails would take a next one with it untried
      if (this.#failure === undefined) await this.commit();
    } finally {
      this.#timer?.cancel();
      this.#timer = undefined;
    }
  }

  #isDirty(): boolean {
    return this.#metadata.dirtyRecordCount > 0 || this.#files.isLiveChanged || this.#chunks.isDirty;
  }

  #commitInBackground(): void {
    if (this.#failure !== undefined || (!this.#isDirty() && this.#generation === undefined)) return;
    const ignore = (): void => undefined; // reported by onOutcome, and to the next fsync or close
    void settled(() => this.commit(), ignore, ignore);
  }

  /** Run a commit; none runs. @returns The error as callers see it; never throws or rejects. */
  #start(run: () => MaybePromise<void>): MaybePromise<TcfsError | undefined> {
    this.#isStarted = true;
    const outcome = settled(
      () => this.#withRoom(run),
      () => this.#finish(undefined),
      (error) => this.#finish(error),
    );
    if (isPromise(outcome)) this.#running = outcome;
    return outcome;
  }

  /** Once more where there was no room and now is some: the frozen generation first, whichever kind of commit it was. */
  #withRoom(run: () => MaybePromise<void>): MaybePromise<void> {
    const again = (error: unknown): MaybePromise<void> => {
      if (!isTcfsError(error, "TCFS_STORE_FULL")) throw error;
      return andThen(this.#onFull(), (hasRoom) => {
        if (!hasRoom) throw error;
        return this.#withRoom(() => this.#run());
      });
    };
    try {
      const done = run();
      return isPromise(done) ? done.catch(again) : done;
    } catch (error) {
      return again(error);
    }
  }

  /** Note the outcome, wake whoever waits, start the next commit. @returns The error as callers see it. */
  #finish(error: unknown): TcfsError | undefined {
    this.#running = undefined;
    this.#isStarted = false;
    this.#stall = undefined;
    let reported: TcfsError | undefined;
    if (error !== undefined) {
      const isPassing = isTcfsError(error) && PASSING.has(error.code);
      reported = isPassing
        ? error
        : new TcfsError("TCFS_IO", "changes could not be written; the volume takes no more", { cause: error });
      if (isPassing) this.#stall = reported;
      else this.#failure = reported;
    }
    this.#onOutcome(error);
    this.releaseRoom();
    const waiters = this.#next;
    this.#next = undefined;
    if (reported !== undefined) waiters?.reject(reported);
    else if (waiters !== undefined) this.#startFor(waiters);
    if (this.#stall !== undefined) this.noteChange();
    else if (this.#files.log.loggedBytes >= MAX_LOG_BYTES) this.#commitInBackground();
    return reported;
  }

  /** The commit that others asked for while one ran. One may have begun since: then the one after it. */
  #startFor(waiters: Waiters): void {
    void settled(() => (waiters.isWhole ? this.commit() : this.sync()), waiters.resolve, waiters.reject);
  }

  /** Crash order: one device-flushed batch with the changed records, the written bytes themselves and what was deleted. */
  #log(writes: ReadonlyMap<InodeNumber, readonly LoggedRun[]>): MaybePromise<void> {
    const commit = this.#metadata.volume.commit + 1; // the batch's
    for (const ino of writes.keys()) this.#markLogged(ino, commit);
    const deleted = this.#files.takeDeleted();
    const batch = this.#metadata.freeze();
    this.#generation = { files: [], deleted, batch };
    this.#files.log.put(writes, batch);
    return inOrder([
      () => removeExtents(deleted, this.#metadata, batch),
      () => this.#commitBatch(batch),
      () => {
        this.#generation = undefined;
      },
    ]);
  }

  /** The inode says which logged writes its contents need: without that, a lost record would be silently older bytes. */
  #markLogged(ino: InodeNumber, commit: number): void {
    const inode = this.#metadata.getInode(ino);
    if (inode === undefined) return;
    inode.loggedCommit = commit;
    this.#metadata.putInode(inode);
  }

  /** All that is logged is to be stored. An inode that does not verify must cost its file, not the commit of all. */
  #unmarkLogged(): void {
    const { log } = this.#files;
    for (const ino of log.inodes) {
      try {
        this.#markLogged(ino, 0);
      } catch (error) {
        if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
        log.keep(ino);
      }
    }
  }

  #run(): MaybePromise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    const kept = this.#generation;
    const storeKept = (): MaybePromise<void> => kept && this.#store(kept);
    return andThen(andThen(this.#metadata.reopening, storeKept), () => {
      if (!this.#isDirty()) return;
      return andThen(this.#metadata.reopening, () => this.#store(this.#freeze()));
    });
  }

  #freeze(): Generation {
    const { log } = this.#files;
    this.#unmarkLogged();
    const { files, deleted } = this.#files.freeze();
    const batch = this.#metadata.freeze();
    log.clear(batch);
    this.#generation = { files, deleted, batch };
    return this.#generation;
  }

  #store({ files, deleted, batch }: Generation): MaybePromise<void> {
    return inOrder([
      () => sealFrozen(files, this.#chunks, INLINE_COMMIT_BYTES),
      () => {
        this.releaseRoom();
      },
      () => writeExtents(files, this.#metadata, batch, this.#notePage),
      () => removeExtents(deleted, this.#metadata, batch),
      () => this.#chunks.flushInto(batch),
      () => this.#commitBatch(batch),
      () => {
        this.#chunks.committed();
        this.#files.thaw(files);
        this.#generation = undefined;
      },
    ]);
  }

  /** The commit point. */
  #commitBatch(batch: FrozenBatch): MaybePromise<void> {
    this.#place?.assertInPlace();
    return batch.commit();
  }
}

function throwIfFailed(error: TcfsError | undefined): void {
  if (error !== undefined) throw error;
}

function makeWaiters(): Waiters {
  let resolve: () => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const promise = new Promise<void>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  promise.catch(() => undefined); // a commit that nobody waits for is reported by onOutcome
  return { isWhole: false, promise, resolve, reject };
}
