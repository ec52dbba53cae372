/** One step of the store's history (FORMAT.md §11): packs, then the manifest, then the root, by compare-and-swap. */
import { toHex } from "../bytes.ts";
import type { ObjectSealer } from "../crypto/object-seal.ts";
import { decodeChunk, decodePack } from "../format/chunk-codec.ts";
import { decodeVolume } from "../format/inode-codec.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import { RECORD_KIND, chunkIdKey, packIdOfKey } from "../format/record-keys.ts";
import type { PackRecord } from "../format/records.ts";
import {
  type KeptRoot,
  type LostPack,
  MAX_LOST_PACKS,
  MAX_STEPS,
  type Manifest,
  type ManifestKind,
  type RecordStream,
  type Root,
  type StreamChunk,
  encodeManifest,
  encodeRoot,
} from "../format/replica-codec.ts";
import type { ChunkIdKey, PackId } from "../ids.ts";
import type { DeviceIdentity } from "../keys/devices/device-book.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import { type Clock, millisecondsOf } from "../platform/clock.ts";
import { preciseIsoTime } from "../platform/iso-time.ts";
import type { ObjectStore, ObjectVersion } from "../remote/object-store.ts";
import { HEADER_NAME, ROOT_NAME, manifestObject, packObject, packObjectNamed, sha256 } from "./object-names.ts";
import type { PackUploader } from "./pack-uploader.ts";
import { type StreamRooms, StreamWriter } from "./record-stream.ts";
import { usableLength } from "./remote-epoch.ts";
import type { RootNote } from "./replica-state.ts";
import { sealSigned } from "./signed-objects.ts";
import type { StoreLedger } from "./store-ledger.ts";
import type { PackDirectory } from "../chunkstore/pack-directory.ts";
import { sumBytes } from "../chunkstore/pack-format.ts";

/** Then a checkpoint: whoever attaches reads all steps since the last one. */
const STEPS_PER_CHECKPOINT = Math.min(64, MAX_STEPS);
/** Or when the commits' streams have grown to so much. */
const STREAM_BYTES_PER_CHECKPOINT = 64 * 1024 * 1024;
/** Changes that are encoded at once. */
const BATCH_RECORDS = 1000;

export interface StepWriterOptions extends StreamRooms {
  readonly sealer: ObjectSealer;
  readonly clock: Clock;
  readonly local: PackDirectory;
  readonly uploader: PackUploader;
  readonly identity: DeviceIdentity;
  /** What the vault's newest state says of a pack. @throws TcfsError where that cannot be told */
  readonly findPack: (pack: PackId) => PackRecord | undefined;
  readonly ledger: StoreLedger;
}

/** What a step is made of. */
export interface StepPlan {
  readonly kind: ManifestKind;
  /** Of the vault whose state it is, unless its records say another. */
  readonly commit: number;
  /** All records for a checkpoint, those that changed for a commit. */
  readonly changes: AsyncIterable<readonly RecordChange[]>;
  readonly previous: RootNote | null;
  /** Where there is none before. */
  readonly firstNumber: number;
  readonly headerRevision: number;
  readonly devicesRevision: number;
  readonly kept: readonly KeptRoot[];
}

/** A step in the store but for its root. */
export interface WrittenStep {
  readonly rootObject: Uint8Array;
  readonly note: RootNote;
  readonly kind: ManifestKind;
  /** What the manifest says of packs that it lacks. */
  readonly lost: readonly LostPack[];
  /** Objects, by name: all that a checkpoint leads to; what a commit leads to no more. */
  readonly names: ReadonlySet<string>;
}

export class StepWriter {
  readonly #options: StepWriterOptions;
  /** Of the newest checkpoint's stream, where it is known. */
  #known: ReadonlyMap<ChunkIdKey, StreamChunk> = new Map();

  constructor(options: StepWriterOptions) {
    this.#options = options;
  }

