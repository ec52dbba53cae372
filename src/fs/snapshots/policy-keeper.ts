/**
 * Takes automatic snapshots when they are due and drops those that have had their time. Woken by commits alone: while
 * nothing changes there is nothing to take and no timer. A timer is never set for longer than a few minutes, because it
 * stands still while the machine sleeps and the wall clock does not.
 */
import { isTcfsError } from "../../errors.ts";
import { POLICY_UNITS, type AutomaticSnapshot, type PolicyClass } from "../../format/policy-codec.ts";
import type { Epoch } from "../../ids.ts";
import type { Clock, Timer } from "../../platform/clock.ts";
import { isBehind, secondsUntilDue, surplus, unitsBegun, type KeptSnapshot, type Moment } from "./policy-plan.ts";

/** After a mount: what is started with it goes first. */
const START_MS = 5_000;
/** After waking from sleep, a snapshot that is due waits no longer than this. */
const LONGEST_WAIT_MS = 300_000;
const SHORTEST_WAIT_MS = 200;
/** Between two tries of what failed: this, and twice as long each further time. */
const FIRST_RETRY_MS = 60_000;
const LAST_RETRY_MS = 3_600_000;

/** The volume's snapshots as its policy sees them. */
export interface PolicyTarget {
  /** Shortest periods first; none: no policy. */
  readonly classes: readonly PolicyClass[];
  /** Those that are there, oldest first. */
  readonly automatic: readonly KeptSnapshot[];
  /** Whether anything is another than in this snapshot, which is there. */
  hasChangedSince(epoch: Epoch): Promise<boolean>;
  take(taken: Omit<AutomaticSnapshot, "epoch">): Promise<void>;
  /** Those of them that are still there. */
  drop(epochs: readonly Epoch[]): Promise<void>;
}

export interface PolicyKeeperOptions {
  readonly target: PolicyTarget;
  readonly clock: Clock;
  /** Something was tried: it failed, or (undefined) did not. */
  readonly onOutcome: (error: unknown) => void;
}

export class PolicyKeeper {
  readonly #options: PolicyKeeperOptions;
  /** Set while it keeps the policy. */
  #isStarted = false;
  #isClosed = false;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  /** There was a commit since the present run began. */
  #isStale = false;
  /** Nothing has changed since the newest automatic snapshot. */
  #isSettled = false;
  /** Until when nothing had: as good as a snapshot of that moment. */
  #unchanged: KeptSnapshot | undefined;
  #failureCount = 0;
  #lastMs = 0;
  #awakeSeconds = 0;
  #wasBehind = false;
  #behindSeconds = 0;

  constructor(options: PolicyKeeperOptions) {
    this.#options = options;
  }

