/**
 * An open volume: the filesystem over a metadata store and a chunk store that the caller opened and closes.
 * `close` makes everything acknowledged durable.
 */
import type { ChunkStore, CollectionReport } from "../chunkstore/chunk-store.ts";
import { type TcfsError, isTcfsError } from "../errors.ts";
import { ROOT_INODE, type InodeNumber } from "../ids.ts";
import type { MaybePromise } from "../maybe-promise.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import type { Clock } from "../platform/clock.ts";
import type { Disk } from "../platform/disk.ts";
import type { HeldDirectory } from "../platform/held-directory.ts";
import type { AccessTimes } from "./access-times.ts";
import { type CheckOptions, type CheckReport, checkVolume } from "./check.ts";
import { Committer } from "./committer.ts";
import { Contents } from "./contents.ts";
import { Defragmenter } from "./defragmenter.ts";
import type { DiskReserve } from "./disk-reserve.ts";
import type { NotePage } from "./extent-writer.ts";
import { FileTable } from "./file-table.ts";
import { Housekeeper } from "./housekeeper.ts";
import { Inodes, blankInode } from "./inodes.ts";
import { S_IFDIR } from "./mode.ts";
import type { FileState } from "./local-copies.ts";
import { Namespace } from "./namespace.ts";
import type { FileSystemOperations, FileSystemStatistics } from "./operations.ts";
import { Relief } from "./relief.ts";
import type { KernelCaches } from "./snapshots/kernel-caches.ts";
import { RoutedOperations, type VirtualShown } from "./snapshots/routed-operations.ts";
import { SnapshotForest } from "./snapshots/snapshot-forest.ts";
import { SnapshotManager } from "./snapshots/snapshot-manager.ts";
import { type PackRoom, SpaceGuard } from "./space-guard.ts";
import { VersionCleaner } from "./versions/version-cleaner.ts";
import { VersionKeeper } from "./versions/version-keeper.ts";
import { VersionManager } from "./versions/version-manager.ts";
import { VersionTree } from "./versions/version-tree.ts";
import { VolumeOperations } from "./volume-operations.ts";
import type { VolumeParts } from "./volume-parts.ts";
import { Xattrs } from "./xattrs.ts";

export interface VolumeOptions {
  readonly metadata: MetadataStore;
  readonly chunks: ChunkStore;
  readonly disk: Disk;
  /** Asked before each commit whether the vault directory is where its user sees it; where it may have been moved. */
  readonly place?: Pick<HeldDirectory, "assertInPlace">;
  readonly clock: Clock;
  /** A bound of packs below the disk's. */
  readonly room?: PackRoom | undefined;
  /** Room put by. Borrowed. */
  readonly reserve?: DiskReserve | undefined;
  /** The vault directory: its disk's room is the volume's. */
  readonly directory: string;
  readonly isReadOnly: boolean;
  readonly accessTimes: AccessTimes;
  readonly snapshotsShown: VirtualShown;
  readonly versionsShown: VirtualShown;
  /** Who owns the root directory of a new volume. */
  readonly owner: { readonly uid: number; readonly gid: number };
  /** A commit ended: with an error, or with none. */
  readonly onCommit: (error: unknown) => void;
  /** The policy of automatic snapshots was kept: with an error, or with none. */
  readonly onPolicy: (error: unknown) => void;
  /** So many versions and deleted files were given up for lack of room. */
  readonly onRelief?: (count: number) => void;
}

export interface VolumeStatistics {
  readonly inodeCount: number;
  /** Bytes that all files' data takes, before deduplication and compression. */
  readonly allocatedBytes: number;
  /** Changed bytes that only memory holds. */
  readonly heldBytes: number;
  readonly dirtyRecordCount: number;
  /** What keeps changes from the disk: for good, or (`TCFS_STORE_FULL`, `TCFS_TOO_MANY_FILES`) for a while. */
  readonly problem: TcfsError | undefined;
}

/** What works on its own while nobody waits. */
interface Background {
  readonly defragmenter: Defragmenter;
  readonly housekeeper: Housekeeper;
}

export class Volume {
  readonly operations: FileSystemOperations;
  readonly snapshots: SnapshotManager;
  readonly versions: VersionManager;
  readonly #live: VolumeOperations;
  readonly #forest: SnapshotForest;
  readonly #parts: VolumeParts;
  readonly #options: VolumeOptions;
  readonly #background: Background;
  readonly #cleaner: VersionCleaner;
  readonly #relief: Relief;
  #isClosed = false;

