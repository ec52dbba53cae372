/**
 * Finds out which local packs may be given up: those that the store's root names, and that the store shows at their full
 * length. Asked right after a root was written: every pack brought until then, and named by the vault still, was named
 * by a state that the root has (each step brings the packs of all changes since the root before; ids are never used
 * again). What a step brought that never got its root is not asked for before the next root.
 */
import type { ObjectSealer } from "../crypto/object-seal.ts";
import { counted } from "../counted.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { DeviceList } from "../keys/devices/device-list.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import { type PackRooms, usableLength } from "./remote-epoch.ts";
import { readRoot } from "./remote-root.ts";
import type { StoredPacks } from "./stored-packs.ts";
import { Waiters } from "./waiters.ts";

const REQUESTS_AT_ONCE = 4;
const RETRY_MS = 30_000;
/** While somebody waits for it. */
const WAITED_RETRY_MS = 2000;

export interface StoredConfirmerOptions extends PackRooms {
  readonly openStore: () => Promise<ObjectStore>;
  readonly sealer: ObjectSealer;
  /** As they are known here. */
  readonly devices: () => DeviceList;
  readonly stored: Pick<StoredPacks, "has">;
  /** Local packs of which it is not known yet. */
  readonly unstored: () => PackId[];
  /** @returns Whether what is here has that length too. */
  readonly noteStored: (pack: PackId, lengthBytes: number) => boolean;
  /** Whether the vault's newest state names the pack. */
  readonly isPackNamed: (pack: PackId) => boolean;
  /** Of the root that we wrote last, or know to be ours. */
  readonly rootHash: () => string | undefined;
  readonly clock: Clock;
  /** The store does not have a pack that it took, or another content of it. @returns False if it is not brought again. */
  readonly onMissing: (pack: PackId) => boolean;
  /** The store's root is not that one any more. */
  readonly onOtherRoot: () => void;
}

export class StoredConfirmer {
  readonly #options: StoredConfirmerOptions;
  readonly #closing = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #retry: Timer | undefined;
  #asked = 0;
  /** Of these, the newest that nothing is open of: it was answered, or there was nothing to ask. */
  #settled = 0;
  /** Packs that the store does not have then, however often it took them. */
  #lackedCount = 0;
  readonly #waiters = new Waiters();

  constructor(options: StoredConfirmerOptions) {
    this.#options = options;
  }

  /** The root has just become this, and names all that was brought so far. Never fails: it is tried again. */
  confirm(): Promise<void> {
    const packs = this.#toAskFor();
    const expected = this.#options.rootHash();
    const asked = ++this.#asked;
    this.#retry?.cancel();
    if (packs.length === 0 || expected === undefined) {
      this.#settle(asked, 0);
      return this.#running;
    }
    this.#running = this.#running.then(async () => {
      if (asked !== this.#asked || this.#closing.signal.aborted) return; // a newer one knows more
      try {
        this.#settle(asked, await this.#confirm(packs, expected));
      } catch (error) {
        if (!isTcfsError(error)) throw error;
        this.#tryLater(packs, expected);
      }
    });
    return this.#running;
  }

  /**
   * Resolves once the store has answered for all that was brought so far.
   * @throws TcfsError `TCFS_CANCELLED`, `TCFS_CLOSED`; `TCFS_CORRUPT` if it lacks what it took, and is brought that no more.
   */
  async confirmed(signal: AbortSignal): Promise<void> {
    if (this.#closing.signal.aborted) throw closed();
    if (this.#settled < this.#asked) await this.#waiters.wait(this.#asked, signal);
    if (this.#lackedCount === 0) return;
    const what = counted(this.#lackedCount, "pack");
    throw new TcfsError("TCFS_CORRUPT", `the store does not have ${what} that it took, however often it is brought`);
  }

  #settle(asked: number, lackedCount: number): void {
    if (asked !== this.#asked) return; // a newer one knows more
    this.#settled = asked;
    this.#lackedCount = lackedCount;
    this.#waiters.settle(asked);
  }

  #toAskFor(): PackId[] {
    const { unstored, stored, isPackNamed } = this.#options;
    try {
      return unstored().filter((pack) => stored.has(pack) && isPackNamed(pack));
    } catch (error) {
      if (isTcfsError(error)) return []; // the database fails just now: the next root asks for them
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#retry?.cancel();
    this.#waiters.rejectAll(closed());
    await this.#running;
  }

  #tryLater(packs: readonly PackId[], expected: string): void {
    if (this.#closing.signal.aborted) return;
    const asked = this.#asked;
    this.#retry = this.#options.clock.after(this.#waiters.count > 0 ? WAITED_RETRY_MS : RETRY_MS, () => {
      if (asked !== this.#asked) return;
      this.#running = this.#confirm(packs, expected).then(
        (lackedCount) => {
          this.#settle(asked, lackedCount);
        },
        () => {
          this.#tryLater(packs, expected);
        },
      );
    });
  }

  /** @returns How many of them the store does not have, and is not brought again. */
  async #confirm(packs: readonly PackId[], expected: string): Promise<number> {
    const { openStore, sealer, devices, noteStored, onMissing, onOtherRoot } = this.#options;
    const { signal } = this.#closing;
    const store = await openStore();
    const root = await readRoot(store, sealer, { signal, known: devices() });
    if (root?.hash !== expected) {
      onOtherRoot(); // a newer one, which is asked about in its turn; or another's
      return 0;
    }
    const queue = packs.values();
    let lackedCount = 0;
    const work = async (): Promise<void> => {
      for (const pack of queue) {
        const lengthBytes = await usableLength(store, pack, this.#options, signal);
        if (lengthBytes !== undefined && noteStored(pack, lengthBytes)) continue;
        if (!onMissing(pack)) lackedCount += 1;
      }
    };
    await Promise.all(Array.from({ length: REQUESTS_AT_ONCE }, work));
    return lackedCount;
  }
}

function closed(): TcfsError {
  return new TcfsError("TCFS_CLOSED", "the vault is closed before the store answered for it");
}
