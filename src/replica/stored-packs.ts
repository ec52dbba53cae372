/** Which packs the store has: `store.packs` (FORMAT.md §11.5). A hint on disk, since asking the store tells the same. */
import { join } from "node:path";
import { toHex } from "../bytes.ts";
import { isTcfsError } from "../errors.ts";
import { PACK_ID_BYTES } from "../format/record-keys.ts";
import type { PackId } from "../ids.ts";
import type { Disk, DurableFile } from "../platform/disk.ts";

const FILE_NAME = "store.packs";
/** Stands where a pack was that the store turned out to lack. */
const NO_PACK = new Uint8Array(PACK_ID_BYTES);

export class StoredPacks implements AsyncDisposable {
  /** Where each stands in the file. */
  readonly #offsets = new Map<string, number>();
  readonly #file: DurableFile;
  #endOffset: number;
  #writing: Promise<void> = Promise.resolve();

  private constructor(file: DurableFile, content: Uint8Array) {
    this.#file = file;
    this.#endOffset = content.length - (content.length % PACK_ID_BYTES);
    for (let at = 0; at < this.#endOffset; at += PACK_ID_BYTES) {
      const id = content.subarray(at, at + PACK_ID_BYTES);
      if (id.some((byte) => byte !== 0)) this.#offsets.set(toHex(id), at);
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
    return this.#offsets.has(toHex(pack));
  }

  /** In hexadecimal. */
  names(): IterableIterator<string> {
    return this.#offsets.keys();
  }

  /** What cannot be written down is asked for again after the next start. */
  add(pack: PackId): Promise<void> {
    if (this.has(pack)) return this.#writing;
    const offset = this.#endOffset;
    this.#endOffset += PACK_ID_BYTES;
    this.#offsets.set(toHex(pack), offset);
    return this.#write(pack, offset);
  }

  /** The store does not have it after all. What cannot be written down is found out again. */
  remove(pack: PackId): void {
    const offset = this.#offsets.get(toHex(pack));
    if (offset === undefined) return;
    this.#offsets.delete(toHex(pack));
    void this.#write(NO_PACK, offset);
  }

  #write(id: Uint8Array, offset: number): Promise<void> {
    this.#writing = this.#writing.then(() => this.#file.write([id], offset)).catch(() => undefined);
    return this.#writing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing;
    await this.#file.close();
  }
}
