/** The native sealing engine: native/engine through its binding. Large calls run on libuv's pool (FORMAT.md §4–§7). */
import { inspect } from "node:util";

import { corrupt } from "../bytes.ts";
import { TcfsError } from "../errors.ts";
import { countPuts } from "../format/journal-codec.ts";
import type { ChunkId, InodeNumber, Name, PackId } from "../ids.ts";
import { type MaybePromise, andThen } from "../maybe-promise.ts";
import { frameAad, recordAadPrefix } from "./aad.ts";
import type { EngineBinding, EngineHandle, PackHandle } from "./binding.ts";
import type {
  ChunkInput,
  EngineOptions,
  FrameRun,
  NamedChunk,
  PackCipher,
  PlainRecord,
  RecordCipher,
  SealInput,
  SealedChunk,
  SealingEngine,
} from "./engine.ts";
import { RECORD_OVERHEAD_BYTES, TAG_BYTES } from "./engine.ts";
import { checkEngineOptions, SESSION_ID_BYTES } from "./engine-options.ts";
import {
  checkRun,
  checkSealedRun,
  checkSealing,
  corruptFrame,
  describeSealed,
  sealBoundBytes,
} from "./frame-layout.ts";
import { NonceCounter } from "./nonce-counter.ts";
import { KEY_BYTES } from "./subkeys.ts";

/** Below this much input a hop to the pool (about 30 µs) costs more than the work. */
const SYNC_BELOW_BYTES = 32 * 1024;
/* Where a descriptor is read: {@link EngineBinding.readFrames}. */
const READ_CACHED = 0;
const READ_WAITING = 1;
const READ_ON_POOL = 2;
const ID_BYTES = 32;
const NAME_PRF_BYTES = 16;
const RECORD_HEADER_BYTES = SESSION_ID_BYTES + 6;
/** Room for nearly every record; a larger one replaces it. */
const STAGING_BYTES = 64 * 1024;
const ARENA_BLOCK_BYTES = 16 * 1024;
const ARENA_RESULT_BYTES = 2 * 1024;

function closed(): TcfsError {
  return new TcfsError("TCFS_CLOSED", "the engine is closed");
}

/** @throws TcfsError `TCFS_CORRUPT` naming the frame, or `TCFS_IO` with the errno. */
function checkStatus(status: number, firstFrame: number): void {
  if (status < 0) throw corruptFrame(firstFrame - status - 1);
  if (status > 0) throw new TcfsError("TCFS_IO", `the native engine failed with errno ${status}`);
}

/** The engine's handle and the memory it shares with native code; small calls pass through it unallocated. */
class SharedEngine {
  readonly binding: EngineBinding;
  #handle: EngineHandle | undefined;
  staging = new Uint8Array(STAGING_BYTES);

  constructor(binding: EngineBinding, { vaultId, subkeys, chunking, sessionId, keyEpoch }: EngineOptions) {
    this.binding = binding;
    const keys = new Uint8Array(4 * KEY_BYTES);
    [subkeys.chunkId, subkeys.gear, subkeys.records, subkeys.names].forEach((key, i) => {
      keys.set(key, i * KEY_BYTES);
    });
    const prefix = recordAadPrefix(vaultId, keyEpoch);
    const { minBytes, averageBytes, maxBytes } = chunking;
    this.#handle = binding.openEngine(keys, sessionId, prefix, this.staging, minBytes, averageBytes, maxBytes);
    keys.fill(0);
  }

