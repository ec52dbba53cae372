/** A pack made in memory, for the store alone: pieces of record streams, which no record of the vault names (FORMAT.md §11.3). */
import type { SealingEngine } from "../crypto/engine.ts";
import type { PackKeyWrapper } from "../crypto/pack-key.ts";
import type { PackId } from "../ids.ts";
import type { DiskFile } from "../platform/disk.ts";
import type { RandomSource } from "../platform/random.ts";
import { type PackedChunkRecord, encodePackHeader } from "./pack-format.ts";
import { type ChunkToPack, PackWriter } from "./pack-writer.ts";

const PACK_ID_BYTES = 16;
const PACK_KEY_BYTES = 32;
const FIRST_BYTES = 1024 * 1024;

export interface MemoryPackOptions {
  readonly engine: SealingEngine;
  readonly packKeys: PackKeyWrapper;
  readonly vaultId: Uint8Array;
  readonly random: RandomSource;
  /** Stored bytes at which it counts as full. */
  readonly packBytes: number;
}

export class MemoryPack {
  readonly pack: PackId;
  readonly #file = new MemoryFile();
  readonly #writer: PackWriter;
  readonly #engine: SealingEngine;

  constructor({ engine, packKeys, vaultId, random, packBytes }: MemoryPackOptions) {
    const pack = random.bytes(PACK_ID_BYTES) as PackId;
    const packKey = random.bytes(PACK_KEY_BYTES);
    const wraps = [packKeys.wrap(pack, packKey)];
    const { keyEpoch } = engine;
    this.pack = pack;
    this.#engine = engine;
    this.#file.put(encodePackHeader({ vaultId, keyEpoch, pack, wraps }), 0);
    this.#writer = new PackWriter({
      disk: { syncDirectory: () => Promise.resolve() },
      path: "/",
      file: this.#file,
      pack,
      cipher: engine.packCipher(pack, packKey, keyEpoch),
      packBytes,
      random,
      sealBoundBytes: (lengthBytes) => engine.sealBoundBytes(lengthBytes),
    });
    packKey.fill(0);
  }

  get isFull(): boolean {
    return this.#writer.isFull;
  }

  /** @param chunk - Lent until settled. @returns Its place. */
  async append(chunk: ChunkToPack): Promise<PackedChunkRecord> {
    const reservation = this.#writer.reserve([chunk]);
    if (reservation === undefined) throw new RangeError("the pack is full");
    const output = new Uint8Array(this.#engine.sealBoundBytes(chunk.lengthBytes));
    const [record] = await this.#writer.append([chunk], reservation, output);
    if (record === undefined) throw new RangeError("the engine sealed nothing");
    return record;
  }

  /** @returns The whole pack; it takes nothing more. */
  async finish(): Promise<Uint8Array> {
    await this.#writer.finish();
    await this.#writer.close();
    return this.#file.content();
  }
}

class MemoryFile implements DiskFile {
  readonly fd = undefined;
  #bytes = new Uint8Array(FIRST_BYTES);
  #end = 0;

  put(piece: Uint8Array, offset: number): void {
    const end = offset + piece.length;
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(end, this.#bytes.length * 2));
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    this.#bytes.set(piece, offset);
    this.#end = Math.max(this.#end, end);
  }

  content(): Uint8Array {
    return this.#bytes.subarray(0, this.#end);
  }

  write(pieces: readonly Uint8Array[], offset: number): Promise<void> {
    let at = offset;
    for (const piece of pieces) {
      this.put(piece, at);
      at += piece.length;
    }
    return Promise.resolve();
  }

  readInto(into: Uint8Array, offset: number): Promise<number> {
    const found = this.content().subarray(offset, offset + into.length);
    into.set(found);
    return Promise.resolve(found.length);
  }

  sync(): Promise<void> {
    return Promise.resolve();
  }

  length(): Promise<number> {
    return Promise.resolve(this.#end);
  }

  truncate(lengthBytes: number): Promise<void> {
    this.#end = Math.min(this.#end, lengthBytes);
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
