/**
 * Whether a pack is really there, before deduplication relies on it (DESIGN §9.7): its file opens, its key unwraps,
 * and it is long enough; or the store has it, and it is long enough there. Looked at once per pack and session; else one
 * lost pack would make every later copy lost too. A store that is away proves nothing, and is not waited for: the content
 * is stored anew.
 */
import { isTcfsError } from "../errors.ts";
import type { ChunkRecord } from "../format/records.ts";
import type { PackId } from "../ids.ts";
import { type PackedChunkRecord, formatPackId, sumBytes } from "./pack-format.ts";
import type { PackReaders } from "./pack-readers.ts";

export class PackProofs {
  readonly #readers: PackReaders;
  /** Length of each pack's file by its name; 0 where it could not be opened. */
  readonly #lengths = new Map<string, number>();
  /** Names of packs that are known to be lost, in whatever length. */
  readonly #distrusted = new Set<string>();

  constructor(readers: PackReaders) {
    this.#readers = readers;
  }

  isProven(record: PackedChunkRecord): boolean {
    const name = formatPackId(record.pack);
    const lengthBytes = this.#distrusted.has(name) ? 0 : (this.#lengths.get(name) ?? 0);
    return record.packOffset + sumBytes(record.storedFrameBytes) <= lengthBytes;
  }

  /** Look at the packs of these records that were not looked at before. Never fails: in doubt it is not proven. */
  async prove(records: readonly (ChunkRecord | undefined)[]): Promise<void> {
    const packs = new Map<string, PackId>();
    for (const record of records) {
      if (record?.kind !== "packed") continue;
      const name = formatPackId(record.pack);
      if (!this.#lengths.has(name)) packs.set(name, record.pack);
    }
    for (const [name, pack] of packs) {
      const lengthBytes = await this.#lengthOf(pack);
      if (lengthBytes !== undefined) this.#lengths.set(name, lengthBytes);
    }
  }

  /** @returns Undefined where only the store could tell, and does not: it is asked again. */
  async #lengthOf(pack: PackId): Promise<number | undefined> {
    let remote: number | undefined;
    try {
      remote = await this.#readers.remoteLength(pack);
    } catch (error) {
      return isTcfsError(error, "TCFS_CORRUPT") ? 0 : undefined; // what it has is no pack
    }
    if (remote !== undefined) return remote;
    try {
      const reader = await this.#readers.acquire(pack);
      try {
        return await reader.length();
      } finally {
        this.#readers.release(reader);
      }
    } catch {
      return 0;
    }
  }

  /** This session wrote it. */
  trust(pack: PackId): void {
    this.#lengths.set(formatPackId(pack), Infinity);
  }

  /** Nothing of it counts as there, until it is said to be whole again. */
  distrust(pack: PackId, isLost: boolean): void {
    if (isLost) this.#distrusted.add(formatPackId(pack));
    else this.#distrusted.delete(formatPackId(pack));
  }

  forget(pack: PackId): void {
    this.#lengths.delete(formatPackId(pack));
  }
}
