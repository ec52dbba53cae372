/** Reads typed records from the database: key, unseal, decode. What fails says which record it was, never a file's name. */
import { corrupt } from "../bytes.ts";
import type { RecordCipher } from "../crypto/engine.ts";
import { isTcfsError } from "../errors.ts";
import { decodeChunk, decodeChunkTotals, decodeInlineList, decodePack } from "../format/chunk-codec.ts";
import { decodeDentry, decodeXattrs } from "../format/dentry-codec.ts";
import { decodeExtentPage } from "../format/extent-codec.ts";
import { epochOfSnapshotKey, liveKeyOf } from "../format/history-keys.ts";
import { checkOrphan, decodeInode, decodeVolume } from "../format/inode-codec.ts";
import {
  chunkIdOfKey,
  chunkKey,
  commitOfKey,
  cookieOfDentryKey,
  dentryKey,
  extentsKey,
  inodeKey,
  inodeOfKey,
  listOfKey,
  packIdOfKey,
  pageOfKey,
  singleKey,
} from "../format/record-keys.ts";
import type {
  ChunkRecord,
  ChunkTotals,
  ExtentPage,
  InlineList,
  InodeRecord,
  LoggedWrites,
  PackRecord,
  VolumeRecord,
} from "../format/records.ts";
import { decodeLoggedContent } from "../format/write-codec.ts";
import { decodePolicy, type PolicyRecord } from "../format/policy-codec.ts";
import { decodeRollback, decodeSnapshot, type RollbackRecord, type SnapshotRecord } from "../format/snapshot-codec.ts";
import { decodeVersion, decodeVersionPolicy, type VersionPolicy, type VersionRecord } from "../format/version-codec.ts";
import { versionPageKey, versionPageOf, versionPlaceOf, type VersionNumber } from "../format/version-keys.ts";
import type { ChunkId, InodeNumber, Name } from "../ids.ts";
import type { StoredEntry } from "./database.ts";
import { CachedDentry, NO_COOKIE } from "./directory-cache.ts";
import type { JournaledDatabase } from "./journaled-database.ts";
import type { Xattrs } from "./layer.ts";
import type { NameHasher } from "./name-hasher.ts";

/** Every method throws TcfsError `TCFS_CORRUPT` for a record that does not verify, and what {@link Database.get} throws. */
export class RecordReader {
  readonly #database: Pick<JournaledDatabase, "find">;
  readonly #records: RecordCipher;
  readonly #hasher: NameHasher;

  constructor(database: Pick<JournaledDatabase, "find">, records: RecordCipher, hasher: NameHasher) {
    this.#database = database;
    this.#records = records;
    this.#hasher = hasher;
  }

  volume(): VolumeRecord | undefined {
    const plain = this.plain(singleKey("volume"), "volume record", 0);
    return plain && decodeVolume(plain);
  }

  /** @param ino - May be any number: file handles of NFS and open_by_handle_at(2) hold whatever their holder likes. */
  inode(ino: InodeNumber): InodeRecord | undefined {
    if (!Number.isSafeInteger(ino)) return undefined;
    const plain = this.plain(inodeKey("inode", ino), "inode record", ino);
    return plain && decodeInode(ino, plain);
  }

