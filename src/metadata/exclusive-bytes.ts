/** What only one snapshot holds: an estimate from the extent pages that would go with it. Costs what changed after it. */
import { latin1Of } from "../bytes.ts";
import { epochOfRecord, historyKey, keyOfSuperseded, supersededIn } from "../format/history-keys.ts";
import { decodeExtentPage } from "../format/extent-codec.ts";
import { RECORD_KIND, inodeOfKey, pageOfKey } from "../format/record-keys.ts";
import type { SnapshotRecord } from "../format/snapshot-codec.ts";
import { isZeroChunk } from "../format/zero-chunk.ts";
import type { JournaledDatabase } from "./journaled-database.ts";
import type { RecordReader } from "./record-reader.ts";
import type { MetadataView } from "./snapshot-store.ts";
import { supersedingEpoch } from "./snapshot-table.ts";

export interface ExclusiveBytesOptions {
  readonly database: JournaledDatabase;
  readonly reader: RecordReader;
  readonly snapshot: SnapshotRecord;
  /** The snapshot before; undefined where there is none. */
  readonly before: { readonly snapshot: SnapshotRecord; readonly view: MetadataView } | undefined;
  /** The snapshot after, or the present. */
  readonly after: MetadataView;
}

/**
 * @returns Bytes of the snapshot's own versions of pages whose chunks the versions before and after do not name. Other
 *   files may name them too, so that forgetting the snapshot may give back less.
 */
export async function exclusiveBytes(options: ExclusiveBytesOptions): Promise<number> {
  const { database, reader, snapshot, before, after } = options;
  const epoch = supersedingEpoch(snapshot);
  let bytes = 0;
  for await (const entries of database.walk(supersededIn(epoch, epoch + 1))) {
    for (const [note] of entries) {
      const key = keyOfSuperseded(note);
      if (key[0] !== RECORD_KIND.extents) continue;
      const ino = inodeOfKey(key);
      const page = pageOfKey(key);
      const plain = reader.plain(historyKey(key, epoch), "extent page of inode", ino);
      if (plain === undefined || (before !== undefined && epochOfRecord(plain) <= before.snapshot.epoch)) continue;
      const others = [...after.getExtentPage(ino, page), ...(before?.view.getExtentPage(ino, page) ?? [])];
      const kept = new Set(others.map(({ chunk }) => latin1Of(chunk)));
      for (const { chunk, lengthBytes } of decodeExtentPage(ino, page, plain)) {
        if (!isZeroChunk(chunk) && !kept.has(latin1Of(chunk))) bytes += lengthBytes;
      }
    }
  }
  return bytes;
}
