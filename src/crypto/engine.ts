/**
 * The sealing engine's interface: cut, name, compress, seal, and the way back (FORMAT.md §4–§6).
 * Two implementations, `native` and `portable`, give the same bytes; one contract suite runs over both.
 * An engine holds no state between calls and does no I/O, except {@link FrameReader} on a descriptor it is lent.
 */
import type { ChunkId, InodeNumber, Name, PackId } from "../ids.ts";
import type { MaybePromise } from "../maybe-promise.ts";

/** Plaintext bytes of a frame, the unit of compression, sealing and verified partial reads. */
export const FRAME_BYTES = 64 * 1024;
/** Largest chunk; no parser allocates more for one. */
export const MAX_CHUNK_BYTES = 4 * 1024 * 1024;
/** AES-GCM tag. */
export const TAG_BYTES = 16;
/** What sealing adds to a record: session id, counter, tag. */
export const RECORD_OVERHEAD_BYTES = 8 + 6 + TAG_BYTES;

/** Where content-defined chunking cuts (FORMAT.md §4). */
export interface ChunkingParameters {
  readonly minBytes: number;
  readonly averageBytes: number;
  readonly maxBytes: number;
}

/** The default: 256 KiB, 1 MiB, 4 MiB. */
export const DEFAULT_CHUNKING: ChunkingParameters = {
  minBytes: 256 * 1024,
  averageBytes: 1024 * 1024,
  maxBytes: MAX_CHUNK_BYTES,
};

/** One contiguous run of file bytes, in as many pieces as the caller holds it in. */
export interface ChunkInput {
  /** Contiguous bytes. Lent: unchanged by the caller until the call settles. */
  readonly pieces: readonly Uint8Array[];
  /**
   * Whether the run ends here. If not, the bytes after the last content-defined cut are left over and not named,
   * to be offered again with what follows them.
   */
  readonly isFinal: boolean;
}

export interface NamedChunk {
  readonly id: ChunkId;
  readonly lengthBytes: number;
}

/** One chunk to seal; its plaintext in pieces, lent until the call settles. */
export interface SealInput {
  readonly pieces: readonly Uint8Array[];
  readonly lengthBytes: number;
}

/**
 * A chunk as sealed: `ceil(lengthBytes / FRAME_BYTES)` frames one after another.
 * Frame i of the chunk carries frame number `firstFrame + i` of its pack, which is its nonce.
 */
export interface SealedChunk {
  readonly firstFrame: number;
  /** Plaintext length of the whole chunk. */
  readonly lengthBytes: number;
  /** Offset of the first frame in the output. */
  readonly outputOffset: number;
  /** Stored length of each frame, its tag included. */
  readonly storedFrameBytes: Uint32Array;
}

/** Names one frame run of one chunk in one pack. */
export interface FrameRun {
  readonly firstFrame: number;
  /** Stored length of each frame of the run, tag included. */
  readonly storedFrameBytes: Uint32Array;
  /** Plaintext length of the run; every frame but the last is FRAME_BYTES long. */
  readonly lengthBytes: number;
}

/** A pack's key, bound to its pack and vault: all that a frame's AAD needs is inside. */
export interface PackCipher {
  /**
   * Seal chunks one after another into `output`. Runs on the thread pool when the input is large.
   * @param output - At least {@link SealingEngine.sealBoundBytes} of the inputs' sum. Lent until settled.
   * @throws RangeError on a frame number past 2^32, before anything is sealed.
   */
  seal(chunks: readonly SealInput[], firstFrame: number, output: Uint8Array): Promise<readonly SealedChunk[]>;
  /**
   * Authenticate and decompress a run of frames.
   * @param sealed - Exactly the run's stored bytes. Lent until settled.
   * @param output - Exactly `run.lengthBytes` long; undefined content on failure.
   * @throws TcfsError `TCFS_CORRUPT` if any frame is truncated, forged, moved or does not decompress to its length.
   */
  unseal(run: FrameRun, sealed: Uint8Array, output: Uint8Array): Promise<void>;
  /** The same on the calling thread; for runs of at most a few frames. */
  unsealSync(run: FrameRun, sealed: Uint8Array, output: Uint8Array): void;
  /**
   * Read from a descriptor and unseal in one hop, where the engine can; undefined otherwise.
   * @param fd - Borrowed until settled.
   * @param places - Memory for each frame, exactly as long as it; undefined content on failure. Lent until settled.
   * @throws TcfsError `TCFS_CORRUPT` as unseal, `TCFS_IO`.
   */
  readonly readFrames?: (fd: number, fileOffset: number, run: FrameRun, places: readonly Uint8Array[]) => Promise<void>;
  /**
   * The same at once and on the calling thread. For runs of at most a few frames.
   * @param waits - Whether to wait for the device. If not, and the page cache does not hold all of the run: false, the
   *   content of `places` is undefined, and {@link readFrames} is the way.
   * @throws TcfsError `TCFS_CORRUPT` as unseal, `TCFS_IO`.
   */
  readonly readFramesSync?: (
    fd: number,
    fileOffset: number,
    run: FrameRun,
    places: readonly Uint8Array[],
    waits: boolean,
  ) => boolean;
  wipe(): void;
}

