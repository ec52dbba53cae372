/**
 * The metadata as of one epoch (FORMAT.md §7.12), read from the database alone: what is not committed is newer. A record
 * is looked for live first, then in history, so that a batch written in between moves nothing out of sight.
 */
import { corrupt, latin1Of } from "../bytes.ts";
import { isTcfsError, type TcfsError } from "../errors.ts";
import { decodeDentry, decodeXattrs } from "../format/dentry-codec.ts";
import { decodeExtentPage } from "../format/extent-codec.ts";
import {
  epochOfHistoryKey,
  epochOfRecord,
  historyKey,
  historyOf,
  liveKeyOf,
  ownerOfVersioned,
} from "../format/history-keys.ts";
import { decodeInode } from "../format/inode-codec.ts";
import {
  cookieOfDentryKey,
  dentriesOf,
  dentryKey,
  extentsKey,
  extentsOf,
  inodeKey,
  pageOfKey,
  type KeyRange,
} from "../format/record-keys.ts";
import type { DentryRecord, DirectoryEntryRecord, ExtentPage, InodeRecord } from "../format/records.ts";
import type { Epoch, InodeNumber, Name } from "../ids.ts";
import type { StoredEntry } from "./database.ts";
import { compareCookies } from "./directory-cache.ts";
import type { JournaledDatabase } from "./journaled-database.ts";
import type { NameHasher } from "./name-hasher.ts";
import type { RecordReader } from "./record-reader.ts";
import type { MetadataView } from "./snapshot-store.ts";
import { requireIntact, visitIntact } from "./walks.ts";

const NO_XATTRS: ReadonlyMap<Name, Uint8Array> = new Map();

export interface SnapshotViewOptions {
  readonly database: JournaledDatabase;
  readonly reader: RecordReader;
  readonly hasher: NameHasher;
  readonly epoch: Epoch;
  /** Inodes with this number or a higher one were made later. */
  readonly nextInode: number;
  /** The epochs under which history stands that concerns this one, ascending; asked anew for each read. */
  readonly supersedingEpochs: () => readonly Epoch[];
  readonly onDamage: (error: TcfsError) => void;
}

export class SnapshotView implements MetadataView {
  readonly #options: SnapshotViewOptions;

  constructor(options: SnapshotViewOptions) {
    this.#options = options;
  }

  getInode(ino: InodeNumber): InodeRecord | undefined {
    const plain = this.plain(inodeKey("inode", ino), "inode record", ino);
    return plain && decodeInode(ino, plain);
  }

  getDentry(directory: InodeNumber, name: Name): DentryRecord | undefined {
    const key = dentryKey(directory, this.#options.hasher.hash(directory, name));
    const plain = this.plain(key, "dentry record in directory", directory);
    if (plain === undefined) return undefined;
    const dentry = decodeDentry(directory, plain);
    if (dentry.name !== name) throw corrupt(`dentry record in directory ${directory}`, "another name's");
    return dentry;
  }

  getXattrs(ino: InodeNumber): ReadonlyMap<Name, Uint8Array> {
    const plain = this.plain(inodeKey("xattrs", ino), "xattr record of inode", ino);
    return plain === undefined ? NO_XATTRS : decodeXattrs(ino, plain);
  }

  getExtentPage(ino: InodeNumber, page: number): ExtentPage {
    const plain = this.plain(extentsKey(ino, page), "extent page of inode", ino);
    return plain === undefined ? [] : decodeExtentPage(ino, page, plain);
  }

  async listDirectory(directory: InodeNumber): Promise<DirectoryEntryRecord[]> {
    const damaged: TcfsError[] = [];
    const found = await this.#walk(dentriesOf(directory), "dentry record in directory", directory, damaged);
    const entries: DirectoryEntryRecord[] = [];
    for (const { key, plain } of found) {
      const { name, ino, type } = decodeDentry(directory, plain);
      entries.push({ name, ino, type, cookie: cookieOfDentryKey(key) });
    }
    damaged.forEach(this.#options.onDamage);
    this.#requireAll(directory, entries.length, damaged.length);
    return entries.sort(compareCookies);
  }

  async extentPages(ino: InodeNumber, fromPage: number, toPage: number): Promise<number[]> {
    const damaged: TcfsError[] = [];
    const found = await this.#walk(extentsOf(ino, fromPage, toPage), "extent page of inode", ino, damaged);
    if (damaged[0] !== undefined) throw damaged[0];
    return found.map(({ key }) => pageOfKey(key)).sort((left, right) => left - right);
  }

  /** A record's plaintext as of the epoch. @throws TcfsError as {@link RecordReader.plain} does. */
  plain(key: Uint8Array, kind: string, ino: number): Uint8Array | undefined {
    const { reader, epoch, nextInode, supersedingEpochs } = this.#options;
    if ((ownerOfVersioned(key) ?? 0) >= nextInode) return undefined;
    let live: Uint8Array | undefined;
    let damage: TcfsError | undefined;
    try {
      live = reader.plain(key, kind, ino);
      if (live !== undefined && epochOfRecord(live) <= epoch) return live;
    } catch (error) {
      if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
      damage = error; // of use only if the record was not superseded since
    }
    const bornLive = live === undefined ? Infinity : epochOfRecord(live);
    for (const superseded of supersedingEpochs()) {
      if (superseded > bornLive) break; // the live record is what came after all older versions
      const old = reader.plain(historyKey(key, superseded), kind, ino);
      if (old !== undefined) return epochOfRecord(old) <= epoch ? old : undefined;
    }
    if (damage !== undefined) throw damage;
    return undefined;
  }

  /** All records of a range as of the epoch, in no order; damaged ones are left out and their errors collected. */
  async #walk(
    range: KeyRange,
    kind: string,
    ino: InodeNumber,
    damaged: TcfsError[],
  ): Promise<{ readonly key: Uint8Array; readonly plain: Uint8Array }[]> {
    const { database, reader, epoch } = this.#options;
    // The live view is taken first: what a batch moves to history in between is then in both.
    const live = database.walk(range);
    const history = database.walk(historyOf(range));
    const chosen: { readonly key: Uint8Array; readonly plain: Uint8Array }[] = [];
    const choose = (key: Uint8Array, entry: StoredEntry): void => {
      const plain = reader.storedPlain(entry, kind, ino);
      if (epochOfRecord(plain) <= epoch) chosen.push({ key, plain });
    };
    /** Keys that history has answered for: most often there are none. */
    const answered = new Set<string>();
    for await (const entries of history) {
      visitIntact(
        entries.filter(([key]) => epochOfHistoryKey(key) > epoch),
        (entry) => {
          const key = liveKeyOf(entry[0]);
          const countBefore = answered.size;
          if (answered.add(latin1Of(key)).size > countBefore) choose(key, entry);
        },
        damaged,
      );
    }
    const isAnswered = (key: Uint8Array): boolean => answered.size > 0 && answered.has(latin1Of(key));
    for await (const entries of live) {
      visitIntact(entries, (entry) => isAnswered(entry[0]) || choose(entry[0], entry), damaged);
    }
    requireIntact(database, range);
    requireIntact(database, historyOf(range));
    return chosen;
  }

  #requireAll(directory: InodeNumber, listedCount: number, damagedCount: number): void {
    const inode = this.getInode(directory);
    if (inode === undefined) return;
    if (listedCount <= inode.entryCount && listedCount + damagedCount >= inode.entryCount) return;
    const error = corrupt(
      `directory ${directory} of a snapshot`,
      `${listedCount} of ${inode.entryCount} entries found`,
    );
    this.#options.onDamage(error);
    throw error;
  }
}
