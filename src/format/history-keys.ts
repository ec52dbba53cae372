/** Keys of snapshots and of history: older versions of other records (FORMAT.md §7.12). Pure. */
import { ByteReader, corrupt } from "../bytes.ts";
import type { Epoch, InodeNumber } from "../ids.ts";
import { RECORD_KIND, inodeOfKey, type KeyRange } from "./record-keys.ts";

const EPOCH_BYTES = 4;
/** Kind and epoch stand before the key in a list of what an epoch superseded. */
const SUPERSEDED_PREFIX_BYTES = 1 + EPOCH_BYTES;
/** A kind, an inode number. */
const OWNER_BYTES = 9;

/** The kinds of records that have a history, in the order of their keys; each begins with kind and inode number. */
export const VERSIONED_KINDS = ["dentry", "extents", "inode", "xattrs"] as const;

const VERSIONED: ReadonlySet<number> = new Set(VERSIONED_KINDS.map((kind) => RECORD_KIND[kind]));

export function snapshotKey(epoch: Epoch): Uint8Array {
  return epochKey(RECORD_KIND.snapshot, epoch, 0);
}

/** Where the version of `key` stands that was valid until `superseded`. */
export function historyKey(key: Uint8Array, superseded: Epoch): Uint8Array {
  const history = new Uint8Array(1 + key.length + EPOCH_BYTES);
  history[0] = RECORD_KIND.history;
  history.set(key, 1);
  storeEpoch(history, 1 + key.length, superseded);
  return history;
}

/** Where it is noted that `key` was changed or made after the snapshot before `superseded`. */
export function supersededKey(superseded: Epoch, key: Uint8Array): Uint8Array {
  const noted = epochKey(RECORD_KIND.superseded, superseded, key.length);
  noted.set(key, SUPERSEDED_PREFIX_BYTES);
  return noted;
}

/** The notes of the epochs [from, to), in the order of the epochs. */
export function supersededIn(from: Epoch, to: number): KeyRange {
  return { first: epochKey(RECORD_KIND.superseded, from, 0), end: epochKey(RECORD_KIND.superseded, to, 0) };
}

/** All older versions of one record, in the order of the epochs that superseded them. */
export function versionsOf(key: Uint8Array): KeyRange {
  return { first: historyKey(key, 0 as Epoch), end: historyKey(key, (2 ** 32 - 1) as Epoch) };
}

/** All history records, of whatever keys. */
export const ALL_HISTORY: KeyRange = {
  first: Uint8Array.of(RECORD_KIND.history),
  end: Uint8Array.of(RECORD_KIND.history + 1),
};

/** All history records of the keys in a range. */
export function historyOf({ first, end }: KeyRange): KeyRange {
  return { first: historyPrefix(first), end: historyPrefix(end) };
}

/**
 * Every extent page, live, of versions and of history, in one range, so that one view of the database shows each of
 * them however they move. History of dentries lies in between: {@link liveKeyOf} tells.
 */
export const ALL_EXTENT_PAGES: KeyRange = {
  first: Uint8Array.of(RECORD_KIND.extents),
  end: Uint8Array.of(RECORD_KIND.history, RECORD_KIND.extents + 1),
};

/** Records of one versioned kind whose inode number is `from` or more. */
export function versionedFrom(kind: (typeof VERSIONED_KINDS)[number], from: InodeNumber): KeyRange {
  const first = new Uint8Array(OWNER_BYTES);
  const view = new DataView(first.buffer);
  view.setUint8(0, RECORD_KIND[kind]);
  view.setBigUint64(1, BigInt(from));
  return { first, end: Uint8Array.of(RECORD_KIND[kind] + 1) };
}

/** @returns The epoch in a snapshot's key. @throws TcfsError `TCFS_CORRUPT` */
export function epochOfSnapshotKey(key: Uint8Array): Epoch {
  if (key.length !== 1 + EPOCH_BYTES) throw corrupt("snapshot key", "another length");
  return epochAt(key, 1);
}

/** @returns The epoch at the end of a history record's key. @throws TcfsError `TCFS_CORRUPT` */
export function epochOfHistoryKey(key: Uint8Array): Epoch {
  if (key.length <= 1 + EPOCH_BYTES) throw corrupt("history key", "too short");
  return epochAt(key, key.length - EPOCH_BYTES);
}

/** @returns The key whose change is noted; borrowed from `noted`. */
export function keyOfSuperseded(noted: Uint8Array): Uint8Array {
  return noted.subarray(SUPERSEDED_PREFIX_BYTES);
}

/** @returns The key that a history record is an older version of, and any other key itself; borrowed. */
export function liveKeyOf(key: Uint8Array): Uint8Array {
  return key[0] === RECORD_KIND.history ? key.subarray(1, key.length - EPOCH_BYTES) : key;
}

/** @returns The inode that a record belongs to, if its kind has a history. */
export function ownerOfVersioned(key: Uint8Array): InodeNumber | undefined {
  return VERSIONED.has(key[0] as number) ? inodeOfKey(key) : undefined;
}

/** The first field of every record. @throws TcfsError `TCFS_CORRUPT` */
export function epochOfRecord(plain: Uint8Array): Epoch {
  const epoch = new ByteReader(plain, "record").u32();
  if (epoch === 0) throw corrupt("record", "epoch 0");
  return epoch as Epoch;
}

/** @returns A copy of a record that says it was written in `epoch`. */
export function withEpoch(plain: Uint8Array, epoch: Epoch): Uint8Array {
  const copy = new Uint8Array(plain);
  new DataView(copy.buffer).setUint32(0, epoch, true);
  return copy;
}

function historyPrefix(key: Uint8Array): Uint8Array {
  const prefix = new Uint8Array(1 + key.length);
  prefix[0] = RECORD_KIND.history;
  prefix.set(key, 1);
  return prefix;
}

function epochKey(kind: number, epoch: number, roomBytes: number): Uint8Array {
  const key = new Uint8Array(1 + EPOCH_BYTES + roomBytes);
  key[0] = kind;
  storeEpoch(key, 1, epoch);
  return key;
}

function storeEpoch(into: Uint8Array, offset: number, epoch: number): void {
  if (epoch !== epoch >>> 0) throw new RangeError("not an unsigned 32 bit number");
  into[offset] = epoch >>> 24;
  into[offset + 1] = epoch >>> 16;
  into[offset + 2] = epoch >>> 8;
  into[offset + 3] = epoch;
}

function epochAt(key: Uint8Array, offset: number): Epoch {
  return new ByteReader(key.subarray(offset, offset + EPOCH_BYTES), "record key").u32BigEndian() as Epoch;
}
