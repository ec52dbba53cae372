/** Which snapshots there are, kept in memory: names, epochs, slots; and the one that the next freeze is to take. */
import { ByteWriter } from "../bytes.ts";
import { TcfsError } from "../errors.ts";
import { snapshotKey } from "../format/history-keys.ts";
import { allOfKind } from "../format/record-keys.ts";
import type { VolumeRecord } from "../format/records.ts";
import {
  MAX_SNAPSHOT_SLOT,
  commentFault,
  encodeSnapshot,
  snapshotNameFault,
  type SnapshotRecord,
} from "../format/snapshot-codec.ts";
import type { Epoch } from "../ids.ts";
import type { Timestamp } from "../platform/clock.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import type { JournaledDatabase } from "./journaled-database.ts";
import { PolicyTable } from "./policy-table.ts";
import type { RecordReader } from "./record-reader.ts";
import type { WantedSnapshot } from "./snapshot-store.ts";
import { visitIntact } from "./walks.ts";

/** A snapshot whose batch is not durable yet. */
interface Taken {
  readonly snapshot: SnapshotRecord;
  readonly operation: { readonly key: Uint8Array; value: Uint8Array | undefined };
}

/** Snapshots with none between them, oldest first, and their neighbours. */
export interface SnapshotRun {
  readonly snapshots: readonly SnapshotRecord[];
  /** Undefined where there is none. */
  readonly before: SnapshotRecord | undefined;
  /** Undefined: the present. */
  readonly after: SnapshotRecord | undefined;
}

export class SnapshotTable {
  /** Why not all may be known; then what history is still needed is not known either, and none may be cleared away. */
  readonly damage: TcfsError | undefined;
  readonly policy: PolicyTable;
  /** Forgotten ones among them; in the order of their epochs. */
  #all: readonly SnapshotRecord[];
  #listed: readonly SnapshotRecord[];
  #wanted: WantedSnapshot | undefined;
  #taken: Taken | undefined;

  private constructor(all: readonly SnapshotRecord[], damage: TcfsError | undefined, policy: PolicyTable) {
    this.damage = damage;
    this.policy = policy;
    this.#all = all;
    this.#listed = all.filter(({ isForgotten }) => !isForgotten);
  }

  /** @param onDamage - Told of each record that does not verify. */
  static async load(
    database: JournaledDatabase,
    reader: RecordReader,
    onDamage: (error: TcfsError) => void,
  ): Promise<SnapshotTable> {
    const range = allOfKind("snapshot");
    const all: SnapshotRecord[] = [];
    const damaged: TcfsError[] = [];
    for await (const entries of database.walk(range)) {
      visitIntact(entries, (entry) => all.push(reader.storedSnapshot(entry)), damaged);
    }
    damaged.forEach(onDamage);
    return new SnapshotTable(all, damaged[0] ?? database.damage.ofRange(range), PolicyTable.load(reader, onDamage));
  }

  get listed(): readonly SnapshotRecord[] {
    return this.#listed;
  }

  get forgotten(): readonly SnapshotRecord[] {
    return this.#all.filter(({ isForgotten }) => isForgotten);
  }

  get newest(): SnapshotRecord | undefined {
    return this.#listed.at(-1);
  }

  /** The newest one that is older than `epoch`. */
  before(epoch: Epoch): SnapshotRecord | undefined {
    return this.#listed.findLast((snapshot) => snapshot.epoch < epoch);
  }