  dentry(directory: InodeNumber, name: Name): CachedDentry | undefined {
    const key = dentryKey(directory, this.#hasher.hash(directory, name));
    const plain = this.plain(key, "dentry record in directory", directory);
    if (plain === undefined) return undefined;
    const { name: storedName, ino, type, epoch } = decodeDentry(directory, plain);
    if (storedName !== name) throw corrupt(`dentry record in directory ${String(directory)}`, "another name's");
    return new CachedDentry(name, ino, type, NO_COOKIE, epoch);
  }

  xattrs(ino: InodeNumber): Xattrs | undefined {
    const plain = this.plain(inodeKey("xattrs", ino), "xattr record of inode", ino);
    return plain && decodeXattrs(ino, plain);
  }

  extentPage(ino: InodeNumber, page: number): ExtentPage | undefined {
    const plain = this.plain(extentsKey(ino, page), "extent page of inode", ino);
    return plain && decodeExtentPage(ino, page, plain);
  }

  chunk(id: ChunkId): ChunkRecord | undefined {
    const plain = this.plain(chunkKey(id), "chunk record", 0);
    return plain && decodeChunk(plain);
  }

  chunkTotals(): ChunkTotals | undefined {
    const plain = this.plain(singleKey("chunkTotals"), "chunk totals record", 0);
    return plain && decodeChunkTotals(plain);
  }

  /* What walks find. */

  storedDentry(directory: InodeNumber, entry: StoredEntry): CachedDentry {
    const plain = this.#open(entry, "dentry record in directory", directory);
    const { name, ino, type, epoch } = decodeDentry(directory, plain);
    return new CachedDentry(name, ino, type, cookieOfDentryKey(entry[0]), epoch);
  }

  /** Live or of history. */
  storedExtentPage(entry: StoredEntry): ExtentPage {
    const live = liveKeyOf(entry[0]);
    const ino = inodeOfKey(live);
    return decodeExtentPage(ino, pageOfKey(live), this.#open(entry, "extent page of inode", ino));
  }

  storedChunk(entry: StoredEntry): { readonly id: ChunkId; readonly record: ChunkRecord } {
    const id = chunkIdOfKey(entry[0]);
    return { id, record: decodeChunk(this.#open(entry, "chunk record", 0)) };
  }

  storedPack(entry: StoredEntry): PackRecord {
    const pack = packIdOfKey(entry[0]);
    return decodePack(pack, this.#open(entry, "pack record", 0));
  }

  storedLoggedWrites(entry: StoredEntry): LoggedWrites {
    const ino = inodeOfKey(entry[0]);
    const content = decodeLoggedContent(ino, this.#open(entry, "logged writes of inode", ino));
    return { ino, commit: commitOfKey(entry[0]), content };
  }

  storedInlineList(entry: StoredEntry): InlineList {
    return decodeInlineList(listOfKey(entry[0]), this.#open(entry, "inline list record", 0));
  }

  storedOrphan(entry: StoredEntry): InodeNumber {
    const ino = inodeOfKey(entry[0]);
    checkOrphan(ino, this.#open(entry, "orphan record", ino));
    return ino;
  }

  /**
   * Any record's plaintext, undecoded; borrowed.
   * @param kind - Names it in errors, with `ino` unless that is 0.
   */
  plain(key: Uint8Array, kind: string, ino: number): Uint8Array | undefined {
    const entry = this.#database.find(key);
    return entry && this.#open(entry, kind, ino);
  }

  /** What a walk found, undecoded; borrowed. */
  storedPlain(entry: StoredEntry, kind: string, ino: number): Uint8Array {
    return this.#open(entry, kind, ino);
  }

  rollback(): RollbackRecord | undefined {
    const plain = this.plain(singleKey("rollback"), "rollback record", 0);
    return plain && decodeRollback(plain);
  }

  policy(): PolicyRecord | undefined {
    const plain = this.plain(singleKey("policy"), "policy record", 0);
    return plain && decodePolicy(plain);
  }

  storedSnapshot(entry: StoredEntry): SnapshotRecord {
    const epoch = epochOfSnapshotKey(entry[0]);
    return decodeSnapshot(epoch, this.#open(entry, `snapshot record ${epoch}`, 0));
  }

  versionPolicy(): VersionPolicy | undefined {
    const plain = this.plain(singleKey("versionPolicy"), "version policy", 0);
    return plain && decodeVersionPolicy(plain);
  }

  storedVersion(entry: StoredEntry): VersionRecord {
    const place = versionPlaceOf(entry[0]);
    return decodeVersion(place, this.#open(entry, "version", place.version));
  }

  versionPage(version: VersionNumber, page: number): ExtentPage | undefined {
    const plain = this.plain(versionPageKey(version, page), "extent page of version", version);
    return plain && decodeExtentPage(version as number as InodeNumber, page, plain);
  }

  storedVersionPage(entry: StoredEntry): ExtentPage {
    const { version, page } = versionPageOf(entry[0]);
    const plain = this.#open(entry, "extent page of version", version);
    return decodeExtentPage(version as number as InodeNumber, page, plain);
  }

  /** Whether there is a record, readable or not. */
  has(key: Uint8Array): boolean {
    return this.#database.find(key) !== undefined;
  }

  /** @param ino - 0: the record has none. */
  #open([key, value, isPlain]: StoredEntry, kind: string, ino: number): Uint8Array {
    if (isPlain === true) return value;
    try {
      return this.#records.unseal(key, value);
    } catch (error) {
      if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
      throw corrupt(ino === 0 ? kind : `${kind} ${String(ino)}`, "does not verify", { cause: error });
    }
  }
}
