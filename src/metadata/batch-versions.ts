/**
 * Extent pages that a batch changes and versions still share: kept in the same batch (FORMAT.md §7.16). Costs two
 * look-ups for each changed page of an inode with a chain, nothing for all others.
 */
import { encodeExtentPage } from "../format/extent-codec.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import { RECORD_KIND, inodeOfKey, pageOfKey } from "../format/record-keys.ts";
import { EXTENT_PAGE_BYTES } from "../format/records.ts";
import type { ChainLink } from "../format/version-codec.ts";
import { versionPageKey } from "../format/version-keys.ts";
import { ZERO_CHUNK } from "../format/zero-chunk.ts";
import { ByteWriter } from "../bytes.ts";
import { isTcfsError } from "../errors.ts";
import type { Epoch, InodeNumber } from "../ids.ts";
import type { RecordReader } from "./record-reader.ts";

export interface BatchVersionsOptions {
  readonly reader: Pick<RecordReader, "plain" | "has">;
  readonly epoch: Epoch;
  /** As of the freeze: what becomes of chains later is in a later batch. */
  readonly chainOf: (ino: InodeNumber) => readonly ChainLink[] | undefined;
}

/** Of one batch; asked again when the batch is written again, it answers the same and more, never from what it wrote. */
export class BatchVersions {
  readonly #options: BatchVersionsOptions;
  readonly #handled = new Set<string>();
  readonly #operations: RecordChange[] = [];

  constructor(options: BatchVersionsOptions) {
    this.#options = options;
  }

  /** The records to write together with `changes`; borrowed. */
  of(changes: readonly RecordChange[]): readonly RecordChange[] {
    for (const { key } of changes) {
      if (key[0] !== RECORD_KIND.extents) continue;
      const chain = this.#options.chainOf(inodeOfKey(key));
      if (chain !== undefined) this.#keep(key, chain);
    }
    return this.#operations;
  }

  #keep(key: Uint8Array, chain: readonly ChainLink[]): void {
    const page = pageOfKey(key);
    const name = `${inodeOfKey(key)}/${page}`;
    if (this.#handled.has(name)) return;
    this.#handled.add(name);
    const { reader, epoch } = this.#options;
    const target = chain.findLastIndex((link) => !link.isDropped && link.endPage > page);
    const version = chain[target]?.version;
    if (version === undefined) return;
    if (chain.slice(target).some((link) => reader.has(versionPageKey(link.version, page)))) return;
    const value = this.#read(key) ?? encodeHole(epoch);
    this.#operations.push({ key: versionPageKey(version, page), value });
  }

  /** One that does not open goes on not to: an empty value, which no reader accepts. */
  #read(key: Uint8Array): Uint8Array | undefined {
    try {
      return this.#options.reader.plain(key, "extent page", 0);
    } catch (error) {
      if (isTcfsError(error, "TCFS_CORRUPT")) return new Uint8Array(0);
      throw error;
    }
  }
}

/** A page that was a hole, told from one that is with the inode. */
function encodeHole(epoch: Epoch): Uint8Array {
  const writer = new ByteWriter();
  encodeExtentPage(writer, epoch, [{ start: 0, lengthBytes: EXTENT_PAGE_BYTES, chunk: ZERO_CHUNK, chunkOffset: 0 }]);
  return writer.take();
}
