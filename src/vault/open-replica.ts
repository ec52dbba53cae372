/** A vault's store, opened with the vault where it has one: packs come from it, commits go to it. Loaded only then. */
import { join } from "node:path";
import { toHex } from "../bytes.ts";
import type { SealingEngine } from "../crypto/engine.ts";
import type { ObjectSealer } from "../crypto/object-seal.ts";
import { BoundedPackShelf, type ShelfUploads } from "../cache/bounded-pack-shelf.ts";
import type { ShelfSeal } from "../cache/shelf-index.ts";
import { defaultCacheBytes, readCacheSettings } from "../cache/cache-settings.ts";
import { type OwnPacks, PackDirectory } from "../chunkstore/pack-directory.ts";
import type { PackCipherRooms } from "../chunkstore/pack-cipher.ts";
import { type PackDamage, findPackDamage } from "../chunkstore/pack-verifier.ts";
import { TcfsError, unlessCorrupt } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import type { ChunkRecord, PackRecord } from "../format/records.ts";
import type { Device } from "../keys/devices/device-list.ts";
import type { EpochRooms } from "../keys/epoch-rooms.ts";
import type { LevelMetadataStore } from "../metadata/level-metadata-store.ts";
import { type Timer, systemClock } from "../platform/clock.ts";
import type { Disk } from "../platform/disk.ts";
import { systemRandom } from "../platform/random.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import { openStore, prepareStore } from "../remote/open-store.ts";
import { Pace, pacedStore } from "../remote/paced-store.ts";
import type { CredentialRenewal } from "../remote/renewing-store.ts";
import type { S3Credentials } from "../remote/s3-store.ts";
import { RequestTrace, watchedStore } from "../remote/watched-store.ts";
import { LostPacks, type LostPacksOptions } from "../replica/lost-packs.ts";
import { PackFetcher } from "../replica/pack-fetcher.ts";
import { PackUploader, type PackUploaderOptions } from "../replica/pack-uploader.ts";
import type { PackRooms } from "../replica/remote-epoch.ts";
import { type ReplicaState, disownNewer, readState, verifyState } from "../replica/replica-state.ts";
import type { ReplicaStatus } from "../replica/replica-status.ts";
import { Replicator } from "../replica/replicator.ts";
import { StoreLedger } from "../replica/store-ledger.ts";
import { StoreRenewal } from "../replica/store-renewal.ts";
import { StoredConfirmer } from "../replica/stored-confirmer.ts";
import { StoredPacks } from "../replica/stored-packs.ts";
import { type UploadChange, changeUploadSettings, readUploadSettings } from "../replica/upload-settings.ts";
import { openDeviceBook } from "./device-setup.ts";
import { headerForStore } from "./own-header.ts";

export interface OpenReplicaOptions {
  readonly disk: Disk;
  /** The vault's. */
  readonly directory: string;
  readonly vaultId: Uint8Array;
  /** {@link VaultHeader.deviceId} */
  readonly firstDeviceId: Uint8Array;
  /** Borrowed: closed by its owner, after the replica. */
  readonly epochs: EpochRooms;
  readonly credentials: S3Credentials | undefined;
  readonly renewal: CredentialRenewal | undefined;
  /** A read of what only the store has waits so long at most. */
  readonly storeWaitMs: number;
}

/** What following the vault takes besides. */
export interface FollowOptions extends Pick<LostPacksOptions, "onListed" | "onLost" | "onFound"> {
  readonly engine: SealingEngine;
  readonly metadata: LevelMetadataStore;
  readonly ownPacks: OwnPacks;
  readonly onOutcome: (error: unknown) => void;
  readonly onNewDevices: (devices: readonly Device[]) => void;
  /** The store does not have a pack that it took. */
  readonly onMissing: () => void;
  /** A pack is damaged on the disk. */
  readonly onDamage: (pack: PackId, damage: PackDamage) => void;
  /** The store's newest manifest is damaged: a checkpoint comes after it. */
  readonly onHeadDamaged: (error: TcfsError) => void;
}

