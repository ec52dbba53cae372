/**
 * Brings packs to the store: oldest first, several at once, each once; what an earlier session brought is found again. One
 * that cannot be brought whole holds up no other: it is noted as lost.
 */
import { type PackDirectory, PackBuffer } from "../chunkstore/pack-directory.ts";
import type { PackDamage } from "../chunkstore/pack-verifier.ts";
import { PACK_HEADER_BYTES, formatPackId, parsePackId } from "../chunkstore/pack-format.ts";
import { openHeader } from "../chunkstore/pack-rewrapper.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { PackRecord } from "../format/records.ts";
import type { ChunkId, PackId } from "../ids.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import { Backlog } from "./backlog.ts";
import type { LostPacks } from "./lost-packs.ts";
import { HEADER_NAME, MAX_PACK_OBJECT_BYTES, packObject } from "./object-names.ts";
import { decodeRemains, encodeRemains, isMark, markRange } from "./pack-remains.ts";
import { type PackRooms, usableLength } from "./remote-epoch.ts";
import type { StoredPacks } from "./stored-packs.ts";

/** Each holds a pack in memory. */
const UPLOADS_AT_ONCE = 3;
/** Their memory is given back when nothing was uploaded for so long. */
const KEEP_BUFFERS_MS = 30_000;
/** While somebody works only one goes on; the others look again after so long. */
const LOOK_AGAIN_MS = 250;

export interface PackUploaderOptions extends PackRooms {
  readonly local: PackDirectory;
  readonly stored: StoredPacks;
  readonly clock: Clock;
  /** What cannot be brought whole. */
  readonly lost: LostPacks;
  /** Whether the vault's newest state names the pack, or that cannot be told. */
  readonly isNamed: (pack: PackId) => boolean;
  /** Whether the vault's newest state has the chunk in this pack, or that cannot be told. */
  readonly isChunkThere: (chunk: ChunkId, pack: PackId) => boolean;
  /** What is wrong with a pack. @param isFinished - It must have its index. */
  readonly findDamage: (
    pack: PackId,
    content: Uint8Array,
    buffer: PackBuffer,
    isFinished: boolean,
  ) => Promise<PackDamage | undefined>;
  /** A pack is damaged on the disk. */
  readonly onDamage: (pack: PackId, damage: PackDamage) => void;
}

/** On this disk. */
interface FoundPack {
  readonly content: Uint8Array;
  /** Whether the disk gave all of it. */
  readonly isWhole: boolean;
}

const NOT_ALL: PackDamage = { ofPack: "some of it cannot be read, or is cut off", chunks: [] };
/** A store that loses a pack over and over is not brought it more often in one session. */
const MOST_TIMES_AGAIN = 3;

/** A pack that the step needs is gone because the vault has moved on: begin again with a newer state. */
export class PackGone extends Error {}

export class PackUploader {
  readonly #local: PackDirectory;
  readonly #stored: StoredPacks;
  readonly #clock: Clock;
  readonly #rooms: PackRooms;
  readonly #options: PackUploaderOptions;
  readonly lost: LostPacks;
  readonly backlog: Backlog;
  /** Taken by the store, and not there any more; by name. */
  readonly #again = new Map<string, PackRecord>();
  readonly #timesAgain = new Map<string, number>();
  /** Of those that were looked at in this session: of the store's copy, where it has one. By name. */
  readonly #damages = new Map<string, PackDamage>();
  /** Of those lost packs: how long the file here was. */
  readonly #lookedAtBytes = new Map<string, number>();
  /** One for each upload under way; those not in use. */
  #buffers: PackBuffer[] = [];
  #emptying: Timer | undefined;
  /** Whether several packs may go up at once. */
  mayHurry: () => boolean = () => true;

  constructor(options: PackUploaderOptions) {
    const { local, stored, clock, packKeys, vaultId, lost } = options;
    this.#options = options;
    this.lost = lost;
    this.#local = local;
    this.#stored = stored;
    this.#clock = clock;
    this.#rooms = { packKeys, vaultId };
    this.backlog = new Backlog((pack) => stored.has(pack) || lost.has(pack));
  }

  /** Packs that the store is to be brought again. */
  get againCount(): number {
    return this.#again.size;
  }