  /** Some snapshots, put together where none other is between them. */
  runsOf(chosen: readonly SnapshotRecord[]): SnapshotRun[] {
    const epochs = new Set(chosen.map(({ epoch }) => epoch));
    const runs: SnapshotRun[] = [];
    let before: SnapshotRecord | undefined;
    let run: SnapshotRecord[] = [];
    for (const snapshot of [...this.#listed, undefined]) {
      if (snapshot !== undefined && epochs.has(snapshot.epoch)) run.push(snapshot);
      else {
        if (run.length > 0) runs.push({ snapshots: run, before, after: snapshot });
        run = [];
        before = snapshot;
      }
    }
    return runs;
  }

  /** Under which epochs history stands that concerns `epoch`, ascending. */
  supersedingEpochs(epoch: Epoch): Epoch[] {
    return this.#all.filter((snapshot) => snapshot.epoch >= epoch).map(supersedingEpoch);
  }

  find(name: string): SnapshotRecord | undefined {
    return this.#listed.find((snapshot) => snapshot.name === name);
  }

  get isWanted(): boolean {
    return this.#wanted !== undefined;
  }

  want(wanted: WantedSnapshot): void {
    if (this.#wanted !== undefined || this.#taken !== undefined) throw new RangeError("a snapshot is being taken");
    const { name, comment } = wanted;
    const nameFault = snapshotNameFault(name);
    if (nameFault !== undefined) throw new TcfsError("TCFS_USAGE", `this snapshot name ${nameFault}`);
    const fault = commentFault(comment);
    if (fault !== undefined) throw new TcfsError("TCFS_USAGE", `this comment ${fault}`);
    if (this.find(name) !== undefined)
      throw new TcfsError("TCFS_SNAPSHOT_EXISTS", `there is a snapshot “${name}” already`);
    if (this.#all.length >= MAX_SNAPSHOT_SLOT) {
      throw new TcfsError("TCFS_STORE_FULL", `there are ${MAX_SNAPSHOT_SLOT} snapshots: forget some first`);
    }
    this.#wanted = wanted;
  }

  /** The freeze: @returns The wanted snapshot's records for the batch, if one is wanted; raises the volume's epoch. */
  take(volume: VolumeRecord, takenAt: Timestamp): RecordChange[] {
    if (this.#wanted === undefined) return [];
    const { automatic, ...wanted } = this.#wanted;
    const { epoch, nextInode, inodeCount, allocatedBytes } = volume;
    const slot = this.#freeSlot(epoch);
    const snapshot = { epoch, slot, ...wanted, takenAt, nextInode, inodeCount, allocatedBytes, isForgotten: false };
    this.#wanted = undefined;
    this.#taken = { snapshot, operation: encodeOperation(snapshot) };
    volume.epoch = (epoch + 1) as Epoch;
    if (automatic === undefined) return [this.#taken.operation];
    return [this.#taken.operation, this.policy.take({ epoch, ...automatic }, this.#listed)];
  }

  /** Undo {@link want}. A batch that holds the snapshot already may be partly on the disk: it deletes the record then. */
  withdraw(): void {
    this.#wanted = undefined;
    if (this.#taken !== undefined) this.#taken.operation.value = undefined;
    this.#taken = undefined;
    this.policy.withdraw();
  }

  /** The batch is durable. */
  committed(): void {
    if (this.#taken === undefined) return;
    this.#change([...this.#all, this.#taken.snapshot]);
    this.#taken = undefined;
    this.policy.committed();
  }

  /** @returns The record that takes the name away. */
  forget(snapshot: SnapshotRecord): RecordChange {
    const forgotten = { ...snapshot, isForgotten: true };
    this.#change(this.#all.map((other) => (other.epoch === snapshot.epoch ? forgotten : other)));
    return encodeOperation(forgotten);
  }

  /** What it kept is gone. @returns The deletion of its record. */
  clear({ epoch }: SnapshotRecord): RecordChange {
    this.#change(this.#all.filter((snapshot) => snapshot.epoch !== epoch));
    return { key: snapshotKey(epoch), value: undefined };
  }

  #change(all: readonly SnapshotRecord[]): void {
    this.#all = all;
    this.#listed = all.filter(({ isForgotten }) => !isForgotten);
  }

  /** Slots come in turn, so that one given back is not used again for long. */
  #freeSlot(epoch: Epoch): number {
    const used = new Set(this.#all.map(({ slot }) => slot));
    let slot = ((epoch - 1) % MAX_SNAPSHOT_SLOT) + 1;
    while (used.has(slot)) slot = (slot % MAX_SNAPSHOT_SLOT) + 1;
    return slot;
  }
}

/** What was first changed after a snapshot stands under the epoch that followed it. */
export function supersedingEpoch(snapshot: SnapshotRecord): Epoch {
  return (snapshot.epoch + 1) as Epoch;
}

function encodeOperation(snapshot: SnapshotRecord): { key: Uint8Array; value: Uint8Array | undefined } {
  const writer = new ByteWriter();
  encodeSnapshot(writer, snapshot);
  return { key: snapshotKey(snapshot.epoch), value: writer.take() };
}
