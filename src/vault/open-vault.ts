/** A vault opened from its directory and key: every room put together, and taken apart in reverse order. */
import { join } from "node:path";
import { LruFrameCache } from "../cache/lru-frame-cache.ts";
import { PackChunkStore } from "../chunkstore/pack-chunk-store.ts";
import type { SealingEngine } from "../crypto/engine.ts";
import type { SecretKey } from "../crypto/secret-key.ts";
import { formatPackId } from "../chunkstore/pack-format.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { PackRecord } from "../format/records.ts";
import { DiskReserve } from "../fs/disk-reserve.ts";
import type { AccessTimes } from "../fs/access-times.ts";
import type { VirtualShown } from "../fs/snapshots/routed-operations.ts";
import { LocalCopies, type LocalCopiesOptions } from "../fs/local-copies.ts";
import { Volume } from "../fs/volume.ts";
import { EpochRooms } from "../keys/epoch-rooms.ts";
import { readHeader } from "../keys/header-file.ts";
import { assertWritable, parseHeader } from "../keys/header.ts";
import { inodeKey } from "../format/record-keys.ts";
import type { InodeNumber, PackId } from "../ids.ts";
import type { VaultHeader } from "../keys/header.ts";
import { VaultKeys } from "../keys/key-epochs.ts";
import { KeyHandover } from "../keys/key-handover.ts";
import { nameFeatures, verifyHeader } from "../keys/keyring.ts";
import type { Logger } from "../logger.ts";
import { LevelMetadataStore } from "../metadata/level-metadata-store.ts";
import { systemClock } from "../platform/clock.ts";
import { HeldDirectory } from "../platform/held-directory.ts";
import { preciseIsoTime } from "../platform/iso-time.ts";
import { NodeDisk } from "../platform/node-disk.ts";
import { systemRandom } from "../platform/random.ts";
import { outcomeReporter, rotationReports, uploadReports } from "./background-reports.ts";
import { KeyRotation } from "./key-rotation.ts";
import { requirePresent } from "./own-header.ts";
import { renewHeaderCopy, rewriteHeader } from "./rewrite-header.ts";
import type { CredentialRenewal } from "../remote/renewing-store.ts";
import type { S3Credentials } from "../remote/s3-store.ts";
import type { FreshnessRequest } from "./freshness-setup.ts";
import type { RequestTrace } from "../remote/watched-store.ts";
import type { OpenReplicaOptions, Replica } from "./open-replica.ts";
import type { UploadChange } from "../replica/upload-settings.ts";
import type { PackRooms } from "../replica/remote-epoch.ts";
import { describeProblem, ratio } from "./status.ts";
import type { VaultFigures } from "./status.ts";

/** Decoded metadata records in memory: with the rest of the daemon they stay below its 400 MiB (DESIGN §10). */
const METADATA_CACHE_BYTES = 96 * 1024 * 1024;
/** Plaintext frames in memory. The kernel's page cache stands before it and is the one that counts. */
const CHUNK_CACHE_BYTES = 48 * 1024 * 1024;
/** DESIGN §4: the local store's, the upload's and the cache's unit. */
const PACK_BYTES = 16 * 1024 * 1024;
/** Chunks land in one of these at random, so that a pack does not tell in which order files were written. */
const OPEN_PACK_COUNT = 4;
const DEFAULT_STORE_WAIT_MS = 30_000;

export interface OpenVaultOptions {
  /** Absolute path of the vault directory. */
  readonly directory: string;
  /** Authenticated. */
  readonly header: VaultHeader;
  /** Borrowed while the call runs. */
  readonly key: SecretKey;
  readonly isReadOnly: boolean;
  /** Whether there is nothing but the header yet. */
  readonly isNew: boolean;
  readonly accessTimes: AccessTimes;
  readonly snapshotsShown: VirtualShown;
  readonly versionsShown: VirtualShown;
  readonly logger: Logger;
  /** Of its store, where it has one. */
  readonly credentials?: S3Credentials | undefined;
  readonly renewal?: CredentialRenewal | undefined;
  /** A read of what only the store has waits so long at most, and fails then. */
  readonly storeWaitMs?: number | undefined;
  /** Whether its store is to follow it while it is open. Packs come from the store either way. */
  readonly isReplicated?: boolean | undefined;
  /** How to hold its state against what a TPM remembers of it; left out by commands, which are no mounts. */
  readonly freshness?: FreshnessRequest;
}

