/**
 * Whether the bytes of a pack are what was sealed, asked before they leave for a store that is to be relied on. What a
 * pack's index names is opened, and thrown away; of a pack that was never finished only the header is looked at.
 */
import type { PackCipher } from "../crypto/engine.ts";
import { isTcfsError } from "../errors.ts";
import type { ChunkId, PackId } from "../ids.ts";
import { type PackCipherRooms, openPackCipher } from "./pack-cipher.ts";
import type { PackBuffer } from "./pack-directory.ts";
import {
  INDEX_FIRST_FRAME,
  MAX_FOOTER_BYTES,
  type PackIndexEntry,
  decodePackFooter,
  decodePackIndex,
  sumBytes,
} from "./pack-format.ts";

export interface PackDamage {
  /** Why the pack itself does not open, or its index: what its chunks are worth is not known then. */
  readonly ofPack: string | undefined;
  /** Chunks that do not open. */
  readonly chunks: readonly ChunkId[];
}

/**
 * @param content - The whole file; lent until settled.
 * @param buffer - Where its chunks are opened.
 * @param isFinished - It must have its index.
 * @returns Undefined where nothing is wrong.
 */
export async function findPackDamage(
  pack: PackId,
  content: Uint8Array,
  rooms: PackCipherRooms,
  buffer: PackBuffer,
  isFinished: boolean,
): Promise<PackDamage | undefined> {
  let cipher: PackCipher | undefined;
  try {
    cipher = openPackCipher(content, pack, rooms);
    const entries = await readIndex(pack, content, cipher);
    if (entries === undefined) return isFinished ? { ofPack: "its index is missing", chunks: [] } : undefined;
    const chunks: ChunkId[] = [];
    for (const entry of entries) if (!(await opens(entry, content, cipher, buffer))) chunks.push(entry.id);
    return chunks.length === 0 ? undefined : { ofPack: undefined, chunks };
  } catch (error) {
    if (isTcfsError(error)) return { ofPack: error.message, chunks: [] };
    throw error;
  } finally {
    cipher?.wipe();
  }
}

/** @returns Undefined where the pack was never finished. */
async function readIndex(pack: PackId, content: Uint8Array, cipher: PackCipher): Promise<PackIndexEntry[] | undefined> {
  const footer = decodePackFooter(content.subarray(-MAX_FOOTER_BYTES), content.length);
  if (footer === undefined) return undefined;
  const { indexOffset, indexLengthBytes: lengthBytes, storedFrameBytes } = footer;
  const sealed = content.subarray(indexOffset, indexOffset + sumBytes(storedFrameBytes));
  const index = new Uint8Array(lengthBytes);
  await cipher.unseal({ firstFrame: INDEX_FIRST_FRAME, storedFrameBytes, lengthBytes }, sealed, index);
  return decodePackIndex(pack, index, indexOffset);
}

async function opens(
  { record }: PackIndexEntry,
  content: Uint8Array,
  cipher: PackCipher,
  buffer: PackBuffer,
): Promise<boolean> {
  const { packOffset, storedFrameBytes, lengthBytes } = record;
  const sealed = content.subarray(packOffset, packOffset + sumBytes(storedFrameBytes));
  try {
    await cipher.unseal(record, sealed, buffer.chunk(lengthBytes));
    return true;
  } catch (error) {
    if (isTcfsError(error, "TCFS_CORRUPT")) return false;
    throw error;
  }
}
