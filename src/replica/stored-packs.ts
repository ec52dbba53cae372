/** Which packs the store has: `store.packs` (FORMAT.md §11.5). A hint on disk, since asking the store tells the same. */
import { join } from "node:path";
import { toHex } from "../bytes.ts";
import { isTcfsError } from "../errors.ts";
import { PACK_ID_BYTES } from "../format/record-keys.ts";
import type { PackId } from "../ids.ts";
import type { Disk, DurableFile } from "../platform/disk.ts";

const FILE_NAME = "store.packs";

export class StoredPacks implements AsyncDisposable {
  readonly #names = new Set<string>();
  readonly #file: DurableFile;
  #endOffset: number;
  #appending: Promise<void> = Promise.resolve();

  private constructor(file: DurableFile, content: Uint8Array) {
    this.#file = file;
    this.#endOffset = content.length - (content.length % PACK_ID_BYTES);
    for (let at = 0; at < this.#endOffset; at += PACK_ID_BYTES) {
      this.#names.add(toHex(content.subarray(at, at + PACK_ID_BYTES)));
    }
  }

  /** @param directory - The vault's. */
  static async open(disk: Disk, directory: string): Promise<StoredPacks> {
    const path = join(directory, FILE_NAME);
    const content = (await disk.readFile(path)) ?? new Uint8Array(0);
    try {
      await (await disk.create(path)).close();
    } catch (error) {
      if (!isTcfsError(error, "TCFS_EXISTS")) throw error;
    }
    return new StoredPacks(await disk.openDurable(path), content);
  }

  /** A new vault directory, whose store has these. */
  static async create(disk: Disk, directory: string, packs: Iterable<PackId>): Promise<void> {
    await disk.replaceFile(join(directory, FILE_NAME), Buffer.concat([...packs]));
  }

  /** Another store: it has nothing. */
  static async forget(disk: Disk, directory: string): Promise<void> {
    await disk.remove(join(directory, FILE_NAME)).catch((error: unknown) => {
      if (!isTcfsError(error, "TCFS_NO_ENTRY")) throw error;
    });
  }

  has(pack: PackId): boolean {
    return this.#names.has(toHex(pack));
  }

  /** What cannot be written down is asked for again after the next start. */
  add(pack: PackId): Promise<void> {
    this.#names.add(toHex(pack));
    const append = async (): Promise<void> => {
      await this.#file.write([pack], this.#endOffset);
      this.#endOffset += PACK_ID_BYTES;
    };
    this.#appending = this.#appending.then(append).catch(() => undefined);
    return this.#appending;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#appending;
    await this.#file.close();
  }
}