  /**
   * What the store has of a checkpoint's stream needs not be brought again.
   * @returns Whether it has all of the manifest's. @throws TcfsError what the store throws
   */
  async learn(store: ObjectStore, kind: ManifestKind, { stream }: Manifest, signal: AbortSignal): Promise<boolean> {
    const chunks = [...chunksOf(stream)];
    const ends = new Map<string, { readonly pack: PackId; endBytes: number }>();
    for (const [, { pack, packOffset, storedFrameBytes }] of chunks) {
      const end = ends.get(toHex(pack)) ?? { pack, endBytes: 0 };
      end.endBytes = Math.max(end.endBytes, packOffset + sumBytes(storedFrameBytes));
      ends.set(toHex(pack), end);
    }
    const absent = new Set<string>();
    for (const [name, { pack, endBytes }] of ends) {
      if (((await usableLength(store, pack, this.#options, signal)) ?? 0) < endBytes) absent.add(name);
    }
    if (kind === "checkpoint") this.#known = new Map(chunks.filter(([, { pack }]) => !absent.has(toHex(pack))));
    return absent.size === 0;
  }

  /** Take no chunk of the next checkpoint from an older one. */
  forget(): void {
    this.#known = new Map();
  }

  /**
   * Packs that the store has lost, and those known to be lost altogether, are looked for, as far as the vault still names
   * them: before a step's changes are captured.
   * @param isWaitedFor - Somebody wants to know whether they are still lost.
   * @throws TcfsError what the store throws
   */
  async bringLost(store: ObjectStore, isWaitedFor: boolean, signal: AbortSignal): Promise<void> {
    const { uploader, findPack } = this.#options;
    const wanted = new Map(uploader.takeAgain().map((record) => [toHex(record.pack), record]));
    for (const { pack } of uploader.lost.all()) {
      try {
        const record = findPack(pack);
        if (record === undefined) uploader.lost.forget(pack);
        else if (await uploader.isDue(pack, isWaitedFor)) wanted.set(toHex(pack), record);
      } catch (error) {
        if (!isTcfsError(error)) throw error; // it stays in the list
      }
    }
    if (wanted.size > 0) await uploader.upload(store, [...wanted.values()], signal);
    await uploader.releaseHealed();
  }

  /** Bring everything but the root. @throws TcfsError what the store throws; {@link PackGone}. */
  async write(store: ObjectStore, plan: StepPlan, signal: AbortSignal): Promise<WrittenStep> {
    const { sealer, identity, clock, ledger } = this.#options;
    const deviceId = identity.id;
    const isCheckpoint = plan.kind === "checkpoint";
    const packs = new Map<string, PackRecord>();
    const gone = new Set<string>();
    const used = new Set<string>();
    const stream = new StreamWriter(this.#options, this.#known, async (name, content) => {
      ledger.note(name);
      await store.putIfAbsent(name, content, signal);
    });
    let { commit } = plan;
    for await (const changes of plan.changes) {
      for (const change of changes) {
        notePack(packs, gone, change);
        if (isCheckpoint) noteUse(used, change);
        // A walk may see a commit that is on the disk and not yet told of: the step's commit is its records'.
        if (change.key[0] === RECORD_KIND.volume && change.value !== undefined)
          commit = decodeVolume(change.value).commit;
      }
      await stream.add(changes);
    }
    const written = await stream.finish();
    await this.#bringPacks(store, [...packs.values()], signal);
    const number = plan.previous === null ? plan.firstNumber : plan.previous.number + 1;
    const time = clock.now();
    const previousHash =
      plan.previous === null ? new Uint8Array(32) : new Uint8Array(Buffer.from(plan.previous.headHash, "hex"));
    const lost = this.#lostOf((pack) => (isCheckpoint ? packs.has(toHex(pack)) : !gone.has(packObject(pack))));
    const manifest: Manifest = { number, deviceId, previousHash, time, commit, lost, stream: written };
    const place = { kind: plan.kind, number, tellsLost: lost.length > 0 };
    const object = sealSigned(sealer, identity, place, encodeManifest(manifest));
    const headHash = sha256(object);
    const manifestName = manifestObject(plan.kind, number, headHash);
    ledger.note(manifestName);
    await ledger.save();
    await store.putIfAbsent(manifestName, object, signal);
    if (isCheckpoint) this.#known = chunksOf(written);
    const checkpoint = isCheckpoint ? number : (plan.previous?.checkpoint ?? number);
    const { kind: headKind, headerRevision, devicesRevision, kept } = plan;
    const state = { number, headKind, headHash, checkpoint, deviceId, time, commit };
    const root: Root = { ...state, headerRevision, devicesRevision, kept };
    const rootObject = sealSigned(sealer, identity, { kind: "root", number: 0 }, encodeRoot(root));
    const streamBytes = isCheckpoint ? 0 : (plan.previous?.streamBytes ?? 0) + stream.lengthBytes;
    const note = { ...noteOf(root, toHex(sha256(rootObject))), streamBytes };
    const names = isCheckpoint ? new Set([manifestName, ...reach(written, packs.keys()), ...used]) : gone;
    return { rootObject, note, kind: plan.kind, lost, names };
  }

  /** The store's root is this step's: what it does not lead to is dead, also what never got a root. */
  async bury({ kind, names, note: { number } }: WrittenStep): Promise<void> {
    const { ledger, uploader, clock } = this.#options;
    const nowMs = millisecondsOf(clock.now());
    if (kind === "commit") {
      if (names.size === 0) return;
      ledger.bury(names, number, nowMs);
    } else {
      for (const pack of uploader.storedNames()) ledger.note(packObjectNamed(pack));
      ledger.buryAllBut(names, number, nowMs);
    }
    await ledger.save();
  }

  /**
   * Before a first root, which no other one vouches for: a store that was emptied since the upload began lacks the header
   * too, and gets everything again.
   * @throws TcfsError `TCFS_REMOTE_MISSING`
   */
  async requireFilled(store: ObjectStore, signal: AbortSignal): Promise<void> {
    if ((await store.head(HEADER_NAME, signal)) !== undefined) return;
    this.#options.uploader.forgetAll();
    this.forget();
    throw new TcfsError("TCFS_REMOTE_MISSING", "the store was emptied while it was filled: all is brought again");
  }

  /** @throws TcfsError `TCFS_REMOTE_CONFLICT` if the root is not `version` (undefined: if there is one). */
  publish(
    store: ObjectStore,
    { rootObject }: WrittenStep,
    version: ObjectVersion | undefined,
    signal: AbortSignal,
  ): Promise<ObjectVersion> {
    if (version === undefined) return store.putIfAbsent(ROOT_NAME, rootObject, signal);
    return store.putIfMatch(ROOT_NAME, rootObject, version, signal);
  }

  async #bringPacks(store: ObjectStore, named: readonly PackRecord[], signal: AbortSignal): Promise<void> {
    const { uploader, local } = this.#options;
    const { lost } = uploader;
    const missing = uploader.missing(named).filter(({ pack }) => !lost.has(pack) || lost.isDue(pack, false));
    if (missing.some(({ pack }) => local.isOpen(pack))) await local.retire();
    await uploader.upload(store, missing, signal);
  }

  #lostOf(isNamed: (pack: PackId) => boolean): LostPack[] {
    const lost = this.#options.uploader.lost.all().filter(({ pack }) => isNamed(pack));
    if (lost.length <= MAX_LOST_PACKS) return lost;
    throw new TcfsError("TCFS_CORRUPT", `${lost.length} packs are lost: more than a state of the store can name`);
  }
}

/** @param last - The store's root; null before the first. */
export function isCheckpointDue(last: RootNote | null): boolean {
  if (last === null) return true;
  return last.number - last.checkpoint >= STEPS_PER_CHECKPOINT || last.streamBytes >= STREAM_BYTES_PER_CHECKPOINT;
}

/** A root in the form that `store.json` keeps. Its `streamBytes` are not in it. */
export function noteOf(root: Root, rootHash: string): RootNote {
  return {
    number: root.number,
    rootHash,
    headHash: toHex(root.headHash),
    checkpoint: root.checkpoint,
    streamBytes: 0,
    commit: root.commit,
    headerRevision: root.headerRevision,
    time: preciseIsoTime(root.time),
  };
}

/** @returns Captured changes in batches. */
export async function* inBatches(changes: Iterable<RecordChange>): AsyncGenerator<readonly RecordChange[]> {
  let batch: RecordChange[] = [];
  for (const change of changes) {
    batch.push(change);
    if (batch.length < BATCH_RECORDS) continue;
    yield batch;
    batch = [];
    await Promise.resolve();
  }
  if (batch.length > 0) yield batch;
}

function notePack(packs: Map<string, PackRecord>, gone: Set<string>, { key, value }: RecordChange): void {
  if (key[0] !== RECORD_KIND.pack) return;
  const pack = packIdOfKey(key);
  if (value === undefined) gone.add(packObject(pack));
  else packs.set(toHex(pack), decodePack(pack, value));
}

/** The packs of chunks count, too: a pack's own record may have been lost with a damaged table, and its chunks be needed. */
function noteUse(used: Set<string>, { key, value }: RecordChange): void {
  if (key[0] !== RECORD_KIND.chunk || value === undefined) return;
  const chunk = decodeChunk(value);
  if (chunk.kind === "packed") used.add(packObject(chunk.pack));
}

/** @returns Objects that hold a checkpoint's stream, and packs of its state. */
function* reach(stream: RecordStream, packs: Iterable<string>): Generator<string> {
  if (stream.kind === "chunks") for (const { pack } of stream.chunks) yield packObject(pack);
  for (const pack of packs) yield packObjectNamed(pack);
}

function chunksOf(stream: RecordStream): Map<ChunkIdKey, StreamChunk> {
  if (stream.kind === "inline") return new Map();
  return new Map(stream.chunks.map((chunk) => [chunkIdKey(chunk.id), chunk]));
}
