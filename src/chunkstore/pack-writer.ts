/**
 * One pack while it grows (FORMAT.md §5). Frame numbers are taken before anything is sealed and never given out
 * twice, not even after a failed write; a pack is appended to by the session that made it and by no other.
 */
import { dirname } from "node:path";

import type { PackCipher, SealInput } from "../crypto/engine.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import { padme } from "../format/replica-codec.ts";
import type { PackRecord } from "../format/records.ts";
import type { ChunkId, PackId } from "../ids.ts";
import type { Disk, DiskFile } from "../platform/disk.ts";
import type { RandomSource } from "../platform/random.ts";
import {
  INDEX_FIRST_FRAME,
  PACK_HEADER_BYTES,
  type PackIndexEntry,
  type PackedChunkRecord,
  encodePackFooter,
  encodePackIndex,
  formatPackId,
  frameCount,
  indexEntryBytes,
  packFooterBytes,
  sumBytes,
} from "./pack-format.ts";

/** The index is sealed like a chunk, so it must not outgrow one; far below, so that finishing a pack stays short. */
const MAX_INDEX_BYTES = 1024 * 1024;

/** A chunk on its way into a pack. */
export interface ChunkToPack extends SealInput {
  readonly id: ChunkId;
}

export interface PackWriterOptions {
  readonly disk: Pick<Disk, "syncDirectory">;
  readonly path: string;
  readonly file: DiskFile;
  readonly pack: PackId;
  /** Owned: wiped when the pack is closed. */
  readonly cipher: PackCipher;
  /** Stored bytes at which the pack counts as full. */
  readonly packBytes: number;
  readonly sealBoundBytes: (lengthBytes: number) => number;
  readonly random: RandomSource;
}

/** Room in a pack for one sealing job. */
export interface PackReservation {
  readonly firstFrame: number;
  readonly boundBytes: number;
}

export class PackWriter {
  readonly pack: PackId;
  readonly path: string;
  readonly #disk: Pick<Disk, "syncDirectory">;
  readonly #file: DiskFile;
  readonly #cipher: PackCipher;
  readonly #packBytes: number;
  readonly #sealBoundBytes: (lengthBytes: number) => number;
  readonly #random: RandomSource;
  readonly #index: PackIndexEntry[] = [];
  #indexBytes = 0;
  #contentBytes = 0;
  #nextFrame = 0;
  /** Where the next write goes. */
  #end = PACK_HEADER_BYTES;
  /** What has been written reaches to here, though it may have gaps that failed writes left. */
  #writtenEnd = PACK_HEADER_BYTES;
  /** Upper bound of what reserved jobs will still append. */
  #reservedBytes = 0;
  #jobCount = 0;
  /** Takes no more chunks. */
  #isSealed = false;
  #isBroken = false;
  #isFinished = false;
  #finishing: Promise<void> | undefined;
  #isUnsynced = true;
  #isLinked = false;
  /** A failed flush; for good, since the kernel may report it only once. */
  #failure: TcfsError | undefined;
  #syncing: Promise<void> | undefined;
  #idle: (() => void) | undefined;

  constructor(options: PackWriterOptions) {
    this.pack = options.pack;
    this.path = options.path;
    this.#disk = options.disk;
    this.#file = options.file;
    this.#cipher = options.cipher;
    this.#packBytes = options.packBytes;
    this.#sealBoundBytes = options.sealBoundBytes;
    this.#random = options.random;
  }

  /** As far as written by now; call it before {@link makeDurable} and put it into the metadata after. */
  get record(): PackRecord {
    return {
      pack: this.pack,
      lengthBytes: this.#writtenEnd,
      contentBytes: this.#contentBytes,
      isFinished: this.#isFinished,
    };
  }

  /** Whether {@link makeDurable} has nothing to do. */
  get isDurable(): boolean {
    return this.#syncing === undefined && this.#failure === undefined && !this.#isUnsynced && this.#isLinked;
  }

  get isFull(): boolean {
    return this.#isSealed;
  }

  get isEmpty(): boolean {
    return this.#index.length === 0;
  }

