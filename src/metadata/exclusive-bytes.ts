/** What only some snapshots hold: an estimate from the extent pages that would go with them. Costs what changed after each. */
import { latin1Of } from "../bytes.ts";
import { epochOfRecord } from "../format/history-keys.ts";
import { decodeExtentPage } from "../format/extent-codec.ts";
import { RECORD_KIND, inodeOfKey, pageOfKey } from "../format/record-keys.ts";
import { isZeroChunk } from "../format/zero-chunk.ts";
import { notedRecords, type ChangedRecordsOptions } from "./changed-records.ts";
import { supersedingEpoch, type SnapshotRun } from "./snapshot-table.ts";

/**
 * @returns Bytes of the snapshots' own versions of pages whose chunks the versions before and after do not name, those of
 *   one page each once. Other files may name them too, so that forgetting the snapshots may give back less.
 */
export async function exclusiveBytes(
  options: ChangedRecordsOptions,
  { snapshots, before, after }: SnapshotRun,
): Promise<number> {
  const epochs = snapshots.map(supersedingEpoch);
  let bytes = 0;
  for await (const record of notedRecords(options, epochs)) {
    const { key } = record;
    if (key[0] !== RECORD_KIND.extents) continue;
    const own = epochs
      .map((epoch) => record.supersededIn(epoch))
      .filter((plain) => plain !== undefined)
      .filter((plain) => before === undefined || epochOfRecord(plain) > before.epoch);
    if (own.length === 0) continue;
    const kept = new Set<string>();
    for (const other of [after === undefined ? record.present() : record.asOf(after), before && record.asOf(before)]) {
      for (const chunk of chunksOf(key, other)) kept.add(chunk);
    }
    for (const plain of own) {
      for (const { chunk, lengthBytes } of decodeExtentPage(inodeOfKey(key), pageOfKey(key), plain)) {
        if (!isZeroChunk(chunk) && !kept.has(latin1Of(chunk))) bytes += lengthBytes;
      }
      for (const chunk of chunksOf(key, plain)) kept.add(chunk);
    }
  }
  return bytes;
}

function chunksOf(key: Uint8Array, plain: Uint8Array | undefined): string[] {
  if (plain === undefined) return [];
  return decodeExtentPage(inodeOfKey(key), pageOfKey(key), plain).map(({ chunk }) => latin1Of(chunk));
}
