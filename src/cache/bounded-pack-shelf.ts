/**
 * The vault's local packs within a limit of bytes, what is not yet in the store included (FORMAT.md §11.9). Deletes a
 * pack here only when the store's root names it and the store was seen to have all of it: least recently used first,
 * never what is pinned or being read. So it may be killed at any instant, and what it noted may be lost.
 */
import { dirname } from "node:path";
import { formatPackId } from "../chunkstore/pack-format.ts";
import type { PackShelf, RemotePacks } from "../chunkstore/pack-shelf.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { Disk, DiskFile } from "../platform/disk.ts";
import { BlockMap } from "./block-map.ts";
import { PartialPack } from "./partial-pack.ts";
import { ShelfFiles, removeIfThere } from "./shelf-files.ts";
import type { ShelfNote, ShelfSeal } from "./shelf-index.ts";

const SAVE_MS = 30_000;
/** Taken off the limit for what grows packs without asking: headers and indices of the open ones. */
const UNASKED_BYTES = 6 * 1024 * 1024;
/**
 * What writers are not admitted to: commits need a little more than what was admitted, since room is taken by what sealing
 * may come to at most, and small chunks leave the metadata for packs.
 */
const COMMIT_BYTES = 12 * 1024 * 1024;
/** More than is needed is given up at a time, so that pins are looked at now and then and not for each write. */
const SPARE_SHARE = 1 / 16;
const MAX_SPARE_BYTES = 256 * 1024 * 1024;
/** Looked at while writers wait for room. */
const ROOM_PAUSE_MS = 100;
/** Writers wait while uploads go on; so long without a byte, and they are told that there is no room. */
const STALLED_MS = 10_000;

export interface ShelfOptions {
  readonly disk: Disk;
  /** The vault's. */
  readonly directory: string;
  readonly clock: Clock;
  readonly remote: RemotePacks;
  readonly seal: ShelfSeal;
  readonly maxBytes: number;
  /** A read of what only the store has waits so long at most. */
  readonly waitMs: number;
}

export interface ShelfFigures {
  readonly maxBytes: number;
  /** All files of packs and blocks. */
  readonly usedBytes: number;
  /** Of these, what the store's root does not name yet: it cannot be given up. */
  readonly unsentBytes: number;
  readonly pinnedBytes: number;
  readonly packCount: number;
  readonly partialCount: number;
}

interface Entry {
  readonly pack: PackId;
  /** On this disk. */
  bytes: number;
  isStored: boolean;
  isGrowing: boolean;
  /** Its file is being deleted. */
  isLeaving?: boolean;
  /** Undefined: all of it is in `packs`. */
  partial: PartialPack | undefined;
}

/** Who brings packs to the store, while someone does. */
export interface ShelfUploads {
  /** Begin now. */
  readonly hurry: () => void;
  /** Bytes brought so far. */
  readonly progress: () => number;
  /** Whether the store's root is known to be ours no more: then nothing is given up. */
  readonly hasEnded: () => boolean;
}

export class BoundedPackShelf implements PackShelf {
  letGo: (pack: PackId) => boolean = () => true;
  uploads: ShelfUploads | undefined;
  /** Looked at before anything is given up: which packs are to stay. */
  pinned: () => Promise<ReadonlySet<string>> = () => Promise.resolve(new Set());
  readonly #options: ShelfOptions;
  /** Least recently used first. */
  readonly #entries = new Map<string, Entry>();
  readonly #files: ShelfFiles;
  #maxBytes: number;
  #usedBytes = 0;
  /** Asked for and not yet written. */
  #reservedBytes = 0;
  #storedBytes = 0;
  #pinned: ReadonlySet<string> = new Set();
  /** Of what the store has, that stays all the same: as of the last look. */
  #keptBytes = 0;
  #turn: Promise<unknown> = Promise.resolve();
  #saving: Timer | undefined;
  #isClosed = false;

  private constructor(options: ShelfOptions) {
    this.#options = options;
    this.#maxBytes = options.maxBytes;
    this.#files = new ShelfFiles(options.disk, options.directory, options.seal);
  }

  static async open(options: ShelfOptions): Promise<BoundedPackShelf> {
    const shelf = new BoundedPackShelf(options);
    for (const { pack, lengthBytes, isStored, blocks } of await shelf.#files.load()) {
      if (blocks !== undefined) shelf.#addPartial(pack, blocks);
      else shelf.#add({ pack, bytes: lengthBytes, isStored, isGrowing: false, partial: undefined });
    }
    return shelf;
  }

  get maxBytes(): number {
    return this.#maxBytes;
  }