  /** @throws TcfsError `TCFS_CLOSED`. */
  get handle(): EngineHandle {
    if (this.#handle === undefined) throw closed();
    return this.#handle;
  }

  /** @throws TcfsError `TCFS_CLOSED`. */
  checkOpen(): void {
    if (this.#handle === undefined) throw closed();
  }

  /** Make `staging` hold at least `lengthBytes`. */
  reserve(lengthBytes: number): void {
    if (lengthBytes <= this.staging.length) return;
    const larger = new Uint8Array(2 ** Math.ceil(Math.log2(lengthBytes)));
    this.binding.setStaging(this.handle, larger);
    this.staging = larger;
  }

  close(): void {
    if (this.#handle !== undefined) this.binding.closeEngine(this.#handle);
    this.#handle = undefined;
  }

  [inspect.custom](): string {
    return "[key]";
  }
}

/**
 * Fresh memory for small results, carved from blocks that are never used twice: a typed array with a buffer of its
 * own costs as much as the whole rest of an unseal. A result keeps its block alive.
 */
class ResultArena {
  #block = new Uint8Array(0);
  #used = 0;

  /** @returns A copy of `source[start, end)`. */
  copy(source: Uint8Array, start: number, end: number): Uint8Array {
    const lengthBytes = end - start;
    if (lengthBytes > ARENA_RESULT_BYTES) return source.slice(start, end);
    if (this.#used + lengthBytes > this.#block.length) {
      this.#block = new Uint8Array(ARENA_BLOCK_BYTES);
      this.#used = 0;
    }
    const result = this.#block.subarray(this.#used, this.#used + lengthBytes);
    result.set(source.subarray(start, end));
    this.#used += lengthBytes;
    return result;
  }
}

class NativeRecordCipher implements RecordCipher {
  readonly keyEpoch: number;
  readonly #engine: SharedEngine;
  readonly #results = new ResultArena();
  readonly #counter = new NonceCounter();
  #isWiped = false;

  constructor(engine: SharedEngine, keyEpoch: number) {
    this.#engine = engine;
    this.keyEpoch = keyEpoch;
  }

  seal(records: readonly PlainRecord[]): Uint8Array[] {
    const { keyBytes, outputBytes } = sumRecords(records);
    return this.#seal(records, keyBytes, new Uint8Array(outputBytes));
  }

  sealInto(record: PlainRecord, output: Uint8Array): Uint8Array {
    const place = output.subarray(0, record.value.length + RECORD_OVERHEAD_BYTES);
    if (place.length < record.value.length + RECORD_OVERHEAD_BYTES) throw new RangeError("no room for the record");
    this.#seal([record], record.key.length, place);
    return place;
  }

  #seal(records: readonly PlainRecord[], keyBytes: number, output: Uint8Array): Uint8Array[] {
    const handle = this.#open();
    this.#engine.reserve(records.length * 8 + keyBytes);
    const sealed = layOut(records, this.#engine.staging, output);
    const first = this.#counter.take(records.length);
    const status = this.#engine.binding.sealRecords(handle, output, records.length, first);
    if (status !== 0) throw unsealed();
    return sealed;
  }

  sealChanges(changes: Uint8Array): MaybePromise<Uint8Array> {
    const handle = this.#open();
    const count = countPuts(changes);
    const output = new Uint8Array(changes.length + count * RECORD_OVERHEAD_BYTES);
    const first = this.#counter.take(count);
    const onPool = changes.length >= SYNC_BELOW_BYTES;
    const call = this.#engine.binding.sealChanges(handle, changes, output, count, first, onPool);
    return andThen(call, (status) => {
      if (status !== 0) throw unsealed();
      return output;
    });
  }

  unseal(key: Uint8Array, sealed: Uint8Array): Uint8Array {
    const handle = this.#open();
    const end = key.length + sealed.length;
    this.#engine.reserve(end);
    const staging = this.#engine.staging;
    staging.set(key);
    staging.set(sealed, key.length);
    if (this.#engine.binding.unsealRecord(handle, key.length, sealed.length) !== 0) {
      throw corrupt("record", "it does not verify");
    }
    return this.#results.copy(staging, key.length + RECORD_HEADER_BYTES, end - TAG_BYTES);
  }

  epochOf(key: Uint8Array, sealed: Uint8Array): number {
    this.unseal(key, sealed);
    return this.keyEpoch;
  }

  wipe(): void {
    this.#isWiped = true;
  }

  #open(): EngineHandle {
    if (this.#isWiped) throw closed();
    return this.#engine.handle;
  }
}

function unsealed(): TcfsError {
  return new TcfsError("TCFS_IO", "records could not be sealed");
}

function sumLengths(places: readonly Uint8Array[]): number {
  let lengthBytes = 0;
  for (const place of places) lengthBytes += place.length;
  return lengthBytes;
}

function sumRecords(records: readonly PlainRecord[]): { keyBytes: number; outputBytes: number } {
  let keyBytes = 0;
  let outputBytes = 0;
  for (const { key, value } of records) {
    keyBytes += key.length;
    outputBytes += value.length + RECORD_OVERHEAD_BYTES;
  }
  return { keyBytes, outputBytes };
}

/** Put lengths and keys into staging and values into their places; @returns Each record's part of `output`. */
function layOut(records: readonly PlainRecord[], staging: Uint8Array, output: Uint8Array): Uint8Array[] {
  const lengths = new Uint32Array(staging.buffer, 0, records.length * 2);
  const sealed: Uint8Array[] = [];
  let keyAt = lengths.byteLength;
  let at = 0;
  let index = 0;
  for (const { key, value } of records) {
    lengths[index++] = key.length;
    lengths[index++] = value.length;
    staging.set(key, keyAt);
    keyAt += key.length;
    output.set(value, at + RECORD_HEADER_BYTES);
    const end = at + value.length + RECORD_OVERHEAD_BYTES;
    sealed.push(output.subarray(at, end));
    at = end;
  }
  return sealed;
}

interface FlatInputs {
  readonly pieces: Uint8Array[];
  readonly pieceCounts: Uint32Array;
}

function flatten(inputs: readonly { readonly pieces: readonly Uint8Array[] }[]): FlatInputs {
  const pieces: Uint8Array[] = [];
  const pieceCounts = new Uint32Array(inputs.length);
  inputs.forEach((input, i) => {
    pieceCounts[i] = input.pieces.length;
    for (const piece of input.pieces) pieces.push(piece);
  });
  return { pieces, pieceCounts };
}

class NativePackCipher implements PackCipher {
  readonly #binding: EngineBinding;
  #handle: PackHandle | undefined;

  constructor(binding: EngineBinding, packKey: Uint8Array, aad: Uint8Array) {
    this.#binding = binding;
    this.#handle = binding.openPack(packKey, aad);
  }

  async seal(chunks: readonly SealInput[], firstFrame: number, output: Uint8Array): Promise<readonly SealedChunk[]> {
    const pack = this.#open();
    const totals = checkSealing(chunks, firstFrame, output);
    const { pieces, pieceCounts } = flatten(chunks);
    const lengths = Uint32Array.from(chunks, (chunk) => chunk.lengthBytes);
    const stored = new Uint32Array(totals.frameCount);
    const onPool = totals.lengthBytes >= SYNC_BELOW_BYTES;
    const call = this.#binding.seal(pack, pieces, pieceCounts, lengths, firstFrame, output, stored, onPool);
    checkStatus(await call, firstFrame);
    return describeSealed(chunks, firstFrame, stored);
  }

  async unseal(run: FrameRun, sealed: Uint8Array, output: Uint8Array): Promise<void> {
    const pack = this.#open();
    checkSealedRun(run, sealed, output);
    const onPool = run.lengthBytes >= SYNC_BELOW_BYTES;
    checkStatus(
      await this.#binding.unseal(pack, run.firstFrame, run.storedFrameBytes, output, sealed, onPool),
      run.firstFrame,
    );
  }

  unsealSync(run: FrameRun, sealed: Uint8Array, output: Uint8Array): void {
    const pack = this.#open();
    checkSealedRun(run, sealed, output);
    const status = this.#binding.unseal(pack, run.firstFrame, run.storedFrameBytes, output, sealed, false) as number;
    checkStatus(status, run.firstFrame);
  }

  async readFrames(fd: number, fileOffset: number, run: FrameRun, places: readonly Uint8Array[]): Promise<void> {
    const pack = this.#open();
    checkRun(run, sumLengths(places));
    checkStatus(
      await this.#binding.readFrames(pack, run.firstFrame, run.storedFrameBytes, places, fd, fileOffset, READ_ON_POOL),
      run.firstFrame,
    );
  }

  readFramesSync(
    fd: number,
    fileOffset: number,
    run: FrameRun,
    places: readonly Uint8Array[],
    waits: boolean,
  ): boolean {
    const pack = this.#open();
    checkRun(run, sumLengths(places));
    const { firstFrame, storedFrameBytes } = run;
    const where = waits ? READ_WAITING : READ_CACHED;
    const call = this.#binding.readFrames(pack, firstFrame, storedFrameBytes, places, fd, fileOffset, where);
    const status = call as number;
    if (status > 0 && !waits) return false;
    checkStatus(status, run.firstFrame);
    return true;
  }

  wipe(): void {
    if (this.#handle !== undefined) this.#binding.closePack(this.#handle);
    this.#handle = undefined;
  }

  [inspect.custom](): string {
    return "[key]";
  }

  #open(): PackHandle {
    if (this.#handle === undefined) throw closed();
    return this.#handle;
  }
}

class NativeEngine implements SealingEngine {
  readonly kind = "native";
  readonly records: RecordCipher;
  readonly keyEpoch: number;
  readonly #engine: SharedEngine;
  readonly #vaultId: Uint8Array;
  readonly #minChunkBytes: number;

  constructor(binding: EngineBinding, options: EngineOptions) {
    this.#engine = new SharedEngine(binding, options);
    this.#vaultId = Uint8Array.from(options.vaultId);
    this.keyEpoch = options.keyEpoch;
    this.#minChunkBytes = options.chunking.minBytes;
    this.records = new NativeRecordCipher(this.#engine, options.keyEpoch);
  }

  nameChunks(inputs: readonly ChunkInput[]): MaybePromise<NamedChunk[][]> {
    const handle = this.#engine.handle;
    const { pieces, pieceCounts } = flatten(inputs);
    const finals = Uint8Array.from(inputs, (input) => (input.isFinal ? 1 : 0));
    let totalBytes = 0;
    let mostChunks = 0;
    for (const input of inputs) {
      let lengthBytes = 0;
      for (const piece of input.pieces) lengthBytes += piece.length;
      totalBytes += lengthBytes;
      mostChunks += Math.floor(lengthBytes / this.#minChunkBytes) + 1;
    }
    const ids = new Uint8Array(mostChunks * ID_BYTES);
    const lengths = new Uint32Array(mostChunks);
    const counts = new Uint32Array(inputs.length);
    const onPool = totalBytes >= SYNC_BELOW_BYTES;
    const { binding } = this.#engine;
    const status = binding.nameChunks(handle, pieces, pieceCounts, finals, ids, lengths, counts, onPool);
    return andThen(status, (value) => {
      checkStatus(value, 0);
      return collectNamed(ids, lengths, counts);
    });
  }

  sealBoundBytes(lengthBytes: number): number {
    return sealBoundBytes(lengthBytes);
  }

  packCipher(packId: PackId, packKey: Uint8Array, keyEpoch: number): PackCipher {
    this.#engine.checkOpen();
    if (packKey.length !== KEY_BYTES) throw new RangeError(`a pack key has ${KEY_BYTES} bytes`);
    return new NativePackCipher(this.#engine.binding, packKey, frameAad(this.#vaultId, packId, keyEpoch));
  }

  namePrf(directory: InodeNumber, name: Name): Uint8Array {
    const { binding, handle, staging } = this.#engine;
    binding.namePrf(handle, directory, name);
    return staging.slice(0, NAME_PRF_BYTES);
  }

  close(): void {
    this.#engine.close();
  }

  [inspect.custom](): string {
    return "NativeEngine [key]";
  }
}

function collectNamed(ids: Uint8Array, lengths: Uint32Array, counts: Uint32Array): NamedChunk[][] {
  const named: NamedChunk[][] = [];
  let at = 0;
  for (const count of counts) {
    const chunks: NamedChunk[] = [];
    for (const lengthBytes of lengths.subarray(at, at + count)) {
      chunks.push({ id: ids.slice(at * ID_BYTES, (at + 1) * ID_BYTES) as ChunkId, lengthBytes });
      at += 1;
    }
    named.push(chunks);
  }
  return named;
}

/** @throws RangeError on options that FORMAT.md does not allow. */
export function openNativeEngine(binding: EngineBinding, options: EngineOptions): SealingEngine {
  checkEngineOptions(options);
  return new NativeEngine(binding, options);
}
