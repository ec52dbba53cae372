/** The vault's pack files as whole files: for whoever brings them elsewhere (DESIGN §6). */
import { join } from "node:path";
import { MAX_CHUNK_BYTES } from "../crypto/engine.ts";
import { isTcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { Disk, DiskFile } from "../platform/disk.ts";
import { packPath } from "./open-packs.ts";
import { parsePackId } from "./pack-format.ts";
import { salvage } from "./pack-salvage.ts";

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

  /**
   * @param buffer - Taken over: what an earlier call gave from it is gone.
   * @returns The file, whole, as a view of the buffer; undefined where there is none.
   */
  async readInto(pack: PackId, buffer: PackBuffer): Promise<Uint8Array | undefined> {
    const file = await this.#open(pack);
    if (file === undefined) return undefined;
    try {
      const content = buffer.content(await file.length());
      return content.subarray(0, await file.readInto(content, 0));
    } finally {
      await file.close();
    }
  }

  /** @returns Undefined where there is no such file. */
  async lengthOf(pack: PackId): Promise<number | undefined> {
    const file = await this.#open(pack);
    try {
      return await file?.length();
    } finally {
      await file?.close();
    }
  }

  /** @returns What can be read of the file, as {@link salvage} gives it; undefined where that is nothing. */
  async salvage(pack: PackId, lengthBytes: number): Promise<Uint8Array | undefined> {
    const file = await this.#open(pack).catch((error: unknown) => {
      if (isDeviceFailure(error)) return undefined;
      throw error;
    });
    try {
      return file && (await salvage(file, lengthBytes));
    } finally {
      await file?.close();
    }
  }

  async #open(pack: PackId): Promise<DiskFile | undefined> {
    try {
      return await this.#disk.open(packPath(this.#directory, pack));
    } catch (error) {
      if (isTcfsError(error, "TCFS_NO_ENTRY")) return undefined;
      throw error;
    }
  }
}

/** Whether it is the file that does not open: too many open files, say, tell nothing of it. */
function isDeviceFailure(error: unknown): boolean {
  if (!isTcfsError(error, "TCFS_IO")) return false;
  const { code } = (error.cause ?? {}) as NodeJS.ErrnoException;
  return code !== undefined && DAMAGE_ERRNOS.has(code);
}

/** Of a file system that finds an inode or a directory damaged. */
const DAMAGE_ERRNOS: ReadonlySet<string> = new Set(["EIO", "EUCLEAN", "EBADMSG"]);

/** Almost every pack fits. */
const BUFFER_BYTES = 17 * 1024 * 1024;

/**
 * Memory that one pack after another is read into and opened in. Whoever reads many whole packs would otherwise leave 16 MiB
 * for each to a garbage collector that comes late.
 */
export class PackBuffer {
  #content: Uint8Array | undefined;
  #chunk: Uint8Array | undefined;

  /** @returns The buffer's memory, with anything in it. */
  content(lengthBytes: number): Uint8Array {
    const present = this.#content;
    const content =
      present !== undefined && present.length >= lengthBytes
        ? present
        : Buffer.allocUnsafeSlow(Math.max(BUFFER_BYTES, lengthBytes));
    this.#content = content;
    return content.subarray(0, lengthBytes);
  }

  /** Beside the content: for one opened chunk of it. */
  chunk(lengthBytes: number): Uint8Array {
    this.#chunk ??= Buffer.allocUnsafeSlow(MAX_CHUNK_BYTES);
    return this.#chunk.subarray(0, lengthBytes);
  }
}