  figures(): ShelfFigures {
    let [unsentBytes, pinnedBytes, partialCount] = [0, 0, 0];
    for (const [name, { bytes, isStored, partial }] of this.#entries) {
      if (!isStored) unsentBytes += bytes;
      if (this.#pinned.has(name)) pinnedBytes += bytes;
      if (partial !== undefined) partialCount += 1;
    }
    const { usedBytes, maxBytes } = { usedBytes: this.#usedBytes, maxBytes: this.#maxBytes };
    return { maxBytes, usedBytes, unsentBytes, pinnedBytes, packCount: this.#entries.size, partialCount };
  }

  /** What may be written until uploads or a higher limit make more room. */
  get freeBytes(): number {
    const spareBytes = this.uploads?.hasEnded() === true ? 0 : this.#storedBytes - this.#keptBytes;
    const kept = this.#usedBytes - spareBytes + this.#reservedBytes;
    return Math.max(0, this.#limitBytes - COMMIT_BYTES - kept);
  }

  /** How much of the local packs is on this disk: `none`, `some` of its blocks, or `all`. */
  presence(pack: PackId): "none" | "some" | "all" {
    const entry = this.#entries.get(formatPackId(pack));
    if (entry === undefined) return "none";
    return entry.partial === undefined || entry.partial.blocks.isComplete ? "all" : "some";
  }

  /** @returns Undefined where nothing of it is here. */
  bytesOf(pack: PackId): number | undefined {
    return this.#entries.get(formatPackId(pack))?.bytes;
  }

  /** Whether the store's root names the pack: for what is not here it does. */
  isStored(pack: PackId): boolean {
    return this.#entries.get(formatPackId(pack))?.isStored ?? true;
  }

  /** Packs here that the store's root is not known to name, and to which nothing is appended. */
  unstored(): PackId[] {
    return [...this.#entries.values()].filter((e) => !e.isStored && !e.isGrowing).map(({ pack }) => pack);
  }

  /**
   * The store's root names the pack, and the store has so many bytes of it.
   * @returns False if here it has another length: then it stays.
   */
  noteStored(pack: PackId, lengthBytes: number): boolean {
    const entry = this.#entries.get(formatPackId(pack));
    if (entry === undefined || entry.isGrowing || entry.isStored) return true;
    if (entry.bytes !== lengthBytes) return false;
    this.#count(entry, () => {
      entry.isStored = true;
    });
    this.#saveLater();
    return true;
  }

  async setMaxBytes(maxBytes: number): Promise<void> {
    this.#maxBytes = maxBytes;
    await this.#makeRoom(0);
  }

  /** Give up all that may be given up. @returns Bytes. */
  async clear(): Promise<number> {
    const before = this.#usedBytes;
    await this.#makeRoom(Infinity);
    await this.#save();
    return before - this.#usedBytes;
  }

  /** The vault's disk runs full: give up so much, if there is so much. */
  relieve(bytes: number): Promise<void> {
    return this.#makeRoom(Math.max(0, this.#limitBytes - this.#usedBytes) + bytes);
  }

  async lengthOf(pack: PackId): Promise<number | undefined> {
    const entry = this.#entries.get(formatPackId(pack));
    return entry?.partial?.blocks.lengthBytes ?? (await this.#bounded(this.#options.remote.lengthOf(pack)));
  }

  async open(pack: PackId): Promise<DiskFile | undefined> {
    const name = formatPackId(pack);
    while (this.#entries.get(name)?.isLeaving === true) await this.#turn;
    const entry = this.#entries.get(name);
    if (entry !== undefined && entry.partial === undefined) {
      const file = await this.#openWhole(pack); // it has come meanwhile
      if (file !== undefined) return file;
      this.#remove(entry);
    }
    return (await this.#partialOf(pack))?.open();
  }

  async #openWhole(pack: PackId): Promise<DiskFile | undefined> {
    try {
      return await this.#options.disk.open(this.#files.packPath(pack));
    } catch (error) {
      if (isTcfsError(error, "TCFS_NO_ENTRY")) return undefined;
      throw error;
    }
  }

  /** Bring all of a pack here. @throws TcfsError `TCFS_STORE_FULL` if there is no room; what the store throws. */
  async fetch(pack: PackId): Promise<void> {
    const entry = this.#entries.get(formatPackId(pack));
    if (entry !== undefined && entry.isLeaving !== true && entry.partial === undefined) return;
    const partial = await this.#partialOf(pack);
    if (partial === undefined) throw new TcfsError("TCFS_CORRUPT", `pack ${formatPackId(pack)} is not in the store`);
    await partial.complete();
    if (!partial.blocks.isComplete)
      throw new TcfsError("TCFS_STORE_FULL", "the cache has no room for what it is to hold");
    await this.#turn; // it is moved to `packs`
  }

  async reserve(bytes: number): Promise<void> {
    if (!(await this.#reserve(bytes))) {
      throw new TcfsError("TCFS_STORE_FULL", "the local packs have reached their limit, and the store lacks them");
    }
  }

  giveBack(bytes: number): void {
    this.#reservedBytes -= bytes;
  }

  noteWritten(pack: PackId, lengthBytes: number, isFinal: boolean): void {
    const name = formatPackId(pack);
    const known = this.#entries.get(name);
    if (known?.isStored === true) return;
    const entry = known ?? this.#add({ pack, bytes: 0, isStored: false, isGrowing: true, partial: undefined });
    this.#count(entry, () => {
      entry.bytes = Math.max(entry.bytes, lengthBytes);
      entry.isGrowing &&= !isFinal;
    });
    this.#touch(name);
  }

  noteUsed(name: string): void {
    this.#touch(name);
  }

  async drop(pack: PackId): Promise<void> {
    const entry = this.#entries.get(formatPackId(pack));
    if (entry === undefined) return;
    this.#remove(entry);
    if (entry.partial !== undefined) await removeIfThere(this.#options.disk, this.#files.blocksPath(pack));
  }

  async distrust(pack: PackId, offset: number, lengthBytes: number): Promise<boolean> {
    const entry = this.#entries.get(formatPackId(pack));
    if (entry?.isStored !== true || entry.isLeaving === true) return false;
    const partial = entry.partial ?? (await this.#demote(entry));
    if (partial === undefined) return false;
    this.#count(entry, () => {
      partial.distrust(offset, lengthBytes);
      entry.bytes = partial.blocks.heldBytes;
    });
    return true;
  }

  /**
   * Wait for room, as long as uploads make some.
   * @returns Whether there is more than `bytes`; false where none is to be expected.
   */
  async awaitRoom(bytes: number): Promise<boolean> {
    const { clock } = this.#options;
    let progress = this.uploads?.progress() ?? 0;
    let since = clock.monotonicMs();
    while (this.freeBytes <= bytes && !this.#isClosed) {
      if (this.uploads === undefined || this.uploads.hasEnded()) return false;
      this.uploads.hurry();
      await new Promise<void>((resolve) => clock.after(ROOM_PAUSE_MS, resolve));
      const now = this.uploads.progress();
      if (now !== progress) since = clock.monotonicMs();
      progress = now;
      if (clock.monotonicMs() - since >= STALLED_MS) return this.freeBytes > bytes;
    }
    return !this.#isClosed;
  }

  /** After whoever fetches has given up. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#saving?.cancel();
    for (const { partial } of this.#entries.values()) await partial?.idle();
    await this.#turn;
    await this.#save();
  }

  async #partialOf(pack: PackId): Promise<PartialPack | undefined> {
    const name = formatPackId(pack);
    while (this.#entries.get(name)?.isLeaving === true) await this.#turn;
    if (this.#entries.get(name) === undefined) {
      const lengthBytes = await this.lengthOf(pack);
      if (lengthBytes === undefined) return undefined;
      if (!this.#entries.has(name)) this.#addPartial(pack, new BlockMap(lengthBytes));
    }
    this.#touch(name);
    return this.#entries.get(name)?.partial;
  }

  #addPartial(pack: PackId, blocks: BlockMap): PartialPack {
    const entry = this.#add({ pack, bytes: blocks.heldBytes, isStored: true, isGrowing: false, partial: undefined });
    return (entry.partial = this.#newPartial(entry, blocks));
  }

  #newPartial(entry: Entry, blocks: BlockMap): PartialPack {
    const partial = new PartialPack(entry.pack, blocks, {
      disk: this.#options.disk,
      remote: this.#options.remote,
      path: this.#files.blocksPath(entry.pack),
      reserve: (bytes) => this.#reserve(bytes),
      giveBack: (bytes) => {
        this.giveBack(bytes);
      },
      onKept: (bytes) => {
        this.giveBack(bytes);
        this.#count(entry, () => {
          entry.bytes = blocks.heldBytes;
        });
        this.#saveLater();
        if (blocks.isComplete) void this.#inTurn(() => this.#promote(entry)).catch(() => undefined); // well as it is
      },
      bounded: (work) => this.#bounded(work),
    });
    return partial;
  }

  /** All of it is here: it becomes a file like those that were written here. */
  async #promote(entry: Entry): Promise<void> {
    const { disk } = this.#options;
    const { partial, pack } = entry;
    if (partial?.blocks.isComplete !== true || !this.#entries.has(formatPackId(pack))) return;
    const path = this.#files.packPath(pack);
    await disk.makeDirectory(dirname(path));
    await partial.settle(async () => {
      await disk.rename(this.#files.blocksPath(pack), path);
      await disk.syncDirectory(dirname(path));
    });
    entry.partial = undefined;
  }

  /** Some of it is to be fetched again: its file becomes one of blocks. */
  async #demote(entry: Entry): Promise<PartialPack | undefined> {
    const { disk } = this.#options;
    const { pack } = entry;
    return this.#inTurn(async () => {
      if (entry.partial !== undefined) return entry.partial;
      if (!this.#entries.has(formatPackId(pack))) return undefined;
      const blocks = new BlockMap(entry.bytes);
      for (let block = 0; block < blocks.count; block++) blocks.add(block);
      await disk.rename(this.#files.packPath(pack), this.#files.blocksPath(pack));
      this.letGo(pack);
      entry.partial = this.#newPartial(entry, blocks);
      return entry.partial;
    });
  }

  /** @returns Whether there is room for bytes, which are taken. */
  async #reserve(bytes: number): Promise<boolean> {
    if (this.#usedBytes + this.#reservedBytes + bytes > this.#limitBytes) {
      await this.#makeRoom(bytes);
      if (this.#usedBytes + this.#reservedBytes + bytes > this.#limitBytes) return false;
    }
    this.#reservedBytes += bytes;
    return true;
  }

  get #limitBytes(): number {
    return this.#maxBytes - UNASKED_BYTES;
  }

  /** Give up packs until bytes fit, as far as there are any to be given up. */
  #makeRoom(bytes: number): Promise<void> {
    return this.#inTurn(async () => {
      const overBytes = (): number => this.#usedBytes + this.#reservedBytes + bytes - this.#limitBytes;
      if (overBytes() <= 0 || this.#storedBytes === 0 || this.uploads?.hasEnded() === true) return;
      await this.#lookAtPins();
      const spareBytes = Math.min(MAX_SPARE_BYTES, this.#maxBytes * SPARE_SHARE);
      for (const [name, entry] of this.#entries) {
        if (overBytes() + spareBytes <= 0) return;
        if (entry.isStored && !this.#pinned.has(name)) await this.#evict(entry);
      }
    });
  }

  async #lookAtPins(): Promise<void> {
    this.#pinned = await this.pinned();
    this.#keptBytes = 0;
    for (const name of this.#pinned) {
      const entry = this.#entries.get(name);
      if (entry?.isStored === true) this.#keptBytes += entry.bytes;
    }
  }

  /** The store's copy is the same: whatever comes between, reading it goes on from there. */
  async #evict(entry: Entry): Promise<void> {
    const { disk } = this.#options;
    const { pack, partial } = entry;
    if (!this.letGo(pack) || partial?.isBusy === true) return;
    entry.isLeaving = true; // who asks for it waits until it is gone, and begins anew
    try {
      await removeIfThere(disk, partial === undefined ? this.#files.packPath(pack) : this.#files.blocksPath(pack));
      this.#remove(entry);
    } finally {
      entry.isLeaving = false;
    }
    this.#saveLater();
  }

  #add(entry: Entry): Entry {
    this.#entries.set(formatPackId(entry.pack), entry);
    this.#usedBytes += entry.bytes;
    if (entry.isStored) this.#storedBytes += entry.bytes;
    return entry;
  }

  #remove(entry: Entry): void {
    if (!this.#entries.delete(formatPackId(entry.pack))) return;
    this.#usedBytes -= entry.bytes;
    if (entry.isStored) this.#storedBytes -= entry.bytes;
  }

  /** Change what an entry counts for. */
  #count(entry: Entry, change: () => void): void {
    const before = { bytes: entry.bytes, isStored: entry.isStored };
    change();
    if (this.#entries.get(formatPackId(entry.pack)) !== entry) return;
    this.#usedBytes += entry.bytes - before.bytes;
    this.#storedBytes += (entry.isStored ? entry.bytes : 0) - (before.isStored ? before.bytes : 0);
  }

  #touch(name: string): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    this.#entries.delete(name);
    this.#entries.set(name, entry);
    this.#saveLater();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  /** @throws TcfsError `TCFS_REMOTE_UNAVAILABLE` when it takes too long; the work goes on. */
  async #bounded<T>(work: Promise<T>): Promise<T> {
    const { clock, waitMs } = this.#options;
    let timer: Timer | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = clock.after(waitMs, () => {
        reject(new TcfsError("TCFS_REMOTE_UNAVAILABLE", "the store does not answer in time"));
      });
    });
    try {
      return await Promise.race([work, late]);
    } finally {
      timer?.cancel();
    }
  }

  #saveLater(): void {
    if (this.#isClosed) return;
    this.#saving ??= this.#options.clock.after(SAVE_MS, () => {
      void this.#inTurn(() => this.#save());
    });
  }

  async #save(): Promise<void> {
    this.#saving?.cancel();
    this.#saving = undefined;
    const notes = [...this.#entries.values()].map((entry): ShelfNote => {
      const blocks = entry.partial?.blocks;
      return { pack: entry.pack, lengthBytes: blocks?.lengthBytes ?? entry.bytes, isStored: entry.isStored, blocks };
    });
    await this.#files.save(notes);
  }
}
