/**
 * The journal: what commits changed, on the device, until the database holds it too (FORMAT.md §7.14). Two files of
 * fixed length, written through from their start, one after the other: a record costs one write into blocks that exist
 * and one flush, with no change of the file's own metadata. A file is written anew once the database holds all of it.
 */
import { join } from "node:path";
import { corrupt } from "../bytes.ts";
import { RECORD_OVERHEAD_BYTES, type RecordCipher } from "../crypto/engine.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import {
  JOURNAL_BLOCK_BYTES,
  JOURNAL_HEADER_BYTES,
  type RecordChange,
  decodeChanges,
  frameJournalRecord,
  journalKey,
  journalRecordBytes,
  parseJournalHeader,
} from "../format/journal-codec.ts";
import type { MaybePromise } from "../maybe-promise.ts";
import type { Clock } from "../platform/clock.ts";
import { DevicePace } from "../platform/device-pace.ts";
import type { Disk, DurableFile } from "../platform/disk.ts";

const MIB = 1024 * 1024;
export const JOURNAL_FILE_BYTES = 4 * MIB;
const FILE_NAMES = ["0", "1"] as const;
/** Their indexes. */
export const JOURNAL_FILES = [...FILE_NAMES.keys()];
const MOST_RECORDS = (FILE_NAMES.length * JOURNAL_FILE_BYTES) / JOURNAL_BLOCK_BYTES;

/** One commit that the database may lack. */
export interface JournaledCommit {
  readonly commit: number;
  readonly changes: readonly RecordChange[];
}

export interface JournalOptions {
  readonly disk: Disk;
  readonly directory: string;
  readonly records: RecordCipher;
  readonly clock: Clock;
}

interface JournalFile {
  readonly file: DurableFile;
  endOffset: number;
  /** The newest commit in it; 0: none that matters. */
  lastCommit: number;
}

interface FoundRecord {
  readonly file: number;
  readonly commit: number;
  readonly offset: number;
  readonly endOffset: number;
  /** Undefined: it does not verify. */
  readonly changes: readonly RecordChange[] | undefined;
}

export class Journal {
  readonly #records: RecordCipher;
  readonly #files: readonly JournalFile[];
  readonly #pace: DevicePace;
  /** Lent to one write at a time. */
  #buffer = new Uint8Array(16 * JOURNAL_BLOCK_BYTES);
  #active: number;
  /** The database holds everything up to and with this commit. */
  #storedCommit: number;
  /** The last write: some of it may stand in the file. */
  #hasFailed = false;

  private constructor(options: JournalOptions, files: readonly JournalFile[], active: number, storedCommit: number) {
    this.#records = options.records;
    this.#pace = new DevicePace(options.clock);
    this.#files = files;
    this.#active = active;
    this.#storedCommit = storedCommit;
  }

  /** Make the files of a new vault, durably, unless they are there: what an interrupted start left is made anew. */
  static async create({ disk, directory }: Pick<JournalOptions, "disk" | "directory">): Promise<void> {
    await disk.makeDirectory(directory);
    const present = await disk.list(directory);
    for (const name of FILE_NAMES) {
      const path = join(directory, name);
      if (present.includes(name)) {
        if (await isWhole(disk, path)) continue;
        await disk.remove(path);
      }
      await createFile(disk, path);
    }
    await disk.syncDirectory(directory);
    await disk.syncDirectory(join(directory, ".."));
  }

  /**
   * @param storedCommit - The last commit that the database holds.
   * @returns The journal, and the commits after it, in order, without a gap; all of them on the device.
   * @throws TcfsError `TCFS_CORRUPT` where a commit is missing before others, or a file; `TCFS_STORE_FULL`, `TCFS_IO`
   */
  static async open(
    options: JournalOptions & { readonly storedCommit: number; readonly onTornTail: (sentence: string) => void },
  ): Promise<{ readonly journal: Journal; readonly commits: readonly JournaledCommit[] }> {
    const { storedCommit } = options;
    const files: JournalFile[] = [];
    try {
      const found: FoundRecord[] = [];
      const contents: Uint8Array[] = [];
      for (const [index, name] of FILE_NAMES.entries()) {
        const file = await openFile(options, name);
        files.push({ file, endOffset: 0, lastCommit: 0 });
        const content = await readWhole(file);
        contents.push(content);
        found.push(...scan(content, index, storedCommit, options.records));
      }
      const commits = inSequence(found, storedCommit, options.onTornTail);
      let active = 0;
      for (const { file: index, commit, endOffset } of commits) {
        const file = files[index];
        if (file === undefined) continue;
        file.endOffset = endOffset;
        file.lastCommit = commit;
        active = index;
      }
      await flushLast(files, contents, commits);
      return { journal: new Journal(options, files, active, storedCommit), commits };
    } catch (error) {
      await Promise.all(files.map(({ file }) => file.close()));
      throw error;
    }
  }

