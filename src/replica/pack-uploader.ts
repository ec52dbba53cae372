/** Brings packs to the store: oldest first, several at once, each once; what an earlier session brought is found again. */
import { type PackDirectory, PackBuffer } from "../chunkstore/pack-directory.ts";
import type { PackDamage } from "../chunkstore/pack-verifier.ts";
import { formatPackId, parsePackId } from "../chunkstore/pack-format.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { PackRecord } from "../format/records.ts";
import type { PackId } from "../ids.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import { Backlog } from "./backlog.ts";
import { packObject } from "./object-names.ts";
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
  /** What is wrong with a pack that is about to be sent. */
  readonly findDamage: (pack: PackId, content: Uint8Array, buffer: PackBuffer) => Promise<PackDamage | undefined>;
  /** A pack is sent though it is damaged, for the rest of it is all there is. */
  readonly onDamage: (pack: PackId, damage: PackDamage) => void;
  /** A pack that the store lost is not here either. */
  readonly onGone: (pack: PackId) => void;
}

/** A store that loses a pack over and over is not brought it more often in one session. */
const MOST_TIMES_AGAIN = 3;

/** A pack that the step needs is gone because the vault has moved on: begin again with a newer state. */
export class PackGone extends Error {}

export class PackUploader {
  readonly #local: PackDirectory;
  readonly #stored: StoredPacks;
  readonly #clock: Clock;
  readonly #rooms: PackRooms;
  readonly #findDamage: PackUploaderOptions["findDamage"];
  readonly #onDamage: PackUploaderOptions["onDamage"];
  readonly #onGone: PackUploaderOptions["onGone"];
  readonly backlog: Backlog;
  /** Taken by the store, and not there any more; by name. */
  readonly #lost = new Map<string, PackRecord>();
  readonly #timesLost = new Map<string, number>();
  /** One for each upload under way; those not in use. */
  #buffers: PackBuffer[] = [];
  #emptying: Timer | undefined;
  /** Whether several packs may go up at once. */
  mayHurry: () => boolean = () => true;

  constructor({ local, stored, clock, packKeys, vaultId, findDamage, onDamage, onGone }: PackUploaderOptions) {
    this.#findDamage = findDamage;
    this.#onDamage = onDamage;
    this.#onGone = onGone;
    this.#local = local;
    this.#stored = stored;
    this.#clock = clock;
    this.#rooms = { packKeys, vaultId };
    this.backlog = new Backlog((pack) => stored.has(pack));
  }

  get lostCount(): number {
    return this.#lost.size;
  }

  /** The store lacks what it took. @returns Whether it is to be brought again. */
  noteLost(record: PackRecord): boolean {
    const name = formatPackId(record.pack);
    const times = (this.#timesLost.get(name) ?? 0) + 1;
    if (times > MOST_TIMES_AGAIN) return false;
    this.#timesLost.set(name, times);
    this.#stored.remove(record.pack);
    this.#lost.set(name, record);
    this.backlog.add(record);
    return true;
  }

  /** @returns What was lost, until it is there again; what no state names any more is forgotten. */
  takeLost(isNamed: (pack: PackRecord) => boolean): PackRecord[] {
    for (const [name, record] of this.#lost) if (!isNamed(record)) this.#lost.delete(name);
    return [...this.#lost.values()];
  }

  /** It is not here either: nothing is to be expected of asking for it at each step. */
  async giveUpLost(pack: PackId): Promise<void> {
    this.#lost.delete(formatPackId(pack));
    await this.#stored.add(pack);
    this.backlog.sent(pack, 0, this.#clock.monotonicMs());
    this.#onGone(pack);
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

  /**
   * @param packs - None of them is written to any more.
   * @throws TcfsError what the store throws; `TCFS_CORRUPT` where a pack is neither here nor there. {@link PackGone}.
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
    const content = await this.#local.readInto(pack, buffer);
    let sentBytes = 0;
    if (content === undefined || content.length < record.lengthBytes) await this.#requireThere(store, record, signal);
    else if (this.#local.isOwn(pack) || (await usableLength(store, pack, this.#rooms, signal)) !== content.length) {
      sentBytes = await this.#send(store, record, content, buffer, signal);
    }
    this.#lost.delete(formatPackId(pack));
    await this.#stored.add(pack);
    this.backlog.sent(pack, sentBytes, this.#clock.monotonicMs());
  }

  /**
   * What memory or a cable spoiled is whole when it is read again; what the disk spoiled is sent as it is, and told of, but
   * over nothing that the store has.
   * @returns Bytes sent.
   */
  async #send(
    store: ObjectStore,
    record: PackRecord,
    content: Uint8Array,
    buffer: PackBuffer,
    signal: AbortSignal,
  ): Promise<number> {
    const { pack, lengthBytes } = record;
    let whole = content;
    if ((await this.#findDamage(pack, content, buffer)) !== undefined) {
      whole = (await this.#local.readInto(pack, buffer)) ?? content;
      if (whole.length < lengthBytes) throw new PackGone(`${packObject(pack)} was cut short here`);
      const damage = await this.#findDamage(pack, whole, buffer);
      if (damage !== undefined) {
        this.#onDamage(pack, damage);
        if (((await usableLength(store, pack, this.#rooms, signal)) ?? 0) >= lengthBytes) return 0;
      }
    }
    await this.#put(store, packObject(pack), whole, signal);
    return whole.length;
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

  async #requireThere(
    store: ObjectStore,
    { pack, lengthBytes }: Pick<PackRecord, "pack" | "lengthBytes">,
    signal: AbortSignal,
  ): Promise<void> {
    const found = await usableLength(store, pack, this.#rooms, signal);
    if (found !== undefined && found >= lengthBytes) return;
    throw new PackGone(`${packObject(pack)} is damaged or missing, here and in the store`);
  }
}

/** @returns What {@link PackGone} comes to if the vault has not moved on. */
export function asDamage(error: PackGone): TcfsError {
  return new TcfsError("TCFS_CORRUPT", `${error.message}: the store keeps its earlier state`);
}
