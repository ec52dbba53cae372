/**
 * The native engine's functions, as native/engine/module.c exports them. Only `native-engine.ts` calls them.
 * A status is 0, or -(1 + index of the frame that does not verify), or a positive errno. With `onPool` a call
 * returns a promise of its status and borrows its arguments until that settles.
 */
import { createRequire } from "node:module";

declare const engineBrand: unique symbol;
declare const packBrand: unique symbol;

/** Keys and chunker of one engine, in native memory; wiped by closeEngine or when collected. */
export interface EngineHandle {
  readonly [engineBrand]: true;
}

/** Key schedules of one pack, in native memory; wiped by closePack or when collected. */
export interface PackHandle {
  readonly [packBrand]: true;
}

type Status = number | Promise<number>;

export interface EngineBinding {
  /** @param keys - `chunkId || gear || records || names`, 32 bytes each; copied. @param staging - Shared until closed. */
  openEngine(
    keys: Uint8Array,
    sessionId: Uint8Array,
    recordAadPrefix: Uint8Array,
    staging: Uint8Array,
    minBytes: number,
    averageBytes: number,
    maxBytes: number,
  ): EngineHandle;
  closeEngine(engine: EngineHandle): void;
  /** Share other memory from now on; the former is wiped. */
  setStaging(engine: EngineHandle, staging: Uint8Array): void;
  /** @param key - 32 bytes; copied. */
  openPack(key: Uint8Array, aad: Uint8Array): PackHandle;
  closePack(pack: PackHandle): void;
  /** Fills `ids` (32 bytes each), `lengths` and, for each input, `chunkCounts`. */
  nameChunks(
    engine: EngineHandle,
    pieces: Uint8Array[],
    pieceCounts: Uint32Array,
    finals: Uint8Array,
    ids: Uint8Array,
    lengths: Uint32Array,
    chunkCounts: Uint32Array,
    onPool: boolean,
  ): Status;
  /** Fills `output` and `storedFrameBytes`. */
  seal(
    pack: PackHandle,
    pieces: Uint8Array[],
    pieceCounts: Uint32Array,
    chunkLengths: Uint32Array,
    firstFrame: number,
    output: Uint8Array,
    storedFrameBytes: Uint32Array,
    onPool: boolean,
  ): Status;
  unseal(
    pack: PackHandle,
    firstFrame: number,
    storedFrameBytes: Uint32Array,
    output: Uint8Array,
    sealed: Uint8Array,
    onPool: boolean,
  ): Status;
  /**
   * `places`: one for each frame. `where`: 0 at once, if the page cache holds all of it (status EAGAIN if not); 1 at once,
   * waiting for the device; 2 on the pool.
   */
  readFrames(
    pack: PackHandle,
    firstFrame: number,
    storedFrameBytes: Uint32Array,
    places: readonly Uint8Array[],
    fd: number,
    fileOffset: number,
    where: 0 | 1 | 2,
  ): Status;
  /** Staging: `(key length u32, value length u32)` of each record, then their keys. `output`: the values in place. */
  sealRecords(engine: EngineHandle, output: Uint8Array, recordCount: number, firstCounter: number): number;
  /** Fills `output` with the changes, the values of `recordCount` of them sealed: status EIO if there are not so many. */
  sealChanges(
    engine: EngineHandle,
    changes: Uint8Array,
    output: Uint8Array,
    recordCount: number,
    firstCounter: number,
    onPool: boolean,
  ): Status;
  /** Staging: `key || sealed`; the value is opened in place. */
  unsealRecord(engine: EngineHandle, keyLength: number, sealedLength: number): number;
  /** The PRF's 16 bytes come to stand at the start of staging. */
  namePrf(engine: EngineHandle, directory: number, name: string): void;
}

/** @throws Whatever dlopen says where the addon is not built or does not fit this Node. */
export function loadEngineBinding(): EngineBinding {
  const require = createRequire(import.meta.url);
  return require("../../native/build/Release/tcfs_engine.node") as EngineBinding;
}
