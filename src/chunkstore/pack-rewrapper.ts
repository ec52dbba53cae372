/**
 * Wraps the keys of packs anew, in place (FORMAT.md §5.2): the new wrap is on the device, and was read back, before the
 * old one is taken away. Frames stay as they are. What is done is met as such when it is begun again.
 */
import { dirname, join } from "node:path";
import type { PackKeyWrapper } from "../crypto/pack-key.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { Disk, DurableFile } from "../platform/disk.ts";
import { packPath } from "./open-packs.ts";
import { listPackFiles } from "./pack-directory.ts";
import {
  PACK_HEADER_BYTES,
  type PackHeader,
  decodePackHeader,
  encodeWrap,
  parsePackId,
  wrapOffset,
  wrapsOf,
} from "./pack-format.ts";
import { BLOCKS_NAME } from "./pack-shelf.ts";

export interface PackRewrapperOptions {
  readonly disk: Disk;
  /** The vault's `packs` directory; packs of a store that are here in part lie in `blocks` beside it (FORMAT.md §11.9). */
  readonly directory: string;
  readonly vaultId: Uint8Array;
  readonly packKeys: PackKeyWrapper;
}

/** Follows slow work, and slows it down; throws where it is to end. */
export type Pause = () => Promise<void>;

export interface PackCount {
  readonly packCount: number;
  /** With a wrap of an older key epoch. */
  readonly olderCount: number;
  /** Made in an older key epoch: their frames are as they were. */
  readonly olderDataCount: number;
  /** Whose header does not open: damage. */
  readonly damagedCount: number;
}

interface PackFile {
  readonly pack: PackId;
  readonly path: string;
}

export class PackRewrapper {
  readonly #options: PackRewrapperOptions;

  constructor(options: PackRewrapperOptions) {
    this.#options = options;
  }

  /** Every pack file that is here. @throws TcfsError `TCFS_IO`, `TCFS_STORE_FULL`, what `pause` throws. */
  async rewrapAll(pause: Pause): Promise<void> {
    for (const { pack, path } of [...(await this.#files()), ...(await this.#partialFiles())]) {
      await this.#withFile(path, (file) => this.#rewrap(pack, file));
      await pause();
    }
  }

  /** Reads every pack's header. @throws as {@link rewrapAll}. */
  async count(pause: Pause): Promise<PackCount> {
    const count = { packCount: 0, olderCount: 0, olderDataCount: 0, damagedCount: 0 };
    for (const { pack, path } of await this.#files()) {
      await this.#withFile(path, async (file) => {
        count.packCount += 1;
        const header = await this.#readHeader(pack, file);
        if (header === undefined) count.damagedCount += 1;
        else if (isUnderOlder(header, this.#options.packKeys)) count.olderCount += 1;
        if (header !== undefined && header.keyEpoch < this.#options.packKeys.keyEpoch) count.olderDataCount += 1;
      });
      await pause();
    }
    for (const { pack, path } of await this.#partialFiles()) {
      await this.#withFile(path, async (file) => {
        const header = await this.#readHeader(pack, file); // none where its first block is not here
        if (header !== undefined && isUnderOlder(header, this.#options.packKeys)) count.olderCount += 1;
      });
      await pause();
    }
    return count;
  }

  async #files(): Promise<PackFile[]> {
    const { disk, directory } = this.#options;
    const files: PackFile[] = [];
    for await (const pack of listPackFiles(disk, directory)) files.push({ pack, path: packPath(directory, pack) });
    return files;
  }

  async #partialFiles(): Promise<PackFile[]> {
    const { disk, directory } = this.#options;
    const blocks = join(dirname(directory), BLOCKS_NAME);
    return (await disk.list(blocks)).flatMap((name) => {
      const pack = parsePackId(name);
      return pack === undefined ? [] : [{ pack, path: join(blocks, name) }];
    });
  }

  /** A pack that has gone meanwhile needs nothing. */
  async #withFile(path: string, action: (file: DurableFile) => Promise<void>): Promise<void> {
    let file: DurableFile;
    try {
      file = await this.#options.disk.openDurable(path);
    } catch (error) {
      if (isTcfsError(error, "TCFS_NO_ENTRY")) return;
      throw error;
    }
    try {
      await action(file);
    } finally {
      await file.close();
    }
  }

  async #rewrap(pack: PackId, file: DurableFile): Promise<void> {
    const { packKeys } = this.#options;
    let header = await this.#readHeader(pack, file);
    if (header === undefined || !isUnderOlder(header, packKeys)) return;
    let place = placeOfNewest(header, pack, packKeys);
    if (place === undefined) {
      const packKey = packKeys.unwrap(pack, wrapsOf(header));
      try {
        place = freePlace(header, pack, packKeys);
        await file.write([encodeWrap(packKeys.wrap(pack, packKey))], wrapOffset(place));
      } finally {
        packKey.fill(0);
      }
      header = await this.#readHeader(pack, file);
      if (header === undefined || placeOfNewest(header, pack, packKeys) !== place) {
        throw new TcfsError("TCFS_IO", "a wrapped pack key cannot be read back as it was written");
      }
    }
    for (const [other, wrap] of header.wraps.entries()) {
      if (other !== place && wrap !== undefined) await file.write([encodeWrap(undefined)], wrapOffset(other));
    }
  }

  /** @returns Undefined where it is not this vault's pack, or its key opens under no epoch. */
  async #readHeader(pack: PackId, file: DurableFile): Promise<PackHeader | undefined> {
    const { vaultId, packKeys } = this.#options;
    const bytes = new Uint8Array(PACK_HEADER_BYTES);
    const filled = await file.readInto(bytes, 0);
    return openHeader(bytes.subarray(0, filled), { pack, vaultId, packKeys });
  }
}

/** @returns Undefined where it is not this vault's pack, or its key opens under no epoch that is known. */
export function openHeader(
  bytes: Uint8Array,
  { pack, vaultId, packKeys }: { pack: PackId; vaultId: Uint8Array; packKeys: PackKeyWrapper },
): PackHeader | undefined {
  try {
    const header = decodePackHeader(bytes);
    if (Buffer.compare(header.pack, pack) !== 0 || Buffer.compare(header.vaultId, vaultId) !== 0) return undefined;
    packKeys.unwrap(pack, wrapsOf(header)).fill(0);
    return header;
  } catch (error) {
    if (isTcfsError(error, "TCFS_CORRUPT") || isTcfsError(error, "TCFS_UNKNOWN_FORMAT")) return undefined;
    throw error;
  }
}

/** @returns Whether any of its wraps is not of the newest epoch. */
export function isUnderOlder(header: PackHeader, packKeys: PackKeyWrapper): boolean {
  return wrapsOf(header).some(({ keyEpoch }) => keyEpoch !== packKeys.keyEpoch);
}

function placeOfNewest({ wraps }: PackHeader, pack: PackId, packKeys: PackKeyWrapper): number | undefined {
  const place = wraps.findIndex(
    (wrap) => wrap?.keyEpoch === packKeys.keyEpoch && packKeys.open(pack, wrap) !== undefined,
  );
  return place === -1 ? undefined : place;
}

/** A place whose wrap does not open, if there is one: the other one is whole while it is written. */
function freePlace({ wraps }: PackHeader, pack: PackId, packKeys: PackKeyWrapper): number {
  const place = wraps.findIndex((wrap) => wrap === undefined || packKeys.open(pack, wrap) === undefined);
  if (place === -1) throw new TcfsError("TCFS_CORRUPT", "a pack has two keys of older epochs");
  return place;
}
