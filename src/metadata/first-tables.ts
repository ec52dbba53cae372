/**
 * A LevelDB database that is filled before it is first opened: its tables, made out of sealed changes in ascending order of
 * their keys, and what names them. Nothing of it counts before `CURRENT` is there, which is written last.
 */
import { join } from "node:path";
import { ChangeCursor } from "../format/journal-codec.ts";
import type { Disk } from "../platform/disk.ts";
import { type ListedTable, encodeManifest } from "./manifest.ts";
import { TableBuilder } from "./table-builder.ts";

/** As {@link openLevel} has LevelDB make them. */
const TABLE_BYTES = 8 * 1024 * 1024;
const MANIFEST = "MANIFEST-000001";
const LOG_NUMBER = 2;
const FIRST_TABLE_NUMBER = 3;

export class FirstTables {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #tables: ListedTable[] = [];
  #builder = new TableBuilder();
  /** Being written, or was: the other one is filled meanwhile. */
  #other: TableBuilder | undefined;
  readonly #lastKey = new Uint8Array(255);
  #lastKeyBytes = 0;
  /** Never unhandled: whoever goes on awaits it. */
  #writing: Promise<void> = Promise.resolve();

  /** @param directory - There, and empty. */
  constructor(disk: Disk, directory: string) {
    this.#disk = disk;
    this.#directory = directory;
  }

  /**
   * @param changes - Whole, with sealed values. Lent until settled.
   * @returns How many bytes of them are in tables: all before a deletion, or a key that is not behind all others.
   * @throws TcfsError `TCFS_STORE_FULL`, `TCFS_IO`, `TCFS_EXISTS`
   */
  async add(changes: Uint8Array): Promise<number> {
    const cursor = new ChangeCursor(changes);
    while (cursor.next()) {
      if (cursor.isDeleted) return cursor.start;
      const { keyAt, keyEnd } = cursor;
      const shared = this.#sharedBytes(changes, keyAt, keyEnd);
      const isBehind =
        keyAt + shared < keyEnd &&
        (shared === this.#lastKeyBytes || (changes[keyAt + shared] as number) > (this.#lastKey[shared] as number));
      if (!isBehind) return cursor.start;
      this.#builder.add(changes, cursor, shared);
      for (let at = keyAt + shared; at < keyEnd; at++) this.#lastKey[at - keyAt] = changes[at] as number;
      this.#lastKeyBytes = keyEnd - keyAt;
      if (this.#builder.lengthBytes >= TABLE_BYTES) await this.#endTable();
    }
    return cursor.end;
  }

  /** All tables are on the device and named; without any, nothing is done. @throws as {@link add} */
  async finish(): Promise<void> {
    if (!this.#builder.isEmpty) await this.#endTable();
    await this.#writing;
    if (this.#tables.length === 0) return;
    await this.#write(MANIFEST, encodeManifest(this.#tables, LOG_NUMBER));
    await this.#write(fileName(LOG_NUMBER, "log"), new Uint8Array(0));
    await this.#disk.syncDirectory(this.#directory);
    await this.#disk.replaceFile(join(this.#directory, "CURRENT"), Buffer.from(`${MANIFEST}\n`, "latin1"));
  }

  /** Nothing is being written any more. */
  async settled(): Promise<void> {
    await this.#writing.catch(() => undefined);
  }

  /** How many bytes the key begins with that the last one begins with, too. */
  #sharedBytes(changes: Uint8Array, keyAt: number, keyEnd: number): number {
    const most = Math.min(this.#lastKeyBytes, keyEnd - keyAt);
    let shared = 0;
    while (shared < most && changes[keyAt + shared] === this.#lastKey[shared]) shared++;
    return shared;
  }

  /** Waits for the table before this one to be written, so that two are in memory at most. */
  async #endTable(): Promise<void> {
    const full = this.#builder;
    const { bytes, smallest, largest } = full.finish(this.#lastKey.subarray(0, this.#lastKeyBytes));
    const number = FIRST_TABLE_NUMBER + this.#tables.length;
    this.#tables.push({ number, lengthBytes: bytes.length, smallest, largest });
    await this.#writing;
    this.#writing = this.#write(fileName(number, "ldb"), bytes);
    this.#writing.catch(() => undefined);
    this.#builder = this.#other ?? new TableBuilder();
    this.#builder.reset();
    this.#other = full;
  }

  async #write(name: string, bytes: Uint8Array): Promise<void> {
    const file = await this.#disk.create(join(this.#directory, name));
    try {
      await file.write([bytes], 0);
      await file.sync();
    } finally {
      await file.close();
    }
  }
}

function fileName(number: number, extension: string): string {
  return `${String(number).padStart(6, "0")}.${extension}`;
}