export class OpenVault implements AsyncDisposable {
  readonly volume: Volume;
  readonly rotation: KeyRotation;
  /** Of a vault with a store. */
  readonly copies: LocalCopies | undefined;
  /** What opens packs of the store. */
  readonly packRooms: PackRooms;
  readonly #rooms: Rooms;
  readonly #handover: KeyHandover;
  readonly #directory: string;
  readonly #isReadOnly: boolean;
  /** In the order of opening. */
  readonly #closers: readonly Closer[];
  #closing: Promise<void> | undefined;

  private constructor(
    parts: Pick<OpenVault, "volume" | "copies" | "rotation">,
    options: OpenVaultOptions,
    rooms: Rooms,
    closers: readonly Closer[],
  ) {
    this.volume = parts.volume;
    this.copies = parts.copies;
    this.rotation = parts.rotation;
    this.packRooms = { packKeys: rooms.epochs.packKeys, vaultId: options.header.vaultId };
    this.#directory = options.directory;
    this.#isReadOnly = options.isReadOnly;
    this.#handover = rooms.handover;
    this.#rooms = rooms;
    this.#closers = closers;
  }

  /**
   * @throws TcfsError `TCFS_UNKNOWN_FORMAT` if only reading is possible and more was asked; `TCFS_VAULT_IN_USE`;
   *   `TCFS_CORRUPT`, `TCFS_STORE_FULL`, `TCFS_IO`. What was opened so far is closed again.
   */
  static async open(options: OpenVaultOptions): Promise<OpenVault> {
    const { directory, header, isReadOnly, logger } = options;
    if (!isReadOnly) assertWritable(header);
    const closers: Closer[] = [];
    try {
      const rooms = await openRooms(options, closers);
      const { replica } = rooms;
      const anchor = options.freshness && (await keepFresh(options, options.freshness, rooms, closers));
      if (!isReadOnly) await followStore(options, rooms);
      // The database is locked: nobody else writes the vault between this and what it announces.
      const named = isReadOnly ? header : await announceFeatures(options);
      const volume = await Volume.open({
        metadata: rooms.metadata,
        chunks: rooms.chunks,
        disk: rooms.disk,
        place: rooms.place,
        room: replica?.shelf,
        reserve: rooms.reserve,
        clock: systemClock,
        directory,
        isReadOnly,
        accessTimes: options.accessTimes,
        snapshotsShown: options.snapshotsShown,
        versionsShown: options.versionsShown,
        owner: { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 },
        onRelief: (count) => {
          logger.warn("the disk is nearly full: the oldest versions and deleted files were given up", { count });
        },
        onCommit: outcomeReporter(logger, { failed: "a commit failed", healed: "commits succeed again" }),
        onPolicy: outcomeReporter(logger, {
          failed: "an automatic snapshot failed, and is tried again",
          healed: "automatic snapshots succeed again",
        }),
      });
      closers.push(() => volume.close());
      const copies = replica && (await LocalCopies.open(copiesOptions(options, rooms, replica, volume)));
      if (copies !== undefined) {
        volume.onStateAsked = (ino) => copies.stateOf(ino);
        closers.push(() => {
          copies.close();
        });
      }
      if (replica !== undefined) closers.push(() => replica.giveUpReads());
      const renewAnchor = (): Promise<void> => renewAnchorOf(options, rooms, anchor);
      const rotation = new KeyRotation({ ...rooms, directory, volume, renewAnchor, ...rotationReports(logger) });
      closers.push(() => rotation.close());
      if (!isReadOnly && !options.isNew) await renewHeaderCopy(directory);
      if (!isReadOnly) rotation.resume(named);
      return new OpenVault({ volume, copies, rotation }, options, rooms, closers);
    } catch (error) {
      await closeAll(closers).catch(() => undefined); // the first failure is the one to tell
      throw error;
    }
  }

  /** With what takes a walk over all versions. */
  async allFigures(): Promise<VaultFigures> {
    return { ...this.figures(), versions: await this.volume.versions.figures() };
  }

