/** Reads of files of which the device cannot give all any more: zeros stand in for that, and no checksum takes them. */
import type { FileHandle } from "node:fs/promises";
import { isErrno } from "../errors.ts";

/** What devices fail by, or less. */
const SECTOR_BYTES = 4096;

/** What is used of an open file. */
export type SalvageableFile = Pick<FileHandle, "read">;

/**
 * @returns Bytes `start` to `end`, fresh; fewer where the file ends before.
 * @throws What a read throws, but for EIO.
 */
export async function readSalvaged(file: SalvageableFile, start: number, end: number): Promise<Uint8Array> {
  const bytes = Buffer.alloc(Math.max(0, end - start));
  try {
    return bytes.subarray(0, await readUpTo(file, bytes, start));
  } catch (error) {
    if (!isErrno(error, "EIO")) throw error;
  }
  bytes.fill(0);
  let doneBytes = 0;
  while (doneBytes < bytes.length) {
    const stepBytes = SECTOR_BYTES - ((start + doneBytes) % SECTOR_BYTES);
    const sector = bytes.subarray(doneBytes, doneBytes + stepBytes);
    try {
      const readBytes = await readUpTo(file, sector, start + doneBytes);
      doneBytes += readBytes;
      if (readBytes < sector.length) break;
    } catch (error) {
      if (!isErrno(error, "EIO")) throw error;
      sector.fill(0);
      doneBytes += sector.length;
    }
  }
  return bytes.subarray(0, doneBytes);
}

/** @returns How many bytes there were. */
async function readUpTo(file: SalvageableFile, into: Uint8Array, offset: number): Promise<number> {
  let doneBytes = 0;
  while (doneBytes < into.length) {
    const { bytesRead } = await file.read(into, doneBytes, into.length - doneBytes, offset + doneBytes);
    if (bytesRead === 0) break;
    doneBytes += bytesRead;
  }
  return doneBytes;
}
