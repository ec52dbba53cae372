/**
 * The packs that this session writes: which are open, which job goes where, when they roll, and their flushing.
 * Chunks land in one of several open packs at random (DESIGN §4); a bounded number of sealing jobs runs at once,
 * so that one is sealed while another is written.
 */
import { dirname, join } from "node:path";

import type { SealingEngine } from "../crypto/engine.ts";
import type { PackKeyWrapper } from "../crypto/pack-key.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { PackRecord } from "../format/records.ts";
import type { PackId } from "../ids.ts";
import type { MaybePromise } from "../maybe-promise.ts";
import type { Disk, DiskFile } from "../platform/disk.ts";
import type { RandomSource } from "../platform/random.ts";
import { type PackedChunkRecord, encodePackHeader, formatPackId } from "./pack-format.ts";
import type { PackShelf } from "./pack-shelf.ts";
import { type ChunkToPack, PackWriter } from "./pack-writer.ts";
import { SealBuffers } from "./seal-buffers.ts";

const PACK_ID_BYTES = 16;
const PACK_KEY_BYTES = 32;

/** A pack's record as the metadata should have it, and as it has it. */
export interface ChangedPack {
  readonly record: PackRecord;
  readonly previous: PackRecord | undefined;
}

export interface OpenPacksOptions {
  readonly disk: Disk;
  /** The vault's `packs` directory, which is there. */
  readonly directory: string;
  readonly engine: SealingEngine;
  readonly vaultId: Uint8Array;
  readonly packKeys: PackKeyWrapper;
  readonly random: RandomSource;
  readonly packBytes: number;
  readonly openPacks: number;
  /** Sealing jobs under way at once. */
  readonly maxJobs: number;
  readonly shelf?: PackShelf | undefined;
  /** Largest bound of a job's sealed bytes: as long as each job's buffer. */
  readonly jobBytes: number;
}

/** @returns Where a pack's file is. */
export function packPath(directory: string, pack: PackId): string {
  const name = formatPackId(pack);
  return join(directory, name.slice(0, 2), name);
}

export class OpenPacks {
  readonly #options: OpenPacksOptions;
  readonly #buffers: SealBuffers;
  readonly #slots: (Promise<PackWriter> | undefined)[];
  /** Every pack of this session that still has something to flush or to tell the metadata. */
  readonly #writers = new Set<PackWriter>();
  /** Packs whose finishing runs in the background. */
  readonly #finishing = new Map<PackWriter, Promise<void>>();
  /** Could not be finished: legal as they are, and done with once the metadata knows all that is in them. */
  readonly #unfinished = new Set<PackWriter>();
  /** What the metadata knows of each writer's pack. */
  readonly #recorded = new Map<PackWriter, PackRecord>();
  /** Names of all packs that this session ever began. */
  readonly #ownNames = new Set<string>();
  /** Names of directories known to exist. */
  readonly #directories = new Set<string>();
  #hasNewDirectory = false;

  constructor(options: OpenPacksOptions) {
    this.#options = options;
    this.#buffers = new SealBuffers({ bufferBytes: options.jobBytes, maxBuffers: options.maxJobs });
    this.#slots = new Array<Promise<PackWriter> | undefined>(options.openPacks).fill(undefined);
  }

  /** Whether this session writes, or wrote and has not yet recorded, the pack. */
  isOpen(pack: PackId): boolean {
    const name = formatPackId(pack);
    for (const writer of this.#writers) if (formatPackId(writer.pack) === name) return true;
    return false;
  }

  /** Whether this session made the pack, open or not, named by the metadata or not yet. */
  isOwn(pack: PackId): boolean {
    return this.#ownNames.has(formatPackId(pack));
  }

  /**
   * Append one job's chunks to some open pack.
   * @param chunks - Their sealing bounds sum up to at most `jobBytes`. Lent until settled.
   * @returns Their places, in order; readable now, durable after {@link makeDurable}.
   * @throws TcfsError `TCFS_STORE_FULL`, `TCFS_TOO_MANY_FILES`, `TCFS_IO`; nothing stored before is harmed.
   */
  async append(chunks: readonly ChunkToPack[]): Promise<PackedChunkRecord[]> {
    const { shelf, engine } = this.#options;
    if (shelf === undefined) return this.#append(chunks);
    const boundBytes = chunks.reduce((sum, { lengthBytes }) => sum + engine.sealBoundBytes(lengthBytes), 0);
    await shelf.reserve(boundBytes);
    try {
      return await this.#append(chunks);
    } finally {
      shelf.giveBack(boundBytes);
    }
  }

  async #append(chunks: readonly ChunkToPack[]): Promise<PackedChunkRecord[]> {
    const buffer = await this.#buffers.acquire();
    try {
      const slot = this.#options.random.bytes(1)[0] ?? 0;
      return await this.#appendTo(slot % this.#slots.length, chunks, buffer);
    } finally {
      this.#buffers.release(buffer);
    }
  }