/** A record of the metadata store, about to be sealed. */
export interface PlainRecord {
  /** The record's key: bound as AAD. */
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/**
 * Seals metadata records under a per-session subkey with a counter nonce (FORMAT.md §6):
 * `sessionId[8] || counter u48 || ciphertext || tag[16]`, AAD = prefix || record key.
 */
export interface RecordCipher {
  /** Seal under this session's subkey; synchronous; each result is fresh memory. */
  seal(records: readonly PlainRecord[]): Uint8Array[];
  /**
   * Seal one record into the caller's memory: {@link RECORD_OVERHEAD_BYTES} more than its value.
   * @returns The part of `output` that holds it.
   * @throws RangeError if it does not fit.
   */
  sealInto(record: PlainRecord, output: Uint8Array): Uint8Array;
  /**
   * Seal the values of encoded changes (FORMAT.md §7.14); deletions stay as they are. On the thread pool where it is much.
   * @param changes - Whole changes. Lent until settled.
   * @returns The same changes with sealed values, fresh.
   * @throws TcfsError `TCFS_CORRUPT` if the last change is not whole.
   */
  sealChanges(changes: Uint8Array): MaybePromise<Uint8Array>;
  /**
   * Open a record of this or any earlier session.
   * @throws TcfsError `TCFS_CORRUPT` if truncated, forged or from another key.
   */
  unseal(key: Uint8Array, sealed: Uint8Array): Uint8Array;
  /** Of what it seals. */
  readonly keyEpoch: number;
  /**
   * Open a record to learn under which key epoch it is sealed: a value does not say.
   * @throws TcfsError `TCFS_CORRUPT` as unseal.
   */
  epochOf(key: Uint8Array, sealed: Uint8Array): number;
  wipe(): void;
}

/** Subkeys that a vault's chunks and records need (derivation: FORMAT.md §3). 32 bytes each. */
export interface VaultSubkeys {
  /** Names chunks: keyed BLAKE3. */
  readonly chunkId: Uint8Array;
  /** Makes the gear table of the chunker. */
  readonly gear: Uint8Array;
  /** Parent of the session subkeys of records. */
  readonly records: Uint8Array;
  /** PRF of names in dentry keys. */
  readonly names: Uint8Array;
  /** Wraps pack keys. */
  readonly packs: Uint8Array;
}

export interface EngineOptions {
  readonly vaultId: Uint8Array;
  readonly subkeys: VaultSubkeys;
  readonly chunking: ChunkingParameters;
  /** Of the subkeys. */
  readonly keyEpoch: number;
  /** 8 fresh random bytes: this session's id for record sealing. Never the same twice. */
  readonly sessionId: Uint8Array;
}

export interface SealingEngine {
  readonly kind: "native" | "portable";
  readonly records: RecordCipher;
  /** Under which it seals records, and in which packs are made. */
  readonly keyEpoch: number;
  /** Cut each input by content and name the pieces; at once where that is little work. A final input of zero bytes gives no chunk. */
  nameChunks(inputs: readonly ChunkInput[]): MaybePromise<NamedChunk[][]>;
  /** Upper bound of the stored bytes for a chunk of `lengthBytes`. */
  sealBoundBytes(lengthBytes: number): number;
  /**
   * A cipher for one pack under its own random key.
   * @param packKey - 32 bytes, copied.
   * @param keyEpoch - In which the pack was made.
   */
  packCipher(packId: PackId, packKey: Uint8Array, keyEpoch: number): PackCipher;
  /** `PRF(directory, name)`, 16 bytes: the part of a dentry's key that stands for its name. Fresh memory. */
  namePrf(directory: InodeNumber, name: Name): Uint8Array;
  /** Wipe every key of the engine. Later calls throw `TCFS_CLOSED`. Pack ciphers are wiped by whoever made them. */
  close(): void;
}
