/** The local packs of a vault with a store, as a bounded cache of it: what the chunk store tells it and asks of it. */
import { type TcfsError, isTcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { DiskFile } from "../platform/disk.ts";
import type { ByteRange } from "../remote/object-store.ts";
import { PACK_HEADER_BYTES, type PackedChunkRecord, sumBytes } from "./pack-format.ts";

/** Directory of the vault for packs that are here in part (FORMAT.md §11.9). */
export const BLOCKS_NAME = "blocks";

export interface PackStart {
  /** So many as were asked for, or all where there are no more. */
  readonly content: Uint8Array;
  readonly packBytes: number;
}

/** The store's packs. Calls wait for a store that is away, up to a bound. */
export interface RemotePacks {
  /** @returns How long the pack is there; undefined where it is not. @throws TcfsError */
  lengthOf(pack: PackId): Promise<number | undefined>;
  /** The first bytes, and how long it is, in one request. @returns Undefined where it is not there. @throws TcfsError */
  readStart(pack: PackId, lengthBytes: number): Promise<PackStart | undefined>;
  /** As much of a range as there is. @returns Undefined where there is no such pack. @throws TcfsError `TCFS_CORRUPT` if it ends before. */
  readPart(pack: PackId, range: ByteRange): Promise<Uint8Array | undefined>;
  /** @returns Exactly the range; undefined where there is no such pack. @throws TcfsError `TCFS_CORRUPT` if it ends before. */
  readRange(pack: PackId, offset: number, lengthBytes: number): Promise<Uint8Array | undefined>;
}

export interface PackShelf {
  /** How readers are told to let go of a pack's file; false while it is being read. Set by who reads. */
  letGo: (pack: PackId) => boolean;
  /**
   * A pack without a file in `packs`, for reading.
   * @param first - What will be read of it right after its header: comes along with that.
   * @returns Undefined where the store has none either. @throws TcfsError
   */
  open(pack: PackId, first?: ByteRange): Promise<DiskFile | undefined>;
  /** @returns How long it is in the store, which is not waited for long. @throws TcfsError where it does not say */
  lengthOf(pack: PackId): Promise<number | undefined>;
  /** Take room for bytes about to be appended, until {@link giveBack}. @throws TcfsError `TCFS_STORE_FULL` */
  reserve(bytes: number): Promise<void>;
  giveBack(bytes: number): void;
  /** A pack of this session is so long now. @param isFinal - Nothing is appended to it any more. */
  noteWritten(pack: PackId, lengthBytes: number, isFinal: boolean): void;
  /** A range of a pack will be read before long: bring it here, with room, in the background. @returns False where enough is under way. */
  approach(pack: PackId, offset: number, lengthBytes: number): boolean;
  /** It is being read. @param name - The pack's. */
  noteUsed(name: string): void;
  /** No state names it any more: delete what there is of it beside `packs`, and forget it. */
  drop(pack: PackId): Promise<void>;
  /**
   * These bytes of the local copy do not verify: give them up, if the store says now that it has the pack.
   * @returns Whether reading again gets them from there.
   */
  distrust(pack: PackId, offset: number, lengthBytes: number): Promise<boolean>;
}

/**
 * After a failed read: give up its frames, and if they do not verify the pack's header, too, where that does not open: it may
 * be damaged as well, or under a key epoch that has ended since it was fetched.
 * @param opens - Whether the header here does.
 * @returns Whether reading again gets it from the store; false for a failure of the store itself.
 */
export async function distrustChunk(
  shelf: PackShelf,
  { pack, packOffset, storedFrameBytes }: PackedChunkRecord,
  error: TcfsError,
  opens: () => Promise<boolean>,
): Promise<boolean> {
  const isDamage = error.code === "TCFS_CORRUPT";
  if (!isDamage && !isTcfsError(error.cause, "TCFS_IO")) return false;
  const isElsewhere = await shelf.distrust(pack, packOffset, sumBytes(storedFrameBytes));
  return isElsewhere && (!isDamage || (await opens()) || shelf.distrust(pack, 0, PACK_HEADER_BYTES));
}
