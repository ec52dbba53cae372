/**
 * The metadata database as the store sees it: a commit is durable once the journal has it, which is one quick write;
 * the database follows in larger batches, in the background, so that a record which many commits change is stored once.
 * What the database lacks is held in memory and laid over every read. Large commits go to the database at once.
 *
 * Order: a commit's record in the journal, flushed; then it counts. The database's volume record, written last, tells up
 * to which commit it is whole, and only then may the journal write over these commits. After a crash the journal's later
 * commits are laid over the database again.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { corrupt } from "../bytes.ts";
import type { RecordCipher } from "../crypto/engine.ts";
import { TcfsError, unlessCorrupt } from "../errors.ts";
import { decodeVolume } from "../format/inode-codec.ts";
import { type RecordChange, changesBytes, encodeChanges } from "../format/journal-codec.ts";
import { type KeyRange, singleKey } from "../format/record-keys.ts";
import { type MaybePromise, andThen, isPromise, settled } from "../maybe-promise.ts";
import type { Clock } from "../platform/clock.ts";
import type { Disk } from "../platform/disk.ts";
import { Database, type DatabaseOptions, type ScanVisitor, type SealedChange, type StoredEntry } from "./database.ts";
import { JOURNAL_FILES, Journal } from "./journal.ts";
import type { KnownDamage } from "./known-damage.ts";
import { PendingRecords, type WalkOverlay } from "./pending-records.ts";
import { RecordRenewal } from "./record-renewal.ts";
import { SortedReader } from "./sorted-reader.ts";

/** Pending records that a walk is laid under without storing them first. */
const OVERLAID_RECORDS = 4096;
/** With more pending records the database follows at once: small ones take far more memory than room in the journal. */
const MAX_PENDING_RECORDS = 24_576;
/** One batch of the database while it follows; the requests between two of them do not wait for more. */
const FOLLOWING_BATCH_RECORDS = 256;
/** Each waits for what is under way. */
const CLEARING_ATTEMPTS = 1000;

export interface JournaledDatabaseOptions extends DatabaseOptions {
  readonly records: RecordCipher;
  readonly disk: Disk;
  /** Of the journal's files. */
  readonly journalDirectory: string;
  readonly clock: Clock;
  /** Nothing is written: what the database lacks stays in memory and in the journal. */
  readonly isReadOnly: boolean;
  /** A commit with more goes past the journal: it is worth a batch of its own. */
  readonly journaledBytes: number;
  /**
   * The database could not follow: it tries again with a later commit, and the journal holds what it lacks. Without an
   * error: it is up to date again.
   */
  readonly onLag: (error: unknown) => void;
  /** Told of each durable commit, in order. Changes are lent for the call. */
  readonly onStored?: ((commit: number, changes: readonly RecordChange[]) => void) | undefined;
}

export class JournaledDatabase {
  readonly #database: Database;
  readonly #records: RecordCipher;
  readonly #journal: Journal;
  readonly #onLag: (error: unknown) => void;
  readonly #onStored: JournaledDatabaseOptions["onStored"];
  readonly #journaledBytes: number;
  readonly #isReadOnly: boolean;
  readonly #pending = new PendingRecords();
  /** The newest commit of the pending records. */
  #pendingCommit = 0;
  #following: Promise<void> | undefined;
  #isLagging = false;
  /** The write in flight, or the last one. Never rejects. */
  #writing: Promise<void> | undefined;
  #writesBegun = 0;
  #writesEnded = 0;
  #isClosed = false;
  /** Writes to the database one after another: what one of them reads first is what there is when it writes. */
  #line: Promise<unknown> = Promise.resolve();
  /** For the end of a key epoch. */
  readonly renewal: RecordRenewal;

