/** What is still to be brought to the store, and how fast it goes: figures for people, from which nothing follows. */
import { toHex } from "../bytes.ts";
import { decodePack } from "../format/chunk-codec.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import { RECORD_KIND, packIdOfKey } from "../format/record-keys.ts";
import type { PackRecord } from "../format/records.ts";
import type { PackId } from "../ids.ts";

/** Weight of the newest packs in the speed that is told. */
const NEWEST_WEIGHT = 0.3;
/** Packs that end so close to each other count together: several lanes send at once, and two may end in one instant. */
const TOGETHER_MS = 250;

export class Backlog {
  readonly #isStored: (pack: PackId) => boolean;
  /** Lengths of packs that the store lacks. */
  readonly #unsent = new Map<string, number>();
  /** Their sum. */
  bytes = 0;
  sentBytes = 0;
  /** Smoothed over packs; null before the first one. */
  bytesPerSecond: number | null = null;
  #sinceMs = 0;
  /** Sent since then, and how long it took so far where that was too short to be measured. */
  #newestBytes = 0;
  #unmeasuredMs = 0;
  #sentAtFailure = 0;

  constructor(isStored: (pack: PackId) => boolean) {
    this.#isStored = isStored;
  }

  get packCount(): number {
    return this.#unsent.size;
  }

  /** @param changes - Of a commit: lent. */
  note(changes: readonly RecordChange[]): void {
    for (const { key, value } of changes) {
      if (key[0] !== RECORD_KIND.pack) continue;
      const pack = packIdOfKey(key);
      this.#remove(toHex(pack));
      if (value !== undefined) this.add(decodePack(pack, value));
    }
  }

  /** A pack that the vault names. */
  add({ pack, lengthBytes }: Pick<PackRecord, "pack" | "lengthBytes">): void {
    const name = toHex(pack);
    if (this.#unsent.has(name) || this.#isStored(pack)) return;
    this.#unsent.set(name, lengthBytes);
    this.bytes += lengthBytes;
  }

  /** An upload failed just now. */
  failed(): void {
    this.#sentAtFailure = this.sentBytes;
  }

  /** Whether a pack was sent since the last failure. */
  get goesOn(): boolean {
    return this.sentBytes > this.#sentAtFailure;
  }

  /** Packs are brought from now on. */
  begins(nowMs: number): void {
    this.#sinceMs = nowMs - this.#unmeasuredMs;
  }

  /** A pack is in the store. @param lengthBytes - That were sent for it: none where it was there. */
  sent(pack: PackId, lengthBytes: number, nowMs: number): void {
    this.#remove(toHex(pack));
    if (lengthBytes === 0) return;
    this.sentBytes += lengthBytes;
    this.#newestBytes += lengthBytes;
    const passedMs = nowMs - this.#sinceMs;
    this.#unmeasuredMs = passedMs;
    if (passedMs < TOGETHER_MS && this.bytesPerSecond !== null) return;
    const speed = (this.#newestBytes * 1000) / Math.max(1, passedMs);
    const before = this.bytesPerSecond ?? speed;
    this.bytesPerSecond = Math.round(before + (speed - before) * NEWEST_WEIGHT);
    this.#newestBytes = 0;
    this.#unmeasuredMs = 0;
    this.#sinceMs = nowMs;
  }

  #remove(name: string): void {
    this.bytes -= this.#unsent.get(name) ?? 0;
    this.#unsent.delete(name);
  }
}
