/**
 * Small writes are made durable as they are (FORMAT.md §7.15): an fsync logs the bytes written since the last one and
 * seals nothing; the next commit that stores what is in memory gives them chunks and deletes them from the log. Knows
 * which bytes of the live generation the log lacks, and which records it holds.
 */
import { unlessCorrupt } from "../errors.ts";
import type { InodeRecord, LoggedRun, LoggedWrites } from "../format/records.ts";
import type { InodeNumber } from "../ids.ts";
import type { FrozenBatch, MetadataStore } from "../metadata/metadata-store.ts";
import { DataSource, type RunSource, walkRuns } from "./dirty-runs.ts";
import type { FileData } from "./file-data.ts";
import { INLINE_COMMIT_BYTES, MAX_LOGGED_PARTS } from "./limits.ts";

/** Bytes of one page of a file, written and not yet logged. */
interface Part {
  readonly file: FileData;
  readonly page: number;
  start: number;
  end: number;
}

type LogRecord = Pick<LoggedWrites, "ino" | "commit">;

/** Where the records are read that the log is laid over. */
export type ReplaySource = Pick<MetadataStore, "getInode" | "getExtentPage">;

export class WriteLog {
  #parts: Part[] = [];
  #waitingBytes = 0;
  #isBeyond = false;
  readonly #records = new Map<InodeNumber, LogRecord[]>();
  /** To be deleted with the next batch. */
  #obsolete: LogRecord[] = [];
  /** Of files whose inodes, stored pages or logged writes cannot all be read: they stay for a session that can. */
  readonly #unusable = new Map<InodeNumber, LogRecord[]>();
  #loggedBytes = 0;

  /** Bytes written since the last time they were logged; meaningless if more changed than the log takes. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Bytes logged since the last commit that stored everything. */
  get loggedBytes(): number {
    return this.#loggedBytes;
  }

  /** Whether the live generation has changes that only a commit of everything makes durable. */
  get isBeyond(): boolean {
    return this.#isBeyond;
  }

