/**
 * Which records may differ between a snapshot and a later state (FORMAT.md §7.12): those noted as changed since, and
 * whatever belongs to an inode made since. Costs what changed.
 */
import {
  VERSIONED_KINDS,
  historyOf,
  keyOfSuperseded,
  liveKeyOf,
  ownerOfVersioned,
  supersededIn,
  versionedFrom,
} from "../format/history-keys.ts";
import type { KeyRange } from "../format/record-keys.ts";
import type { SnapshotRecord } from "../format/snapshot-codec.ts";
import type { JournaledDatabase } from "./journaled-database.ts";
import { supersedingEpoch } from "./snapshot-table.ts";
import { requireIntact } from "./walks.ts";

/** Beyond every epoch. */
const NO_EPOCH = 2 ** 32 - 1;

/**
 * @param to - A later snapshot; undefined: the last commit.
 * @returns Keys in batches, borrowed; a key may come more than once.
 * @throws TcfsError `TCFS_CORRUPT` if some may be missing, `TCFS_IO`
 */
export async function* changedKeys(
  database: JournaledDatabase,
  from: SnapshotRecord,
  to: SnapshotRecord | undefined,
): AsyncGenerator<Uint8Array[]> {
  const notes = supersededIn(supersedingEpoch(from), to === undefined ? NO_EPOCH : supersedingEpoch(to));
  for await (const noted of walkKeys(database, notes)) {
    yield noted.map(keyOfSuperseded).filter((key) => (ownerOfVersioned(key) ?? Infinity) < from.nextInode);
  }
  for (const kind of VERSIONED_KINDS) {
    const { first, end } = versionedFrom(kind, from.nextInode);
    const range = { first, end: to === undefined ? end : versionedFrom(kind, to.nextInode).first };
    yield* walkKeys(database, range);
    // What a later snapshot still has may have been deleted since.
    if (to === undefined) continue;
    for await (const keys of walkKeys(database, historyOf(range))) yield keys.map(liveKeyOf);
  }
}

async function* walkKeys(database: JournaledDatabase, range: KeyRange): AsyncGenerator<Uint8Array[]> {
  for await (const entries of database.walk(range)) yield entries.map(([key]) => key);
  requireIntact(database, range);
}
