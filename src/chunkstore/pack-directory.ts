/** The vault's pack files as whole files: for whoever brings them elsewhere (DESIGN §6). */
import type { PackId } from "../ids.ts";
import type { Disk } from "../platform/disk.ts";
import { packPath } from "./open-packs.ts";

export interface OwnPacks {
  /** Whether this session made the pack. */
  isOwn(pack: PackId): boolean;
  /** Whether it is still written to. */
  isOpen(pack: PackId): boolean;
  /** Finish every pack that has taken chunks: afterwards none of them is written to. */
  retire(): Promise<void>;
}

/** Packs that are elsewhere, for the vault that has a store. */
export interface RemotePacks {
  /** Bring a pack that is not here. @returns Whether it is here now. @throws TcfsError */
  fetch(pack: PackId): Promise<boolean>;
  /** @returns How long it is there; undefined where it is not. @throws TcfsError */
  lengthOf(pack: PackId): Promise<number | undefined>;
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
