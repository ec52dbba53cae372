/** What only one snapshot holds: an estimate from the extent pages that would go with it. Costs what changed after it. */
import { latin1Of } from "../bytes.ts";
import { epochOfRecord } from "../format/history-keys.ts";
import { decodeExtentPage } from "../format/extent-codec.ts";
import { RECORD_KIND, inodeOfKey, pageOfKey } from "../format/record-keys.ts";
import type { SnapshotRecord } from "../format/snapshot-codec.ts";
import { isZeroChunk } from "../format/zero-chunk.ts";
import { notedRecords, type ChangedRecordsOptions } from "./changed-records.ts";
import { supersedingEpoch } from "./snapshot-table.ts";

/** A snapshot and its neighbours. */
export interface SnapshotPlace {
  readonly snapshot: SnapshotRecord;
  /** Undefined where there is none. */
  readonly before: SnapshotRecord | undefined;
  /** Undefined: the present. */
  readonly after: SnapshotRecord | undefined;
}

/**
 * @returns Bytes of the snapshot's own versions of pages whose chunks the versions before and after do not name. Other
 *   files may name them too, so that forgetting the snapshot may give back less.
 */
export async function exclusiveBytes(
  options: ChangedRecordsOptions,
  { snapshot, before, after }: SnapshotPlace,
): Promise<number> {
  const epoch = supersedingEpoch(snapshot);
  let bytes = 0;
  for await (const record of notedRecords(options, [epoch])) {
    const { key } = record;
    if (key[0] !== RECORD_KIND.extents) continue;
    const plain = record.supersededIn(epoch);
    if (plain === undefined || (before !== undefined && epochOfRecord(plain) <= before.epoch)) continue;
    const kept = new Set<string>();
    for (const other of [after === undefined ? record.present() : record.asOf(after), before && record.asOf(before)]) {
      for (const chunk of chunksOf(key, other)) kept.add(chunk);
    }
    for (const { chunk, lengthBytes } of decodeExtentPage(inodeOfKey(key), pageOfKey(key), plain)) {
      if (!isZeroChunk(chunk) && !kept.has(latin1Of(chunk))) bytes += lengthBytes;
    }
  }
  return bytes;
}

function chunksOf(key: Uint8Array, plain: Uint8Array | undefined): string[] {
  if (plain === undefined) return [];
  return decodeExtentPage(inodeOfKey(key), pageOfKey(key), plain).map(({ chunk }) => latin1Of(chunk));
}
