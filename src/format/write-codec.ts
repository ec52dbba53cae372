/** Records of logged writes ⇄ bytes (FORMAT.md §7.15). Pure. */
import { ByteReader, type ByteWriter } from "../bytes.ts";
import type { Epoch, InodeNumber } from "../ids.ts";
import { readEpoch } from "./inode-codec.ts";
import { EXTENT_PAGE_BYTES, type LoggedContent, type LoggedRun } from "./records.ts";

/** @throws RangeError without a run, or on one that is empty or leaves its page. */
export function encodeLoggedContent(writer: ByteWriter, epoch: Epoch, content: LoggedContent): void {
  const { previousCommit, runs } = content;
  if (runs.length === 0) throw new RangeError("no logged run");
  writer.u32(epoch);
  writer.u64(previousCommit);
  for (const { page, start, bytes } of runs) {
    if (!isWithinPage(start, bytes.length)) throw new RangeError("an impossible logged run");
    writer.u64(page);
    writer.u24(start);
    writer.u24(bytes.length);
    writer.bytes(bytes);
  }
}

/** @returns Fresh memory. @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodeLoggedContent} does not write. */
export function decodeLoggedContent(ino: InodeNumber, bytes: Uint8Array): LoggedContent {
  const reader = new ByteReader(bytes, `logged writes of inode ${String(ino)}`);
  readEpoch(reader);
  const previousCommit = reader.u64();
  const runs: LoggedRun[] = [];
  do {
    const page = reader.u64();
    const start = reader.u24();
    const lengthBytes = reader.u24();
    if (!isWithinPage(start, lengthBytes)) throw reader.fail("an impossible run");
    runs.push({ page, start, bytes: reader.bytes(lengthBytes) });
  } while (reader.remaining > 0);
  return { previousCommit, runs };
}

function isWithinPage(start: number, lengthBytes: number): boolean {
  return lengthBytes > 0 && start + lengthBytes <= EXTENT_PAGE_BYTES;
}