  /** The store lacks what it took. @returns Whether it is to be brought again. */
  noteLost(record: PackRecord): boolean {
    const name = formatPackId(record.pack);
    const times = (this.#timesAgain.get(name) ?? 0) + 1;
    if (times > MOST_TIMES_AGAIN) return false;
    this.#timesAgain.set(name, times);
    this.#stored.remove(record.pack);
    this.#again.set(name, record);
    this.backlog.add(record);
    return true;
  }

  /** @returns What the store turned out to lack, until it is there again; what no state names any more is forgotten. */
  takeAgain(): PackRecord[] {
    for (const [name, { pack }] of this.#again) if (!this.#options.isNamed(pack)) this.#again.delete(name);
    return [...this.#again.values()];
  }

  /** @returns Those that the store is not known to have. */
  missing(packs: readonly PackRecord[]): PackRecord[] {
    return packs.filter(({ pack }) => !this.isStored(pack));
  }

  isStored(pack: PackId): boolean {
    return this.#stored.has(pack);
  }

  /** Names of the packs that the store is known to have. */
  storedNames(): IterableIterator<string> {
    return this.#stored.names();
  }

  /** It is about to be deleted from the store. */
  forget(pack: PackId): void {
    this.#stored.remove(pack);
  }

  /** The store has nothing any more. */
  forgetAll(): void {
    for (const name of [...this.storedNames()]) {
      const pack = parsePackId(name);
      if (pack !== undefined) this.#stored.remove(pack);
    }
  }

  /** Whether to look for a lost pack: it is time, or there is another file of it here. @param isWaitedFor - See {@link LostPacks.isDue} */
  async isDue(pack: PackId, isWaitedFor: boolean): Promise<boolean> {
    if (this.lost.isDue(pack, isWaitedFor)) return true;
    return (await this.#lengthHere(pack)) !== this.#lookedAtBytes.get(formatPackId(pack));
  }

  /** @returns 0 where there is nothing to be read. */
  async #lengthHere(pack: PackId): Promise<number> {
    try {
      return (await this.#local.lengthOf(pack)) ?? 0;
    } catch (error) {
      if (!isTcfsError(error)) throw error;
      return 0;
    }
  }

  /**
   * Bring all of them that are to be had; the others are among {@link lost} then.
   * @param packs - None of them is written to any more.
   * @throws TcfsError what the store throws; {@link PackGone}.
   */
  async upload(store: ObjectStore, packs: readonly PackRecord[], signal: AbortSignal): Promise<void> {
    this.backlog.begins(this.#clock.monotonicMs());
    for (const pack of packs) this.backlog.add(pack);
    const failed = new AbortController();
    const either = AbortSignal.any([signal, failed.signal]);
    const queue = [...packs].reverse();
    const work = async (lane: number): Promise<void> => {
      while (!either.aborted) {
        if (lane > 0 && queue.length > 0 && !this.mayHurry()) {
          await new Promise<void>((resolve) => this.#clock.after(LOOK_AGAIN_MS, resolve));
          continue;
        }
        const record = queue.pop();
        if (record === undefined) return;
        await this.#withBuffer((buffer) => this.#bring(store, record, buffer, either));
      }
    };
    const workers = Array.from({ length: UPLOADS_AT_ONCE }, (_, lane) =>
      work(lane).catch((error: unknown) => {
        failed.abort(); // the others end too; the first failure is the one to tell
        throw error;
      }),
    );
    const outcomes = await Promise.allSettled(workers);
    await this.lost.save();
    const failures = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason as unknown] : []));
    for (const failure of failures) if (!isTcfsError(failure, "TCFS_CANCELLED")) throw failure;
    if (either.aborted) throw new TcfsError("TCFS_CANCELLED", "the upload was given up");
  }

  /** @param use - Whatever it does with the buffer has ended when it settles: a request that was given up reads no more. */
  async #withBuffer(use: (buffer: PackBuffer) => Promise<void>): Promise<void> {
    const buffer = this.#buffers.pop() ?? new PackBuffer();
    try {
      await use(buffer);
    } finally {
      this.#buffers.push(buffer);
      this.#emptying?.cancel();
      this.#emptying = this.#clock.after(KEEP_BUFFERS_MS, () => {
        this.#buffers = [];
      });
    }
  }

  async #bring(store: ObjectStore, record: PackRecord, buffer: PackBuffer, signal: AbortSignal): Promise<void> {
    const { pack } = record;
    const sentBytes = await this.#bringOrNote(store, record, buffer, signal);
    this.#again.delete(formatPackId(pack));
    if (sentBytes === undefined) {
      this.#stored.remove(pack);
      this.lost.looked(pack);
      this.#lookedAtBytes.set(formatPackId(pack), await this.#lengthHere(pack));
    } else {
      await this.#stored.add(pack);
      this.lost.forget(pack);
      this.#damages.delete(formatPackId(pack));
      this.#lookedAtBytes.delete(formatPackId(pack));
    }
    this.backlog.sent(pack, sentBytes ?? 0, this.#clock.monotonicMs());
  }