  async #appendTo(slot: number, chunks: readonly ChunkToPack[], buffer: Uint8Array): Promise<PackedChunkRecord[]> {
    for (;;) {
      const opening = (this.#slots[slot] ??= this.#create(slot));
      const writer = await opening;
      const reservation = writer.reserve(chunks);
      if (writer.isFull && this.#slots[slot] === opening) this.#slots[slot] = undefined;
      if (reservation === undefined) continue;
      try {
        return await writer.append(chunks, reservation, buffer);
      } finally {
        this.#options.shelf?.noteWritten(writer.pack, writer.record.lengthBytes, false);
        if (writer.isFull) {
          if (this.#slots[slot] === opening) this.#slots[slot] = undefined;
          this.#finishInBackground(writer);
        }
      }
    }
  }

  #create(slot: number): Promise<PackWriter> {
    const creation = this.#createPack();
    creation.catch(() => {
      if (this.#slots[slot] === creation) this.#slots[slot] = undefined;
    });
    return creation;
  }

  async #createPack(): Promise<PackWriter> {
    const { disk, directory, engine, vaultId, packKeys, random, packBytes } = this.#options;
    const pack = random.bytes(PACK_ID_BYTES) as PackId;
    const packKey = random.bytes(PACK_KEY_BYTES);
    const { keyEpoch } = engine;
    const path = packPath(directory, pack);
    this.#ownNames.add(formatPackId(pack));
    const file = await this.#createFile(path);
    try {
      const wraps = [packKeys.wrap(pack, packKey)];
      await file.write([encodePackHeader({ vaultId, keyEpoch, pack, wraps })], 0);
    } catch (error) {
      await discard(disk, file, path);
      throw error;
    }
    const cipher = engine.packCipher(pack, packKey, keyEpoch);
    packKey.fill(0);
    const sealBoundBytes = (lengthBytes: number): number => engine.sealBoundBytes(lengthBytes);
    const writer = new PackWriter({ disk, path, file, pack, cipher, packBytes, sealBoundBytes, random });
    this.#writers.add(writer);
    return writer;
  }

  /** @throws TcfsError `TCFS_IO` where `packs` is gone: to whoever writes a file of the vault that is bad I/O. */
  async #createFile(path: string): Promise<DiskFile> {
    try {
      await this.#makeDirectory(dirname(path));
      return await this.#options.disk.create(path);
    } catch (error) {
      if (!isTcfsError(error, "TCFS_NO_ENTRY") && !isTcfsError(error, "TCFS_NOT_DIRECTORY")) throw error;
      throw new TcfsError("TCFS_IO", `the directory of packs is gone: ${error.message}`, { cause: error });
    }
  }

  async #makeDirectory(path: string): Promise<void> {
    if (this.#directories.has(path)) return;
    await this.#options.disk.makeDirectory(path);
    this.#directories.add(path);
    this.#hasNewDirectory = true;
  }