export class Replica {
  readonly #options: OpenReplicaOptions;
  #state: ReplicaState;
  readonly #fetcher: PackFetcher;
  /** What was asked of the store. */
  readonly requests: RequestTrace;
  readonly shelf: BoundedPackShelf;
  readonly #opener: StoreOpener;
  #stored: StoredPacks | undefined;
  #replicator: Replicator | undefined;
  #confirmer: StoredConfirmer | undefined;
  #uploader: PackUploader | undefined;
  #metadata: LevelMetadataStore | undefined;

  private constructor(options: OpenReplicaOptions, parts: ReplicaParts) {
    this.#options = options;
    this.#state = parts.state;
    this.#fetcher = parts.fetcher;
    this.shelf = parts.shelf;
    this.#opener = parts.opener;
    this.requests = parts.opener.requests;
  }

  /** @returns Undefined where the vault has no store. @throws TcfsError `TCFS_CORRUPT` if `store.json` is not this vault's. */
  static async open(options: OpenReplicaOptions): Promise<Replica | undefined> {
    const { disk, directory, vaultId, epochs } = options;
    const found = await readState(disk, directory);
    if (found === undefined) return undefined;
    const { sealer, packKeys } = epochs;
    const state = verifyState(found, sealer);
    const opener = new StoreOpener(state.url, options);
    const fetcher = new PackFetcher(() => opener.open(), { packKeys, vaultId }, options.storeWaitMs);
    const { maxBytes } = await readCacheSettings(disk, directory);
    const shelf = await BoundedPackShelf.open({
      disk,
      directory,
      clock: systemClock,
      remote: fetcher,
      seal: sealOf(sealer, state),
      maxBytes: maxBytes ?? defaultCacheBytes((await disk.space(directory)).totalBytes),
      waitMs: options.storeWaitMs,
    });
    return new Replica(options, { state, opener, fetcher, shelf });
  }

  /** A commit is durable. @param changes - Lent. */
  noteCommit(commit: number, changes: readonly RecordChange[]): void {
    this.#replicator?.note(commit, changes);
  }

  /** Before the vault commits anything. @param commit - Its last, as it was opened. */
  async disownNewer(commit: number): Promise<void> {
    const { disk, directory, epochs } = this.#options;
    this.#state = await disownNewer(disk, directory, this.#state, commit, epochs.sealer);
  }