  /** Keep the policy from now on: of a volume that is mounted for writing. */
  start(): void {
    if (this.#isStarted || this.#isClosed) return;
    this.#isStarted = true;
    this.#lastMs = this.#options.clock.monotonicMs();
    this.#wasBehind = false;
    this.#isSettled = false;
    this.#arm(START_MS);
  }

  /** Take and drop nothing until the next start; resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.#isStarted = false;
    this.#disarm();
    await this.#running;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.stop();
  }

  /** A commit is done: what it changed is to be in a snapshot, when the period is over. */
  noteCommit(): void {
    this.#isStale = true;
    if (this.#timer !== undefined || this.#running !== undefined || !this.#isStarted) return;
    if (this.#options.target.classes.length === 0) return;
    if (this.#isSettled) this.#noteUnchanged();
    this.#armUntilDue();
  }

  /** There is another policy: do at once what it asks for. */
  async policyChanged(): Promise<void> {
    await this.#running;
    this.#failureCount = 0;
    if (this.#isStarted) await this.#run();
  }

  /** Resolves when nothing is under way. Nothing says that nothing is due. */
  async idle(): Promise<void> {
    await this.#running;
  }

  /**
   * When the next snapshot is due, should anything change: seconds since 1970 by the wall clock of now, in the past where
   * it waits for a change or a mount. Undefined without a policy.
   */
  get nextDueSeconds(): number | undefined {
    if (this.#options.target.classes.length === 0) return undefined;
    const moment = this.#look();
    return moment.wallSeconds + this.#secondsUntilDue(moment);
  }

  #secondsUntilDue(moment: Moment): number {
    return secondsUntilDue(this.#options.target.classes, moment, this.#imagined());
  }

  /** The automatic snapshots, and one more from when it would have been the same as the newest. */
  #imagined(): readonly KeptSnapshot[] {
    const { automatic } = this.#options.target;
    const unchanged = this.#unchanged;
    return unchanged !== undefined && automatic.at(-1)?.epoch === unchanged.epoch
      ? [...automatic, unchanged]
      : automatic;
  }

  #noteUnchanged(): void {
    const { wallSeconds, awakeSeconds } = this.#look();
    const epoch = this.#options.target.automatic.at(-1)?.epoch;
    this.#isSettled = false;
    if (epoch !== undefined) this.#unchanged = { epoch, units: POLICY_UNITS, wallSeconds, awakeSeconds };
  }

  #arm(delayMs: number): void {
    this.#disarm();
    if (!this.#isStarted || this.#options.target.classes.length === 0) return;
    this.#timer = this.#options.clock.after(delayMs, () => {
      this.#timer = undefined;
      void this.#run();
    });
  }

  #armUntilDue(): void {
    const waitMs = this.#secondsUntilDue(this.#look()) * 1000;
    this.#arm(Math.min(Math.max(waitMs, SHORTEST_WAIT_MS), LONGEST_WAIT_MS));
  }

  #disarm(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** What the clocks say; time awake goes on from what the newest automatic snapshot says of it. */
  #look(): Moment {
    const { clock, target } = this.#options;
    const { seconds, nanoseconds } = clock.now();
    const wallSeconds = seconds + nanoseconds / 1e9;
    const nowMs = clock.monotonicMs();
    const elapsed = this.#isStarted ? (nowMs - this.#lastMs) / 1000 : 0;
    this.#lastMs = nowMs;
    this.#awakeSeconds = Math.max(this.#awakeSeconds, target.automatic.at(-1)?.awakeSeconds ?? 0) + elapsed;
    const isBehindNow = isBehind({ wallSeconds }, this.#imagined());
    this.#behindSeconds = isBehindNow && this.#wasBehind ? this.#behindSeconds + elapsed : 0;
    this.#wasBehind = isBehindNow;
    return { wallSeconds, awakeSeconds: this.#awakeSeconds, behindSeconds: this.#behindSeconds };
  }

  /** Never rejects. */
  #run(): Promise<void> {
    this.#disarm();
    this.#running ??= this.#keep().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #keep(): Promise<void> {
    this.#isStale = false;
    try {
      const isSettled = await this.#step();
      this.#failureCount = 0;
      this.#options.onOutcome(undefined);
      this.#isSettled = isSettled && !this.#isStale;
      if (!this.#isSettled) this.#armUntilDue();
    } catch (error) {
      if (this.#isClosed && isTcfsError(error, "TCFS_CLOSED")) return;
      this.#options.onOutcome(error);
      this.#arm(Math.min(FIRST_RETRY_MS * 2 ** this.#failureCount++, LAST_RETRY_MS));
    }
  }

  /** @returns Whether nothing is left to be done until the next commit. */
  async #step(): Promise<boolean> {
    const { target } = this.#options;
    await this.#dropSurplus(); // of a run that was killed after it took one, or of a policy that is another now
    if (this.#secondsUntilDue(this.#look()) > 0) return false;
    const newest = target.automatic.at(-1);
    if (newest !== undefined && !(await target.hasChangedSince(newest.epoch))) {
      this.#noteUnchanged();
      return true;
    }
    const moment = this.#look();
    await target.take({
      units: unitsBegun(moment, target.automatic),
      awakeSeconds: Math.ceil(moment.awakeSeconds),
    });
    await this.#dropSurplus();
    return false;
  }

  async #dropSurplus(): Promise<void> {
    const { target } = this.#options;
    const epochs = surplus(target.classes, target.automatic);
    if (epochs.length > 0) await target.drop(epochs);
  }
}
