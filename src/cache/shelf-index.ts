/**
 * `store.cache` (FORMAT.md §11.9): what of the store's packs is on this disk, in order of last use. A hint, but for one
 * thing: a pack that it calls stored may be deleted here. So it is authenticated, and counts for one link to a store alone.
 */
import { timingSafeEqual } from "node:crypto";
import { ByteReader, ByteWriter } from "../bytes.ts";
import { isTcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import { BlockMap, bitmapBytes } from "./block-map.ts";

const MAGIC = Buffer.from("TCFSSHLF");
const FORMAT_VERSION = 1;
const MAC_BYTES = 32;
const LINK_BYTES = 16;
const PACK_ID_BYTES = 16;
const FLAG_STORED = 1;
const FLAG_PARTIAL = 2;
/** As much as a pack's offsets can say. */
const MAX_PACK_BYTES = 2 ** 32 - 1;

export interface ShelfNote {
  readonly pack: PackId;
  /** Of the file here; of the pack in the store, where it is stored. */
  readonly lengthBytes: number;
  /** Whether the store's root names it, and the store has all of it. */
  readonly isStored: boolean;
  /** Undefined: all of it is here, in `packs`. */
  readonly blocks: BlockMap | undefined;
}

export interface ShelfSeal {
  /** HMAC-SHA256 under the vault's store key. */
  readonly mac: (bytes: Uint8Array) => Uint8Array;
  /** 16 bytes: of `store.json`. */
  readonly link: Uint8Array;
}

/** @param notes - Least recently used first. */
export function encodeShelf(notes: readonly ShelfNote[], { mac, link }: ShelfSeal): Uint8Array {
  const writer = new ByteWriter();
  writer.bytes(MAGIC);
  writer.u16(FORMAT_VERSION);
  writer.bytes(link);
  writer.u32(notes.length);
  for (const { pack, lengthBytes, isStored, blocks } of notes) {
    writer.bytes(pack);
    writer.u8((isStored ? FLAG_STORED : 0) | (blocks === undefined ? 0 : FLAG_PARTIAL));
    writer.u32(lengthBytes);
    if (blocks !== undefined) writer.bytes(blocks.bits);
  }
  const body = writer.take();
  return Buffer.concat([body, mac(body)]);
}

/** @returns What was noted, least recently used first; nothing where the file is not ours, unknown or damaged. */
export function decodeShelf(content: Uint8Array, { mac, link }: ShelfSeal): ShelfNote[] {
  const bodyBytes = content.length - MAC_BYTES;
  if (bodyBytes < MAGIC.length) return [];
  const body = content.subarray(0, bodyBytes);
  if (!timingSafeEqual(content.subarray(bodyBytes), mac(body))) return [];
  try {
    return readNotes(new ByteReader(body, "store.cache"), link);
  } catch (error) {
    if (isTcfsError(error)) return [];
    throw error;
  }
}

function readNotes(reader: ByteReader, link: Uint8Array): ShelfNote[] {
  if (Buffer.compare(reader.bytes(MAGIC.length), MAGIC) !== 0 || reader.u16() !== FORMAT_VERSION) return [];
  if (Buffer.compare(reader.bytes(LINK_BYTES), link) !== 0) return [];
  const notes: ShelfNote[] = [];
  for (let count = reader.u32(); count > 0; count--) {
    const pack = reader.bytes(PACK_ID_BYTES).slice() as PackId;
    const flags = reader.u8();
    const lengthBytes = Math.min(reader.u32(), MAX_PACK_BYTES);
    const isPartial = (flags & FLAG_PARTIAL) !== 0;
    const blocks = isPartial ? new BlockMap(lengthBytes, reader.bytes(bitmapBytes(lengthBytes))) : undefined;
    notes.push({ pack, lengthBytes, isStored: (flags & FLAG_STORED) !== 0, blocks });
  }
  return notes;
}