  /** Keep the store following the vault from now on; before anything changes in it. */
  async follow(options: FollowOptions): Promise<void> {
    const { engine, metadata, ownPacks, onOutcome, onNewDevices, onMissing, onHeadDamaged } = options;
    const { disk, directory, vaultId, epochs, firstDeviceId } = this.#options;
    const rooms = { engine, packKeys: epochs.packKeys, vaultId };
    const { shelf } = this;
    const devices = await openDeviceBook({ disk, directory, sealer: epochs.sealer }, firstDeviceId);
    const stored = await StoredPacks.open(disk, directory);
    this.#stored = stored;
    const local = new PackDirectory(disk, join(directory, "packs"), ownPacks);
    const uploader = await this.#openUploader(options, { ...rooms, local, stored });
    this.#uploader = uploader;
    const openStore = (): Promise<ObjectStore> => this.#opener.open();
    const recordOf = (pack: PackId): PackRecord | undefined => unlessCorrupt(() => metadata.getPack(pack));
    const noteLost = (pack: PackId): boolean => {
      const record = recordOf(pack);
      if (record === undefined) return true; // nobody needs it
      onMissing();
      return this.#replicator?.noteLost(record) ?? true;
    };
    const confirmer = new StoredConfirmer({
      ...rooms,
      openStore,
      sealer: epochs.sealer,
      devices: () => devices.list,
      stored,
      unstored: () => shelf.unstored(),
      noteStored: (pack, lengthBytes) => shelf.noteStored(pack, lengthBytes),
      isPackNamed: (pack) => recordOf(pack) !== undefined,
      rootHash: () => this.#replicator?.rootHash,
      clock: systemClock,
      onMissing: noteLost,
      onOtherRoot: () => this.#replicator?.doubtRoot(),
    });
    this.#confirmer = confirmer;
    const pace = new Pace(systemClock);
    this.#metadata = metadata;
    const replicator = new Replicator({
      openStore: async () => pacedStore(await openStore(), pace),
      pace,
      settings: await readUploadSettings(disk, directory),
      packs: () => metadata.packs(),
      disk,
      directory,
      state: { ...this.#state, deviceId: toHex(devices.identity.id) },
      devices,
      onNewDevices,
      commit: metadata.volume.commit,
      allRecords: () => metadata.allRecords(),
      readHeader: (least) => headerForStore(disk, directory, epochs, least),
      onOutcome,
      sealer: epochs.sealer,
      clock: systemClock,
      local,
      uploader,
      ledger: await StoreLedger.open(disk, directory, sealOf(epochs.sealer, this.#state)),
      onHeadDamaged,
      findPack: (pack) => metadata.getPack(pack),
      onRooted: () => void confirmer.confirm(),
      ...rooms,
      random: systemRandom,
    });
    this.#replicator = replicator;
    shelf.uploads = uploadsFor(replicator, uploader, noteLost);
    if (this.#state.last?.commit === metadata.volume.commit) void confirmer.confirm();
  }

  async #openUploader(
    options: FollowOptions,
    parts: Pick<PackUploaderOptions, "local" | "stored" | keyof PackRooms> & PackCipherRooms,
  ): Promise<PackUploader> {
    const { disk, directory } = this.#options;
    const { metadata, onDamage } = options;
    const lost = await LostPacks.open({ ...options, disk, directory, clock: systemClock });
    return new PackUploader({
      ...parts,
      lost,
      clock: systemClock,
      findDamage: (pack, content, buffer, isFinished) => findPackDamage(pack, content, parts, buffer, isFinished),
      onDamage,
      isNamed: (pack) => orTrueIfDamaged(() => metadata.getPack(pack) !== undefined),
      isChunkThere: (chunk, pack) => orTrueIfDamaged(() => isChunkIn(metadata.getChunk(chunk), pack)),
    });
  }

  /** Of the root that the store is known to have. */
  get lastRootNumber(): number {
    const { last, keptBelow } = this.#state;
    return this.#replicator?.status().lastRoot?.number ?? last?.number ?? Math.max(0, keptBelow - 1);
  }

  /** Null while nothing is uploaded: a vault opened for reading. */
  status(): ReplicaStatus | null {
    return this.#replicator?.status() ?? null;
  }

  /** Whether the store's root may lack the newest value of a record. */
  isUnsent(key: Uint8Array): boolean {
    return this.#replicator?.isUnsent(key) ?? false;
  }

  /** Whether neither this disk nor the store is known to have all of the pack. */
  isLost(pack: PackId): boolean {
    return this.#uploader?.lost.has(pack) ?? false;
  }

  /** See {@link Replicator.wait}; the store has shown all of it then. */
  async wait(commit: number, signal: AbortSignal): Promise<void> {
    if (this.#replicator === undefined) {
      throw new TcfsError("TCFS_READ_ONLY", "the vault is mounted read-only: nothing is uploaded");
    }
    do {
      await this.#replicator.wait(commit, signal);
      await this.#confirmer?.confirmed(signal);
      // The store lacks what it took, which is brought again; or its root is another, whose may be told.
    } while ((this.#uploader?.againCount ?? 0) > 0 || !this.#replicator.isRootKnown);
  }

  /** @throws TcfsError `TCFS_USAGE` for settings that cannot be; what the disk throws. */
  async configureUploads(change: UploadChange): Promise<void> {
    const { disk, directory } = this.#options;
    this.#replicator?.configure(await changeUploadSettings(disk, directory, change));
  }

  /**
   * Let nothing in the store be under an older key epoch, once the disk is done.
   * @returns How many objects there are. @throws TcfsError what the store throws; `TCFS_READ_ONLY`, `TCFS_BUSY`
   */
  async renew(signal: AbortSignal, pause: () => Promise<void>): Promise<number> {
    const replicator = this.#replicator;
    const metadata = this.#metadata;
    if (replicator === undefined || metadata === undefined) {
      throw new TcfsError("TCFS_READ_ONLY", "nothing follows the vault to its store now");
    }
    const { vaultId, epochs } = this.#options;
    const renewal = new StoreRenewal({
      store: await this.#opener.open(),
      packKeys: epochs.packKeys,
      vaultId,
      packs: () => metadata.packs(),
      writeCheckpoint: () => replicator.renewCheckpoint(signal),
      pause,
      signal,
    });
    return renewal.run();
  }

  /** The header is another: bring it soon. */
  tellHeader(): void {
    this.#replicator?.noteHeader();
  }

  /** No read waits for the network any more, nor does anything else; what is committed after this is still noted. */
  giveUpReads(): Promise<void> {
    return this.#fetcher.close();
  }

  /** Waits for no network. */
  async close(): Promise<void> {
    await Promise.all([this.#replicator?.close(), this.#confirmer?.close(), this.#fetcher.close()]);
    await this.shelf.close();
    await this.#stored?.[Symbol.asyncDispose]();
    await this.#opener.close();
  }
}

function isChunkIn(record: ChunkRecord | undefined, pack: PackId): boolean {
  return record?.kind === "packed" && Buffer.compare(record.pack, pack) === 0;
}

/** In doubt something is needed. */
function orTrueIfDamaged(ask: () => boolean): boolean {
  return unlessCorrupt(ask) ?? true;
}

/** Of what the vault directory notes about this link to a store. */
function sealOf(sealer: ObjectSealer, { link }: ReplicaState): ShelfSeal {
  return { mac: (bytes) => sealer.mac(bytes), link: new Uint8Array(Buffer.from(link, "hex")) };
}

/** What the shelf asks of uploads. */
function uploadsFor(replicator: Replicator, uploader: PackUploader, noteLost: (pack: PackId) => void): ShelfUploads {
  return {
    hurry: () => {
      replicator.hurry();
    },
    progress: () => uploader.backlog.sentBytes,
    isUnderWay: () => replicator.isUploading,
    hasEnded: () => replicator.hasEnded,
    noteLost,
  };
}

interface ReplicaParts {
  readonly state: ReplicaState;
  readonly opener: StoreOpener;
  readonly fetcher: PackFetcher;
  readonly shelf: BoundedPackShelf;
}

/** The SDK takes 150 ms of the daemon's one thread to load: after the mount, and before the first read waits for it. */
const PREPARE_MS = 1000;

/** The store, opened when it is first needed; what failed is tried again by whoever asks next. */
class StoreOpener {
  readonly requests = new RequestTrace();
  readonly #url: string;
  readonly #access: Pick<OpenReplicaOptions, "credentials" | "renewal">;
  readonly #preparing: Timer;
  #opening: Promise<ObjectStore> | undefined;

  constructor(url: string, access: Pick<OpenReplicaOptions, "credentials" | "renewal">) {
    this.#url = url;
    this.#access = access;
    this.#preparing = systemClock.after(PREPARE_MS, () => {
      prepareStore(url).catch(() => undefined); // told by who opens it
    });
  }

  open(): Promise<ObjectStore> {
    const { credentials, renewal } = this.#access;
    this.#opening ??= openStore(this.#url, { credentials, renewal, create: false })
      .then((store) => watchedStore(store, this.requests))
      .catch((error: unknown) => {
        this.#opening = undefined;
        throw error;
      });
    return this.#opening;
  }

  async close(): Promise<void> {
    this.#preparing.cancel();
    await (await this.#opening?.catch(() => undefined))?.close();
  }
}
