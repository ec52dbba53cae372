/** A metadata database made from records that come from elsewhere: whole only with its volume record, which is written last. */
import { mkdir } from "node:fs/promises";
import { corrupt } from "../bytes.ts";
import type { RecordCipher } from "../crypto/engine.ts";
import { decodeVolume } from "../format/inode-codec.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import { singleKey } from "../format/record-keys.ts";
import type { VolumeRecord } from "../format/records.ts";
import type { Disk } from "../platform/disk.ts";
import { Database, openLevel } from "./database.ts";
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
  readonly #database: Database;
  #held: RecordChange[] = [];
  #volume: Uint8Array | undefined;

  private constructor(options: RecordSinkOptions, database: Database) {
    this.#options = options;
    this.#database = database;
  }

  /** @throws TcfsError `TCFS_STORE_FULL`, `TCFS_IO` */
  static async create(options: RecordSinkOptions): Promise<RecordSink> {
    const { directory } = options;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const nothing = (): void => undefined; // a new database has no damage to tell of
    const database = await Database.open({
      directory,
      createIfMissing: true,
      openLevel,
      onDamage: nothing,
      onTornLog: nothing,
    });
    return new RecordSink(options, database);
  }

  /** Later changes of a record count. @param changes - Handed over. */
  async put(changes: readonly RecordChange[]): Promise<void> {
    const [volumeKind] = singleKey("volume");
    for (const change of changes) {
      if (change.key[0] === volumeKind) this.#volume = change.value;
      else this.#held.push(change);
    }
    if (this.#held.length >= BATCH_RECORDS) await this.#write(this.#held.splice(0));
  }

  /** Make it whole. @returns Its volume record. @throws TcfsError `TCFS_CORRUPT` if there was none. */
  async finish(): Promise<VolumeRecord> {
    const volume = this.#volume;
    if (volume === undefined) throw corrupt("record stream", "it has no volume record");
    const decoded = decodeVolume(volume);
    await this.#write(this.#held.splice(0));
    await Journal.create({ disk: this.#options.disk, directory: this.#options.journalDirectory });
    await this.#write([{ key: singleKey("volume"), value: volume }]);
    return decoded;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#database.close();
  }

  async #write(changes: readonly RecordChange[]): Promise<void> {
    if (changes.length === 0) return;
    await this.#database.write(sealChanges(this.#options.records, changes));
  }
}
