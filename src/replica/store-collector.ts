/**
 * Deletes from the store what no root leads to any more (FORMAT.md §11.10): after a root of this device's own was written,
 * never before a grace period is over, and nothing while a kept root is there. Uploads never fail for it.
 */
import { toHex } from "../bytes.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import { MAX_KEPT_ROOTS } from "../format/replica-codec.ts";
import type { PackId } from "../ids.ts";
import { type Clock, millisecondsOf } from "../platform/clock.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import {
  KEPT_ROOTS,
  MAX_ROOT_BYTES,
  ROOT_NAME,
  isManifest,
  keptRootObject,
  keptRootOf,
  packOfName,
  sha256,
} from "./object-names.ts";
import type { KeptNote, RootNote } from "./replica-state.ts";
import type { LedgerEntry, StoreLedger } from "./store-ledger.ts";

/** Between two looks at the root. */
const BATCH_OBJECTS = 64;
const REQUESTS_AT_ONCE = 4;
/** So long a look at the root counts. */
const FRESH_MS = 30_000;
/** After a refusal: a store that locks its objects is not asked at every root. */
const REST_MS = 10 * 60_000;
/** A listing is gone through so often at most. */
const SWEEP_EVERY_MS = 30 * 24 * 3600_000;

export interface StoreCollectorOptions {
  readonly ledger: StoreLedger;
  readonly clock: Clock;
  /** Whether the vault's newest state names the pack. @throws TcfsError where that cannot be told */
  readonly isNamed: (pack: PackId) => boolean;
  /** Whether the store is known to have the pack. */
  readonly isStored: (pack: PackId) => boolean;
  /** A pack is about to be deleted. */
  readonly onDelete: (pack: PackId) => void;
}

export interface CollectionPlan {
  /** The store's root: our own, just written by compare-and-swap. */
  readonly last: RootNote;
  readonly kept: readonly KeptNote[];
  readonly graceMs: number;
  /** Asked between batches. */
  readonly mayGoOn: () => boolean;
  readonly signal: AbortSignal;
}

export class StoreCollector {
  readonly #options: StoreCollectorOptions;
  #isResting = false;
  deletedCount = 0;
  /** Why nothing is deleted though it is due. */
  problem: string | undefined;

  constructor(options: StoreCollectorOptions) {
    this.#options = options;
  }

