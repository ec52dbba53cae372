/** The policy of a volume and the snapshots that it takes: set, told of, and handed to the keeper as what it works on. */
import type { AutomaticSnapshot, PolicyClass, PolicyUnit } from "../../format/policy-codec.ts";
import type { SnapshotRecord } from "../../format/snapshot-codec.ts";
import type { Epoch } from "../../ids.ts";
import type { SnapshotStore } from "../../metadata/snapshot-store.ts";
import type { VolumeParts } from "../volume-parts.ts";
import { isAnythingChanged } from "./diff.ts";
import { isoTime } from "../../platform/iso-time.ts";
import { PolicyKeeper, type PolicyTarget } from "./policy-keeper.ts";
import { keptIn, surplus, type KeptSnapshot } from "./policy-plan.ts";
import { formatPolicy } from "./policy-text.ts";

export interface AutomaticSnapshotsOptions {
  readonly parts: Pick<VolumeParts, "metadata" | "committer" | "clock">;
  /** The policy was kept, or could not be. */
  readonly onPolicy: (error: unknown) => void;
  readonly take: (automatic: Omit<AutomaticSnapshot, "epoch">) => Promise<void>;
  /** @param choose - Called when no other snapshot is being taken, forgotten or gone back to. */
  readonly drop: (choose: () => readonly SnapshotRecord[]) => Promise<void>;
  /** Run when no other snapshot is being taken, forgotten or gone back to. */
  readonly inTurn: <T>(action: () => Promise<T>) => Promise<T>;
  /** @throws TcfsError `TCFS_READ_ONLY` */
  readonly requireWritable: () => void;
}

/** What is told of the policy. */
export interface PolicyFigures {
  /** As it is typed; null: there is none. */
  readonly policy: string | null;
  /** It cannot be read: as if there were none. */
  readonly isDamaged: boolean;
  /** Automatic snapshots that there are. */
  readonly automaticCount: number;
  /** Of them, those that it keeps no longer. */
  readonly surplusCount: number;
  /** ISO 8601. When the next is due: in the past where it waits for a change or a mount. Null without a policy. */
  readonly nextDueAt: string | null;
}

export class AutomaticSnapshots implements PolicyTarget {
  readonly keeper: PolicyKeeper;
  readonly #options: AutomaticSnapshotsOptions;

  constructor(options: AutomaticSnapshotsOptions) {
    this.#options = options;
    this.keeper = new PolicyKeeper({ target: this, clock: options.parts.clock, onOutcome: options.onPolicy });
  }

  get #store(): SnapshotStore {
    return this.#options.parts.metadata.snapshots;
  }

  get classes(): readonly PolicyClass[] {
    return this.#store.policy.classes;
  }

  get automatic(): readonly KeptSnapshot[] {
    const byEpoch = new Map(this.#store.policy.automatic.map((taken) => [taken.epoch, taken]));
    if (byEpoch.size === 0) return [];
    return this.#store.list().flatMap(({ epoch, takenAt: { seconds, nanoseconds } }) => {
      const taken = byEpoch.get(epoch);
      return taken === undefined ? [] : [{ ...taken, wallSeconds: seconds + nanoseconds / 1e9 }];
    });
  }

  /** Of each automatic snapshot, as which of the policy's classes it is kept. */
  kept(): ReadonlyMap<Epoch, readonly PolicyUnit[]> {
    return keptIn(this.classes, this.automatic);
  }

  /**
   * Have automatic snapshots kept so from now on; those that there are count. Without classes none is taken or dropped
   * any more.
   * @returns What the policy is then; `surplusCount` is of those that go now or, without a mount, with the next one.
   * @throws TcfsError `TCFS_READ_ONLY`, and what a commit throws.
   */
  async setPolicy(classes: readonly PolicyClass[]): Promise<PolicyFigures> {
    this.#options.requireWritable();
    const figures = await this.#options.inTurn(async () => {
      this.#store.setPolicy(classes);
      await this.#options.parts.committer.commit();
      return this.figures();
    });
    await this.keeper.policyChanged();
    return figures;
  }

  figures(): PolicyFigures {
    const { classes, automatic } = this;
    const dueSeconds = this.keeper.nextDueSeconds;
    return {
      policy: classes.length === 0 ? null : formatPolicy(classes),
      isDamaged: this.#store.policyDamage !== undefined,
      automaticCount: automatic.length,
      surplusCount: surplus(classes, automatic).length,
      nextDueAt: dueSeconds === undefined ? null : isoTime(Math.floor(dueSeconds)),
    };
  }

  hasChangedSince(epoch: Epoch): Promise<boolean> {
    return this.#options.inTurn(async () => {
      const snapshot = this.#find(epoch);
      if (snapshot === undefined) return true;
      await this.#options.parts.committer.commit();
      const changes = this.#store.changes(snapshot, undefined);
      return isAnythingChanged(changes, this.#store.view(snapshot), this.#store.committedView());
    });
  }

  #find(epoch: Epoch): SnapshotRecord | undefined {
    return this.#store.list().find((snapshot) => snapshot.epoch === epoch);
  }

  take(taken: Omit<AutomaticSnapshot, "epoch">): Promise<void> {
    return this.#options.take(taken);
  }

  drop(epochs: readonly Epoch[]): Promise<void> {
    return this.#options.drop(() => this.#store.list().filter(({ epoch }) => epochs.includes(epoch)));
  }
}
