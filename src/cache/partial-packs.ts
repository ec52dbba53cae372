/**
 * The packs of a shelf that are here in part: begun with one request, which tells their length, too; moved to `packs` when
 * all of one is here, and back when some of it is to be fetched again.
 */
import { dirname } from "node:path";
import { formatPackId } from "../chunkstore/pack-format.ts";
import type { RemotePacks } from "../chunkstore/pack-shelf.ts";
import { TcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { Clock } from "../platform/clock.ts";
import type { Disk } from "../platform/disk.ts";
import type { ByteRange } from "../remote/object-store.ts";
import { BLOCK_BYTES, BlockMap } from "./block-map.ts";
import { MAX_REQUEST_BLOCKS, PartialPack } from "./partial-pack.ts";
import { type ShelfEntries, type ShelfEntry, newEntry } from "./shelf-entries.ts";
import type { ShelfFiles } from "./shelf-files.ts";
import { within } from "./within.ts";

/** Ranges that are brought before they are read, at once: others find room on the line, and in memory. */
const APPROACHES_AT_ONCE = 4;
/** Where one takes longer the line is slow: no more is begun, for what is read waits behind it. */
const SLOW_MS = 3000;
const MAX_REQUEST_BYTES = MAX_REQUEST_BLOCKS * BLOCK_BYTES;
const FIRST_BLOCK: ByteRange = { offset: 0, lengthBytes: BLOCK_BYTES };
/** What begins so near to a pack's beginning comes with that, in one request. */
const NEAR_BYTES = 2 * BLOCK_BYTES;

export interface PartialPacksParts {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly remote: RemotePacks;
  /** A read of what only the store has waits so long at most. */
  readonly waitMs: number;
  /** The shelf's. */
  readonly entries: ShelfEntries;
  readonly files: ShelfFiles;
  /** Take room for bytes to be kept; false where there is none. */
  readonly reserve: (bytes: number) => Promise<boolean>;
  readonly giveBack: (bytes: number) => void;
  /** What is here, or was used last, is noted on the disk some time. */
  readonly onChange: () => void;
  /** One after another, with whatever else moves or deletes files. */
  readonly inTurn: <T>(work: () => Promise<T>) => Promise<T>;
  /** Readers are to let go of a pack's file. */
  readonly letGo: (pack: PackId) => void;
}

export class PartialPacks {
  readonly #parts: PartialPacksParts;
  /** Packs of which the first bytes are being asked for, by their names: whether the store has them. */
  readonly #beginning = new Map<string, Promise<boolean>>();
  /** When those under way began, the oldest first. */
  readonly #approaches = new Set<{ readonly sinceMs: number }>();
  /** Whether what was fetched last was kept: else what is brought ahead would be fetched again by who reads it. */
  #hasRoom = true;

  constructor(parts: PartialPacksParts) {
    this.#parts = parts;
  }

  /**
   * @param use - Gets the pack's entry, undefined where the store has none; called in the step that found it, so that
   *   nothing gives it up before it is busy.
   * @param wanted - Of a pack of which nothing is here: comes along with its first block.
   */
  async use<T>(
    pack: PackId,
    use: (entry: ShelfEntry | undefined) => T,
    wanted: ByteRange = FIRST_BLOCK,
  ): Promise<Awaited<T>> {
    const { entries, clock, waitMs, onChange } = this.#parts;
    const name = formatPackId(pack);
    for (;;) {
      while (entries.ofName(name)?.isLeaving === true) await this.#parts.inTurn(() => Promise.resolve());
      const entry = entries.ofName(name);
      if (entry === undefined) {
        if (!(await within(clock, waitMs, this.#begin(pack, name, wanted)))) return await use(undefined);
        continue; // unless it has gone again already
      }
      if (entries.touch(name)) onChange();
      return await use(entry);
    }
  }

  /** Bring all of a pack here. @returns Whether there was room for it. @throws TcfsError `TCFS_CORRUPT` if there is none. */
  complete(pack: PackId): Promise<boolean> {
    const whole = async (entry: ShelfEntry | undefined): Promise<boolean> => {
      if (entry === undefined) throw new TcfsError("TCFS_CORRUPT", `pack ${formatPackId(pack)} is not in the store`);
      const { partial } = entry;
      await partial?.complete();
      return partial?.blocks.isComplete ?? true;
    };
    return this.use(pack, whole, { offset: 0, lengthBytes: MAX_REQUEST_BYTES });
  }

  /** Bring a range of a pack here before it is read. @returns False where enough is under way. */
  approach(pack: PackId, offset: number, lengthBytes: number): boolean {
    const { entries, clock } = this.#parts;
    const entry = entries.get(pack);
    const isHere = entry !== undefined && (entry.partial?.hasOrAwaits(offset, lengthBytes) ?? true);
    if (isHere || !this.#hasRoom) return true;
    if (entry === undefined && this.#beginning.has(formatPackId(pack))) return false; // soon it is known what is missing
    const [oldest] = this.#approaches;
    const nowMs = clock.monotonicMs();
    if (this.#approaches.size >= APPROACHES_AT_ONCE || nowMs - (oldest?.sinceMs ?? nowMs) > SLOW_MS) return false;
    const approach = { sinceMs: nowMs };
    this.#approaches.add(approach);
    void this.use(pack, (found) => found?.partial?.approach(offset, lengthBytes), { offset, lengthBytes })
      .catch(() => undefined) // the read that comes for it meets the same failure, and reports it
      .finally(() => this.#approaches.delete(approach));
    return true;
  }

  add(pack: PackId, blocks: BlockMap): PartialPack {
    const entry = this.#parts.entries.add({ ...newEntry(pack), bytes: blocks.heldBytes, isStored: true });
    return (entry.partial = this.#newPartial(entry, blocks));
  }

  /** Some of a pack is to be fetched again: its file becomes one of blocks. @returns Undefined where it has gone. */
  async demote(entry: ShelfEntry): Promise<PartialPack | undefined> {
    const { disk, files, entries, letGo, inTurn } = this.#parts;
    const { pack } = entry;
    return inTurn(async () => {
      if (entry.partial !== undefined) return entry.partial;
      if (!entries.has(entry)) return undefined;
      const blocks = new BlockMap(entry.bytes);
      for (let block = 0; block < blocks.count; block++) blocks.add(block);
      await disk.rename(files.packPath(pack), files.blocksPath(pack));
      letGo(pack);
      entry.partial = this.#newPartial(entry, blocks);
      return entry.partial;
    });
  }

  /** All who ask for it wait for one request. @returns Whether the store has the pack. */
  #begin(pack: PackId, name: string, wanted: ByteRange): Promise<boolean> {
    const known = this.#beginning.get(name);
    if (known !== undefined) return known;
    const begun = this.#readFirst(pack, wanted).finally(() => this.#beginning.delete(name));
    this.#beginning.set(name, begun);
    return begun;
  }

  /** What lies further in is asked for at the same time: to wait for the pack's length first would double what it takes. */
  async #readFirst(pack: PackId, wanted: ByteRange): Promise<boolean> {
    const { remote, entries } = this.#parts;
    const { startBytes, rest } = firstRequests(wanted);
    const coming = rest && remote.readPart(pack, rest);
    coming?.catch(() => undefined); // asked for again by whoever reads it
    const start = await remote.readStart(pack, startBytes);
    if (start === undefined) return false;
    if (entries.get(pack) === undefined) {
      const partial = this.add(pack, new BlockMap(start.packBytes));
      partial.begin(start.content);
      if (rest !== undefined && coming !== undefined) partial.expect(rest, coming);
    }
    return true;
  }

  #newPartial(entry: ShelfEntry, blocks: BlockMap): PartialPack {
    const { disk, remote, files, clock, waitMs, entries, reserve, giveBack, onChange, inTurn } = this.#parts;
    return new PartialPack(entry.pack, blocks, {
      disk,
      remote,
      path: files.blocksPath(entry.pack),
      reserve: async (bytes) => (this.#hasRoom = await reserve(bytes)),
      giveBack,
      onKept: (bytes) => {
        giveBack(bytes);
        entries.change(entry, { bytes: blocks.heldBytes, seenAtMs: clock.monotonicMs() });
        onChange();
        if (blocks.isComplete) void inTurn(() => this.#promote(entry)).catch(() => undefined); // well as it is
      },
      bounded: (work) => within(clock, waitMs, work),
    });
  }

  /** All of it is here: it becomes a file like those that were written here. */
  async #promote(entry: ShelfEntry): Promise<void> {
    const { disk, files, entries } = this.#parts;
    const { partial, pack } = entry;
    if (partial?.blocks.isComplete !== true || !entries.has(entry)) return;
    const path = files.packPath(pack);
    await disk.makeDirectory(dirname(path));
    await partial.settle(async () => {
      await disk.rename(files.blocksPath(pack), path);
      entry.partial = undefined; // in this step: nobody is to open the name that it had
      await disk.syncDirectory(dirname(path));
    });
  }
}

/**
 * The requests that a pack is begun with.
 * @returns Its first bytes, with the first block at least; and what is wanted, in whole blocks, where it is too far away to
 *   come with these.
 */
function firstRequests({ offset, lengthBytes }: ByteRange): { startBytes: number; rest: ByteRange | undefined } {
  const first = Math.floor(offset / BLOCK_BYTES) * BLOCK_BYTES;
  const end = Math.ceil((offset + lengthBytes) / BLOCK_BYTES) * BLOCK_BYTES;
  if (first <= Math.max(NEAR_BYTES, end - first))
    return { startBytes: Math.min(MAX_REQUEST_BYTES, end), rest: undefined };
  return { startBytes: BLOCK_BYTES, rest: { offset: first, lengthBytes: Math.min(MAX_REQUEST_BYTES, end - first) } };
}
