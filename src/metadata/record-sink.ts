/**
 * A metadata database made from records that come from elsewhere: whole only with its volume record, which is written last.
 * Records in ascending order become LevelDB's tables at once, as many as there are; from the first one on that is not,
 * batches of LevelDB. One piece is sealed on the thread pool while the one before it is written.
 */
import { mkdir } from "node:fs/promises";
import { copyOf, corrupt } from "../bytes.ts";
import type { RecordCipher } from "../crypto/engine.ts";
import { decodeVolume } from "../format/inode-codec.ts";
import { ChangeCursor } from "../format/journal-codec.ts";
import { singleKey } from "../format/record-keys.ts";
import type { VolumeRecord } from "../format/records.ts";
import type { Disk } from "../platform/disk.ts";
import { Database, type SealedChange, openLevel } from "./database.ts";
import { FirstTables } from "./first-tables.ts";
import { Journal } from "./journal.ts";
import { sealChanges } from "./journaled-database.ts";

/** One flushed batch. */
const BATCH_RECORDS = 4096;

export interface RecordSinkOptions {
  /** Absolute path of the LevelDB directory, which must not be there. */
  readonly directory: string;
  readonly journalDirectory: string;
  readonly disk: Disk;
  readonly records: RecordCipher;
}

export class RecordSink implements AsyncDisposable {
  readonly #options: RecordSinkOptions;
  readonly #tables: FirstTables;
  #database: Database | undefined;
  #volume: Uint8Array | undefined;
  /** All that was put, in order. Never unhandled: whoever goes on awaits it. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(options: RecordSinkOptions) {
    this.#options = options;
    this.#tables = new FirstTables(options.disk, options.directory);
  }

  /** @throws what `node:fs` throws */
  static async create(options: RecordSinkOptions): Promise<RecordSink> {
    await mkdir(options.directory, { recursive: true, mode: 0o700 });
    return new RecordSink(options);
  }

  /**
   * Later changes of a record count. Resolves when the changes put before are written.
   * @param changes - Encoded (FORMAT.md §7.14), whole. Handed over.
   * @throws TcfsError `TCFS_STORE_FULL`, `TCFS_IO`, `TCFS_CORRUPT` if they are not whole
   */
  async put(changes: Uint8Array): Promise<void> {
    const before = this.#writing;
    const sealing = Promise.resolve(this.#options.records.sealChanges(this.#withoutVolume(changes)));
    this.#writing = Promise.all([sealing, before]).then(([sealed]) => this.#write(sealed));
    this.#writing.catch(() => undefined);
    await before;
  }

  /** Make it whole. @returns Its volume record. @throws as {@link put}; TcfsError `TCFS_CORRUPT` if there was none */
  async finish(): Promise<VolumeRecord> {
    const { records, disk, journalDirectory } = this.#options;
    const volume = this.#volume;
    if (volume === undefined) throw corrupt("record stream", "it has no volume record");
    const decoded = decodeVolume(volume);
    await this.#writing;
    const database = await this.#open();
    await Journal.create({ disk, directory: journalDirectory });
    await database.write(sealChanges(records, [{ key: singleKey("volume"), value: volume }]));
    return decoded;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing.catch(() => undefined);
    await this.#tables.settled();
    await this.#database?.close();
  }

  /** Keeps the newest volume record for the end. */
  #withoutVolume(changes: Uint8Array): Uint8Array {
    const [volumeKind] = singleKey("volume");
    const cursor = new ChangeCursor(changes);
    const others: Uint8Array[] = [];
    let from = 0;
    while (cursor.next()) {
      if (changes[cursor.keyAt] !== volumeKind) continue;
      this.#volume = cursor.isDeleted ? undefined : copyOf(changes.subarray(cursor.valueAt, cursor.end));
      others.push(changes.subarray(from, cursor.start));
      from = cursor.end;
    }
    if (others.length === 0) return changes;
    return Buffer.concat([...others, changes.subarray(from)]);
  }

  async #write(sealed: Uint8Array): Promise<void> {
    const from = this.#database === undefined ? await this.#tables.add(sealed) : 0;
    if (from === sealed.length) return;
    const database = await this.#open();
    const rest = sealed.subarray(from);
    const cursor = new ChangeCursor(rest);
    let batch: SealedChange[] = [];
    while (cursor.next()) {
      const { keyAt, keyEnd, valueAt, end, isDeleted } = cursor;
      batch.push({ key: rest.subarray(keyAt, keyEnd), sealed: isDeleted ? undefined : rest.subarray(valueAt, end) });
      if (batch.length < BATCH_RECORDS) continue;
      await database.write(batch);
      batch = [];
    }
    if (batch.length > 0) await database.write(batch);
  }

  /** No more tables are made. */
  async #open(): Promise<Database> {
    if (this.#database !== undefined) return this.#database;
    await this.#tables.finish();
    const nothing = (): void => undefined; // a new database has no damage to tell of
    this.#database = await Database.open({
      directory: this.#options.directory,
      createIfMissing: true,
      openLevel,
      onDamage: nothing,
      onTornLog: nothing,
    });
    return this.#database;
  }
}
