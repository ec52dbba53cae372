/**
 * What of a vault with a store is on this disk: the limit, trees that are to stay, and where each file's contents are.
 * Pins name inodes, so they follow renames; they keep whole packs, and at most three quarters of the limit.
 */
import type { BoundedPackShelf, ShelfFigures } from "../cache/bounded-pack-shelf.ts";
import { MAX_PINS, defaultCacheBytes, readCacheSettings, writeCacheSettings } from "../cache/cache-settings.ts";
import type { ChunkStore } from "../chunkstore/chunk-store.ts";
import { formatPackId } from "../chunkstore/pack-format.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { InodeRecord } from "../format/records.ts";
import { ROOT_INODE, type InodeNumber, type Name, type PackId } from "../ids.ts";
import { settleAll } from "../maybe-promise.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import type { Clock, Timer, Timestamp } from "../platform/clock.ts";
import type { Disk } from "../platform/disk.ts";
import { isRegularMode } from "./mode.ts";
import { followTreePath, parseTreePath, showTreePath } from "./snapshots/tree-path.ts";
import { packsOfTree } from "./tree-packs.ts";
import { VersionPaths } from "./versions/version-paths.ts";

/** Shown by getxattr alone, and never stored. */
export const STATE_XATTR = "user.tcfs.state" as Name;
/** Of the limit: the rest is for what is written. */
const MOST_PINNED = 0.75;
/** What a pack that is not here is taken for. */
const PACK_BYTES = 16 * 1024 * 1024;
const FETCHES_AT_ONCE = 2;
/** What is pinned and not here is looked for as often. */
const KEEP_MS = 60_000;

export interface LocalCopiesOptions {
  readonly shelf: BoundedPackShelf;
  readonly metadata: MetadataStore;
  readonly chunks: Pick<ChunkStore, "packOf">;
  readonly disk: Disk;
  readonly clock: Clock;
  /** The vault's. */
  readonly directory: string;
  /** Whether the store's root may lack the newest record of the inode. */
  readonly isUnsent: (ino: InodeNumber) => boolean;
  /** Whether neither this disk nor the store has all of the pack. */
  readonly isLost: (pack: PackId) => boolean;
}

export interface CacheFigures extends ShelfFigures {
  /** Whether the limit was chosen, or is half of the disk. */
  readonly isLimitSet: boolean;
  readonly freeBytes: number;
  readonly pinCount: number;
  /** What `tcfs warm` and `tcfs pin` are fetching now. */
  readonly fetching: { readonly doneBytes: number; readonly totalBytes: number } | null;
}

export interface PinFigures {
  /** From the vault's root; undefined where no name of it is known any more. */
  readonly path: string | null;
  readonly ino: number;
  /** Of packs that have something of it. */
  readonly packs: number;
  readonly packsHere: number;
}

export interface WarmReport {
  readonly packs: number;
  readonly fetchedBytes: number;
}

/** In the store and here; in the store, some or nothing of it here; not in the store; some of it may be nowhere. */
export type FileState = "stored" | "partial" | "remote" | "unsent" | "lost";

export class LocalCopies {
  readonly #options: LocalCopiesOptions;
  #pins: readonly InodeNumber[] = [];
  #isLimitSet = false;
  /** Packs of pinned trees as of a commit. */
  #pinned: { readonly commit: number; readonly names: ReadonlySet<string> } = { commit: -1, names: new Set() };
  readonly #fetching = { doneBytes: 0, totalBytes: 0, count: 0 };
  #keeping: Timer | undefined;
  #isClosed = false;

  private constructor(options: LocalCopiesOptions) {
    this.#options = options;
    options.shelf.pinned = () => this.#pinnedPacks();
  }

  static async open(options: LocalCopiesOptions): Promise<LocalCopies> {
    const copies = new LocalCopies(options);
    const { maxBytes, pins } = await readCacheSettings(options.disk, options.directory);
    copies.#pins = pins as readonly InodeNumber[];
    copies.#isLimitSet = maxBytes !== null;
    if (pins.length > 0) copies.#keepLater();
    return copies;
  }

  figures(): CacheFigures {
    const { shelf } = this.#options;
    const { doneBytes, totalBytes, count } = this.#fetching;
    return {
      ...shelf.figures(),
      isLimitSet: this.#isLimitSet,
      freeBytes: shelf.freeBytes,
      pinCount: this.#pins.length,
      fetching: count === 0 ? null : { doneBytes, totalBytes },
    };
  }

