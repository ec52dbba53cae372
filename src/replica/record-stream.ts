/** Record streams (FORMAT.md §11.3): changes cut by content into chunks, sealed into packs of the store; and read again. */
import type { SealingEngine } from "../crypto/engine.ts";
import type { PackKeyWrapper } from "../crypto/pack-key.ts";
import { MemoryPack } from "../chunkstore/memory-pack.ts";
import { openPackCipher } from "../chunkstore/pack-cipher.ts";
import { PACK_HEADER_BYTES, sumBytes } from "../chunkstore/pack-format.ts";
import { copyOf, corrupt, toHex } from "../bytes.ts";
import { ChangeCursor, type RecordChange, changesBytes, encodeChanges } from "../format/journal-codec.ts";
import { chunkIdKey } from "../format/record-keys.ts";
import { MAX_INLINE_STREAM_BYTES, type RecordStream, type StreamChunk } from "../format/replica-codec.ts";
import type { ChunkIdKey, PackId } from "../ids.ts";
import type { RandomSource } from "../platform/random.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import { packObject } from "./object-names.ts";

/** Held back until it is cut: more than the longest chunk, so that every cut finds its place. */
const CUT_BYTES = 8 * 1024 * 1024;
const PACK_BYTES = 16 * 1024 * 1024;
/** Longer than any change: a chunk record with its content, and its key. */
const MAX_CHANGE_BYTES = 8 * 1024 * 1024;

export interface StreamRooms {
  readonly engine: SealingEngine;
  readonly packKeys: PackKeyWrapper;
  readonly vaultId: Uint8Array;
  readonly random: RandomSource;
}

export class StreamWriter {
  readonly #rooms: StreamRooms;
  readonly #known: ReadonlyMap<ChunkIdKey, StreamChunk>;
  readonly #putPack: (name: string, content: Uint8Array) => Promise<void>;
  readonly #chunks: StreamChunk[] = [];
  #pieces: Uint8Array[] = [];
  #heldBytes = 0;
  #pack: MemoryPack | undefined;
  /** Of the whole stream so far. */
  lengthBytes = 0;

  /** @param known - Chunks that the store has. @param putPack - Stores a pack; awaited before the stream is given out. */
  constructor(
    rooms: StreamRooms,
    known: ReadonlyMap<ChunkIdKey, StreamChunk>,
    putPack: (name: string, content: Uint8Array) => Promise<void>,
  ) {
    this.#rooms = rooms;
    this.#known = known;
    this.#putPack = putPack;
  }

