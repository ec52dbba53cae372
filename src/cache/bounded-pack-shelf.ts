/**
 * The vault's local packs within a limit of bytes, what is not yet in the store included (FORMAT.md §11.9). Deletes a
 * pack here only when the store's root names it and the store was seen to have all of it: least recently used first,
 * never what is pinned or being read. So it may be killed at any instant, and what it noted may be lost.
 */
import { counted } from "../counted.ts";
import { formatPackId } from "../chunkstore/pack-format.ts";
import type { PackShelf, RemotePacks } from "../chunkstore/pack-shelf.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { Disk, DiskFile } from "../platform/disk.ts";
import type { ByteRange } from "../remote/object-store.ts";
import { PartialPacks } from "./partial-packs.ts";
import { StoreWitness } from "./store-witness.ts";
import { within } from "./within.ts";
import { ShelfEntries, type ShelfEntry, newEntry } from "./shelf-entries.ts";
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
/** Packs that the store is asked for at once, before they go. */
const ASKED_AT_ONCE = 8;
/** More than is needed is given up at a time, so that pins are looked at now and then and not for each write. */
const SPARE_SHARE = 1 / 16;
const MAX_SPARE_BYTES = 256 * 1024 * 1024;
/** With less that may be given up, what is brought before it is read would push out what has not been read yet. */
const AHEAD_ROOM_BYTES = 64 * 1024 * 1024;
/** Looked at while writers wait for room. */
const ROOM_PAUSE_MS = 100;
/** Writers wait while uploads go on; so long with none under way, and they are told that there is no room. */
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

/** Who brings packs to the store, while someone does. */
export interface ShelfUploads {
  /** Begin now. */
  readonly hurry: () => void;
  /** Bytes brought so far. */
  readonly progress: () => number;
  /** Whether something is on its way, with no failure since something came through: what hangs fails in the end. */
  readonly isUnderWay: () => boolean;
  /** Whether the store's root is known to be ours no more: then nothing is given up. */
  readonly hasEnded: () => boolean;
  /** The store does not have a pack any more that is here. */
  readonly noteLost: (pack: PackId) => void;
}

