/** What can still be read of a pack's file that the disk does not give whole. */
import { isTcfsError } from "../errors.ts";
import type { DiskFile } from "../platform/disk.ts";

/** What a disk loses at once, at least. */
const PIECE_BYTES = 4096;
const RUN_BYTES = 64 * PIECE_BYTES;

/**
 * @param lengthBytes - That the file should have.
 * @returns So many bytes, fresh: zeros where the file has none, or the disk does not give them. Undefined where it gives none.
 * @throws TcfsError for what is no failure of the device.
 */
export async function salvage(file: DiskFile, lengthBytes: number): Promise<Uint8Array | undefined> {
  const content = new Uint8Array(lengthBytes);
  let heldBytes = 0;
  for (let at = 0; at < lengthBytes; at += RUN_BYTES) {
    const run = content.subarray(at, at + RUN_BYTES);
    const filled = await tryToRead(file, run, at);
    heldBytes += filled ?? 0;
    if (filled !== undefined) continue;
    for (let piece = 0; piece < run.length; piece += PIECE_BYTES) {
      const part = run.subarray(piece, piece + PIECE_BYTES);
      const found = await tryToRead(file, part, at + piece);
      if (found === undefined) part.fill(0);
      heldBytes += found ?? 0;
    }
  }
  return heldBytes === 0 ? undefined : content;
}

/** @returns Bytes read; undefined where the device fails. */
async function tryToRead(file: DiskFile, into: Uint8Array, offset: number): Promise<number | undefined> {
  try {
    return await file.readInto(into, offset);
  } catch (error) {
    if (isTcfsError(error, "TCFS_IO")) return undefined;
    throw error;
  }
}