  private constructor(parts: VolumeParts, background: Background, options: VolumeOptions) {
    const { metadata, chunks, snapshotsShown } = options;
    this.#parts = parts;
    this.#background = background;
    this.#options = options;
    this.#live = new VolumeOperations(parts);
    const statistics = (): MaybePromise<FileSystemStatistics> => this.#live.statistics();
    this.#forest = new SnapshotForest({ metadata, chunks, statistics });
    const { clock, versionsShown, onCommit: onFailure, onPolicy } = options;
    const inTurn = <T>(action: () => Promise<T>): Promise<T> => this.snapshots.inTurn(action);
    this.#cleaner = new VersionCleaner({ parts, clock, inTurn, onFailure });
    this.#relief = new Relief({
      clock,
      lackingBytes: () => parts.space.lackingBytes,
      giveUp: (lackingBytes) => this.#cleaner.relieve(lackingBytes),
      mayCollect: () => background.housekeeper.mayCollect,
      collect: async (refusedBytes) => {
        const { signal } = new AbortController();
        return (await background.housekeeper.collect(signal, refusedBytes)).freedBytes;
      },
      onRelief: (count) => options.onRelief?.(count),
      onFailure,
    });
    parts.versions.onKept = () => {
      this.#cleaner.noteKept();
    };
    this.versions = new VersionManager({ parts, inTurn, cleaner: this.#cleaner });
    const versions = new VersionTree({ metadata, chunks, manager: this.versions, statistics });
    const virtual = { forest: this.#forest, snapshotsShown, versions, versionsShown };
    const operations = new RoutedOperations(this.#live, virtual);
    this.operations = operations;
    const { defragmenter } = background;
    this.snapshots = new SnapshotManager({
      parts,
      defragmenter,
      forest: this.#forest,
      operations,
      onFailure,
      onPolicy,
    });
  }

  /** The mount's kernel: told of what changed without its having asked for it. */
  set kernel(caches: KernelCaches) {
    this.#live.onModeChange = (ino) => caches.forgetAttributes(ino);
    this.snapshots.kernel = caches;
    this.versions.kernel = caches;
  }

  /** Tells where a regular file's contents are, for `user.tcfs.state`. */
  set onStateAsked(stateOf: (ino: InodeNumber) => Promise<FileState | undefined>) {
    this.#live.onStateAsked = stateOf;
  }

  /** Whether a file has changed since the last commit. */
  isDirty(ino: InodeNumber): boolean {
    return this.#parts.files.find(ino)?.isClean === false;
  }

  /** When reads change a file's access time; may change while mounted. */
  set accessTimes(accessTimes: AccessTimes) {
    this.#live.accessTimes = accessTimes;
  }

  /** One snapshot as a filesystem of its own. @throws TcfsError `TCFS_NO_SNAPSHOT` */
  snapshotOperations(name: string): FileSystemOperations {
    return this.#forest.tree(this.snapshots.find(name));
  }

  /** Open the volume; makes the root directory of a new one and clears what a crash left unlinked. */
  static async open(options: VolumeOptions): Promise<Volume> {
    const { metadata, chunks, disk, clock, directory, isReadOnly, accessTimes } = options;
    const files = new FileTable(metadata);
    const inodes = new Inodes({ metadata, files, clock });
    const xattrs = new Xattrs(metadata, inodes);
    const versions = new VersionKeeper({ metadata, files, clock, commit: () => committer.commit() });
    const namespace = new Namespace(metadata, inodes, xattrs, versions);
    const space = await SpaceGuard.open({
      disk,
      clock,
      directory,
      room: options.room,
      reserve: options.reserve,
      heldBytes: () => files.heldBytes,
      onFull: (bytes) => volume.#relief.makeRoom(bytes),
    });
    const onSealed = (): void => {
      committer.releaseRoom();
    };
    const contents = new Contents({ files, metadata, chunks, onSealed });
    const onChange = (): void => {
      committer.noteChange();
    };
    const hasRoom = (): boolean =>
      space.isAmple && !committer.isOverfull && (committer.failure ?? committer.stall) === undefined;
    const defragmenter = new Defragmenter({ files, metadata, contents, clock, hasRoom, onChange });
    const onOutcome = (error: unknown): void => {
      space.noteCommit();
      if (error === undefined) {
        housekeeper.consider();
        volume.snapshots.automatic.keeper.noteCommit();
      }
      if (!space.isAmple && !isReadOnly) volume.#relief.consider();
      options.onCommit(error);
    };
    const notePage: NotePage = (ino, page, extents) => {
      defragmenter.note(ino, page, extents);
    };
    const onFull = (): MaybePromise<boolean> => space.useReserve();
    const { place } = options;
    const committer = new Committer({ files, metadata, chunks, place, clock, onOutcome, onFull, notePage });
    const barrier = async (): Promise<void> => {
      await committer.commit();
    };
    const onFailure = options.onCommit;
    const housekeeper = new Housekeeper({ files, chunks, space, clock, barrier, onFailure });
    const parts = {
      metadata,
      clock,
      files,
      inodes,
      xattrs,
      versions,
      namespace,
      contents,
      committer,
      space,
      isReadOnly,
      accessTimes,
    };
    const volume = new Volume(parts, { defragmenter, housekeeper }, options);
    await volume.#begin();
    return volume;
  }

  /** What a crash left to be done. */
  async #begin(): Promise<void> {
    const { metadata, files, isReadOnly } = this.#parts;
    await this.snapshots.resume();
    files.replay(await metadata.loggedWrites(), metadata);
    if (metadata.getInode(ROOT_INODE) === undefined) this.#makeRoot(this.#options.owner);
    if (isReadOnly) return;
    await this.#clearOrphans();
    await this.#storeReplayed();
    this.snapshots.clearInBackground();
    this.#background.housekeeper.consider();
  }

  /** Without room, or descriptors, it waits for that, in memory and in the log, and the volume is there meanwhile. */
  async #storeReplayed(): Promise<void> {
    try {
      await this.#parts.committer.commit();
    } catch (error) {
      if (!isTcfsError(error, "TCFS_STORE_FULL") && !isTcfsError(error, "TCFS_TOO_MANY_FILES")) throw error;
    }
  }

  #makeRoot(owner: VolumeOptions["owner"]): void {
    const { metadata, clock } = this.#parts;
    const mode = S_IFDIR | 0o755;
    const root = blankInode(ROOT_INODE, metadata.volume.epoch, clock.now(), { mode, ...owner });
    root.linkCount = 2;
    root.parent = ROOT_INODE;
    metadata.putInode(root);
    metadata.volume.inodeCount++;
  }

  /** One that does not verify stays, and takes its room: no reason not to mount, or to lose what others wrote. */
  async #clearOrphans(): Promise<void> {
    const { metadata, inodes } = this.#parts;
    for (const ino of await metadata.listOrphans()) {
      try {
        const inode = metadata.getInode(ino);
        if (inode === undefined) metadata.removeOrphan(ino);
        else inodes.remove(inode);
      } catch (error) {
        if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
      }
    }
  }

  /** Make everything acknowledged so far durable. */
  async syncAll(): Promise<void> {
    if (!this.#parts.isReadOnly) await this.#parts.committer.commit();
  }

  statistics(): VolumeStatistics {
    const { metadata, committer } = this.#parts;
    return {
      inodeCount: metadata.volume.inodeCount,
      allocatedBytes: metadata.volume.allocatedBytes,
      heldBytes: committer.unsavedBytes,
      dirtyRecordCount: metadata.dirtyRecordCount,
      problem: committer.failure ?? committer.stall,
    };
  }

  /** Read and verify all that names lead to, as of now and of every snapshot. */
  async check(signal: AbortSignal, onProgress: CheckOptions["onProgress"] = () => undefined): Promise<CheckReport> {
    await this.syncAll();
    return checkVolume({ metadata: this.#parts.metadata, chunks: this.#options.chunks, signal, onProgress });
  }

  /** Give back the room of chunks that nothing refers to any more. */
  collect(signal: AbortSignal): Promise<CollectionReport> {
    return this.#background.housekeeper.collect(signal);
  }

  /**
   * Store anew what lies in packs of an older key epoch; a collection besides.
   * @returns See {@link ChunkStore.renewPacks}. @throws TcfsError also `TCFS_BUSY` while another collection runs.
   */
  renewPacks(signal: AbortSignal, pause: () => Promise<void>): Promise<number> {
    return this.#options.chunks.renewPacks(() => this.syncAll(), signal, pause);
  }

  /** The kernel is gone: delete what only it referred to, commit, and take no more. Idempotent. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#background.defragmenter.close();
    this.#relief.close();
    await this.snapshots.automatic.keeper.close();
    await this.#cleaner.close();
    await this.snapshots.close();
    await this.#background.housekeeper.close();
    if (this.#parts.isReadOnly) return;
    try {
      if (this.#parts.committer.failure === undefined) await this.#clearOrphans();
    } finally {
      await this.#parts.committer.close();
    }
  }
}
