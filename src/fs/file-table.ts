/** The files that have uncommitted contents. Everything else is read from the stores alone. */
import type { InodeRecord } from "../format/records.ts";
import type { InodeNumber } from "../ids.ts";
import { FileData, type PageSource } from "./file-data.ts";
import { HeldBytes } from "./overlay.ts";
import { WriteMemory } from "./write-memory.ts";

/** An inode whose contents are to be deleted with the next commit. */
export interface DeletedFile {
  readonly ino: InodeNumber;
  /** First extent page that its contents do not reach. */
  readonly endPage: number;
}

export class FileTable {
  readonly #metadata: PageSource;
  readonly #files = new Map<InodeNumber, FileData>();
  readonly #memory = new WriteMemory();
  readonly #held = new HeldBytes();
  #deleted: DeletedFile[] = [];
  #isLiveChanged = false;
  #releasedBytes = 0;

  constructor(metadata: PageSource) {
    this.#metadata = metadata;
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

  /** The file's data, about to be changed; an entry is made for it if there is none. */
  open(inode: InodeRecord): FileData {
    this.#isLiveChanged = true;
    let file = this.#files.get(inode.ino);
    if (file === undefined) {
      file = new FileData(inode, this.#metadata, this.#memory, this.#held);
      this.#files.set(inode.ino, file);
    }
    return file;
  }

  /** An inode is gone: its changes are dropped, its stored pages go with the next commit. */
  delete(ino: InodeNumber, endPage: number): void {
    const file = this.#files.get(ino);
    let lastPage = endPage;
    if (file !== undefined) {
      lastPage = Math.max(endPage, file.live.cutPages?.to ?? 0);
      file.live.clear();
      file.stream = undefined;
    }
    this.#isLiveChanged = true;
    if (lastPage > 0) this.#deleted.push({ ino, endPage: lastPage });
  }

  /** Start a generation. @returns What the commit has to store. */
  freeze(): { readonly files: readonly FileData[]; readonly deleted: readonly DeletedFile[] } {
    const files: FileData[] = [];
    for (const file of this.#files.values()) {
      if (file.live.isEmpty) continue;
      file.freeze();
      files.push(file);
    }
    const deleted = this.#deleted;
    this.#deleted = [];
    this.#isLiveChanged = false;
    return { files, deleted };
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
