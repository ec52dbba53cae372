/**
 * Packs open for reading: a bounded number of descriptors, each with its pack's key. A pack in use is never closed
 * under its reader.
 */
import { FRAME_BYTES, type FrameRun, type PackCipher, type SealingEngine } from "../crypto/engine.ts";
import type { PackKeyWrapper } from "../crypto/pack-key.ts";
import { TcfsError, type TcfsErrorCode, isTcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { Clock } from "../platform/clock.ts";
import { DevicePace } from "../platform/device-pace.ts";
import type { Disk, DiskFile } from "../platform/disk.ts";
import type { ByteRange } from "../remote/object-store.ts";
import { FRAMES_PER_PACK } from "./frame-cache.ts";
import { packPath } from "./open-packs.ts";
import {
  MAX_FOOTER_BYTES,
  INDEX_FIRST_FRAME,
  PACK_HEADER_BYTES,
  type PackIndexEntry,
  decodePackFooter,
  decodePackHeader,
  decodePackIndex,
  formatPackId,
  sumBytes,
} from "./pack-format.ts";
import { openPackCipher } from "./pack-cipher.ts";
import type { PackShelf } from "./pack-shelf.ts";

/** 32 TiB of packs. */
const MAX_PACK_NUMBERS = 2 ** 53 / FRAMES_PER_PACK;

export interface PackReadersOptions {
  readonly disk: Disk;
  /** The vault's `packs` directory. */
  readonly directory: string;
  readonly engine: SealingEngine;
  readonly vaultId: Uint8Array;
  readonly packKeys: PackKeyWrapper;
  readonly clock: Clock;
  readonly shelf?: PackShelf | undefined;
  /** Descriptors kept open; more only while all of them are in use. */
  readonly maxOpen: number;
}

/** One pack, open. Every holder calls {@link PackReaders.release} once. */
export class PackReader {
  readonly name: string;
  /** This session's number for the pack: the same each time it is opened. */
  readonly number: number;
  /** In which it was made: its frames are under a key of then. */
  readonly keyEpoch: number;
  readonly #file: DiskFile;
  readonly #cipher: PackCipher;
  readonly #pace: DevicePace;
  userCount = 0;

  constructor(
    { name, number, keyEpoch }: Pick<PackReader, "name" | "number" | "keyEpoch">,
    file: DiskFile,
    cipher: PackCipher,
    pace: DevicePace,
  ) {
    this.#pace = pace;
    this.name = name;
    this.number = number;
    this.keyEpoch = keyEpoch;
    this.#file = file;
    this.#cipher = cipher;
  }

  /**
   * Without a hop to the thread pool, where the engine can, and the page cache holds the run or the device is quick.
   * @param places - Memory for each frame, as long as it.
   * @returns Whether they were filled.
   * @throws TcfsError `TCFS_CORRUPT`, `TCFS_IO`.
   */
  readSync(run: FrameRun, fileOffset: number, places: readonly Uint8Array[]): boolean {
    const { fd } = this.#file;
    if (fd === undefined || this.#cipher.readFramesSync === undefined) return false;
    const read = this.#cipher.readFramesSync.bind(this.#cipher, fd, fileOffset, run, places);
    try {
      return read(false) || (this.#pace.admits() && this.#pace.measure(() => read(true)));
    } catch (error) {
      throw this.#named(error, run);
    }
  }

  /**
   * @param places - Memory for each frame, as long as it; lent until settled.
   * @throws TcfsError `TCFS_CORRUPT` naming pack and frames, `TCFS_IO`.
   */
  async read(run: FrameRun, fileOffset: number, places: readonly Uint8Array[]): Promise<void> {
    try {
      const { fd } = this.#file;
      if (fd !== undefined && this.#cipher.readFrames !== undefined) {
        await this.#cipher.readFrames(fd, fileOffset, run, places);
        return;
      }
      const sealed = new Uint8Array(sumBytes(run.storedFrameBytes));
      const filled = await this.#file.readInto(sealed, fileOffset);
      if (filled < sealed.length) throw new TcfsError("TCFS_CORRUPT", "the file ends early");
      const plain = new Uint8Array(run.lengthBytes);
      await this.#cipher.unseal(run, sealed, plain);
      framesOf(plain).forEach((frame, i) => places[i]?.set(frame));
    } catch (error) {
      throw this.#named(error, run);
    }
  }

  /**
   * The pack's own table of its chunks.
   * @returns Undefined where the pack was never finished.
   * @throws TcfsError `TCFS_CORRUPT`, `TCFS_IO`.
   */
  async readIndex(pack: PackId): Promise<PackIndexEntry[] | undefined> {
    const fileBytes = await this.#file.length();
    const tail = new Uint8Array(Math.min(MAX_FOOTER_BYTES, Math.max(0, fileBytes - PACK_HEADER_BYTES)));
    const filled = await this.#file.readInto(tail, fileBytes - tail.length);
    if (filled < tail.length) throw new TcfsError("TCFS_CORRUPT", `pack ${this.name} shrinks while it is read`);
    const footer = decodePackFooter(tail, fileBytes);
    if (footer === undefined) return undefined;
    const { indexOffset, indexLengthBytes: lengthBytes, storedFrameBytes } = footer;
    const index = new Uint8Array(lengthBytes);
    await this.read({ firstFrame: INDEX_FIRST_FRAME, storedFrameBytes, lengthBytes }, indexOffset, framesOf(index));
    return decodePackIndex(pack, index, indexOffset);
  }

  length(): Promise<number> {
    return this.#file.length();
  }

  async close(): Promise<void> {
    this.#cipher.wipe();
    await this.#file.close();
  }

  #named(error: unknown, run: FrameRun): unknown {
    if (!(error instanceof TcfsError)) return error;
    const last = run.firstFrame + run.storedFrameBytes.length - 1;
    const frames = last === run.firstFrame ? `frame ${last}` : `frames ${run.firstFrame} to ${last}`;
    return new TcfsError(codeOfReader(error.code), `pack ${this.name}, ${frames}: ${error.message}`, { cause: error });
  }
}

export class PackReaders {
  readonly #options: PackReadersOptions;
  readonly #pace: DevicePace;
  /** In order of last use. */
  readonly #open = new Map<string, PackReader>();
  readonly #opening = new Map<string, Promise<void>>();
  /** Numbers are kept for the session, so that the frame cache outlives descriptors. */
  readonly #numbers = new Map<string, number>();
  #isClosed = false;

  constructor(options: PackReadersOptions) {
    this.#options = options;
    this.#pace = new DevicePace(options.clock);
    if (options.shelf !== undefined) options.shelf.letGo = (pack) => this.forget(pack);
  }

  /**
   * @param first - What will be read of it; only asked where the pack is to be opened.
   * @returns The pack, for reading, at once where it is open; to be released.
   * @throws TcfsError `TCFS_CORRUPT` if its file is missing or is not this pack, `TCFS_IO`.
   */
  acquire(pack: PackId, first?: () => ByteRange): PackReader | Promise<PackReader> {
    const name = formatPackId(pack);
    const reader = this.#open.get(name);
    if (reader === undefined) return this.#acquireLater(name, pack, first?.());
    reader.userCount += 1;
    this.#options.shelf?.noteUsed(name);
    this.#open.delete(name);
    this.#open.set(name, reader);
    return reader;
  }

  release(reader: PackReader): void {
    reader.userCount -= 1;
    if (reader.userCount === 0 && (this.#open.get(reader.name) !== reader || this.#isClosed))
      this.#closeQuietly(reader);
  }

  /** Close the pack's descriptor once unused: its file is about to go. @returns Whether nobody reads it. */
  forget(pack: PackId): boolean {
    const reader = this.#open.get(formatPackId(pack));
    if (reader === undefined) return true;
    this.#open.delete(reader.name);
    if (reader.userCount > 0) return false;
    this.#closeQuietly(reader);
    return true;
  }

  async #acquireLater(name: string, pack: PackId, first: ByteRange | undefined): Promise<PackReader> {
    if (this.#isClosed) throw new TcfsError("TCFS_CLOSED", "the chunk store is closed");
    let opening = this.#opening.get(name);
    if (opening === undefined) {
      opening = this.#openPack(name, pack, first).finally(() => this.#opening.delete(name));
      this.#opening.set(name, opening);
    }
    await opening;
    return this.acquire(pack); // opened anew in the rare case that it had to make room already
  }

  async #openPack(name: string, pack: PackId, first: ByteRange | undefined): Promise<void> {
    let file: DiskFile | undefined;
    try {
      file = await this.#openFile(pack, first);
      const bytes = new Uint8Array(PACK_HEADER_BYTES);
      const header = bytes.subarray(0, await file.readInto(bytes, 0));
      const cipher = openPackCipher(header, pack, this.#options);
      const { keyEpoch } = decodePackHeader(header);
      const reader = new PackReader({ name, number: this.#numberOf(name), keyEpoch }, file, cipher, this.#pace);
      this.#open.set(name, reader);
      this.#evict(reader);
    } catch (error) {
      await file?.close();
      if (!(error instanceof TcfsError)) throw error;
      const why = error.code === "TCFS_NO_ENTRY" ? "it is missing" : error.message;
      throw new TcfsError(codeOfReader(error.code), `pack ${name}: ${why}`, { cause: error });
    }
  }

  /** Whether its header is the pack's own. In doubt it is. */
  async opens(pack: PackId): Promise<boolean> {
    try {
      this.release(await this.acquire(pack));
      return true;
    } catch (error) {
      return !isTcfsError(error, "TCFS_CORRUPT");
    }
  }

  /** @returns Whether it was made in an older key epoch than the present one. @throws as {@link acquire}. */
  async isOfOlderEpoch(pack: PackId): Promise<boolean> {
    const reader = await this.acquire(pack);
    try {
      return reader.keyEpoch < this.#options.engine.keyEpoch;
    } finally {
      this.release(reader);
    }
  }

  /** @throws TcfsError `TCFS_IO` */
  async isHere(pack: PackId): Promise<boolean> {
    const { disk, directory } = this.#options;
    try {
      await (await disk.open(packPath(directory, pack))).close();
      return true;
    } catch (error) {
      if (isTcfsError(error, "TCFS_NO_ENTRY")) return false;
      throw error;
    }
  }

  /** @returns How long a pack is that only the store has; undefined where it is here, or there is no store. @throws TcfsError */
  async remoteLength(pack: PackId): Promise<number | undefined> {
    const { shelf } = this.#options;
    if (shelf === undefined || (await this.isHere(pack))) return undefined;
    return (await shelf.lengthOf(pack)) ?? 0;
  }

  async #openFile(pack: PackId, first: ByteRange | undefined): Promise<DiskFile> {
    const { disk, directory, shelf } = this.#options;
    try {
      return await disk.open(packPath(directory, pack));
    } catch (error) {
      const file = isTcfsError(error, "TCFS_NO_ENTRY") ? await shelf?.open(pack, first) : undefined;
      if (file === undefined) throw error;
      return file;
    }
  }

  #numberOf(name: string): number {
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    const number = this.#numbers.size + 1;
    // Beyond, keys of the frame cache would meet, and another frame's bytes be taken for these.
    if (number >= MAX_PACK_NUMBERS) throw new TcfsError("TCFS_IO", "too many packs for one session: mount anew");
    this.#numbers.set(name, number);
    return number;
  }

  /** @param newest - Stays: whoever asked for it has not yet counted itself. */
  #evict(newest: PackReader): void {
    let surplus = this.#open.size - this.#options.maxOpen;
    for (const reader of this.#open.values()) {
      if (surplus <= 0) return;
      if (reader === newest || reader.userCount > 0) continue;
      this.#open.delete(reader.name);
      this.#closeQuietly(reader);
      surplus -= 1;
    }
  }

  /** A descriptor only read from has nothing left to report. */
  #closeQuietly(reader: PackReader): void {
    reader.close().catch(() => undefined);
  }

  /** Close what is unused now, the rest when it is released. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.allSettled(this.#opening.values());
    const unused = [...this.#open.values()].filter((reader) => reader.userCount === 0);
    this.#open.clear();
    await Promise.all(unused.map((reader) => reader.close()));
  }
}

/** @returns Views of `bytes`, a frame each. */
function framesOf(bytes: Uint8Array): Uint8Array[] {
  const count = Math.ceil(bytes.length / FRAME_BYTES);
  return Array.from({ length: count }, (_, i) => bytes.subarray(i * FRAME_BYTES, (i + 1) * FRAME_BYTES));
}

/** What is wrong with a pack's file, or with the store, is no answer to whoever reads a file of the vault: to him it is damage or bad I/O. */
function codeOfReader(code: TcfsErrorCode): TcfsErrorCode {
  switch (code) {
    case "TCFS_CLOSED":
      return code;
    case "TCFS_CORRUPT":
    case "TCFS_UNKNOWN_FORMAT":
    case "TCFS_NO_ENTRY":
    case "TCFS_NOT_DIRECTORY":
    case "TCFS_IS_DIRECTORY":
      return "TCFS_CORRUPT";
    default:
      return "TCFS_IO";
  }
}
