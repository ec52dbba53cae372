/** The policy record: which automatic snapshots are to be kept, and which snapshots are automatic (FORMAT.md §7.12). Pure. */
import { ByteReader, type ByteWriter } from "../bytes.ts";
import type { Epoch } from "../ids.ts";
import { readEpoch } from "./inode-codec.ts";
import { MAX_SNAPSHOT_SLOT } from "./snapshot-codec.ts";

/** From the shortest to the longest; the place in this list, from 1 on, is the number in the record. */
export const POLICY_UNITS = ["minutely", "hourly", "daily", "weekly", "monthly", "yearly"] as const;

export type PolicyUnit = (typeof POLICY_UNITS)[number];

/** The first snapshot of each of the last `count` periods is kept. */
export interface PolicyClass {
  readonly unit: PolicyUnit;
  /** 1 … {@link MAX_POLICY_SNAPSHOTS}. */
  readonly count: number;
}

/** One that the policy took, and what it was the first of. */
export interface AutomaticSnapshot {
  readonly epoch: Epoch;
  /** In the order of {@link POLICY_UNITS}; none for one that is of use only while it is the newest. */
  readonly units: readonly PolicyUnit[];
  /** How long the vault had been mounted on a machine that was awake, since there is a policy. */
  readonly awakeSeconds: number;
}

export interface PolicyRecord {
  /** In the order of {@link POLICY_UNITS}, each unit at most once; none: no policy. */
  readonly classes: readonly PolicyClass[];
  /** In the order of their epochs. Snapshots that are gone may still be named. */
  readonly automatic: readonly AutomaticSnapshot[];
}

/** All classes together: half of the snapshots that there can be, so that there is always room for the user's. */
export const MAX_POLICY_SNAPSHOTS = 4095;

export const NO_POLICY: PolicyRecord = { classes: [], automatic: [] };

export function encodePolicy(writer: ByteWriter, epoch: Epoch, { classes, automatic }: PolicyRecord): void {
  writer.u32(epoch);
  writer.u8(classes.length);
  for (const { unit, count } of classes) {
    writer.u8(POLICY_UNITS.indexOf(unit) + 1);
    writer.u16(count);
  }
  writer.u16(automatic.length);
  for (const { epoch: taken, units, awakeSeconds } of automatic) {
    writer.u32(taken);
    writer.u8(units.reduce((mask, unit) => mask | (1 << POLICY_UNITS.indexOf(unit)), 0));
    writer.u64(awakeSeconds);
  }
}

/** @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodePolicy} does not write. */
export function decodePolicy(bytes: Uint8Array): PolicyRecord {
  const reader = new ByteReader(bytes, "policy record");
  readEpoch(reader);
  const record = { classes: readClasses(reader), automatic: readAutomatic(reader) };
  reader.end();
  return record;
}

function readClasses(reader: ByteReader): PolicyClass[] {
  const classes: PolicyClass[] = [];
  let [last, total] = [0, 0];
  for (let left = reader.u8(); left > 0; left--) {
    const number = reader.u8();
    const count = reader.u16();
    const unit = POLICY_UNITS[number - 1];
    if (unit === undefined) throw reader.fail("an unknown unit");
    if (number <= last) throw reader.fail("units out of order");
    if (count === 0) throw reader.fail("a class without snapshots");
    [last, total] = [number, total + count];
    classes.push({ unit, count });
  }
  if (total > MAX_POLICY_SNAPSHOTS) throw reader.fail("too many snapshots");
  return classes;
}

function readAutomatic(reader: ByteReader): AutomaticSnapshot[] {
  const automatic: AutomaticSnapshot[] = [];
  const length = reader.u16();
  if (length > MAX_SNAPSHOT_SLOT) throw reader.fail("more snapshots than there can be");
  let last = 0;
  while (automatic.length < length) {
    const epoch = readEpoch(reader);
    if (epoch <= last) throw reader.fail("snapshots out of order");
    last = epoch;
    const mask = reader.u8();
    if (mask >>> POLICY_UNITS.length !== 0) throw reader.fail("an unknown unit");
    const units = POLICY_UNITS.filter((_, index) => (mask & (1 << index)) !== 0);
    automatic.push({ epoch, units, awakeSeconds: reader.u64() });
  }
  return automatic;
}
