/** A vault's store, opened with the vault where it has one: packs come from it, commits go to it. Loaded only then. */
import { join } from "node:path";
import type { SealingEngine } from "../crypto/engine.ts";
import { type OwnPacks, PackDirectory, type RemotePacks } from "../chunkstore/pack-directory.ts";
import { TcfsError } from "../errors.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import { packKey } from "../format/record-keys.ts";
import type { Device } from "../keys/devices/device-list.ts";
import { toHex } from "../keys/fields.ts";
import { readHeader } from "../keys/header-file.ts";
import type { EpochRooms } from "../keys/epoch-rooms.ts";
import { formatHeader } from "../keys/header.ts";
import type { LevelMetadataStore } from "../metadata/level-metadata-store.ts";
import { systemClock } from "../platform/clock.ts";
import type { Disk } from "../platform/disk.ts";
import { systemRandom } from "../platform/random.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import { openStore } from "../remote/open-store.ts";
import { Pace, pacedStore } from "../remote/paced-store.ts";
import type { CredentialRenewal } from "../remote/renewing-store.ts";
import type { S3Credentials } from "../remote/s3-store.ts";
import { RequestTrace, watchedStore } from "../remote/watched-store.ts";
import { PackFetcher } from "../replica/pack-fetcher.ts";
import { PackUploader } from "../replica/pack-uploader.ts";
import { type ReplicaState, readState, verifyState } from "../replica/replica-state.ts";
import { type ReplicaStatus, Replicator } from "../replica/replicator.ts";
import { StoreRenewal } from "../replica/store-renewal.ts";
import { StoredPacks } from "../replica/stored-packs.ts";
import { type UploadChange, changeUploadSettings, readUploadSettings } from "../replica/upload-settings.ts";
import { openDeviceBook } from "./device-setup.ts";

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
}

/** What following the vault takes besides. */
export interface FollowOptions {
  readonly engine: SealingEngine;
  readonly metadata: LevelMetadataStore;
  readonly ownPacks: OwnPacks;
  readonly onOutcome: (error: unknown) => void;
  readonly onNewDevices: (devices: readonly Device[]) => void;
}

export class Replica {
  readonly #options: OpenReplicaOptions;
  readonly #state: ReplicaState;
  readonly #fetcher: PackFetcher;
  /** What was asked of the store. */
  readonly requests = new RequestTrace();
  #opening: Promise<ObjectStore> | undefined;
  #stored: StoredPacks | undefined;
  #replicator: Replicator | undefined;
  #metadata: LevelMetadataStore | undefined;

  private constructor(options: OpenReplicaOptions, state: ReplicaState) {
    const { disk, directory } = options;
    this.#options = options;
    this.#state = state;
    this.#fetcher = new PackFetcher(() => this.#store(), disk, join(directory, "packs"));
  }

  /** @returns Undefined where the vault has no store. @throws TcfsError `TCFS_CORRUPT` if `store.json` is not this vault's. */
  static async open(options: OpenReplicaOptions): Promise<Replica | undefined> {
    const { disk, directory, epochs } = options;
    const found = await readState(disk, directory);
    return found && new Replica(options, verifyState(found, epochs.sealer));
  }

  /** For the chunk store. */
  get packs(): RemotePacks {
    return this.#fetcher;
  }

  /** A commit is durable. @param changes - Lent. */
  noteCommit(commit: number, changes: readonly RecordChange[]): void {
    this.#replicator?.note(commit, changes);
  }

  /** Keep the store following the vault from now on; before anything changes in it. */
  async follow({ engine, metadata, ownPacks, onOutcome, onNewDevices }: FollowOptions): Promise<void> {
    const { disk, directory, vaultId, epochs, firstDeviceId } = this.#options;
    const devices = await openDeviceBook({ disk, directory, sealer: epochs.sealer }, firstDeviceId);
    this.#stored = await StoredPacks.open(disk, directory);
    const local = new PackDirectory(disk, join(directory, "packs"), ownPacks);
    const pace = new Pace(systemClock);
    this.#metadata = metadata;
    this.#replicator = new Replicator({
      openStore: async () => pacedStore(await this.#store(), pace),
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
      readHeader: async () => {
        const header = await readHeader(disk, directory);
        return { content: formatHeader(header), revision: header.revision };
      },
      onOutcome,
      sealer: epochs.sealer,
      clock: systemClock,
      local,
      uploader: new PackUploader({ local, stored: this.#stored, clock: systemClock }),
      isPackNamed: ({ pack }) => metadata.database.find(packKey(pack)) !== undefined,
      engine,
      packKeys: epochs.packKeys,
      vaultId,
      random: systemRandom,
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

  /** See {@link Replicator.wait}. */
  async wait(commit: number, signal: AbortSignal): Promise<void> {
    if (this.#replicator === undefined) {
      throw new TcfsError("TCFS_READ_ONLY", "the vault is mounted read-only: nothing is uploaded");
    }
    await this.#replicator.wait(commit, signal);
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
      store: await this.#store(),
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
    await Promise.all([this.#replicator?.close(), this.#fetcher.close()]);
    await this.#stored?.[Symbol.asyncDispose]();
    await (await this.#opening?.catch(() => undefined))?.close();
  }

  /** Opened when it is first needed; what failed is tried again by whoever asks next. */
  #store(): Promise<ObjectStore> {
    const { credentials, renewal } = this.#options;
    this.#opening ??= openStore(this.#state.url, { credentials, renewal, create: false })
      .then((store) => watchedStore(store, this.requests))
      .catch((error: unknown) => {
        this.#opening = undefined;
        throw error;
      });
    return this.#opening;
  }
}