  /**
   * Take frame numbers and room, at once and for good.
   * @returns Undefined where the pack is full: roll to another.
   */
  reserve(chunks: readonly ChunkToPack[]): PackReservation | undefined {
    if (this.#isSealed) return undefined;
    let frames = 0;
    let boundBytes = 0;
    let indexBytes = 0;
    for (const { lengthBytes } of chunks) {
      frames += frameCount(lengthBytes);
      boundBytes += this.#sealBoundBytes(lengthBytes);
      indexBytes += indexEntryBytes(lengthBytes);
    }
    const firstFrame = this.#nextFrame;
    this.#nextFrame += frames;
    this.#reservedBytes += boundBytes;
    this.#indexBytes += indexBytes;
    this.#jobCount += 1;
    if (this.#end + this.#reservedBytes >= this.#packBytes || this.#indexBytes >= MAX_INDEX_BYTES) this.seal();
    return { firstFrame, boundBytes };
  }

  /**
   * Seal chunks into the room reserved for them and append them in one write.
   * @param chunks - Those that were reserved for. Lent until settled.
   * @param output - Scratch of at least `reservation.boundBytes`. Lent until settled.
   * @returns The chunks' places, in order.
   */
  async append(
    chunks: readonly ChunkToPack[],
    reservation: PackReservation,
    output: Uint8Array,
  ): Promise<PackedChunkRecord[]> {
    try {
      const sealed = await this.#cipher.seal(chunks, reservation.firstFrame, output);
      const last = sealed.at(-1);
      const lengthBytes = last === undefined ? 0 : last.outputOffset + sumBytes(last.storedFrameBytes);
      const offset = this.#end;
      this.#end += lengthBytes;
      await this.#write(output.subarray(0, lengthBytes), offset);
      return sealed.map((chunk, i) => {
        const record: PackedChunkRecord = {
          kind: "packed",
          pack: this.pack,
          packOffset: offset + chunk.outputOffset,
          firstFrame: chunk.firstFrame,
          lengthBytes: chunk.lengthBytes,
          storedFrameBytes: chunk.storedFrameBytes,
        };
        this.#contentBytes += chunk.lengthBytes;
        const id = chunks[i]?.id;
        if (id !== undefined) this.#index.push({ id, record });
        return record;
      });
    } finally {
      this.#reservedBytes -= reservation.boundBytes;
      this.#jobCount -= 1;
      if (this.#jobCount === 0) this.#idle?.();
    }
  }

  /** A disk without room leaves the pack in use, a failing one does not; either way the region is abandoned. */
  async #write(bytes: Uint8Array, offset: number): Promise<void> {
    try {
      await this.#file.write([bytes], offset);
    } catch (error) {
      if (!isTcfsError(error, "TCFS_STORE_FULL")) {
        this.#isBroken = true;
        this.seal();
      } else if (this.#end === offset + bytes.length) this.#end = offset; // nothing was written behind it
      throw error;
    }
    this.#isUnsynced = true;
    this.#writtenEnd = Math.max(this.#writtenEnd, offset + bytes.length);
  }

  /** Take no more chunks. */
  seal(): void {
    this.#isSealed = true;
  }

  /**
   * Once the running jobs are done: append the sealed index and the footer, and flush. Fails without harm: an
   * unfinished pack is legal, its chunks are read through their records.
   */
  finish(): Promise<void> {
    this.seal();
    this.#finishing ??= this.#finish();
    return this.#finishing;
  }

  async #finish(): Promise<void> {
    if (this.#jobCount > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    if (this.#isBroken || this.isEmpty) return;
    const index = encodePackIndex(this.#index, this.#random);
    const output = new Uint8Array(this.#sealBoundBytes(index.length));
    const input = { pieces: [index], lengthBytes: index.length };
    const [sealed] = await this.#cipher.seal([input], INDEX_FIRST_FRAME, output);
    if (sealed === undefined) throw new RangeError("the engine sealed nothing");
    const { storedFrameBytes } = sealed;
    const indexBytes = sumBytes(storedFrameBytes);
    const tailBytes = indexBytes + packFooterBytes(index.length);
    const end = padme(this.#end + tailBytes);
    const indexOffset = end - tailBytes;
    const padding = this.#random.bytes(indexOffset - this.#end);
    const footer = encodePackFooter({ indexOffset, indexLengthBytes: index.length, storedFrameBytes });
    await this.#file.write([padding, output.subarray(0, indexBytes), footer], this.#end);
    await this.#file.truncate(end); // an abandoned write may have left bytes behind
    this.#isUnsynced = true; // now, not before: a commit may have flushed the file meanwhile
    this.#end = end;
    this.#writtenEnd = end;
    this.#isFinished = true;
    await this.makeDurable();
  }

  /**
   * Flush everything written before this call, and the file's name, to the device.
   * @throws TcfsError `TCFS_IO`, and the same again for ever: flushing once more would prove nothing;
   *   `TCFS_TOO_MANY_FILES`, after which it can be asked again.
   */
  async makeDurable(): Promise<void> {
    while (this.#syncing !== undefined) await this.#syncing;
    if (this.#failure !== undefined) throw this.#failure;
    if (!this.#isUnsynced && this.#isLinked) return;
    this.#syncing = this.#sync();
    try {
      await this.#syncing;
    } finally {
      this.#syncing = undefined;
    }
  }

  async #sync(): Promise<void> {
    const isLinked = this.#isLinked;
    const isUnsynced = this.#isUnsynced;
    this.#isUnsynced = false;
    const [content, name] = await Promise.allSettled([
      isUnsynced ? this.#file.sync() : undefined,
      isLinked ? undefined : this.#disk.syncDirectory(dirname(this.path)),
    ]);
    // The directory was not even opened, so nothing was asked of the device.
    const isUnasked = name.status === "rejected" && isTcfsError(name.reason, "TCFS_TOO_MANY_FILES");
    const failed = [content, isUnasked ? undefined : name].find((part) => part?.status === "rejected");
    if (failed?.status === "rejected") {
      const message = `pack ${formatPackId(this.pack)} could not be flushed`;
      this.#failure = new TcfsError("TCFS_IO", message, { cause: failed.reason });
      throw this.#failure;
    }
    if (isUnasked) throw name.reason;
    this.#isLinked = true;
  }

  /** Close the file and wipe the key; after {@link finish} has settled. */
  async close(): Promise<void> {
    this.#cipher.wipe();
    await this.#file.close();
  }
}