  /** Bytes were written to the live generation; they may be logged as what they are by then. */
  note(file: FileData, page: number, start: number, end: number): void {
    if (this.#isBeyond) return;
    this.#waitingBytes += end - start;
    const last = this.#parts.at(-1);
    if (last?.file === file && last.page === page && last.end === start) last.end = end;
    else this.#parts.push({ file, page, start, end });
    if (this.#waitingBytes > INLINE_COMMIT_BYTES || this.#parts.length > MAX_LOGGED_PARTS) this.refuse();
  }

  /** Something else changed, or too much. */
  refuse(): void {
    this.#isBeyond = true;
    this.#parts = [];
  }

  /** A file needs nothing of what the log holds of it: so that is gone with the next batch. */
  drop(ino: InodeNumber): void {
    this.#parts = this.#parts.filter(({ file, start, end }) => {
      if (file.ino === ino) this.#waitingBytes -= end - start;
      return file.ino !== ino;
    });
    for (const records of [this.#records, this.#unusable]) {
      this.#obsolete.push(...(records.get(ino) ?? []));
      records.delete(ino);
    }
  }

  /**
   * What the log lacks, file by file. The bytes are borrowed: what is written to the files next changes them.
   * @returns undefined where only a commit of everything can make it durable.
   */
  collect(): ReadonlyMap<InodeNumber, readonly LoggedRun[]> | undefined {
    if (this.#isBeyond) return undefined;
    const files = new Map<InodeNumber, LoggedRun[]>();
    for (const part of this.#parts) {
      const held = heldRuns(part);
      if (held === undefined) return undefined;
      const { ino } = part.file;
      const runs = files.get(ino);
      if (runs === undefined) files.set(ino, held);
      else runs.push(...held);
    }
    return files;
  }

  /** Put what {@link collect} gave into a batch. If the batch fails, the same one has to be committed again first. */
  put(files: ReadonlyMap<InodeNumber, readonly LoggedRun[]>, batch: FrozenBatch): void {
    for (const [ino, runs] of files) {
      if (this.#unusable.has(ino)) this.drop(ino); // the file has been replaced as a whole since
      const previousCommit = this.#records.get(ino)?.at(-1)?.commit ?? 0;
      remember(this.#records, { ino, commit: batch.putLoggedWrites(ino, { previousCommit, runs }) });
    }
    this.#deleteObsolete(batch);
    this.#loggedBytes += this.#waitingBytes;
    this.#waitingBytes = 0;
    this.#parts = [];
  }

  /** The live generation is frozen and its commit stores it: nothing of it is to be logged any more. */
  restart(): void {
    this.#parts = [];
    this.#waitingBytes = 0;
    this.#loggedBytes = 0;
    this.#isBeyond = false;
  }

  /** The files that have logged writes. */
  get inodes(): IterableIterator<InodeNumber> {
    return this.#records.keys();
  }

  /** The inode cannot be read, and goes on to say that it has logged writes: so they stay. */
  keep(ino: InodeNumber): void {
    for (const record of this.#records.get(ino) ?? []) remember(this.#unusable, record);
    this.#records.delete(ino);
  }

  /** Put the deletion of everything logged into the batch that stores it. */
  clear(batch: FrozenBatch): void {
    this.#deleteObsolete(batch);
    for (const records of this.#records.values()) deleteFrom(batch, records);
    this.#records.clear();
  }

  #deleteObsolete(batch: FrozenBatch): void {
    deleteFrom(batch, this.#obsolete);
    this.#obsolete = [];
  }

  /**
   * Lay the logged writes that a crash left over their files, as they were before it. A file of which not all can be
   * read, or not what lies below, stays as it is: its inode says that writes are missing.
   * @param open - Gives the file of an inode whose logged writes are all there.
   */
  replay(writes: readonly LoggedWrites[], metadata: ReplaySource, open: (inode: InodeRecord) => FileData): void {
    for (const [ino, records] of byInode(writes)) {
      const inode = unlessCorrupt(() => metadata.getInode(ino) ?? null);
      const needed = inode && neededOf(inode, records, metadata);
      for (const { commit, content } of records) {
        if (needed === undefined) remember(this.#unusable, { ino, commit });
        else if (inode && content && needed?.has(commit) === true) {
          const file = open(inode);
          for (const { page, start, bytes } of content.runs) file.write(page, start, bytes);
          remember(this.#records, { ino, commit });
        } else this.#obsolete.push({ ino, commit });
      }
    }
    this.restart();
  }
}

/** @returns undefined where not all of it is in memory. */
function heldRuns({ file, page, start, end }: Part): LoggedRun[] | undefined {
  const runs: LoggedRun[] = [];
  let heldBytes = 0;
  const take = (from: number, to: number, source: RunSource, sourceOffset: number): void => {
    if (!(source instanceof DataSource)) return;
    runs.push({ page, start: from, bytes: source.bytes.subarray(sourceOffset, sourceOffset + (to - from)) });
    heldBytes += to - from;
  };
  walkRuns(file.live.pages.get(page), start, end, take, () => undefined);
  return heldBytes === end - start ? runs : undefined;
}

/** @param writes - In the order of inodes, then of commits. */
function byInode(writes: readonly LoggedWrites[]): Map<InodeNumber, LoggedWrites[]> {
  const files = new Map<InodeNumber, LoggedWrites[]>();
  for (const record of writes) remember(files, record);
  return files;
}

/**
 * @returns The commits that the inode needs, each of which names the one before; undefined where one of them is missing
 *   or cannot be read, or a page below: that must cost its file, not the commit that is to store it.
 */
function neededOf(
  { ino, loggedCommit }: InodeRecord,
  records: readonly LoggedWrites[],
  metadata: ReplaySource,
): ReadonlySet<number> | undefined {
  const needed = new Set<number>();
  let wanted = loggedCommit;
  for (const { commit, content } of records.toReversed()) {
    if (commit !== wanted) continue;
    const isReadable = ({ page }: LoggedRun): boolean =>
      unlessCorrupt(() => metadata.getExtentPage(ino, page)) !== undefined;
    if (content?.runs.every(isReadable) !== true) return undefined;
    needed.add(commit);
    wanted = content.previousCommit;
  }
  return wanted === 0 ? needed : undefined;
}

function remember<T extends LogRecord>(records: Map<InodeNumber, T[]>, record: T): void {
  const ofFile = records.get(record.ino);
  if (ofFile === undefined) records.set(record.ino, [record]);
  else ofFile.push(record);
}

function deleteFrom(batch: FrozenBatch, records: readonly LogRecord[]): void {
  for (const { ino, commit } of records) batch.deleteLoggedWrites(ino, commit);
}
