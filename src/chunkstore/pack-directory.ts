/** The vault's pack files as whole files: for whoever brings them elsewhere (DESIGN §6). */
import type { PackId } from "../ids.ts";
import type { Disk } from "../platform/disk.ts";
import { join } from "node:path";
import { packPath } from "./open-packs.ts";
import { parsePackId } from "./pack-format.ts";

/** The packs that have files. @param directory - The vault's `packs`. */
export async function* listPackFiles(disk: Disk, directory: string): AsyncGenerator<PackId> {
  for (const prefix of await disk.list(directory)) {
    if (!/^[0-9a-f]{2}$/.test(prefix)) continue;
    for (const name of await disk.list(join(directory, prefix))) {
      const pack = parsePackId(name);
      if (pack !== undefined) yield pack;
    }
  }
}

export interface OwnPacks {
  /** Whether this session made the pack. */
  isOwn(pack: PackId): boolean;
  /** Whether it is still written to. */
  isOpen(pack: PackId): boolean;
  /** Finish every pack there is, and those that are being made: afterwards none of them is written to. */
  retire(): Promise<void>;
}

export class PackDirectory {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #own: OwnPacks;

  /** @param directory - The vault's `packs`. */
  constructor(disk: Disk, directory: string, own: OwnPacks) {
    this.#disk = disk;
    this.#directory = directory;
    this.#own = own;
  }

  isOwn(pack: PackId): boolean {
    return this.#own.isOwn(pack);
  }

  isOpen(pack: PackId): boolean {
    return this.#own.isOpen(pack);
  }

  retire(): Promise<void> {
    return this.#own.retire();
  }

  /** @returns The file, whole; undefined where there is none. */
  read(pack: PackId): Promise<Uint8Array | undefined> {
    return this.#disk.readFile(packPath(this.#directory, pack));
  }
}
