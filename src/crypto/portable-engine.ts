/**
 * The portable sealing engine: npm packages on the JavaScript thread (FORMAT.md §4–§7). The fallback where the
 * addon cannot be built, and the oracle that the native engine is tested against.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { inspect } from "node:util";

import type { ChunkId, InodeNumber, Name, PackId } from "../ids.ts";
import { frameAad } from "./aad.ts";
import { Chunker, GEAR_TABLE_BYTES } from "./chunker.ts";
import type {
  ChunkInput,
  EngineOptions,
  FrameRun,
  NamedChunk,
  PackCipher,
  RecordCipher,
  SealInput,
  SealedChunk,
  SealingEngine,
} from "./engine.ts";
import { FRAME_BYTES } from "./engine.ts";
import { checkEngineOptions } from "./engine-options.ts";
import {
  checkSealedRun,
  checkSealing,
  corruptFrame,
  describeSealed,
  FRAME_HEADER_BYTES,
  FRAME_OVERHEAD_BYTES,
  sealBoundBytes,
} from "./frame-layout.ts";
import { PieceCursor } from "./piece-cursor.ts";
import { counterNonce, openSealed, PortablePrimitives, sealInto } from "./portable-primitives.ts";
import { portableNamePrf, PortableRecordCipher } from "./portable-records.ts";
import { SecretKey } from "./secret-key.ts";
import { KEY_BYTES } from "./subkeys.ts";

const ID_BYTES = 32;
const GEAR_CONTEXT = Buffer.from("tcfs gear", "latin1");
const KIND_RAW = 0;
const KIND_LZ4 = 1;
const COMPRESS_MIN_BYTES = 32;
/** LZ4 is kept where it saves at least this part. */
const WORTHWHILE_PART = 1 / 16;
/** Work done before other callbacks get a turn: lz4-napi's buffers are freed only between turns. */
const BYTES_PER_TURN = 1024 * 1024;

function frameHeader(plainBytes: number, kind: number): Uint8Array {
  const header = new Uint8Array(FRAME_HEADER_BYTES);
  new DataView(header.buffer).setUint32(0, plainBytes + kind * 2 ** 24, true);
  return header;
}

/** @returns `lengthBytes` from the cursor: a view where they lie in one piece, else a copy. */
function takeFrame(cursor: PieceCursor, lengthBytes: number): Uint8Array {
  const [first, ...others] = cursor.take(lengthBytes);
  return first !== undefined && others.length === 0 ? first : Buffer.concat([first ?? new Uint8Array(0), ...others]);
}

class PortablePackCipher implements PackCipher {
  readonly #primitives: PortablePrimitives;
  readonly #key: SecretKey;
  readonly #aad: Uint8Array;

  constructor(primitives: PortablePrimitives, packKey: Uint8Array, aad: Uint8Array) {
    this.#primitives = primitives;
    this.#key = new SecretKey(packKey);
    this.#aad = aad;
  }

  async seal(chunks: readonly SealInput[], firstFrame: number, output: Uint8Array): Promise<readonly SealedChunk[]> {
    this.#key.expose();
    const totals = checkSealing(chunks, firstFrame, output);
    const stored = new Uint32Array(totals.frameCount);
    let frame = 0;
    let at = 0;
    let sinceTurn = 0;
    for (const chunk of chunks) {
      const cursor = new PieceCursor(chunk.pieces);
      for (let left = chunk.lengthBytes; left > 0;) {
        const plain = takeFrame(cursor, Math.min(left, FRAME_BYTES));
        const storedBytes = this.#sealFrame(plain, firstFrame + frame, output.subarray(at));
        stored[frame++] = storedBytes;
        at += storedBytes;
        left -= plain.length;
        sinceTurn += plain.length;
        if (sinceTurn >= BYTES_PER_TURN) {
          sinceTurn = 0;
          await nextTurn();
        }
      }
    }
    return describeSealed(chunks, firstFrame, stored);
  }

  async unseal(run: FrameRun, sealed: Uint8Array, output: Uint8Array): Promise<void> {
    this.unsealSync(run, sealed, output);
    if (run.lengthBytes >= BYTES_PER_TURN) await nextTurn();
  }

  unsealSync(run: FrameRun, sealed: Uint8Array, output: Uint8Array): void {
    const key = this.#key.expose();
    checkSealedRun(run, sealed, output);
    let from = 0;
    let to = 0;
    run.storedFrameBytes.forEach((storedBytes, i) => {
      const lengthBytes = Math.min(FRAME_BYTES, run.lengthBytes - to);
      const opened = openSealed(
        key,
        counterNonce(run.firstFrame + i),
        this.#aad,
        sealed.subarray(from, from + storedBytes),
      );
      const plain = opened === undefined ? undefined : this.#readFrame(opened, lengthBytes);
      if (plain === undefined) throw corruptFrame(run.firstFrame + i);
      output.set(plain, to);
      from += storedBytes;
      to += lengthBytes;
    });
  }