export class BoundedPackShelf implements PackShelf {
  letGo: (pack: PackId) => boolean = () => true;
  uploads: ShelfUploads | undefined;
  /** Looked at before anything is given up: which packs are to stay. */
  pinned: () => Promise<ReadonlySet<string>> = () => Promise.resolve(new Set());
  readonly #options: ShelfOptions;
  readonly #entries = new ShelfEntries();
  readonly #files: ShelfFiles;
  readonly #witness: StoreWitness;
  readonly #partials: PartialPacks;
  #maxBytes: number;
  /** Asked for and not yet written. */
  #reservedBytes = 0;
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
    this.#witness = new StoreWitness(options);
    this.#partials = new PartialPacks({
      ...options,
      entries: this.#entries,
      files: this.#files,
      reserve: (bytes) => this.#reserve(bytes),
      giveBack: (bytes) => {
        this.giveBack(bytes);
      },
      onChange: () => {
        this.#saveLater();
      },
      inTurn: (work) => this.#inTurn(work),
      letGo: (pack) => this.letGo(pack),
    });
  }

  static async open(options: ShelfOptions): Promise<BoundedPackShelf> {
    const shelf = new BoundedPackShelf(options);
    for (const { pack, lengthBytes, isStored, blocks } of await shelf.#files.load()) {
      if (blocks !== undefined) shelf.#partials.add(pack, blocks);
      else shelf.#entries.add({ ...newEntry(pack), bytes: lengthBytes, isStored });
    }
    return shelf;
  }

  get maxBytes(): number {
    return this.#maxBytes;
  }

  figures(): ShelfFigures {
    let [unsentBytes, pinnedBytes, partialCount] = [0, 0, 0];
    for (const { pack, bytes, isStored, partial } of this.#entries.all()) {
      if (!isStored) unsentBytes += bytes;
      if (this.#pinned.has(formatPackId(pack))) pinnedBytes += bytes;
      if (partial !== undefined) partialCount += 1;
    }
    const { usedBytes, maxBytes } = { usedBytes: this.#entries.usedBytes, maxBytes: this.#maxBytes };
    return { maxBytes, usedBytes, unsentBytes, pinnedBytes, packCount: this.#entries.count, partialCount };
  }

  /** What may be written until uploads or a higher limit make more room. */
  get freeBytes(): number {
    const spareBytes = this.uploads?.hasEnded() === true ? 0 : this.#entries.storedBytes - this.#keptBytes;
    const kept = this.#entries.usedBytes - spareBytes + this.#reservedBytes;
    return Math.max(0, this.#limitBytes - COMMIT_BYTES - kept);
  }

  /** How much of the local packs is on this disk: `none`, `some` of its blocks, or `all`. */
  presence(pack: PackId): "none" | "some" | "all" {
    const entry = this.#entries.get(pack);
    if (entry === undefined) return "none";
    return entry.partial === undefined || entry.partial.blocks.isComplete ? "all" : "some";
  }

  /** @returns Undefined where nothing of it is here. */
  bytesOf(pack: PackId): number | undefined {
    return this.#entries.get(pack)?.bytes;
  }

  /** Whether the store's root names the pack: for what is not here it does. */
  isStored(pack: PackId): boolean {
    return this.#entries.get(pack)?.isStored ?? true;
  }

  /** Packs here that the store's root is not known to name, and to which nothing is appended. */
  unstored(): PackId[] {
    return this.#entries
      .all()
      .filter((e) => !e.isStored && !e.isGrowing)
      .map(({ pack }) => pack);
  }

  /**
   * The store's root names the pack, and the store has so many bytes of it.
   * @returns False if here it has another length: then it stays.
   */
  noteStored(pack: PackId, lengthBytes: number): boolean {
    const entry = this.#entries.get(pack);
    if (entry === undefined || entry.isGrowing || entry.isStored) return true;
    if (entry.bytes !== lengthBytes) return false;
    this.#entries.change(entry, { isStored: true, seenAtMs: this.#options.clock.monotonicMs() });
    this.#saveLater();
    return true;
  }

  async setMaxBytes(maxBytes: number): Promise<void> {
    this.#maxBytes = maxBytes;
    await this.#makeRoom(0);
  }

  /**
   * Give up all that may be given up, and that the store says it has now.
   * @returns Bytes.
   * @throws TcfsError `TCFS_REMOTE_UNAVAILABLE` if it does not answer.
   */
  async clear(): Promise<number> {
    const before = this.#entries.usedBytes;
    this.#witness.listenAgain();
    const silentCount = await this.#makeRoom(Infinity, true);
    await this.#save();
    if (silentCount === 0) return before - this.#entries.usedBytes;
    const message = `the store does not answer: ${counted(silentCount, "pack stays", "packs stay")} here until it can be asked for ${silentCount === 1 ? "it" : "them"}`;
    throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", message);
  }

  /** The vault's disk runs full: give up so much, if there is so much. */
  async relieve(bytes: number): Promise<void> {
    await this.#makeRoom(Math.max(0, this.#limitBytes - this.#entries.usedBytes) + bytes);
  }

  lengthOf(pack: PackId): Promise<number | undefined> {
    return this.#witness.lengthOf(pack);
  }

  async open(pack: PackId, first?: ByteRange): Promise<DiskFile | undefined> {
    const name = formatPackId(pack);
    while (this.#entries.ofName(name)?.isLeaving === true) await this.#turn;
    const entry = this.#entries.ofName(name);
    if (entry !== undefined && entry.partial === undefined) {
      const file = await this.#openWhole(pack); // it has come meanwhile
      if (file !== undefined) return file;
      this.#entries.remove(entry);
    }
    return this.#partials.use(pack, (found) => found && (found.partial?.open() ?? this.#openWhole(pack)), first);
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
    const entry = this.#entries.get(pack);
    if (entry !== undefined && entry.isLeaving !== true && entry.partial === undefined) return;
    if (!(await this.#partials.complete(pack)))
      throw new TcfsError("TCFS_STORE_FULL", "the cache has no room for what it is to hold");
    await this.#turn; // it is moved to `packs`
  }

  approach(pack: PackId, offset: number, lengthBytes: number): boolean {
    return this.freeBytes < AHEAD_ROOM_BYTES || this.#partials.approach(pack, offset, lengthBytes);
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
    const known = this.#entries.ofName(name);
    if (known?.isStored === true) return;
    const entry = known ?? this.#entries.add({ ...newEntry(pack), isGrowing: true });
    const isGrowing = entry.isGrowing && !isFinal;
    this.#entries.change(entry, { bytes: Math.max(entry.bytes, lengthBytes), isGrowing });
    this.#touch(name);
  }

  noteUsed(name: string): void {
    this.#touch(name);
  }

  async drop(pack: PackId): Promise<void> {
    const entry = this.#entries.get(pack);
    if (entry === undefined) return;
    this.#entries.remove(entry);
    if (entry.partial !== undefined) await removeIfThere(this.#options.disk, this.#files.blocksPath(pack));
  }

  async distrust(pack: PackId, offset: number, lengthBytes: number): Promise<boolean> {
    const before = this.#entries.get(pack);
    // What is given up here before it can come from there would be missed, with all that lies beside it in its blocks.
    if (!canBeDistrusted(before) || !(await this.#isThere(before))) return false;
    const entry = this.#entries.get(pack);
    if (!canBeDistrusted(entry)) return false;
    const partial = entry.partial ?? (await this.#partials.demote(entry));
    if (partial === undefined) return false;
    partial.distrust(offset, lengthBytes);
    this.#entries.change(entry, { bytes: partial.blocks.heldBytes });
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
      if (now !== progress || this.uploads.isUnderWay()) since = clock.monotonicMs();
      progress = now;
      if (clock.monotonicMs() - since >= STALLED_MS) return this.freeBytes > bytes;
    }
    return !this.#isClosed;
  }

  /** After whoever fetches has given up. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#saving?.cancel();
    for (const { partial } of this.#entries.all()) await partial?.idle();
    await this.#turn;
    await this.#save();
  }

  /** @returns Whether there is room for bytes, which are taken. */
  async #reserve(bytes: number): Promise<boolean> {
    if (this.#entries.usedBytes + this.#reservedBytes + bytes > this.#limitBytes) {
      await this.#makeRoom(bytes);
      if (this.#entries.usedBytes + this.#reservedBytes + bytes > this.#limitBytes) return false;
    }
    this.#reservedBytes += bytes;
    return true;
  }

  get #limitBytes(): number {
    return this.#maxBytes - UNASKED_BYTES;
  }

  /**
   * Give up packs until bytes fit, as far as there are any to be given up.
   * @param isSure - What a store that does not answer was seen to have stays, too.
   * @returns How many packs stayed for that.
   */
  #makeRoom(bytes: number, isSure = false): Promise<number> {
    return this.#inTurn(async () => {
      const spareBytes = Math.min(MAX_SPARE_BYTES, this.#maxBytes * SPARE_SHARE);
      const overBytes = (): number => this.#entries.usedBytes + this.#reservedBytes + bytes - this.#limitBytes;
      if (overBytes() <= 0 || this.#entries.storedBytes === 0 || this.uploads?.hasEnded() === true) return 0;
      await this.#lookAtPins();
      const queue = this.#entries
        .all()
        .filter((entry) => this.#mayGo(entry))
        .reverse();
      let silentCount = 0;
      while (queue.length > 0 && overBytes() + spareBytes > 0) {
        const asked = takeBytes(queue, overBytes() + spareBytes);
        const answers = await Promise.all(asked.map((entry) => this.#witness.ask(entry, lengthOf(entry), isSure)));
        for (const [at, entry] of asked.entries()) {
          const answer = answers[at];
          if (answer === "lost") this.#disown(entry);
          else if (answer === "silent" && isSure) silentCount += 1;
          else if (answer !== "unclear" && this.#mayGo(entry)) await this.#evict(entry);
        }
      }
      return silentCount;
    });
  }

  /** Whether the store has it now: waits for one that is away as a read of what only it has does. */
  async #isThere(entry: ShelfEntry): Promise<boolean> {
    const { clock, remote, waitMs } = this.#options;
    try {
      if ((await within(clock, waitMs, remote.lengthOf(entry.pack))) === lengthOf(entry)) return true;
    } catch (error) {
      if (!isTcfsError(error)) throw error;
      return false;
    }
    this.#disown(entry);
    return false;
  }

  #mayGo(entry: ShelfEntry): boolean {
    return entry.isStored && !this.#pinned.has(formatPackId(entry.pack)) && this.#entries.has(entry);
  }

  /** The store has lost it: what is here is all there is. */
  #disown(entry: ShelfEntry): void {
    if (entry.partial !== undefined) return;
    this.#entries.change(entry, { isStored: false });
    this.#saveLater();
    this.uploads?.noteLost(entry.pack);
  }

  async #lookAtPins(): Promise<void> {
    this.#pinned = await this.pinned();
    this.#keptBytes = 0;
    for (const name of this.#pinned) {
      const entry = this.#entries.ofName(name);
      if (entry?.isStored === true) this.#keptBytes += entry.bytes;
    }
  }

  /** The store's copy is the same: whatever comes between, reading it goes on from there. */
  async #evict(entry: ShelfEntry): Promise<void> {
    const { disk } = this.#options;
    const { pack, partial } = entry;
    if (!this.letGo(pack) || partial?.isBusy === true) return;
    entry.isLeaving = true; // who asks for it waits until it is gone, and begins anew
    try {
      await removeIfThere(disk, partial === undefined ? this.#files.packPath(pack) : this.#files.blocksPath(pack));
      this.#entries.remove(entry);
    } catch (error) {
      if (!isTcfsError(error)) throw error; // it stays, and others may go
    } finally {
      entry.isLeaving = false;
    }
    this.#saveLater();
  }

  #touch(name: string): void {
    if (this.#entries.touch(name)) this.#saveLater();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
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
    const notes = this.#entries.all().map((entry): ShelfNote => {
      const blocks = entry.partial?.blocks;
      return { pack: entry.pack, lengthBytes: blocks?.lengthBytes ?? entry.bytes, isStored: entry.isStored, blocks };
    });
    await this.#files.save(notes);
  }
}

function canBeDistrusted(entry: ShelfEntry | undefined): entry is ShelfEntry {
  return entry?.isStored === true && entry.isLeaving !== true;
}

/** Of the pack in the store. */
function lengthOf({ bytes, partial }: ShelfEntry): number {
  return partial?.blocks.lengthBytes ?? bytes;
}

/** @param queue - Loses what is taken, from its end: a few that come to so many bytes. */
function takeBytes(queue: ShelfEntry[], bytes: number): ShelfEntry[] {
  const taken: ShelfEntry[] = [];
  for (let sum = 0; sum < bytes && taken.length < ASKED_AT_ONCE;) {
    const entry = queue.pop();
    if (entry === undefined) break;
    taken.push(entry);
    sum += entry.bytes;
  }
  return taken;
}
