/**
 * Keeps the store following the vault, in the background: what commits changed becomes a step of the store's history,
 * once the vault falls quiet or enough time went by. Whatever fails is tried again later, from where it was; only a root
 * that is not ours ends it, for good, and with a plain word.
 */
import { latin1Of } from "../bytes.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import { RECORD_KIND } from "../format/record-keys.ts";
import type { PackRecord } from "../format/records.ts";
import type { DeviceList } from "../keys/devices/device-list.ts";
import type { Timer } from "../platform/clock.ts";
import type { ObjectStore, ObjectVersion } from "../remote/object-store.ts";
import { type CapturedChanges, ChangeLog } from "./change-log.ts";
import { diverged } from "./divergence.ts";
import { HEADER_NAME } from "./object-names.ts";
import { LOOK_AGAIN_MS, lostPackNames } from "./lost-packs.ts";
import { PackGone } from "./pack-uploader.ts";
import { settleDevices } from "./remote-devices.ts";
import { readRoot } from "./remote-root.ts";
import { type ReplicaState, type RootNote, withPending, writeState } from "./replica-state.ts";
import type { ReplicaStatus } from "./replica-status.ts";
import type { ReplicatorOptions } from "./replicator-options.ts";
import { isRefusal } from "./signed-objects.ts";
import { describeForeign } from "./standing.ts";
import { StoreCollector } from "./store-collector.ts";
import { learnHead } from "./store-head.ts";
import { StepWriter, type WrittenStep, inBatches, isCheckpointDue } from "./step-writer.ts";
import type { UploadSettings } from "./upload-settings.ts";
import { Waiters, paused } from "./waiters.ts";

/** After the last commit; a vault in use goes on for the settings' greatest age. */
const QUIET_MS = 5000;
const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 120_000;
/** From when something may be deleted until a step is made for it alone. */
const COLLECT_AFTER_MS = 10 * 60_000;
const DAY_MS = 24 * 3600_000;

export class Replicator {
  readonly #options: ReplicatorOptions;
  readonly #log: ChangeLog;
  readonly #steps: StepWriter;
  readonly #closing = new AbortController();
  readonly #waiters = new Waiters();
  readonly #collector: StoreCollector;
  #state: ReplicaState;
  /** Of the root that `state.last` tells of; undefined before it was looked at in this session. */
  #version: ObjectVersion | undefined;
  #isRootKnown = false;
  /** Of the list of devices, that the store is known to have; undefined before it was looked at in this session. */
  #devicesInStore: number | undefined;
  /** In a step that is being written. */
  #captured: CapturedChanges | undefined;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  /** Of what earlier sessions left. */
  #counting: Promise<void> | undefined;
  #retryMs = 0;
  #oldestSinceMs: number | undefined;
  #settings: UploadSettings;
  /** Of the step under way. */
  #step: AbortController | undefined;
  #notedAtMs = Number.NEGATIVE_INFINITY;
  #lastError: TcfsError | undefined;
  /** The next step is to be a checkpoint of its own pieces alone. */
  #isRenewalWanted = false;
  /** The store's newest manifest is damaged: the next step is to be a checkpoint. */
  #isHeadDamaged = false;
  #collectionTimer: Timer | undefined;
  /** What is to be deleted waits for a root, and nothing else makes one. */
  #isCollectionDue = false;
  /** The root was written; what it gave up is looked at. */
  #isCollecting = false;
  #stopped: TcfsError | undefined;