  wipe(): void {
    this.#key.wipe();
  }

  #sealFrame(plain: Uint8Array, frameNumber: number, output: Uint8Array): number {
    const packed = plain.length < COMPRESS_MIN_BYTES ? plain : this.#primitives.compress(plain);
    const isPacked = packed.length <= plain.length - Math.max(1, Math.floor(plain.length * WORTHWHILE_PART));
    const payload = isPacked ? packed : plain;
    const header = frameHeader(plain.length, isPacked ? KIND_LZ4 : KIND_RAW);
    sealInto(this.#key.expose(), counterNonce(frameNumber), this.#aad, [header, payload], output);
    return payload.length + FRAME_OVERHEAD_BYTES;
  }

  /** @returns The plaintext that an authentic frame holds, or undefined where it breaks FORMAT.md §4. */
  #readFrame(opened: Uint8Array, lengthBytes: number): Uint8Array | undefined {
    const header = new DataView(opened.buffer, opened.byteOffset, FRAME_HEADER_BYTES).getUint32(0, true);
    const payload = opened.subarray(FRAME_HEADER_BYTES);
    if (header === lengthBytes + KIND_RAW * 2 ** 24) return payload.length === lengthBytes ? payload : undefined;
    if (header !== lengthBytes + KIND_LZ4 * 2 ** 24 || payload.length >= lengthBytes) return undefined;
    return this.#primitives.decompress(payload, lengthBytes);
  }
}

class PortableEngine implements SealingEngine {
  readonly kind = "portable";
  readonly records: RecordCipher;
  readonly keyEpoch: number;
  readonly #primitives = new PortablePrimitives();
  readonly #vaultId: Uint8Array;
  readonly #idKey: SecretKey;
  readonly #nameKey: SecretKey;
  readonly #chunker: Chunker;

  constructor({ vaultId, subkeys, chunking, sessionId, keyEpoch }: EngineOptions) {
    this.keyEpoch = keyEpoch;
    this.#vaultId = Uint8Array.from(vaultId);
    this.#idKey = new SecretKey(subkeys.chunkId);
    this.#nameKey = new SecretKey(subkeys.names);
    const gearTable = this.#primitives.keyedHash(subkeys.gear, [GEAR_CONTEXT], GEAR_TABLE_BYTES);
    this.#chunker = new Chunker(gearTable, chunking);
    gearTable.fill(0);
    this.records = new PortableRecordCipher(this.#primitives, subkeys.records, { vaultId, sessionId, keyEpoch });
  }

  async nameChunks(inputs: readonly ChunkInput[]): Promise<NamedChunk[][]> {
    this.#idKey.expose();
    const named: NamedChunk[][] = [];
    for (const input of inputs) named.push(await this.#nameInput(input));
    return named;
  }

  sealBoundBytes(lengthBytes: number): number {
    return sealBoundBytes(lengthBytes);
  }

  packCipher(packId: PackId, packKey: Uint8Array, keyEpoch: number): PackCipher {
    this.#idKey.expose();
    if (packKey.length !== KEY_BYTES) throw new RangeError(`a pack key has ${KEY_BYTES} bytes`);
    return new PortablePackCipher(this.#primitives, packKey, frameAad(this.#vaultId, packId, keyEpoch));
  }

  namePrf(directory: InodeNumber, name: Name): Uint8Array {
    return portableNamePrf(this.#primitives, this.#nameKey.expose(), directory, name);
  }

  close(): void {
    this.#idKey.wipe();
    this.#nameKey.wipe();
    this.#chunker.wipe();
    this.records.wipe();
  }

  [inspect.custom](): string {
    return "PortableEngine [key]";
  }

  async #nameInput({ pieces, isFinal }: ChunkInput): Promise<NamedChunk[]> {
    const cursor = new PieceCursor(pieces);
    const chunks: NamedChunk[] = [];
    for (;;) {
      const lengthBytes = this.#chunker.nextCut(cursor.copy(), isFinal);
      if (lengthBytes === 0) return chunks;
      const id = this.#primitives.keyedHash(this.#idKey.expose(), cursor.take(lengthBytes), ID_BYTES);
      chunks.push({ id: id as ChunkId, lengthBytes });
      if (lengthBytes >= BYTES_PER_TURN) await nextTurn();
    }
  }
}

/** @throws RangeError on options that FORMAT.md does not allow. */
export function openPortableEngine(options: EngineOptions): SealingEngine {
  checkEngineOptions(options);
  return new PortableEngine(options);
}