  figures(): Omit<VaultFigures, "versions"> {
    const { metadata, chunks, engine } = this.#rooms;
    const { inodeCount, allocatedBytes, heldBytes, dirtyRecordCount, problem } = this.volume.statistics();
    const { storedBytes, uniqueBytes, packCount, inlineBytes, cacheBytes } = chunks.statistics();
    const { commit, committedAt } = metadata.volume;
    return {
      logicalBytes: allocatedBytes,
      uniqueBytes,
      storedBytes,
      dedupRatio: ratio(allocatedBytes, uniqueBytes),
      compressionRatio: ratio(uniqueBytes, storedBytes),
      inodeCount,
      packCount,
      inlineBytes,
      dirtyBytes: heldBytes,
      dirtyRecordCount,
      problem: problem === undefined ? null : describeProblem(problem),
      cacheBytes,
      lastCommit: { number: commit, time: preciseIsoTime(committedAt) },
      engine: engine.kind,
      snapshotPolicy: this.volume.snapshots.automatic.figures(),
      store: this.#rooms.replica?.status() ?? null,
      keyRotation: this.rotation.status(),
    };
  }

  /**
   * Everything acknowledged so far is on the disk and in the store when this resolves.
   * @throws TcfsError `TCFS_USAGE` if the vault has no store; what {@link Replicator.wait} throws.
   */
  async waitForStore(signal: AbortSignal): Promise<void> {
    const replica = this.#requireReplica();
    await this.volume.syncAll();
    await replica.wait(this.#rooms.metadata.volume.commit, signal);
  }

  /** @throws TcfsError `TCFS_USAGE` if the vault has no store, or for settings that cannot be. */
  async configureUploads(change: UploadChange): Promise<void> {
    await this.#requireReplica().configureUploads(change);
  }

  /** What was asked of the store since the vault was opened; null where it has none. */
  storeRequests(): ReturnType<RequestTrace["report"]> | null {
    return this.#rooms.replica?.requests.report() ?? null;
  }

  #requireReplica(): Replica {
    const { replica } = this.#rooms;
    if (replica !== undefined) return replica;
    throw new TcfsError("TCFS_USAGE", "this vault has no store: tcfs store set URL gives it one");
  }