  /**
   * Whether a record of these changes has a place, perhaps in the other file.
   * @param plainBytes - Length of what {@link append} will get.
   */
  hasRoom(plainBytes: number): boolean {
    return this.#fits(plainBytes) || this.#turn();
  }

  /**
   * Write one commit's encoded changes, after {@link hasRoom} said yes; one at a time. On the device when this returns, or the promise
   * resolves. After a failure the same commit can be written again.
   * @throws TcfsError `TCFS_STORE_FULL`, `TCFS_IO`
   */
  append(commit: number, plain: Uint8Array): MaybePromise<void> {
    const active = this.#files[this.#active];
    if (active === undefined) throw new RangeError("there is no such journal file");
    const sealedBytes = plain.length + RECORD_OVERHEAD_BYTES;
    const needed = journalRecordBytes(sealedBytes);
    if (needed > this.#buffer.length) this.#buffer = new Uint8Array(needed);
    this.#records.sealInto({ key: journalKey(commit), value: plain }, this.#buffer.subarray(JOURNAL_HEADER_BYTES));
    const record = frameJournalRecord(commit, sealedBytes, this.#buffer);
    this.#hasFailed = true;
    const done = (): void => {
      active.endOffset += record.length;
      active.lastCommit = commit;
      this.#hasFailed = false;
    };
    const { file, endOffset } = active;
    if (!this.#pace.admits()) return file.write([record], endOffset).then(done);
    this.#pace.measure(() => {
      file.writeSync(record, endOffset);
    });
    done();
  }

  /** The database holds everything up to and with `commit`. */
  noteStored(commit: number): void {
    this.#storedCommit = commit;
  }

  /**
   * Overwrite one file with zeros, durably, and write to the other meanwhile. While no record is being written; on the
   * calling thread, some milliseconds.
   * @param index - 0 or 1.
   * @returns False if that does not go yet: the database lacks what a file holds, or a record that failed must be tried
   *   again where it was (FORMAT.md §7.14).
   * @throws TcfsError `TCFS_IO`
   */
  clear(index: number): boolean {
    if (this.#active === index && (this.#hasFailed || !this.#turn())) return false;
    const file = this.#files[index];
    if (file === undefined || file.lastCommit > this.#storedCommit) return false;
    file.file.writeSync(new Uint8Array(JOURNAL_FILE_BYTES), 0);
    file.lastCommit = 0;
    return true;
  }

  async close(): Promise<void> {
    await Promise.all(this.#files.map(({ file }) => file.close()));
  }

  #fits(plainBytes: number): boolean {
    const active = this.#files[this.#active];
    const recordBytes = journalRecordBytes(plainBytes + RECORD_OVERHEAD_BYTES);
    return active !== undefined && active.endOffset + recordBytes <= JOURNAL_FILE_BYTES;
  }

  /** Go on in the other file, if the database holds all of it. */
  #turn(): boolean {
    const next = 1 - this.#active;
    const file = this.#files[next];
    if (file === undefined || file.lastCommit > this.#storedCommit) return false;
    file.endOffset = 0;
    this.#active = next;
    return true;
  }

  /** Whether the file not written to holds commits that the database lacks: time to bring it up to date. */
  get isOtherWaiting(): boolean {
    return (this.#files[1 - this.#active]?.lastCommit ?? 0) > this.#storedCommit;
  }
}

async function isWhole(disk: Disk, path: string): Promise<boolean> {
  const file = await disk.openDurable(path);
  try {
    return (await file.length()) === JOURNAL_FILE_BYTES;
  } finally {
    await file.close();
  }
}

/** Blocks that exist and hold zeros: writing over them changes nothing but them. */
async function createFile(disk: Disk, path: string): Promise<void> {
  const file = await disk.create(path);
  try {
    await file.write([new Uint8Array(JOURNAL_FILE_BYTES)], 0);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function openFile({ disk, directory }: JournalOptions, name: string): Promise<DurableFile> {
  const file = await disk.openDurable(join(directory, name)).catch((error: unknown) => {
    if (!isTcfsError(error, "TCFS_NO_ENTRY")) throw error;
    throw corrupt("journal", `file ${name} is missing`, { cause: error });
  });
  const lengthBytes = await file.length();
  if (lengthBytes === JOURNAL_FILE_BYTES) return file;
  await file.close();
  throw corrupt("journal", `file ${name} has ${lengthBytes} bytes, not ${JOURNAL_FILE_BYTES}`);
}

async function readWhole(file: DurableFile): Promise<Uint8Array> {
  const content = new Uint8Array(JOURNAL_FILE_BYTES);
  const filled = await file.readInto(content, 0);
  if (filled < content.length) throw new TcfsError("TCFS_IO", "a journal file ended while it was read");
  return content;
}

/** Every record of a commit after `storedCommit`: at any block, since one that is damaged does not say where the next is. */
function scan(content: Uint8Array, file: number, storedCommit: number, records: RecordCipher): FoundRecord[] {
  const found: FoundRecord[] = [];
  let offset = 0;
  while (offset < content.length) {
    const header = parseJournalHeader(content, offset);
    let recordBytes = JOURNAL_BLOCK_BYTES;
    if (header !== undefined && header.commit > storedCommit) {
      const { commit, lengthBytes } = header;
      const start = offset + JOURNAL_HEADER_BYTES;
      const changes = open(commit, content.subarray(start, start + lengthBytes), records);
      if (changes !== undefined) recordBytes = journalRecordBytes(lengthBytes);
      found.push({ file, commit, offset, endOffset: offset + recordBytes, changes });
    }
    offset += recordBytes;
  }
  return found;
}

function open(commit: number, sealed: Uint8Array, records: RecordCipher): RecordChange[] | undefined {
  try {
    return decodeChanges(records.unseal(journalKey(commit), sealed));
  } catch (error) {
    if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
    return undefined;
  }
}

type WholeRecord = FoundRecord & JournaledCommit;

/** @throws TcfsError `TCFS_CORRUPT` where a commit is missing before another. */
function inSequence(
  found: readonly FoundRecord[],
  storedCommit: number,
  onTornTail: (sentence: string) => void,
): WholeRecord[] {
  const whole = found.filter((record): record is WholeRecord => record.changes !== undefined);
  whole.sort((left, right) => left.commit - right.commit || right.offset - left.offset);
  const sequence: WholeRecord[] = [];
  let last = storedCommit;
  for (const record of whole) {
    const { commit } = record;
    if (isWrittenAgain(sequence.at(-1), record)) sequence.pop();
    else if (commit !== last + 1) throw outOfOrder(commit, last);
    sequence.push(record);
    last = commit;
  }
  /* The next one is begun only once its predecessor is durable: a later header tells of a lost commit, whole or not. */
  const isFollowed = found.some(({ commit }) => commit > last + 1 && commit <= last + MOST_RECORDS);
  if (isFollowed) throw outOfOrder(last + 2, last);
  if (found.some(({ commit }) => commit === last + 1)) {
    onTornTail(`commit ${last + 1} was not complete in the journal and is left out`);
  }
  return sequence;
}

/** A failed write may leave a whole record. The same commit, tried again with more in it, then begins the other file. */
function isWrittenAgain(earlier: WholeRecord | undefined, record: WholeRecord): boolean {
  if (earlier?.commit !== record.commit || earlier.file === record.file) return false;
  return earlier.offset > 0 && record.offset === 0;
}

function outOfOrder(commit: number, last: number): TcfsError {
  if (commit <= last) return corrupt("journal", `commit ${commit} stands in it twice`);
  return corrupt("journal", `commit ${last + 1} does not verify, and later ones follow`);
}

/**
 * The last record may be in the page cache alone, where a process was killed while it wrote, or a flush failed. Those
 * before it are on the device: each was, before the next was begun.
 */
async function flushLast(
  files: readonly JournalFile[],
  contents: readonly Uint8Array[],
  commits: readonly WholeRecord[],
): Promise<void> {
  const last = commits.at(-1);
  if (last === undefined) return;
  const record = contents[last.file]?.subarray(last.offset, last.endOffset) ?? new Uint8Array(0);
  await files[last.file]?.file.write([record], last.offset);
}