  private constructor(database: Database, journal: Journal, options: JournaledDatabaseOptions) {
    this.#database = database;
    this.#journal = journal;
    this.#records = options.records;
    this.#onLag = options.onLag;
    this.#onStored = options.onStored;
    this.#journaledBytes = options.journaledBytes;
    this.#isReadOnly = options.isReadOnly;
    this.renewal = new RecordRenewal(database, options.records, (action) => this.#inLine(action));
  }

  /** @throws TcfsError `TCFS_VAULT_IN_USE`, `TCFS_CORRUPT`, `TCFS_STORE_FULL`, `TCFS_IO` */
  static async open(options: JournaledDatabaseOptions): Promise<JournaledDatabase> {
    const { disk, journalDirectory: directory, records, clock } = options;
    const database = await Database.open(options);
    try {
      const storedCommit = readStoredCommit(database, records);
      if (storedCommit === undefined && options.createIfMissing) await Journal.create({ disk, directory });
      const { journal, commits } = await Journal.open({
        disk,
        directory,
        records,
        clock,
        storedCommit: storedCommit ?? 0,
        onTornTail: options.onTornLog,
      });
      const opened = new JournaledDatabase(database, journal, options);
      for (const { commit, changes } of commits) opened.#add(commit, changes);
      return opened;
    } catch (error) {
      await database.close();
      throw error;
    }
  }

  /** What is known to be damaged; {@link find} asks by itself. */
  get damage(): KnownDamage {
    return this.#database.damage;
  }

  /** Set while the database is closed and opened again; {@link find} throws meanwhile. Never rejects. */
  get reopening(): Promise<void> | undefined {
    return this.#database.reopening;
  }

  /**
   * @returns The record, fresh or kept by nobody; undefined if there is none.
   * @throws TcfsError `TCFS_IO` (also while reopening), `TCFS_CORRUPT`, `TCFS_CLOSED`
   */
  find(key: Uint8Array): StoredEntry | undefined {
    const pending = this.#pending.find(key);
    if (pending !== undefined) return pending.value && [key, pending.value, true];
    const sealed = readIntact(this.#database, key);
    return sealed && [key, sealed];
  }

  /**
   * All or nothing, on the device when this returns or the promise resolves; one at a time. After a failure the same
   * commit can be written again, and must be before any other.
   * @param commit - One more than the last.
   * @param changes - In plaintext, the volume record among them. Values are lent until settled, keys are kept.
   * @throws TcfsError `TCFS_STORE_FULL`, `TCFS_IO`, `TCFS_CLOSED`
   */
  write(commit: number, changes: readonly RecordChange[]): MaybePromise<void> {
    if (this.#isClosed) throw new TcfsError("TCFS_CLOSED", "the metadata database is closed");
    if (this.#isReadOnly) throw new RangeError("a commit to a database that is open read-only");
    this.#writesBegun++;
    const ended = (): void => {
      this.#writesEnded++;
    };
    const stored = (): void => {
      ended();
      this.#onStored?.(commit, changes);
    };
    const written = settled(
      () => this.#write(commit, changes),
      stored,
      (error) => {
        ended();
        throw error;
      },
    );
    if (isPromise(written)) this.#writing = written.catch(() => undefined);
    return written;
  }

  /** @returns A function that says whether the records are still those of this moment. */
  watch(): () => boolean {
    const begun = this.#writesBegun;
    const isAtRest = begun === this.#writesEnded;
    return () => isAtRest && begun === this.#writesBegun;
  }

  #write(commit: number, changes: readonly RecordChange[]): MaybePromise<void> {
    const plainBytes = changesBytes(changes);
    if (plainBytes > this.#journaledBytes) return this.#writeThrough(commit, changes);
    if (this.#journal.hasRoom(plainBytes)) return this.#append(commit, changes, plainBytes);
    return this.#catchUp().then(() => {
      if (!this.#journal.hasRoom(plainBytes)) throw new RangeError("the journal has no room for what it should take");
      return this.#append(commit, changes, plainBytes);
    });
  }

  /** As {@link Database.scan}, with what the database lacks. */
  async scan(range: KeyRange, options: { readonly values: boolean }, visitor: ScanVisitor): Promise<void> {
    await this.lighten();
    let overlay: WalkOverlay | undefined;
    const merging: ScanVisitor = {
      begin: () => {
        overlay = this.#pending.over(range);
        visitor.begin();
      },
      visit: (entries) => {
        visitor.visit(overlay?.merge(entries) ?? entries);
      },
    };
    await this.#database.scan(range, options, merging);
    if (overlay !== undefined) visitor.visit(overlay.rest());
  }

  /** As {@link Database.walk}, with what the database lacks at this moment. */
  walk(range: KeyRange, batchEntries?: number): AsyncIterable<readonly StoredEntry[]> {
    const overlay = this.#pending.over(range);
    const entries = this.#database.walk(range, batchEntries);
    return (async function* merged() {
      for await (const batch of entries) yield overlay.merge(batch);
      yield overlay.rest();
    })();
  }

  /** For many small ranges of one, in ascending order; shows this moment. */
  readSorted(range: KeyRange): SortedReader {
    const overlay = this.#pending.over(range);
    return new SortedReader(this.#database.seekable(range), overlay);
  }

  /** Every walk looks through all that is pending: before many of them, store what is much. */
  async lighten(): Promise<void> {
    if (this.#pending.count <= OVERLAID_RECORDS || this.#isReadOnly) return;
    await this.#follow().catch(() => undefined); // told to onLag
  }

  /**
   * Leave nothing of what was written before: the database holds every commit, the journal's files are zeros but for
   * commits that came since, tables hold no overwritten value. Others go on writing.
   * @throws TcfsError `TCFS_BUSY` while commits fail; `TCFS_STORE_FULL`, `TCFS_IO`, `TCFS_CLOSED`
   */
  async clearPast(): Promise<void> {
    for (const file of JOURNAL_FILES) await this.#clearJournal(file);
    await this.#database.compact();
  }

  async #clearJournal(file: number): Promise<void> {
    for (let attempt = 0; attempt < CLEARING_ATTEMPTS; attempt++) {
      await this.#follow();
      await this.#writing;
      if (this.#writesBegun === this.#writesEnded && this.#journal.clear(file)) return;
      await nextTurn();
    }
    throw new TcfsError("TCFS_BUSY", "the journal cannot be cleared while commits fail");
  }

  /** Bring the database up to date where that can be done, and let go. Idempotent; waits for a write in flight. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#writing;
    if (!this.#isReadOnly) await this.#catchUp().catch(() => undefined); // told to onLag; the journal holds it
    await this.#journal.close();
    await this.#database.close();
  }

  #append(commit: number, changes: readonly RecordChange[], plainBytes: number): MaybePromise<void> {
    const encoded = encodeChanges(changes, plainBytes);
    return andThen(this.#journal.append(commit, encoded.plain), () => {
      this.#add(commit, encoded.changes);
      if (this.#journal.isOtherWaiting || this.#pending.count > MAX_PENDING_RECORDS)
        this.#follow().catch(() => undefined); // told to onLag
    });
  }

  #add(commit: number, changes: readonly RecordChange[]): void {
    this.#pending.add(changes);
    this.#pendingCommit = commit;
  }

  async #writeThrough(commit: number, changes: readonly RecordChange[]): Promise<void> {
    await this.#catchUp();
    await this.#inLine(() => this.#database.write(sealChanges(this.#records, changes)));
    this.#journal.noteStored(commit);
  }

  /** Bring the database up to the last commit, while none is written: what is under way may have begun before it. */
  async #catchUp(): Promise<void> {
    while (!this.#pending.isEmpty) await this.#follow();
  }

  /** Bring the database up to the present commit. Runs once at a time: who comes later gets what began earlier. */
  #follow(): Promise<void> {
    this.#following ??= this.#storePending()
      .then(
        () => {
          if (this.#isLagging) this.#onLag(undefined);
          this.#isLagging = false;
        },
        (error: unknown) => {
          this.#isLagging = true;
          this.#onLag(error);
          throw error;
        },
      )
      .finally(() => {
        this.#following = undefined;
      });
    return this.#following;
  }

  #inLine<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.#line.then(action);
    this.#line = turn.catch(() => undefined); // told to whoever asked for it
    return turn;
  }

  /** In several batches: until the last one, with the volume record, the journal holds all of it. */
  async #storePending(): Promise<void> {
    if (this.#pending.isEmpty) return;
    const commit = this.#pendingCommit;
    const changes = volumeLast(this.#pending.leave());
    for (let from = 0; from < changes.length; from += FOLLOWING_BATCH_RECORDS) {
      const batch = changes.slice(from, from + FOLLOWING_BATCH_RECORDS);
      await this.#inLine(() => this.#database.write(sealChanges(this.#records, batch)));
    }
    this.#pending.left();
    this.#journal.noteStored(commit);
  }
}

/** Changes as {@link Database.write} takes them. */
export function sealChanges(records: RecordCipher, changes: readonly RecordChange[]): SealedChange[] {
  const sealed = records.seal(changes.filter(hasValue));
  let next = 0;
  return changes.map(({ key, value }) => ({ key, sealed: value === undefined ? undefined : sealed[next++] }));
}

/** @throws TcfsError `TCFS_CORRUPT` if the record lies where the database is damaged, and what {@link Database.get} throws. */
function readIntact(database: Database, key: Uint8Array): Uint8Array | undefined {
  const sealed = database.get(key);
  const damage = database.damage.ofRecord(key, sealed !== undefined);
  if (damage !== undefined) throw damage;
  return sealed;
}

function readStoredCommit(database: Database, records: RecordCipher): number | undefined {
  const key = singleKey("volume");
  const sealed = readIntact(database, key);
  if (sealed === undefined) return undefined;
  const value = unlessCorrupt(() => records.unseal(key, sealed));
  if (value !== undefined) return decodeVolume(value).commit;
  const why = "it is damaged, or vault.json is from before a rotation of the key";
  throw corrupt("volume record", `it does not open with the vault's key: ${why} (see vault.json.bak)`);
}

function volumeLast(changes: readonly RecordChange[]): RecordChange[] {
  const [kind] = singleKey("volume");
  const isVolume = ({ key }: RecordChange): boolean => key[0] === kind;
  return [...changes.filter((change) => !isVolume(change)), ...changes.filter(isVolume)];
}

function hasValue(change: RecordChange): change is RecordChange & { readonly value: Uint8Array } {
  return change.value !== undefined;
}