  /**
   * Begin a key epoch; everything goes over to it in the background.
   * @param text - The header of the next epoch, as it is to be written.
   * @param wrappedKey - Its key, as {@link KeyHandover.wrap} gives it.
   * @throws TcfsError `TCFS_BAD_HEADER`, `TCFS_READ_ONLY`; what {@link KeyRotation.begin} throws.
   */
  async rotate(text: Uint8Array, wrappedKey: Uint8Array): Promise<void> {
    if (this.#isReadOnly)
      throw new TcfsError("TCFS_READ_ONLY", "the vault is open read-only: its key cannot be rotated");
    this.#rooms.place.assertInPlace(); // the header is written by path
    const before = await readHeader(this.#rooms.disk, this.#directory);
    const after = parseHeader(text);
    const key = this.#handover.unwrap(wrappedKey);
    try {
      verifyHeader(after, key);
      requireNext(before, after);
      const keys = VaultKeys.open(after, key);
      try {
        await this.rotation.begin(before, after, keys);
        this.#handover.renew(keys.newest.subkeys.handover);
      } finally {
        keys.wipe();
      }
    } finally {
      key.wipe();
    }
  }

  /** @returns What a command sealed by the vault's key; the caller's to wipe. @throws TcfsError `TCFS_WRONG_KEY` */
  unsealHandover(sealed: Uint8Array): Uint8Array {
    this.#requireReplica();
    return this.#handover.unseal(sealed);
  }

  /** Packs that only the store has. */
  async *remotePacks(): AsyncGenerator<PackRecord> {
    const { metadata, chunks } = this.#rooms;
    for await (const record of metadata.packs()) if (!(await chunks.isPackHere(record.pack))) yield record;
  }

  /** Read and verify every chunk of these packs, from the store where they are not here. @param packs - Hexadecimal. */
  async checkPacks(packs: ReadonlySet<string>): Promise<{ readonly bytes: number; readonly damages: string[] }> {
    const { metadata, chunks } = this.#rooms;
    let bytes = 0;
    const damages: string[] = [];
    for await (const { id, record } of metadata.chunks()) {
      if (record.kind !== "packed" || !packs.has(formatPackId(record.pack))) continue;
      try {
        bytes += await chunks.check(id);
      } catch (error) {
        if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
        damages.push(error.message);
      }
    }
    return { bytes, damages };
  }

  /** Make everything durable and let go of it. Idempotent. @throws the first failure, once all is closed. */
  close(): Promise<void> {
    this.#closing ??= closeAll(this.#closers);
    return this.#closing;
  }

  /** As {@link close}; a failure is told there, to whoever awaits it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close().catch(() => undefined);
  }
}

interface Rooms {
  readonly place: HeldDirectory;
  readonly disk: NodeDisk;
  readonly reserve: DiskReserve;
  readonly engine: SealingEngine;
  readonly metadata: LevelMetadataStore;
  readonly chunks: PackChunkStore;
  readonly replica: Replica | undefined;
  readonly epochs: EpochRooms;
  readonly handover: KeyHandover;
}

function copiesOptions(
  { directory }: OpenVaultOptions,
  { metadata, chunks, disk }: Rooms,
  replica: Replica,
  volume: Volume,
): LocalCopiesOptions {
  const isUnsent = (ino: InodeNumber): boolean => volume.isDirty(ino) || replica.isUnsent(inodeKey("inode", ino));
  const isLost = (pack: PackId): boolean => replica.isLost(pack);
  return { shelf: replica.shelf, metadata, chunks, disk, clock: systemClock, directory, isUnsent, isLost };
}

type Closer = () => void | Promise<void>;

/** @throws TcfsError `TCFS_BUSY` if the header's key is not the vault's any more, whatever else that leads to. */
async function openRooms(options: OpenVaultOptions, closers: Closer[]): Promise<Rooms> {
  const { directory, header, isNew } = options;
  try {
    return await openEach(options, closers);
  } finally {
    if (!isNew) await requirePresent(new NodeDisk(), directory, header); // the vault is ours now, or did not open
  }
}

async function openEach(options: OpenVaultOptions, closers: Closer[]): Promise<Rooms> {
  const { directory, header, logger } = options;
  const { vaultId, chunking } = header;
  const place = HeldDirectory.open(directory, systemClock);
  closers.push(() => {
    place.close();
  });
  const disk = new NodeDisk(place);
  const keys = VaultKeys.open(header, options.key);
  try {
    const epochs = new EpochRooms(keys, { vaultId, chunking, random: systemRandom });
    closers.push(() => {
      epochs.close();
    });
    const { credentials, renewal, storeWaitMs = DEFAULT_STORE_WAIT_MS } = options;
    const { engine, packKeys } = epochs;
    const firstDeviceId = header.deviceId;
    const handover = new KeyHandover(keys.newest.subkeys.handover);
    closers.push(() => {
      handover.wipe();
    });
    const access = { credentials, renewal, storeWaitMs };
    const replica = await openReplica({ disk, directory, vaultId, firstDeviceId, epochs, ...access });
    const reserve = await openReserve(disk, options);
    const metadata = await reserve.opening(() =>
      LevelMetadataStore.open({
        directory: place.locate(join(directory, "meta")), // LevelDB opens its files by path
        journalDirectory: join(directory, "journal"),
        disk,
        engine,
        clock: systemClock,
        createIfMissing: options.isNew,
        isReadOnly: options.isReadOnly,
        cacheBytes: METADATA_CACHE_BYTES,
        onCommitted: replica && ((commit, changes) => replica.noteCommit(commit, changes)),
        onDamage: (error) => {
          logger.error("a metadata record is damaged", { code: error.code, message: error.message });
        },
        onLag: outcomeReporter(logger, {
          failed: "the metadata database cannot follow the journal",
          healed: "the metadata database follows the journal again",
        }),
        onTornLog: (sentence) => {
          logger.warn("the last change before a crash was not complete", { message: sentence });
        },
      }),
    );
    closers.push(() => metadata.close());
    if (!options.isReadOnly) await disk.makeDirectory(join(directory, "packs"));
    const chunks = await PackChunkStore.open({
      directory,
      disk,
      engine,
      metadata,
      random: systemRandom,
      clock: systemClock,
      vaultId,
      packKeys,
      frameCache: new LruFrameCache({ cacheBytes: CHUNK_CACHE_BYTES }),
      packBytes: PACK_BYTES,
      openPacks: OPEN_PACK_COUNT,
      shelf: replica?.shelf,
    });
    closers.push(() => chunks.close());
    if (replica !== undefined) closers.push(() => replica.close());
    return { place, disk, reserve, engine, metadata, chunks, replica, epochs, handover };
  } finally {
    keys.wipe();
  }
}

function openReserve(disk: NodeDisk, { directory, logger }: OpenVaultOptions): Promise<DiskReserve> {
  const event = "the disk is full: room that was put by is in use";
  const onGivenUp = (bytes: number): void => logger.warn(event, { bytes });
  return DiskReserve.open({ disk, directory, random: systemRandom, onGivenUp });
}

/** @returns The header, which names every feature that may be in the vault from now on. */
async function announceFeatures({ directory, header, key, logger }: OpenVaultOptions): Promise<VaultHeader> {
  const named = nameFeatures(header, key);
  const copyFailure = named === header ? undefined : await rewriteHeader(directory, header, named);
  if (copyFailure !== undefined) logger.warn(copyFailure.message, { code: copyFailure.code });
  return named;
}

/** A key epoch follows another of the same vault. */
function requireNext(before: VaultHeader, after: VaultHeader): void {
  const isSame = Buffer.compare(before.vaultId, after.vaultId) === 0;
  if (isSame && after.keyEpoch === before.keyEpoch + 1 && after.revision === before.revision + 1) return;
  throw new TcfsError("TCFS_BUSY", "another process changed the vault's header at the same time; try again");
}

interface TpmAnchor {
  readonly isActive: () => boolean;
  /** @throws as {@link Freshness.renew}. */
  readonly renew: () => Promise<void>;
}

/** Before anything is committed. */
async function followStore({ isReplicated, logger }: OpenVaultOptions, rooms: Rooms): Promise<void> {
  const { replica, engine, metadata, chunks } = rooms;
  await replica?.disownNewer(metadata.volume.commit);
  if (isReplicated !== true) return;
  await replica?.follow({ engine, metadata, ownPacks: chunks.ownPacks, ...uploadReports(logger, chunks) });
}

/** Before anything changes in the vault; and once nothing does any more. Loads little where no TPM remembers it. */
async function keepFresh(
  { directory, header, isReadOnly, logger }: OpenVaultOptions,
  request: FreshnessRequest,
  { disk, metadata, replica, epochs }: Rooms,
  closers: Closer[],
): Promise<TpmAnchor | undefined> {
  const { openFreshness } = await import("./freshness-setup.ts");
  const freshness = await openFreshness(
    { disk, directory, header, sealer: epochs.sealer, isReadOnly, logger },
    request,
  );
  if (freshness === undefined) return undefined;
  const state = () => ({ commit: metadata.volume.commit, root: replica?.lastRootNumber ?? 0 });
  closers.push(async () => {
    await freshness.advance(state()); // nothing unless the check below found the state good
    freshness.close();
  });
  await freshness.check(state());
  freshness.follow(state);
  return { isActive: () => freshness.isActive, renew: () => freshness.renew(state()) };
}

/** For the end of a key epoch. Somebody may have said meanwhile that the TPM is gone. @throws TcfsError `TCFS_NO_TPM`, `TCFS_TPM` */
async function renewAnchorOf(
  { directory }: OpenVaultOptions,
  { disk, epochs }: Rooms,
  anchor?: TpmAnchor,
): Promise<void> {
  const [{ readIsAnchored }, { GONE }] = await Promise.all([
    import("../keys/devices/device-book.ts"),
    import("./freshness.ts"),
  ]);
  if (!(await readIsAnchored({ disk, directory, sealer: epochs.sealer }))) return;
  const must = "a TPM remembers the vault, and must be told of its new key";
  if (anchor?.isActive() !== true) throw new TcfsError("TCFS_NO_TPM", `${must}. ${GONE}`);
  try {
    await anchor.renew();
  } catch (error) {
    if (!isTcfsError(error)) throw error;
    throw new TcfsError(error.code, `${must}: ${error.message}. ${GONE}`, { cause: error });
  }
}

/** Loads nothing where the vault has no store. */
async function openReplica(options: OpenReplicaOptions): Promise<Replica | undefined> {
  if (!(await options.disk.list(options.directory)).includes("store.json")) return undefined;
  const { Replica } = await import("./open-replica.ts");
  return Replica.open(options);
}

/** In reverse order, all of them whatever fails. @throws the first failure. */
async function closeAll(closers: readonly Closer[]): Promise<void> {
  const failures: unknown[] = [];
  for (const close of closers.toReversed()) {
    try {
      await close();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}
