/** The policy record, kept in memory: read once, written anew with each change (FORMAT.md §7.12). */
import { ByteWriter } from "../bytes.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import {
  NO_POLICY,
  encodePolicy,
  type AutomaticSnapshot,
  type PolicyClass,
  type PolicyRecord,
} from "../format/policy-codec.ts";
import { singleKey } from "../format/record-keys.ts";
import type { SnapshotRecord } from "../format/snapshot-codec.ts";
import type { Epoch } from "../ids.ts";
import type { RecordReader } from "./record-reader.ts";

export class PolicyTable {
  /** Why the record cannot be read: then no snapshot is known to be automatic, until a policy is set anew. */
  damage: TcfsError | undefined;
  #record: PolicyRecord;
  /** In a batch that is not durable yet. */
  #taken: AutomaticSnapshot | undefined;

  private constructor(record: PolicyRecord, damage: TcfsError | undefined) {
    this.#record = record;
    this.damage = damage;
  }

  /** @param onDamage - Told if the record does not verify. */
  static load(reader: RecordReader, onDamage: (error: TcfsError) => void): PolicyTable {
    try {
      return new PolicyTable(reader.policy() ?? NO_POLICY, undefined);
    } catch (error) {
      if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
      const what = "automatic snapshots rest until a policy is set: the present one cannot be read";
      onDamage(new TcfsError("TCFS_CORRUPT", what, { cause: error }));
      return new PolicyTable(NO_POLICY, error);
    }
  }

  get record(): PolicyRecord {
    return this.#record;
  }

  /** @returns The record for the next batch. */
  change(classes: readonly PolicyClass[], epoch: Epoch): RecordChange {
    this.#record = { classes, automatic: this.#record.automatic };
    this.damage = undefined;
    return encode(epoch, this.#record);
  }

  /**
   * A snapshot of the policy's goes into a batch. Should that batch never become durable, or the snapshot be taken out
   * of it again, a record that names it does no harm: what is not there is not looked for, and no epoch comes twice.
   * @param listed - The snapshots that there are: others are left out.
   * @returns The record for the same batch.
   */
  take(taken: AutomaticSnapshot, listed: readonly SnapshotRecord[]): RecordChange {
    const epochs = new Set(listed.map(({ epoch }) => epoch));
    const automatic = this.#record.automatic.filter(({ epoch }) => epochs.has(epoch));
    this.#record = { classes: this.#record.classes, automatic };
    this.#taken = taken;
    return encode(taken.epoch, { classes: this.#record.classes, automatic: [...automatic, taken] });
  }

  /** The batch is durable. */
  committed(): void {
    if (this.#taken === undefined) return;
    this.#record = { classes: this.#record.classes, automatic: [...this.#record.automatic, this.#taken] };
    this.#taken = undefined;
  }

  /** The snapshot was taken out of its batch. */
  withdraw(): void {
    this.#taken = undefined;
  }
}

function encode(epoch: Epoch, record: PolicyRecord): RecordChange {
  const writer = new ByteWriter();
  encodePolicy(writer, epoch, record);
  return { key: singleKey("policy"), value: writer.take() };
}
