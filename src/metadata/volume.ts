/** The volume record at opening: read, or made for a new store. */
import { corrupt } from "../bytes.ts";
import { EVERYTHING } from "../format/record-keys.ts";
import type { VolumeRecord } from "../format/records.ts";
import type { Epoch, InodeNumber } from "../ids.ts";
import type { Clock } from "../platform/clock.ts";
import type { JournaledDatabase } from "./journaled-database.ts";
import type { RecordReader } from "./record-reader.ts";

const FIRST_EPOCH = 1 as Epoch;
/** 1 is the root's. */
const FIRST_FREE_INODE = 2 as InodeNumber;

/** @throws TcfsError `TCFS_CORRUPT` where there should be a volume record and is none, or none that verifies. */
export async function openVolume(
  database: JournaledDatabase,
  reader: RecordReader,
  options: { readonly createIfMissing: boolean; readonly clock: Clock },
): Promise<VolumeRecord> {
  const volume = reader.volume();
  if (volume !== undefined) return volume;
  if (!options.createIfMissing || !(await isEmpty(database))) throw corrupt("volume record", "missing");
  return {
    nextInode: FIRST_FREE_INODE,
    inodeCount: 0,
    allocatedBytes: 0,
    epoch: FIRST_EPOCH,
    commit: 0,
    committedAt: options.clock.now(),
  };
}

async function isEmpty(database: JournaledDatabase): Promise<boolean> {
  for await (const entries of database.walk(EVERYTHING)) if (entries.length > 0) return false;
  return true;
}