  /** @param maxBytes - Null: half of the disk. */
  async setLimit(maxBytes: number | null): Promise<void> {
    const { shelf, disk, directory } = this.#options;
    await writeCacheSettings(disk, directory, { maxBytes, pins: this.#pins });
    this.#isLimitSet = maxBytes !== null;
    await shelf.setMaxBytes(maxBytes ?? defaultCacheBytes((await disk.space(directory)).totalBytes));
  }

  /** Give up all that the store has and that is not pinned. @returns Bytes. */
  clear(): Promise<number> {
    return this.#options.shelf.clear();
  }

  /** Keep a tree here, and fetch what is missing of it. @throws TcfsError `TCFS_NO_ENTRY`, `TCFS_STORE_FULL`, `TCFS_USAGE` */
  async pin(path: string): Promise<WarmReport> {
    const ino = this.#find(path);
    if (this.#pins.length >= MAX_PINS) throw new TcfsError("TCFS_USAGE", `there are ${MAX_PINS} pins already`);
    const pins = [...this.#pins.filter((other) => other !== ino && this.#isThere(other)), ino];
    this.#requireFitting(await this.#packsOf(pins), `with ${path} pinned, pins`);
    await this.#setPins(pins);
    return this.#fetchAll(await this.#packsOf([ino]));
  }

  /** @throws TcfsError `TCFS_NO_ENTRY` if it is not pinned itself. */
  async unpin(path: string): Promise<void> {
    const ino = this.#find(path);
    if (!this.#pins.includes(ino))
      throw new TcfsError("TCFS_NO_ENTRY", `${path} is not pinned: tcfs pins lists what is`);
    await this.#setPins(this.#pins.filter((other) => other !== ino));
  }

  async pins(): Promise<PinFigures[]> {
    const { metadata, shelf } = this.#options;
    const paths = new VersionPaths(metadata, new Map());
    const found: PinFigures[] = [];
    for (const ino of this.#pins) {
      const packs = await this.#packsOf([ino]);
      const packsHere = packs.filter((pack) => shelf.presence(pack) === "all").length;
      found.push({ path: await this.#pathOf(paths, ino), ino, packs: packs.length, packsHere });
    }
    return found;
  }

  /** Fetch what is missing of a tree. @throws TcfsError `TCFS_NO_ENTRY`, `TCFS_STORE_FULL`, `TCFS_REMOTE_UNAVAILABLE` */
  async warm(path: string): Promise<WarmReport> {
    const packs = await this.#packsOf([this.#find(path)]);
    this.#requireFitting(packs, path);
    return this.#fetchAll(packs);
  }

  /** @returns Undefined for what is no regular file. */
  async stateOf(ino: InodeNumber): Promise<FileState | undefined> {
    const { metadata, shelf, isUnsent, isLost } = this.#options;
    const inode = metadata.getInode(ino);
    if (inode === undefined || !isRegularMode(inode.mode)) return undefined;
    const committed = metadata.snapshots.committedView().getInode(ino);
    if (isUnsent(ino) || !isSameTime(committed?.changeTime, inode.changeTime)) return "unsent";
    const seen = { all: 0, some: 0, none: 0 };
    const packs = [...(await this.#packsOf([ino]))];
    if (packs.some(isLost)) return "lost";
    for (const pack of packs) {
      if (!shelf.isStored(pack)) return "unsent";
      seen[shelf.presence(pack)] += 1;
    }
    if (seen.some + seen.none === 0) return "stored";
    return seen.all + seen.some === 0 ? "remote" : "partial";
  }

  close(): void {
    this.#isClosed = true;
    this.#keeping?.cancel();
  }

  #find(path: string): InodeNumber {
    const names = parseTreePath(path);
    const found = followTreePath(this.#options.metadata, names);
    const last = found.at(-1);
    if (found.length < names.length)
      throw new TcfsError("TCFS_NO_ENTRY", `there is no ${showTreePath(names)} in the vault`);
    return last?.ino ?? ROOT_INODE;
  }

  #isThere(ino: InodeNumber): boolean {
    return (this.#options.metadata.getInode(ino)?.linkCount ?? 0) > 0;
  }

  async #setPins(pins: readonly InodeNumber[]): Promise<void> {
    const { disk, directory } = this.#options;
    const { maxBytes } = await readCacheSettings(disk, directory);
    await writeCacheSettings(disk, directory, { maxBytes, pins });
    this.#pins = pins;
    this.#pinned = { commit: -1, names: new Set() };
    this.#keepLater();
  }

  /** @returns Each once, in the order of the trees. */
  async #packsOf(trees: readonly InodeNumber[]): Promise<PackId[]> {
    const packs = new Map<string, PackId>();
    for (const ino of trees) {
      for await (const pack of packsOfTree(this.#options, ino)) packs.set(formatPackId(pack), pack);
    }
    return [...packs.values()];
  }

  /** Before anything is given up: of the newest commit. */
  async #pinnedPacks(): Promise<ReadonlySet<string>> {
    const { metadata, shelf } = this.#options;
    const { commit } = metadata.volume;
    if (this.#pins.length === 0 || this.#pinned.commit === commit) return this.#pinned.names;
    const names = new Set<string>();
    let bytes = 0;
    for (const pack of await this.#packsOf(this.#pins)) {
      bytes += shelf.bytesOf(pack) ?? PACK_BYTES;
      if (bytes > shelf.maxBytes * MOST_PINNED) break;
      names.add(formatPackId(pack));
    }
    this.#pinned = { commit, names };
    return names;
  }

  #requireFitting(packs: readonly PackId[], what: string): void {
    const { shelf } = this.#options;
    const bytes = packs.reduce((sum, pack) => sum + (shelf.bytesOf(pack) ?? PACK_BYTES), 0);
    const mostBytes = Math.floor(shelf.maxBytes * MOST_PINNED);
    if (bytes <= mostBytes) return;
    const message = `${what} would take about ${bytes} bytes of the cache, which keeps at most ${mostBytes} for that: tcfs cache --max-size raises it`;
    throw new TcfsError("TCFS_STORE_FULL", message);
  }

  async #fetchAll(packs: readonly PackId[]): Promise<WarmReport> {
    const { shelf } = this.#options;
    const missing = packs.filter((pack) => shelf.presence(pack) !== "all");
    const state = this.#fetching;
    state.count += 1;
    state.totalBytes += missing.length * PACK_BYTES;
    let fetchedBytes = 0;
    const queue = missing.values();
    const work = async (): Promise<void> => {
      for (const pack of queue) {
        if (this.#isClosed) throw new TcfsError("TCFS_CLOSED", "the vault is being closed");
        const before = shelf.bytesOf(pack) ?? 0;
        await shelf.fetch(pack);
        fetchedBytes += (shelf.bytesOf(pack) ?? 0) - before;
        state.doneBytes += PACK_BYTES;
      }
    };
    try {
      await settleAll(Array.from({ length: FETCHES_AT_ONCE }, work));
    } finally {
      state.count -= 1;
      if (state.count === 0) state.doneBytes = state.totalBytes = 0;
    }
    return { packs: packs.length, fetchedBytes };
  }

  async #pathOf(paths: VersionPaths, ino: InodeNumber): Promise<string | null> {
    const { metadata } = this.#options;
    const inode: InodeRecord | undefined = metadata.getInode(ino);
    if (inode === undefined || !this.#isThere(ino)) return null;
    if (!isRegularMode(inode.mode)) {
      const names = await paths.pathOf(ino);
      return names === undefined ? null : showTreePath(names);
    }
    const directory = inode.parent === 0 ? undefined : await paths.pathOf(inode.parent);
    if (directory === undefined || inode.parent === 0) return null;
    const entry = (await metadata.listDirectory(inode.parent)).find((each) => each.ino === ino);
    return entry === undefined ? null : showTreePath([...directory, entry.name]);
  }

  #keepLater(): void {
    this.#keeping?.cancel();
    if (this.#isClosed || this.#pins.length === 0) return;
    this.#keeping = this.#options.clock.after(KEEP_MS, () => {
      void this.#keep();
    });
  }

  /** What is pinned and came anew, or could not be fetched then. */
  async #keep(): Promise<void> {
    try {
      const names = await this.#pinnedPacks();
      await this.#fetchAll([...names].map((name) => new Uint8Array(Buffer.from(name, "hex")) as PackId));
    } catch (error) {
      if (!isTcfsError(error)) throw error; // tried again
    } finally {
      this.#keepLater();
    }
  }
}

function isSameTime(left: Timestamp | undefined, right: Timestamp): boolean {
  return left?.seconds === right.seconds && left.nanoseconds === right.nanoseconds;
}