  constructor(options: ReplicatorOptions) {
    const { state, commit } = options;
    this.#options = options;
    this.#state = state;
    this.#log = new ChangeLog(commit, state.last?.commit === commit);
    this.#steps = new StepWriter({ ...options, identity: options.devices.identity });
    this.#collector = new StoreCollector({
      ...options,
      isNamed: (pack) => options.findPack(pack) !== undefined,
      isStored: (pack) => options.uploader.isStored(pack),
      onDelete: (pack) => {
        options.uploader.forget(pack);
      },
    });
    this.#settings = options.settings;
    options.pace.limitBytesPerSecond = options.settings.limitBytesPerSecond;
    options.uploader.mayHurry = () =>
      this.#waiters.count > 0 || options.clock.monotonicMs() - this.#notedAtMs >= QUIET_MS;
    this.#armCollection();
    if (this.#log.isEmpty) return;
    this.#schedule();
    this.#counting = this.#countPacks();
  }

  /** Take other settings at once: a pause breaks off what is under way, which goes on from there later; otherwise what is lost is looked for. */
  configure(settings: UploadSettings): void {
    this.#settings = settings;
    this.#options.pace.limitBytesPerSecond = settings.limitBytesPerSecond;
    if (settings.isPaused) {
      this.#timer?.cancel();
      this.#timer = undefined;
      this.#step?.abort();
      this.#waiters.rejectAll(paused());
      return;
    }
    const { lost } = this.#options.uploader;
    lost.lookAgain();
    if ((this.#isBehind || lost.count > 0) && this.#stopped === undefined) {
      this.#retryMs = 0;
      this.#schedule();
    }
  }

  /** A commit is durable on the disk. @param changes - Lent. */
  note(commit: number, changes: readonly RecordChange[]): void {
    this.#log.note(commit, changes);
    this.#options.uploader.backlog.note(changes);
    this.#notedAtMs = this.#options.clock.monotonicMs();
    if (this.#stopped === undefined) this.#schedule();
  }

  /**
   * Resolves when the store has the vault's commit, or a later one, and the header that lies on the disk.
   * @throws TcfsError as {@link waitForRoot}; `TCFS_CORRUPT` once it has all that there is, where packs are lost.
   */
  wait(commit: number, signal: AbortSignal): Promise<void> {
    const isUnderWay = this.#running !== undefined;
    return this.#options.uploader.lost.requireNone(() => this.waitForRoot(commit, signal), isUnderWay);
  }

  /**
   * Resolves when the store's root names the vault's commit, or a later one, and says which packs are lost.
   * @throws TcfsError `TCFS_REMOTE_DIVERGED` if uploads have ended, `TCFS_REMOTE_UNAVAILABLE` if they are paused, `TCFS_CANCELLED`, `TCFS_CLOSED`
   */
  waitForRoot(commit: number, signal: AbortSignal): Promise<void> {
    const waiting = this.#waiters.wait(commit, signal);
    if (this.#stopped !== undefined) this.#waiters.rejectAll(this.#stopped);
    else if (this.#settings.isPaused) this.#waiters.rejectAll(paused());
    else this.#start();
    return waiting;
  }

  /** The vault's header is another: bring it soon. */
  noteHeader(): void {
    if (this.#stopped === undefined) this.#schedule();
  }

  /** The store lacks a pack that it took: it is brought again soon, if it is here. @returns Whether it is brought again. */
  noteLost(record: PackRecord): boolean {
    const isAgain = this.#options.uploader.noteLost(record);
    if (isAgain && this.#stopped === undefined) this.#schedule();
    return isAgain;
  }

  /**
   * Write a checkpoint that takes over nothing from an older one, with its root. `store.json` is under the newest key
   * then too.
   * @throws TcfsError as {@link waitForRoot}.
   */
  async renewCheckpoint(signal: AbortSignal): Promise<void> {
    this.#isRenewalWanted = true;
    do await this.waitForRoot(0, signal);
    while (this.#lacksRenewal());
  }

  /** A step that was under way when it was asked for is none. */
  #lacksRenewal(): boolean {
    return this.#isRenewalWanted;
  }

  /** The store shows another root than the last one: the next step looks whose it is. */
  doubtRoot(): void {
    this.#isRootKnown = false;
  }

  /** Whether the store's root was looked at, or written, and nothing has spoken against it since. */
  get isRootKnown(): boolean {
    return this.#isRootKnown;
  }

  /** Of the root that the store is known to have had last. */
  get rootHash(): string | undefined {
    return this.#state.last?.rootHash;
  }

  /** Whether the store's root is known to be another's: nothing is uploaded any more. */
  get hasEnded(): boolean {
    return this.#stopped !== undefined;
  }

  /** Whether the root may lack the newest value of a record. */
  isUnsent(key: Uint8Array): boolean {
    const name = latin1Of(key);
    if (this.#log.has(name)) return true;
    return this.#captured !== undefined && this.#captured.changes?.has(name) !== false;
  }

  /** Whether a step is on its way, with no failure since something came through. */
  get isUploading(): boolean {
    return this.#activity(false) === "uploading";
  }

  /** Begin a step now, if there is anything to tell and the last one did not fail. */
  hurry(): void {
    if (!this.#log.isEmpty && this.#lastError === undefined) this.#start();
  }

  status(): ReplicaStatus {
    const { uploader, ledger } = this.#options;
    const { backlog } = uploader;
    const { limitBytesPerSecond, maxAgeSeconds, keepDeletedSeconds } = this.#settings;
    const { last, url } = this.#state;
    const isIdle = !this.#isBehind && this.#captured === undefined;
    return {
      url,
      activity: this.#activity(isIdle),
      backlogBytes: backlog.bytes + this.#log.heldBytes,
      backlogPacks: backlog.packCount,
      backlogFiles: this.#log.countWith(this.#captured, RECORD_KIND.inode),
      oldestSince: isIdle || this.#oldestSinceMs === undefined ? null : new Date(this.#oldestSinceMs).toISOString(),
      uploadedBytes: backlog.sentBytes,
      bytesPerSecond: backlog.bytesPerSecond,
      limitBytesPerSecond,
      maxAgeSeconds,
      lastRoot: last && { number: last.number, time: last.time, commit: last.commit },
      lastError: (this.#stopped ?? (backlog.goesOn ? undefined : this.#lastError))?.message ?? null,
      deadObjects: ledger.deadCount,
      deadBytes: ledger.deadBytes,
      deletedObjects: this.#collector.deletedCount,
      keepDeletedSeconds,
      collectionProblem: this.#collector.problem ?? null,
      lostPacks: lostPackNames(uploader.lost.all()),
    };
  }

  /** Ends at once, whatever is under way: it goes on where it was with the next start. Idempotent. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    this.#collectionTimer?.cancel();
    this.#closing.abort();
    await Promise.all([this.#running, this.#counting]);
    this.#waiters.rejectAll(new TcfsError("TCFS_CLOSED", "the vault is closed before everything was in the store"));
  }

  /** Whether there is anything to tell the store, or to bring it again. */
  get #isBehind(): boolean {
    return this.#hasNews || this.#options.uploader.againCount > 0;
  }

  /** Whether the next root says something that this one does not. */
  get #hasNews(): boolean {
    return !this.#log.isEmpty || !this.#options.uploader.lost.isTold || this.#isHeadDamaged;
  }

  #activity(isIdle: boolean): ReplicaStatus["activity"] {
    if (this.#stopped !== undefined) return "stopped";
    if (this.#settings.isPaused) return "paused";
    if (this.#lastError !== undefined && !this.#options.uploader.backlog.goesOn) return "failing";
    if (this.#running !== undefined && !this.#isCollecting) return "uploading";
    if (!isIdle) return "waiting";
    return this.#isCollecting ? "deleting" : "idle";
  }

  /** What earlier sessions left: figures alone, so that a failure is logged and ends nothing. */
  async #countPacks(): Promise<void> {
    try {
      for await (const pack of this.#options.packs()) {
        if (this.#closing.signal.aborted) return;
        this.#options.uploader.backlog.add(pack);
      }
    } catch (error) {
      this.#options.onOutcome(error);
    }
  }

  #schedule(): void {
    const { clock } = this.#options;
    this.#oldestSinceMs ??= Date.now();
    if (this.#running !== undefined || this.#closing.signal.aborted || this.#settings.isPaused) return;
    if (this.#retryMs > 0 && this.#timer !== undefined) return;
    const ageMs = Date.now() - this.#oldestSinceMs;
    const delayMs =
      this.#retryMs > 0 ? this.#retryMs : Math.max(0, Math.min(QUIET_MS, this.#settings.maxAgeSeconds * 1000 - ageMs));
    this.#timer?.cancel();
    this.#timer = clock.after(delayMs, () => {
      this.#start();
    });
  }

  #start(): void {
    const isHeld = this.#stopped !== undefined || this.#settings.isPaused || this.#closing.signal.aborted;
    if (this.#running !== undefined || isHeld) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
      this.#isCollecting = false;
      if (this.#stopped !== undefined) return;
      this.#armCollection();
      if (this.#lastError === undefined && this.#waiters.count > 0) this.#start();
      else if (this.#lastError !== undefined || this.#isBehind) this.#schedule();
      else if (this.#options.uploader.lost.count > 0 && !this.#closing.signal.aborted) {
        this.#timer = this.#options.clock.after(LOOK_AGAIN_MS, this.#start.bind(this)); // it may be found, though nothing else changes
      }
    });
  }

  /** One step, if there is anything to tell. Never rejects. */
  async #run(): Promise<void> {
    const startedAt = Date.now();
    this.#step = new AbortController();
    try {
      const signal = AbortSignal.any([this.#closing.signal, this.#step.signal]);
      const store = await this.#writeStep(signal);
      this.#retryMs = 0;
      if (this.#lastError !== undefined) this.#options.onOutcome(undefined);
      this.#lastError = undefined;
      this.#oldestSinceMs = this.#isBehind ? startedAt : undefined;
      this.#waiters.settle(this.#state.last?.commit ?? 0);
      this.#isCollecting = true;
      if (store !== undefined) await this.#collect(store, signal);
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    if (this.#captured !== undefined) this.#log.giveBack(this.#captured);
    this.#captured = undefined;
    if (this.#closing.signal.aborted) return;
    this.#isRootKnown = false; // the root may have been written all the same
    if (this.#step?.signal.aborted === true) return; // a pause
    if (error instanceof PackGone) return; // the vault has moved on: the next step is of its newer state
    const told = error instanceof TcfsError ? error : new TcfsError("TCFS_IO", "an upload failed", { cause: error });
    const jitter = 0.75 + Math.random() / 2;
    this.#options.uploader.backlog.failed();
    this.#retryMs = Math.min(LAST_RETRY_MS, Math.max(FIRST_RETRY_MS, this.#retryMs * 2)) * jitter;
    this.#options.onOutcome(error);
    if (isRefusal(told)) {
      this.#stopped = told;
      this.#waiters.rejectAll(told);
      return;
    }
    this.#lastError = told;
  }

  /** @returns The store, where a root was written. */
  async #writeStep(signal: AbortSignal): Promise<ObjectStore | undefined> {
    const store = await this.#options.openStore();
    if (!this.#isRootKnown) await this.#settleRoot(store, signal);
    const { last } = this.#state;
    const header = await this.#options.readHeader(last?.headerRevision ?? 0);
    const isHeaderNew = last === null || last.headerRevision < header.revision;
    if (isHeaderNew) await store.put(HEADER_NAME, header.content, signal);
    await this.#steps.bringLost(store, this.#waiters.count > 0, signal);
    const devices = await this.#options.devices.reread();
    const isRenewal = this.#isRenewalWanted;
    const isSettled = !isHeaderNew && !isRenewal && !this.#isCollectionDue && devices.revision === this.#devicesInStore;
    if (!this.#hasNews && isSettled) {
      this.#options.onRooted?.();
      return undefined;
    }
    this.#devicesInStore = await settleDevices(store, this.#options, devices, signal);
    if (isRenewal) this.#steps.forget();
    const { kind, captured, changes } = this.#capture(last, isRenewal || this.#isHeadDamaged);
    this.#captured = captured;
    const revisions = { headerRevision: header.revision, devicesRevision: this.#options.devices.list.revision };
    const firstNumber = Math.max(1, this.#state.keptBelow);
    const { kept } = this.#state;
    const plan = { kind, commit: captured.commit, changes, previous: last, firstNumber, kept, ...revisions };
    const step = await this.#steps.write(store, plan, signal);
    if (last === null) await this.#steps.requireFilled(store, signal);
    await this.#publish(store, step, signal);
    if (isRenewal) this.#isRenewalWanted = false;
    this.#isHeadDamaged = false;
    this.#isCollectionDue = false;
    return store;
  }

  /** The root has just been written by compare-and-swap: whatever it does not lead to is this device's to delete. */
  async #collect(store: ObjectStore, signal: AbortSignal): Promise<void> {
    const { last, kept } = this.#state;
    if (last === null) return;
    const graceMs = this.#settings.keepDeletedSeconds * 1000;
    const mayGoOn = (): boolean => this.#waiters.count === 0 && !signal.aborted;
    const still = await this.#collector.collect(store, { last, kept, graceMs, mayGoOn, signal });
    if (JSON.stringify(still) !== JSON.stringify(kept)) await this.#keep({ ...this.#state, kept: still });
  }

  /** A vault that nobody changes gets a step without changes, once something has been due for a while. */
  #armCollection(): void {
    this.#collectionTimer?.cancel();
    const untilMs = this.#collector.untilDueMs(this.#settings.keepDeletedSeconds * 1000);
    if (untilMs === undefined || this.#closing.signal.aborted) return;
    const besides = this.#collector.problem === undefined ? COLLECT_AFTER_MS : DAY_MS;
    this.#collectionTimer = this.#options.clock.after(Math.min(DAY_MS, untilMs + besides), () => {
      this.#isCollectionDue = this.#collector.untilDueMs(this.#settings.keepDeletedSeconds * 1000) === 0;
      if (this.#isCollectionDue) this.#start();
      else this.#armCollection();
    });
  }

  #capture(
    last: RootNote | null,
    isWanted: boolean,
  ): {
    readonly kind: "commit" | "checkpoint";
    readonly captured: CapturedChanges;
    readonly changes: AsyncIterable<readonly RecordChange[]>;
  } {
    const captured = this.#log.capture();
    if (captured.changes === undefined || isWanted || isCheckpointDue(last)) {
      return { kind: "checkpoint", captured, changes: this.#options.allRecords() };
    }
    return { kind: "commit", captured, changes: inBatches(captured.changes.values()) };
  }

  /** Note the root before it is written, so that it is known again if its answer is lost. */
  async #publish(store: ObjectStore, step: WrittenStep, signal: AbortSignal): Promise<void> {
    await this.#keep(withPending(this.#state, step.note));
    try {
      this.#version = await this.#steps.publish(store, step, this.#version, signal);
    } catch (error) {
      if (!isTcfsError(error, "TCFS_REMOTE_CONFLICT")) throw error;
      await this.#settleRoot(store, signal); // tells whose it is
      if (this.#state.last?.rootHash !== step.note.rootHash) throw error;
    }
    this.#captured = undefined;
    this.#options.uploader.lost.tell(step.lost);
    await this.#keep({ ...this.#state, last: step.note, pending: [] }); // so that an older root is known for one
    await this.#steps.bury(step);
    this.#options.onRooted?.();
  }

  /**
   * Look at the store's root: it must be the one that we know, or the one whose answer we did not get.
   * @throws TcfsError `TCFS_REMOTE_DIVERGED`
   */
  async #settleRoot(store: ObjectStore, signal: AbortSignal): Promise<void> {
    const { last, pending, deviceId } = this.#state;
    const found = await readRoot(store, this.#options.sealer, { signal, known: this.#options.devices.list });
    const late = pending.findLast(({ rootHash }) => rootHash === found?.hash);
    if (late !== undefined) {
      await this.#keep({ ...this.#state, last: late, pending: [] });
      this.#log.storeHas(late.commit);
    } else if (found?.hash !== last?.rootHash) {
      throw diverged(describeForeign(found?.root, last, deviceId));
    }
    this.#version = found?.version;
    await this.#learnHead(store, found?.devices, signal);
    this.#isRootKnown = true;
  }

  /** A manifest that another device wrote, and that was accepted over, says nothing of this one's state. */
  async #learnHead(store: ObjectStore, devices: DeviceList | undefined, signal: AbortSignal): Promise<void> {
    const { last, keptBelow } = this.#state;
    const { uploader, sealer, onHeadDamaged } = this.#options;
    const { lost } = uploader;
    if (devices === undefined || last === null || last.number < keptBelow) {
      await lost.learn([]);
      return;
    }
    const damage = await learnHead(store, { sealer, steps: this.#steps, lost }, { devices, last }, signal);
    if (damage !== undefined && !this.#isHeadDamaged) onHeadDamaged(damage);
    this.#isHeadDamaged = damage !== undefined;
  }

  async #keep(state: ReplicaState): Promise<void> {
    const { disk, directory, sealer } = this.#options;
    await writeState(disk, directory, state, sealer);
    this.#state = state;
  }
}