  #finishInBackground(writer: PackWriter): void {
    if (this.#finishing.has(writer) || this.#unfinished.has(writer)) return;
    // A failed flush stays with the writer and meets the next makeDurable; any other failure leaves a legal pack.
    const giveUp = (): void => {
      this.#finishing.delete(writer);
      this.#unfinished.add(writer);
    };
    const finishing = this.#finish(writer).then(() => {
      if (writer.isEmpty) return this.#discard(writer);
      if (!writer.record.isFinished) giveUp(); // a write to it failed
    }, giveUp);
    this.#finishing.set(writer, finishing);
  }

  async #finish(writer: PackWriter): Promise<void> {
    try {
      await writer.finish();
    } finally {
      if (!writer.isEmpty) this.#options.shelf?.noteWritten(writer.pack, writer.record.lengthBytes, true);
    }
  }

  /** No batch will ever name it: it took nothing. */
  async #discard(writer: PackWriter): Promise<void> {
    await this.#options.disk.remove(writer.path).catch(() => undefined); // 256 bytes that mean nothing
    await this.#options.shelf?.drop(writer.pack);
    this.#writers.delete(writer);
    this.#finishing.delete(writer);
    await writer.close();
  }

  /**
   * Finish every pack, so that a collection can look into it, and those that are being made, under whichever key: new
   * chunks go to new packs. They count as closed once a batch has recorded them. After it settles {@link hasUnrecorded}
   * says whether one must come.
   */
  async retire(): Promise<void> {
    for (const [slot, opening] of this.#slots.entries()) {
      const writer = await opening?.catch(() => undefined);
      if (writer === undefined) continue;
      if (this.#slots[slot] === opening) this.#slots[slot] = undefined;
      this.#finishInBackground(writer);
    }
    await Promise.all(this.#finishing.values());
  }

  /** Whether packs were finished that no batch has recorded as such. */
  get hasUnrecorded(): boolean {
    return this.#finishing.size > 0;
  }

  /**
   * Flush all packs written so far, and the names of new ones, to the device; at once where all of it is there.
   * @returns The packs that changed since the metadata last heard of them, in a state that is durable.
   * @throws TcfsError `TCFS_IO`, for ever once a flush has failed; `TCFS_TOO_MANY_FILES`.
   */
  makeDurable(): MaybePromise<ChangedPack[]> {
    const states = [...this.#writers].filter((w) => !w.isEmpty).map((writer) => ({ writer, record: writer.record }));
    const toChanged = (): ChangedPack[] => {
      const changed = states.map(({ writer, record }) => ({ record, previous: this.#recorded.get(writer) }));
      return changed.filter(({ record, previous }) => !isSame(previous, record));
    };
    if (!this.#hasNewDirectory && states.every(({ writer }) => writer.isDurable)) return toChanged();
    return this.#flush(states.map(({ writer }) => writer)).then(toChanged);
  }

  async #flush(writers: readonly PackWriter[]): Promise<void> {
    const hasNewDirectory = this.#hasNewDirectory;
    this.#hasNewDirectory = false;
    try {
      await Promise.all(writers.map((writer) => writer.makeDurable()));
      if (!hasNewDirectory) return;
      await this.#options.disk.syncDirectory(this.#options.directory);
      await this.#options.disk.syncDirectory(dirname(this.#options.directory));
    } catch (error) {
      this.#hasNewDirectory ||= hasNewDirectory;
      throw error;
    }
  }

  /** The metadata has durably taken these answers of {@link makeDurable}: done with packs that will not change. */
  async recorded(changed: readonly ChangedPack[]): Promise<void> {
    const closing: Promise<void>[] = [];
    for (const writer of this.#writers) {
      const record = changed.find((change) => change.record.pack === writer.pack)?.record;
      if (record !== undefined) this.#recorded.set(writer, record);
      const isLast = this.#unfinished.has(writer) && isSame(this.#recorded.get(writer), writer.record);
      if (record?.isFinished === true || isLast) closing.push(this.#forget(writer));
    }
    await Promise.all(closing);
  }

  async #forget(writer: PackWriter): Promise<void> {
    await this.#finishing.get(writer);
    this.#writers.delete(writer);
    this.#finishing.delete(writer);
    this.#unfinished.delete(writer);
    this.#recorded.delete(writer);
    await writer.close();
  }

  /** Finish and close every pack; those that took nothing leave no file. After all appends have settled. */
  async close(): Promise<void> {
    for (let slot = 0; slot < this.#slots.length; slot++) this.#slots[slot] = undefined;
    const writers = [...this.#writers];
    await Promise.all(
      writers.map(async (writer) => {
        // What the metadata names is durable already: a pack that cannot be finished is only a little slower to use.
        await this.#finish(writer).catch(() => undefined);
        await this.#forget(writer);
        if (writer.isEmpty) await this.#options.disk.remove(writer.path).catch(() => undefined);
      }),
    );
  }
}

function isSame(known: PackRecord | undefined, record: PackRecord): boolean {
  if (known === undefined) return false;
  const { lengthBytes, contentBytes, isFinished } = known;
  return lengthBytes === record.lengthBytes && contentBytes === record.contentBytes && isFinished === record.isFinished;
}

/** Best effort: the failure that led here is the one to tell. */
async function discard(disk: Disk, file: DiskFile, path: string): Promise<void> {
  await file.close().catch(() => undefined);
  await disk.remove(path).catch(() => undefined);
}