  /** @param changes - Lent until settled. */
  async add(changes: readonly RecordChange[]): Promise<void> {
    const { plain } = encodeChanges(changes, changesBytes(changes));
    this.#pieces.push(plain);
    this.#heldBytes += plain.length;
    this.lengthBytes += plain.length;
    if (this.#heldBytes >= CUT_BYTES) await this.#cut(false);
  }

  /** @returns The stream; all its packs are in the store. */
  async finish(): Promise<RecordStream> {
    if (this.#chunks.length === 0 && this.#heldBytes <= MAX_INLINE_STREAM_BYTES) {
      return { kind: "inline", content: Buffer.concat(this.#pieces) };
    }
    await this.#cut(true);
    await this.#finishPack();
    return { kind: "chunks", chunks: this.#chunks };
  }

  async #cut(isFinal: boolean): Promise<void> {
    const held = Buffer.concat(this.#pieces);
    const [named = []] = await this.#rooms.engine.nameChunks([{ pieces: [held], isFinal }]);
    let at = 0;
    for (const { id, lengthBytes } of named) {
      const piece = held.subarray(at, at + lengthBytes);
      at += lengthBytes;
      const known = this.#known.get(chunkIdKey(id));
      this.#chunks.push(known ?? (await this.#store({ id, lengthBytes, pieces: [piece] })));
    }
    this.#pieces = [held.subarray(at)];
    this.#heldBytes = held.length - at;
  }

  async #store(chunk: Parameters<MemoryPack["append"]>[0]): Promise<StreamChunk> {
    this.#pack ??= new MemoryPack({ ...this.#rooms, packBytes: PACK_BYTES });
    const { kind: _kind, ...place } = await this.#pack.append(chunk);
    if (this.#pack.isFull) await this.#finishPack();
    return { id: chunk.id, ...place };
  }

  async #finishPack(): Promise<void> {
    const pack = this.#pack;
    if (pack === undefined) return;
    this.#pack = undefined;
    await this.#putPack(packObject(pack.pack), await pack.finish());
  }
}

/** Runs fetched at once, the one that is read included. */
const AHEAD = 4;
/** What a run holds, a single longer chunk aside. */
const RUN_BYTES = 4 * 1024 * 1024;

/** Chunks that one request brings: they lie behind one another in one pack. */
interface ChunkRun {
  readonly pack: PackId;
  readonly offset: number;
  /** As stored. */
  lengthBytes: number;
  readonly chunks: StreamChunk[];
}

export class StreamReader {
  readonly #rooms: Pick<StreamRooms, "engine" | "packKeys" | "vaultId">;
  readonly #store: ObjectStore;
  readonly #signal: AbortSignal | undefined;
  readonly #ciphers = new Map<string, Promise<ReturnType<SealingEngine["packCipher"]>>>();

  constructor(rooms: Pick<StreamRooms, "engine" | "packKeys" | "vaultId">, store: ObjectStore, signal?: AbortSignal) {
    this.#rooms = rooms;
    this.#store = store;
    this.#signal = signal;
  }

  /**
   * The stream's changes, encoded, in order, some megabytes of whole ones at a time, which are the caller's.
   * @throws TcfsError `TCFS_CORRUPT`, and what the store throws.
   */
  async *read(stream: RecordStream): AsyncGenerator<Uint8Array> {
    if (stream.kind === "inline") {
      if (wholeBytes(stream.content) < stream.content.length) throw endsWithin();
      yield copyOf(stream.content);
      return;
    }
    let rest: Uint8Array = new Uint8Array(0);
    for await (const piece of this.#pieces(stream.chunks)) {
      const held = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
      const end = wholeBytes(held);
      if (held.length - end > MAX_CHANGE_BYTES) throw corrupt("record stream", "a record of impossible length");
      if (end > 0) yield held.subarray(0, end);
      rest = held.subarray(end);
    }
    if (rest.length > 0) throw endsWithin();
  }

  async *#pieces(chunks: readonly StreamChunk[]): AsyncGenerator<Uint8Array> {
    const runs = inRuns(chunks);
    const fetching: Promise<Uint8Array[]>[] = [];
    try {
      for (const [index] of runs.entries()) {
        for (const next of runs.slice(index + fetching.length, index + AHEAD)) {
          const fetched = this.#run(next);
          fetched.catch(() => undefined); // told when its turn comes
          fetching.push(fetched);
        }
        yield* (await fetching.shift()) ?? [];
      }
    } finally {
      await Promise.allSettled(fetching);
    }
  }

  /** @param run - Chunks that lie behind one another in one pack. */
  async #run({ pack, offset, lengthBytes, chunks }: ChunkRun): Promise<Uint8Array[]> {
    const cipher = await this.#cipher(pack);
    const sealed = await this.#store.getRange(packObject(pack), { offset, lengthBytes }, this.#signal);
    if (sealed === undefined) throw missing(pack);
    const opening = chunks.map(async (chunk) => {
      const from = chunk.packOffset - offset;
      const plain = new Uint8Array(chunk.lengthBytes);
      await cipher.unseal(chunk, sealed.subarray(from, from + sumBytes(chunk.storedFrameBytes)), plain);
      return plain;
    });
    await Promise.allSettled(opening); // they borrow what was fetched
    return Promise.all(opening);
  }

  #cipher(pack: PackId): Promise<ReturnType<SealingEngine["packCipher"]>> {
    const name = toHex(pack);
    let cipher = this.#ciphers.get(name);
    if (cipher === undefined) {
      cipher = this.#openPack(pack);
      this.#ciphers.set(name, cipher);
    }
    return cipher;
  }

  async #openPack(pack: PackId): Promise<ReturnType<SealingEngine["packCipher"]>> {
    const range = { offset: 0, lengthBytes: PACK_HEADER_BYTES };
    const bytes = await this.#store.getRange(packObject(pack), range, this.#signal);
    if (bytes === undefined) throw missing(pack);
    return openPackCipher(bytes, pack, this.#rooms);
  }
}

function inRuns(chunks: readonly StreamChunk[]): ChunkRun[] {
  const runs: ChunkRun[] = [];
  let heldBytes = 0;
  for (const chunk of chunks) {
    const { pack, packOffset, lengthBytes, storedFrameBytes } = chunk;
    const last = runs.at(-1);
    heldBytes += lengthBytes;
    const isSamePack = last !== undefined && Buffer.compare(last.pack, pack) === 0;
    if (isSamePack && last.offset + last.lengthBytes === packOffset && heldBytes <= RUN_BYTES) {
      last.chunks.push(chunk);
      last.lengthBytes += sumBytes(storedFrameBytes);
    } else {
      heldBytes = lengthBytes;
      runs.push({ pack, offset: packOffset, lengthBytes: sumBytes(storedFrameBytes), chunks: [chunk] });
    }
  }
  return runs;
}

function missing(pack: PackId): Error {
  return corrupt(`pack ${toHex(pack)}`, "it is not in the store");
}

function endsWithin(): Error {
  return corrupt("record stream", "it ends within a record");
}

/** @returns How much of `bytes` is whole changes. @throws TcfsError `TCFS_CORRUPT` */
function wholeBytes(bytes: Uint8Array): number {
  const cursor = new ChangeCursor(bytes);
  while (cursor.next());
  return cursor.end;
}
