/** The files that have contents not yet stored. Everything else is read from the stores alone. */
import { corrupt } from "../bytes.ts";
import type { InodeRecord, LoggedWrites } from "../format/records.ts";
import type { InodeNumber } from "../ids.ts";
import { FileData, type PageSource } from "./file-data.ts";
import { MAX_LOGGED_DELETIONS } from "./limits.ts";
import { HeldBytes } from "./overlay.ts";
import { type ReplaySource, WriteLog } from "./write-log.ts";
import { WriteMemory } from "./write-memory.ts";

/** An inode whose contents are to be deleted with the next commit. */
export interface DeletedFile {
  readonly ino: InodeNumber;
  /** First extent page that its contents do not reach. */
  readonly endPage: number;
}

export class FileTable {
  readonly log = new WriteLog();
  readonly #metadata: PageSource;
  readonly #files = new Map<InodeNumber, FileData>();
  readonly #held = new HeldBytes();
  readonly #parts = { memory: new WriteMemory(), held: this.#held, log: this.log };
  #deleted: DeletedFile[] = [];
  #deletedPages = 0;
  #isLiveChanged = false;
  #releasedBytes = 0;

  constructor(metadata: PageSource) {
    this.#metadata = metadata;
  }

  /** Nobody has written for a while: keep no memory ready for it. */
  dropSpareMemory(): void {
    this.#parts.memory.dropSpare();
  }

  /** Changed bytes in memory, frozen ones included. */
  get heldBytes(): number {
    return this.#held.bytes;
  }

  /** Whether anything changed since the last freeze. */
  get isLiveChanged(): boolean {
    return this.#isLiveChanged;
  }

  /** File bytes that went out of use since {@link takeReleasedBytes}: what a collection might give back, at most. */
  get releasedBytes(): number {
    return this.#releasedBytes;
  }

  /** Bytes were overwritten, cut off or deleted. */
  noteReleased(bytes: number): void {
    this.#releasedBytes += bytes;
  }

  /** A collection starts: count from zero again. */
  takeReleasedBytes(): void {
    this.#releasedBytes = 0;
  }

  find(ino: InodeNumber): FileData | undefined {
    return this.#files.get(ino);
  }

  /**
   * The file's data, about to be changed; an entry is made for it if there is none.
   * @throws TcfsError `TCFS_CORRUPT` as {@link requireWrites} does.
   */
  open(inode: InodeRecord): FileData {
    const file = this.#files.get(inode.ino);
    if (file === undefined) requireWrites(inode);
    this.#isLiveChanged = true;
    return file ?? this.#add(inode);
  }

  /** The same for a file that is about to be emptied, put in the same step: it needs no logged writes any more. */
  openToEmpty(inode: InodeRecord): FileData {
    if (!this.#files.has(inode.ino) && inode.loggedCommit > 0) {
      this.log.drop(inode.ino);
      inode.loggedCommit = 0;
    }
    return this.open(inode);
  }

  #add(inode: InodeRecord): FileData {
    const file = new FileData(inode, this.#metadata, this.#parts);
    this.#files.set(inode.ino, file);
    return file;
  }

  /** Lay what the log holds over the files; it is stored by the next commit. */
  replay(writes: readonly LoggedWrites[], metadata: ReplaySource): void {
    if (writes.length === 0) return;
    this.#isLiveChanged = true;
    this.log.replay(writes, metadata, (inode) => this.#files.get(inode.ino) ?? this.#add(inode));
  }

  /**
   * An inode is gone: its changes are dropped, its stored pages go with the next commit.
   * @param endPage - First page that its contents do not reach; undefined: its pages stay, versions share them.
   */
  delete(ino: InodeNumber, endPage: number | undefined): void {
    const file = this.#files.get(ino);
    const isStored = file === undefined || file.mayBeStored || file.frozen !== undefined;
    let lastPage = endPage ?? 0;
    if (file !== undefined) {
      if (endPage !== undefined) lastPage = Math.max(endPage, file.live.cutPages?.to ?? 0);
      file.live.clear();
      file.stream = undefined;
    }
    this.#isLiveChanged = true;
    if (!isStored || lastPage > 0) this.log.drop(ino);
    if (!isStored || lastPage === 0) return;
    this.#deleted.push({ ino, endPage: lastPage });
    this.#deletedPages += lastPage;
    if (this.#deletedPages > MAX_LOGGED_DELETIONS) this.log.refuse();
  }

  /** For a commit that logs: few enough pages to be removed at once, or it would have been refused. */
  takeDeleted(): readonly DeletedFile[] {
    const deleted = this.#deleted;
    this.#deleted = [];
    this.#deletedPages = 0;
    return deleted;
  }

  /** Start a generation. @returns What the commit has to store. */
  freeze(): { readonly files: readonly FileData[]; readonly deleted: readonly DeletedFile[] } {
    const files: FileData[] = [];
    for (const file of this.#files.values()) {
      if (file.live.isEmpty) continue;
      file.freeze();
      files.push(file);
    }
    this.#isLiveChanged = false;
    this.log.restart();
    return { files, deleted: this.takeDeleted() };
  }

  /** The frozen generation is durable. */
  thaw(files: readonly FileData[]): void {
    for (const file of files) {
      file.frozen?.clear();
      file.frozen = undefined;
      file.mayBeStored = true;
    }
    for (const file of this.#files.values()) if (file.isClean) this.#files.delete(file.ino);
  }
}

/** @throws TcfsError `TCFS_CORRUPT` for an inode whose logged writes could not be laid over its stored contents. */
export function requireWrites(inode: InodeRecord): void {
  if (inode.loggedCommit > 0) throw corrupt(`inode ${inode.ino}`, "writes that were logged cannot be read");
}