  /** @returns Bytes sent; undefined where the pack is lost, which is noted. */
  async #bringOrNote(
    store: ObjectStore,
    record: PackRecord,
    buffer: PackBuffer,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const { pack, lengthBytes } = record;
    const found = await this.#readHere(record, buffer);
    if (found === undefined) return this.#findThere(store, record, buffer, signal);
    const isSentAnyway = !found.isWhole || this.#local.isOwn(pack) || this.lost.has(pack);
    const { length } = found.content;
    if (!isSentAnyway && (await usableLength(store, pack, this.#rooms, signal)) === length) return 0;
    const { content, damage } = await this.#verify(record, found, buffer);
    if (damage === undefined) {
      await this.#put(store, packObject(pack), content, signal);
      return content.length;
    }
    this.#noteDamage(pack, damage);
    const isThere = ((await usableLength(store, pack, this.#rooms, signal)) ?? 0) >= lengthBytes;
    if (isThere && (await this.#isWholeThere(store, pack, buffer, signal))) return 0;
    if (!found.isWhole) await this.#requireNotAway(record);
    return this.#sendDamaged(store, record, { content, buffer, isThere }, signal);
  }

  /** What there is of it on this disk: what cannot be read, or was cut off, is zeros. */
  async #readHere({ pack, lengthBytes }: PackRecord, buffer: PackBuffer): Promise<FoundPack | undefined> {
    try {
      const file = await this.#local.readInto(pack, buffer);
      if (file === undefined) return undefined;
      const { content, isMarked } = decodeRemains(file); // which came from the store
      if (content.length >= lengthBytes) return { content, isWhole: !isMarked };
    } catch (error) {
      if (!isTcfsError(error, "TCFS_IO")) throw error;
    }
    const content = await this.#local.salvage(pack, lengthBytes);
    return content && { content, isWhole: false };
  }

  /** Before it is said to be lost: a drive that was gone for a while may be back. @throws TcfsError `TCFS_IO`: look again */
  async #requireNotAway(record: PackRecord): Promise<void> {
    await this.lost.requireDirectory();
    if ((await this.#readHere(record, new PackBuffer()))?.isWhole !== true) return;
    throw new TcfsError("TCFS_IO", `${packObject(record.pack)} is here again: the upload begins anew`);
  }

  /** What memory or a cable spoiled is whole when it is read again. */
  async #verify(
    record: PackRecord,
    found: FoundPack,
    buffer: PackBuffer,
  ): Promise<{ readonly content: Uint8Array; readonly damage: PackDamage | undefined }> {
    const { pack, isFinished } = record;
    const { findDamage } = this.#options;
    const damage = await findDamage(pack, found.content, buffer, isFinished);
    if (!found.isWhole) return { content: found.content, damage: damage ?? NOT_ALL };
    const again = damage && (await this.#readHere(record, buffer));
    if (again?.isWhole !== true) return { content: found.content, damage };
    return { content: again.content, damage: await findDamage(pack, again.content, buffer, isFinished) };
  }

  /**
   * For the rest of it, but over nothing that the store has; and not if its key is lost, for then it has no rest.
   * @returns 0 where the store turns out to have the pack whole; undefined where it is lost, which is noted.
   */
  async #sendDamaged(
    store: ObjectStore,
    { pack, lengthBytes }: PackRecord,
    found: { readonly content: Uint8Array; readonly buffer: PackBuffer; readonly isThere: boolean },
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const { content, buffer, isThere } = found;
    const isOfUse = isThere || this.#hasHeader(pack, content);
    // Noted first: once it is there its length will do for whoever has nothing of it.
    if (!isOfUse || !(await this.lost.note({ pack, kind: "damaged" }))) {
      await this.lost.note({ pack, kind: "missing" });
      return undefined;
    }
    if (isThere) return undefined;
    const name = packObject(pack);
    const remains = encodeRemains(content);
    try {
      await store.putIfAbsent(name, remains, signal);
    } catch (error) {
      if (!isTcfsError(error, "TCFS_REMOTE_CONFLICT")) throw error;
      // Something is there, whatever the store said before.
      const object = await store.get(name, { maxBytes: MAX_PACK_OBJECT_BYTES, signal });
      if (object === undefined) throw error;
      if (object.content.length >= lengthBytes && this.#hasHeader(pack, object.content)) {
        return (await this.#isWhole(pack, object.content, buffer)) ? 0 : undefined;
      }
      await store.putIfMatch(name, remains, object.version, signal);
    }
    return undefined;
  }

  #hasHeader(pack: PackId, content: Uint8Array): boolean {
    return openHeader(content.subarray(0, PACK_HEADER_BYTES), { pack, ...this.#rooms }) !== undefined;
  }

  /** Nothing of it is here. @returns 0 where the store has it; undefined where it is lost, which is noted. */
  async #findThere(
    store: ObjectStore,
    record: PackRecord,
    buffer: PackBuffer,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const { pack, lengthBytes } = record;
    const thereBytes = (await usableLength(store, pack, this.#rooms, signal)) ?? 0;
    const isThere = thereBytes >= lengthBytes;
    const isSuspect =
      isThere &&
      (this.lost.has(pack) || (thereBytes > lengthBytes && (await isMarked(store, pack, thereBytes, signal))));
    if (isThere && (!isSuspect || (await this.#isWholeThere(store, pack, buffer, signal)))) return 0;
    if (!isThere && !this.#options.isNamed(pack)) throw new PackGone(`${packObject(pack)} is needed no more`);
    if (!isThere) await requireStore(store, signal);
    await this.#requireNotAway(record);
    await this.lost.note({ pack, kind: isThere ? "damaged" : "missing" });
    return undefined;
  }

  /** Whether all that the store has of it opens: asked of what is not whole here, so an index must tell. */
  async #isWholeThere(store: ObjectStore, pack: PackId, buffer: PackBuffer, signal: AbortSignal): Promise<boolean> {
    const object = await store.get(packObject(pack), { maxBytes: MAX_PACK_OBJECT_BYTES, signal });
    return object !== undefined && this.#isWhole(pack, object.content, buffer);
  }

  async #isWhole(pack: PackId, object: Uint8Array, buffer: PackBuffer): Promise<boolean> {
    const { content, isMarked } = decodeRemains(object);
    const found = await this.#options.findDamage(pack, content, buffer, true);
    const damage = found ?? (isMarked ? NOT_ALL : undefined);
    if (damage !== undefined) this.#noteDamage(pack, damage);
    return damage === undefined;
  }

  #noteDamage(pack: PackId, damage: PackDamage): void {
    const name = formatPackId(pack);
    if (!this.#damages.has(name)) this.#options.onDamage(pack, damage);
    this.#damages.set(name, damage);
  }

  /**
   * Of damaged packs that the store has, those of which the vault's newest state needs nothing that is damaged are as good
   * as whole. Before the changes of a step are captured: an older state may need what this one does not.
   */
  async releaseHealed(): Promise<void> {
    for (const { pack, kind } of this.lost.all()) {
      const damage = this.#damages.get(formatPackId(pack));
      if (kind === "missing" || damage === undefined || damage.ofPack !== undefined) continue;
      if (damage.chunks.some((chunk) => this.#options.isChunkThere(chunk, pack))) continue;
      await this.#stored.add(pack);
      this.lost.forget(pack);
    }
    await this.lost.save();
  }

  /** Another content under a name that nobody else chooses is an upload that was cut short, or damage. */
  async #put(store: ObjectStore, name: string, content: Uint8Array, signal: AbortSignal): Promise<void> {
    try {
      await store.putIfAbsent(name, content, signal);
    } catch (error) {
      if (!isTcfsError(error, "TCFS_REMOTE_CONFLICT")) throw error;
      await store.put(name, content, signal);
    }
  }
}

/** A store that is gone for a while, as a directory whose drive is, would lack everything. @throws TcfsError `TCFS_REMOTE_MISSING` */
async function requireStore(store: ObjectStore, signal: AbortSignal): Promise<void> {
  if ((await store.head(HEADER_NAME, signal)) !== undefined) return;
  throw new TcfsError("TCFS_REMOTE_MISSING", `${store.place} has no header of a vault: what it lacks cannot be told`);
}

/** Whether the store has what remains of the pack. @param objectBytes - That it has. */
async function isMarked(store: ObjectStore, pack: PackId, objectBytes: number, signal: AbortSignal): Promise<boolean> {
  return isMark((await store.getRange(packObject(pack), markRange(objectBytes), signal)) ?? new Uint8Array(0));
}
