/**
 * A pack of the store of which some blocks are on this disk (FORMAT.md §11.9). What is read and missing is fetched in
 * whole blocks, once for all who ask; readers that go on where they were get ever more ahead of them, and of a pack that
 * is wanted for the most part all. What is written to the disk is what the store has: ciphertext.
 */
import { TcfsError, isTcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { RemotePacks } from "../chunkstore/pack-shelf.ts";
import type { Disk, DiskFile } from "../platform/disk.ts";
import type { ByteRange } from "../remote/object-store.ts";
import { BLOCK_BYTES, type BlockMap, type BlockRun } from "./block-map.ts";

/** Of one request: 8 MiB. */
export const MAX_REQUEST_BLOCKS = 32;
/** Blocks ahead of a reader that goes on where it was; doubles with each read. */
const FIRST_AHEAD_BLOCKS = 2;
const MAX_AHEAD_BLOCKS = 16;

export interface PartialPackParts {
  readonly disk: Disk;
  readonly remote: RemotePacks;
  /** Of the file that has its blocks at their places. */
  readonly path: string;
  /** Take room for bytes to be kept; false where there is none. */
  readonly reserve: (bytes: number) => Promise<boolean>;
  /** Room taken was not used after all. */
  readonly giveBack: (bytes: number) => void;
  /** Bytes for which room was taken are kept. */
  readonly onKept: (bytes: number) => void;
  /** Rejects a wait that takes too long; what was waited for goes on. */
  readonly bounded: <T>(work: Promise<T>) => Promise<T>;
}

interface Fetch {
  readonly run: BlockRun;
  readonly done: Promise<Uint8Array>;
}

export class PartialPack {
  readonly pack: PackId;
  readonly blocks: BlockMap;
  readonly #parts: PartialPackParts;
  readonly #fetches = new Map<number, Fetch>();
  /** Writes and deletions of the file, one after another. */
  #turn: Promise<unknown> = Promise.resolve();
  #file: Promise<DiskFile> | undefined;
  #opened: DiskFile | undefined;
  #userCount = 0;
  #turnCount = 0;
  /** Where the last read ended, and how far ahead of it was asked. */
  #endBlock = -1;
  #aheadBlocks = 0;

  constructor(pack: PackId, blocks: BlockMap, parts: PartialPackParts) {
    this.pack = pack;
    this.blocks = blocks;
    this.#parts = parts;
  }

  get isBusy(): boolean {
    return this.#userCount > 0 || this.#fetches.size > 0;
  }

  /** For one reader, until it closes it. */
  open(): DiskFile {
    this.#userCount += 1;
    let isOpen = true;
    // eslint-disable-next-line @typescript-eslint/no-this-alias -- the getter below has its own
    const partial = this;
    const refuse = (): Promise<never> => Promise.reject(new RangeError("a pack is only read"));
    return {
      /** Where all of it is here, the engine reads in place. */
      get fd() {
        return partial.blocks.isComplete && partial.#turnCount === 0 ? partial.#opened?.fd : undefined;
      },
      readInto: (into, offset) => this.#read(into, offset),
      length: () => Promise.resolve(this.blocks.lengthBytes),
      write: refuse,
      truncate: refuse,
      sync: refuse,
      close: () => {
        if (isOpen) this.#userCount -= 1;
        isOpen = false;
        return this.#closeUnused();
      },
    };
  }

  /** The first blocks, which came with the pack's length. @param bytes - Kept. */
  begin(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#fetch(this.blocks.covering(0, bytes.length), () => Promise.resolve(bytes));
  }

  /** A range that was asked for before the pack's length was known. What does not come that way is asked for anew. */
  expect({ offset, lengthBytes }: ByteRange, coming: Promise<Uint8Array | undefined>): void {
    const run = this.blocks.covering(offset, lengthBytes);
    if (run.first === run.end) return;
    this.#fetch(run, async () => {
      const bytes = await coming.catch(() => undefined);
      return bytes?.length === this.#rangeOf(run).lengthBytes ? bytes : this.#bring(run);
    });
  }

  /** Fetch all that is missing. @throws TcfsError */
  async complete(): Promise<void> {
    this.#userCount += 1;
    try {
      this.#start({ first: 0, end: this.blocks.count });
      await Promise.all([...new Set(this.#fetches.values())].map(({ done }) => done));
    } finally {
      this.#userCount -= 1;
      await this.#closeUnused();
    }
  }

  /** Whether nothing of a range is neither here nor on its way. */
  hasOrAwaits(offset: number, lengthBytes: number): boolean {
    return this.#gaps(this.blocks.covering(offset, lengthBytes)).length === 0;
  }

  /** Fetch what is missing of a range; once most of the pack is wanted, all of it. @returns When that has come. @throws TcfsError */
  async approach(offset: number, lengthBytes: number): Promise<void> {
    let run = this.blocks.covering(offset, lengthBytes);
    const missing = this.#gaps(run).reduce((sum, { first, end }) => sum + end - first, 0);
    if (this.#isMost(missing)) run = { first: 0, end: this.blocks.count };
    this.#start(run);
    const under = new Set<Promise<unknown>>();
    for (let block = run.first; block < run.end; block++) {
      const fetch = this.#fetches.get(block);
      if (fetch !== undefined) under.add(fetch.done);
    }
    await Promise.all(under);
  }

  /** What is under way has ended, well or not. */
  async idle(): Promise<void> {
    while (this.#fetches.size > 0) await Promise.allSettled([...this.#fetches.values()].map(({ done }) => done));
    await this.#turn;
  }

  /** Make the file durable, and call `move` while nothing is written to it. */
  settle(move: () => Promise<void>): Promise<void> {
    return this.#inTurn(async () => {
      await (await this.#openFile()).sync();
      await move();
    });
  }

  /** Give up the blocks of a range. */
  distrust(offset: number, lengthBytes: number): void {
    const { first, end } = this.blocks.covering(offset, lengthBytes);
    for (let block = first; block < end; block++) this.blocks.delete(block);
  }

  async #read(into: Uint8Array, offset: number): Promise<number> {
    const { blocks } = this;
    const end = Math.min(offset + into.length, blocks.lengthBytes);
    if (offset >= end) return 0;
    const run = blocks.covering(offset, end - offset);
    this.#start(run);
    this.#startAhead(run);
    const pieces: Promise<void>[] = [];
    for (let at = run.first; at < run.end;) {
      const fetch = this.#fetches.get(at);
      let next = at + 1;
      while (next < run.end && this.#fetches.get(next) === fetch) next += 1;
      const from = Math.max(offset, at * BLOCK_BYTES);
      const part = into.subarray(from - offset, Math.min(end, next * BLOCK_BYTES) - offset);
      pieces.push(fetch === undefined ? this.#fromFile(part, from) : copyFrom(fetch, part, from));
      at = next;
    }
    await this.#parts.bounded(Promise.all(pieces));
    return end - offset;
  }

  async #fromFile(into: Uint8Array, offset: number): Promise<void> {
    const filled = await (await this.#openFile()).readInto(into, offset);
    if (filled < into.length) throw new TcfsError("TCFS_CORRUPT", "the local copy of a pack's blocks ends early");
  }

  #start(run: BlockRun): void {
    for (const gap of this.#gaps(run)) this.#fetch(gap, () => this.#bring(gap));
  }

  #gaps(run: BlockRun): BlockRun[] {
    return this.blocks.gaps(run, (block) => this.#fetches.has(block), MAX_REQUEST_BLOCKS);
  }

  /** Whether with so many blocks more half of the pack is here or on its way. */
  #isMost(moreCount: number): boolean {
    return this.blocks.heldCount + this.#fetches.size + moreCount > this.blocks.count / 2;
  }

  /** A second read that adjoins the one before makes a reader worth running ahead of. */
  #startAhead({ first, end }: BlockRun): void {
    const { count } = this.blocks;
    const isGoingOn = first === this.#endBlock || (first === this.#endBlock - 1 && end >= this.#endBlock);
    if (!isGoingOn) this.#aheadBlocks = 0;
    else if (end > this.#endBlock) {
      this.#aheadBlocks = Math.min(MAX_AHEAD_BLOCKS, Math.max(FIRST_AHEAD_BLOCKS, this.#aheadBlocks * 2));
    }
    this.#endBlock = end;
    const isMostlyWanted = this.#isMost(0);
    const ahead = isMostlyWanted
      ? { first: 0, end: count }
      : { first: end, end: Math.min(count, end + this.#aheadBlocks) };
    if (!isMostlyWanted && !this.#isWorthARequest(ahead)) return;
    this.#start(ahead);
  }

  /** Half of what lies ahead is missing: else many small requests would be made. */
  #isWorthARequest({ first, end }: BlockRun): boolean {
    let missing = 0;
    for (let block = first; block < end; block++) {
      if (!this.blocks.has(block) && !this.#fetches.has(block)) missing += 1;
    }
    return missing > 0 && missing * 2 >= end - first;
  }

  #fetch(run: BlockRun, bring: () => Promise<Uint8Array>): void {
    const kept = async (): Promise<Uint8Array> => {
      const bytes = await bring();
      await this.#keep(run, bytes);
      return bytes;
    };
    const done = kept().finally(() => {
      for (let block = run.first; block < run.end; block++) this.#fetches.delete(block);
      void this.#closeUnused();
    });
    done.catch(() => undefined); // told by who reads
    const fetch = { run, done };
    for (let block = run.first; block < run.end; block++) this.#fetches.set(block, fetch);
  }

  async #bring(run: BlockRun): Promise<Uint8Array> {
    const { offset, lengthBytes } = this.#rangeOf(run);
    const bytes = await this.#parts.remote.readRange(this.pack, offset, lengthBytes);
    if (bytes === undefined) throw new TcfsError("TCFS_CORRUPT", "the store does not have it");
    return bytes;
  }

  #rangeOf({ first, end }: BlockRun): ByteRange {
    const offset = first * BLOCK_BYTES;
    return { offset, lengthBytes: Math.min(end * BLOCK_BYTES, this.blocks.lengthBytes) - offset };
  }

  /** Without room on the disk, readers have what they asked for, and it is not kept. */
  async #keep(run: BlockRun, bytes: Uint8Array): Promise<void> {
    const { reserve, giveBack, onKept } = this.#parts;
    if (!(await reserve(bytes.length))) return;
    try {
      await this.#inTurn(async () => (await this.#openFile()).write([bytes], run.first * BLOCK_BYTES));
    } catch (error) {
      giveBack(bytes.length);
      if (isTcfsError(error)) return;
      throw error;
    }
    for (let block = run.first; block < run.end; block++) this.blocks.add(block);
    onKept(bytes.length);
  }

  #openFile(): Promise<DiskFile> {
    const { disk, path } = this.#parts;
    this.#file ??= (async () => {
      try {
        const isNew = this.blocks.heldCount === 0;
        this.#opened = await (isNew ? createAnew(disk, path) : disk.openToWrite(path));
        return this.#opened;
      } catch (error) {
        this.#file = undefined;
        throw error;
      }
    })();
    return this.#file;
  }

  async #closeUnused(): Promise<void> {
    if (this.isBusy || this.#turnCount > 0 || this.#file === undefined) return;
    const file = this.#file;
    this.#file = undefined;
    this.#opened = undefined;
    await (await file).close();
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    this.#turnCount += 1;
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    try {
      return await done;
    } finally {
      this.#turnCount -= 1;
      await this.#closeUnused();
    }
  }
}

async function createAnew(disk: Disk, path: string): Promise<DiskFile> {
  try {
    return await disk.create(path);
  } catch (error) {
    if (!isTcfsError(error, "TCFS_EXISTS")) throw error;
    return disk.openToWrite(path); // what a crash left: none of it counts
  }
}

async function copyFrom({ run, done }: Fetch, into: Uint8Array, offset: number): Promise<void> {
  const bytes = await done;
  const start = offset - run.first * BLOCK_BYTES;
  into.set(bytes.subarray(start, start + into.length));
}
