/** What a vault directory holds of its store's packs, and what is noted of it (FORMAT.md §11.9). */
import { join } from "node:path";
import { packPath } from "../chunkstore/open-packs.ts";
import { listPackFiles } from "../chunkstore/pack-directory.ts";
import { formatPackId } from "../chunkstore/pack-format.ts";
import { BLOCKS_NAME } from "../chunkstore/pack-shelf.ts";
import { isTcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { Disk } from "../platform/disk.ts";
import { type ShelfNote, type ShelfSeal, decodeShelf, encodeShelf } from "./shelf-index.ts";

const INDEX_NAME = "store.cache";

export class ShelfFiles {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #seal: ShelfSeal;

  /** @param directory - The vault's. */
  constructor(disk: Disk, directory: string, seal: ShelfSeal) {
    this.#disk = disk;
    this.#directory = directory;
    this.#seal = seal;
  }

  packPath(pack: PackId): string {
    return packPath(join(this.#directory, "packs"), pack);
  }

  blocksPath(pack: PackId): string {
    return join(this.#directory, BLOCKS_NAME, formatPackId(pack));
  }

  /** Of a pack in `packs`. @throws TcfsError `TCFS_NO_ENTRY` */
  async lengthOf(pack: PackId): Promise<number> {
    const file = await this.#disk.open(this.packPath(pack));
    return file.length().finally(() => file.close());
  }

  /**
   * What is on the disk decides what is there; the index adds what it knows of it. Blocks of which it knows nothing go.
   * @returns Least recently used first; what the index does not know last.
   */
  async load(): Promise<ShelfNote[]> {
    const content = await this.#disk.readFile(join(this.#directory, INDEX_NAME));
    const blocksDirectory = join(this.#directory, BLOCKS_NAME);
    await this.#disk.makeDirectory(blocksDirectory);
    const files = new Map<string, PackId>();
    for await (const pack of listPackFiles(this.#disk, join(this.#directory, "packs")))
      files.set(formatPackId(pack), pack);
    const blockFiles = new Set(await this.#disk.list(blocksDirectory));
    const notes = (content === undefined ? [] : decodeShelf(content, this.#seal)).filter(
      ({ pack, isStored, blocks }) => {
        const name = formatPackId(pack);
        return blocks === undefined ? isStored && files.delete(name) : !files.has(name) && blockFiles.delete(name);
      },
    );
    for (const pack of files.values()) {
      notes.push({ pack, lengthBytes: await this.lengthOf(pack), isStored: false, blocks: undefined });
    }
    for (const name of blockFiles) await removeIfThere(this.#disk, join(blocksDirectory, name));
    return notes;
  }

  /** What cannot be noted is found out again. @param notes - Least recently used first. */
  async save(notes: readonly ShelfNote[]): Promise<void> {
    try {
      await this.#disk.replaceFile(join(this.#directory, INDEX_NAME), encodeShelf(notes, this.#seal));
    } catch (error) {
      if (!isTcfsError(error)) throw error;
    }
  }
}

export async function removeIfThere(disk: Disk, path: string): Promise<void> {
  await disk.remove(path).catch((error: unknown) => {
    if (!isTcfsError(error, "TCFS_NO_ENTRY")) throw error;
  });
}