  /** @returns The kept roots that there may still be. Never rejects for what the store or the database does. */
  async collect(store: ObjectStore, plan: CollectionPlan): Promise<readonly KeptNote[]> {
    const { ledger, clock } = this.#options;
    if (this.#isResting) return plan.kept;
    let kept = plan.kept;
    try {
      await this.#measure(store, plan.signal);
      kept = await this.#askForKept(store, plan);
      this.problem = undefined;
      const due = ledger.due(plan.last.number, this.#nowMs(), plan.graceMs);
      if (due.length > 0) kept = await withListed(store, kept, plan);
      if (kept.length > 0 && due.length > 0) throw keptRoots(kept);
      for (let at = 0; at < due.length && plan.mayGoOn(); at += BATCH_OBJECTS) {
        await this.#deleteBatch(store, due.slice(at, at + BATCH_OBJECTS), plan);
      }
      if (this.#nowMs() - ledger.sweptAtMs > SWEEP_EVERY_MS && plan.mayGoOn()) await this.#sweep(store, plan.signal);
    } catch (error) {
      if (!isTcfsError(error)) throw error;
      if (plan.signal.aborted) return kept;
      this.problem = error.message;
      this.#isResting = true;
      clock.after(REST_MS, () => {
        this.#isResting = false;
      });
    }
    return kept;
  }

  /** How long it is until something may be deleted; undefined where nothing is dead. */
  untilDueMs(graceMs: number): number | undefined {
    const { firstDeathMs } = this.#options.ledger;
    if (firstDeathMs === undefined) return undefined;
    return Math.max(this.#isResting ? REST_MS : 0, firstDeathMs + graceMs - this.#nowMs());
  }

  /** What takes how much room; what is gone already is forgotten. */
  async #measure(store: ObjectStore, signal: AbortSignal): Promise<void> {
    const { ledger } = this.#options;
    const found = [...ledger.unmeasured()];
    await atOnce(found, async (entry) => {
      const lengthBytes = await store.head(entry.name, signal);
      if (lengthBytes === undefined) ledger.forget(entry.name);
      else ledger.measured(entry, lengthBytes);
    });
    if (found.length > 0) await ledger.save();
  }

  /** One that the store does not have counts as gone after a grace period: a store may say so for a moment. */
  async #askForKept(store: ObjectStore, { kept, graceMs, signal }: CollectionPlan): Promise<readonly KeptNote[]> {
    const rest: KeptNote[] = [];
    for (const note of kept) {
      const isThere = (await store.head(keptRootObject(note.number, note.hash), signal)) !== undefined;
      const nowMs = this.#nowMs();
      const missingSince = isThere ? null : (note.missingSince ?? new Date(nowMs).toISOString());
      if (missingSince === null || Date.parse(missingSince) + graceMs > nowMs) rest.push({ ...note, missingSince });
      else this.#options.ledger.sweptAtMs = 0; // what it led to is listed, and known to nobody here
    }
    return rest;
  }

  async #deleteBatch(store: ObjectStore, batch: readonly LedgerEntry[], plan: CollectionPlan): Promise<void> {
    const { ledger } = this.#options;
    const isFresh = this.#beginLook();
    await requireOwnRoot(store, plan);
    try {
      await atOnce(batch, async ({ name }) => {
        if (!isFresh()) return; // the next root's: who accepts over this one may have asked for it meanwhile
        const pack = packOfName(name);
        if (pack !== undefined && this.#options.isNamed(pack)) {
          ledger.forget(name);
          return;
        }
        if (pack !== undefined) this.#options.onDelete(pack);
        await store.delete(name, plan.signal);
        ledger.forget(name);
        this.deletedCount += 1;
      });
    } finally {
      await ledger.save();
    }
  }

  /** By both clocks: one of them stands still while the machine sleeps. */
  #beginLook(): () => boolean {
    const { clock } = this.#options;
    const wallMs = this.#nowMs();
    const awakeMs = clock.monotonicMs();
    return () => Math.abs(this.#nowMs() - wallMs) < FRESH_MS && clock.monotonicMs() - awakeMs < FRESH_MS;
  }

  /** What nobody here knows of: a listing shows it, and the next checkpoint tells whether the root leads there. */
  async #sweep(store: ObjectStore, signal: AbortSignal): Promise<void> {
    const { ledger, isStored } = this.#options;
    for (const prefix of ["commits/", "checkpoints/", "packs/"]) {
      for await (const name of store.list(prefix, signal)) {
        const pack = packOfName(name);
        if (pack === undefined ? isManifest(name) : !isStored(pack)) ledger.note(name);
      }
    }
    ledger.sweptAtMs = this.#nowMs();
    await ledger.save();
  }

  #nowMs(): number {
    return millisecondsOf(this.#options.clock.now());
  }
}

/**
 * The root must be the one that we wrote, and nobody be about to replace it on purpose: whoever does puts it under its
 * kept name first, and then asks for each pack again.
 */
async function requireOwnRoot(store: ObjectStore, { last, signal }: CollectionPlan): Promise<void> {
  const found = await store.get(ROOT_NAME, { maxBytes: MAX_ROOT_BYTES, signal });
  const isOurs = found !== undefined && toHex(sha256(found.content)) === last.rootHash;
  const isKept = (await store.head(keptRootObject(last.number, last.rootHash), signal)) !== undefined;
  if (isOurs && !isKept) return;
  throw new TcfsError("TCFS_REMOTE_DIVERGED", "another copy of the vault is about to write to the store");
}

/** Also those that nobody named: of an accept that broke off, or that went over a root which could not be read. */
async function withListed(
  store: ObjectStore,
  kept: readonly KeptNote[],
  { last, signal }: CollectionPlan,
): Promise<readonly KeptNote[]> {
  const found = new Map(kept.map((note) => [note.hash, note]));
  for await (const name of store.list(KEPT_ROOTS, signal)) {
    const root = keptRootOf(name);
    const isOwn = root !== undefined && last.rootHash.startsWith(root.hash); // asked for before each batch
    if (root === undefined || isOwn || found.has(root.hash) || found.size >= MAX_KEPT_ROOTS) continue;
    found.set(root.hash, { ...root, missingSince: null });
  }
  return [...found.values()];
}

function keptRoots(kept: readonly KeptNote[]): TcfsError {
  const names = kept.map(({ number, hash }) => keptRootObject(number, hash)).join(", ");
  return new TcfsError("TCFS_BUSY", `the store keeps what was accepted over: ${names}; tcfs store forget lets it go`);
}

async function atOnce<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const queue = all.values();
  const lane = async (): Promise<void> => {
    for (const one of queue) await work(one);
  };
  const outcomes = await Promise.allSettled(Array.from({ length: REQUESTS_AT_ONCE }, lane));
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
}
