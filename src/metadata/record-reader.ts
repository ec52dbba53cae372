/** Reads typed records from the database: key, unseal, decode. What fails says which record it was, never a file's name. */
import { corrupt } from "../bytes.ts";
import type { RecordCipher } from "../crypto/engine.ts";
import { isTcfsError } from "../errors.ts";
import { decodeChunk, decodeChunkTotals, decodeInlineList, decodePack } from "../format/chunk-codec.ts";
import { decodeDentry, decodeXattrs } from "../format/dentry-codec.ts";
import { decodeExtentPage } from "../format/extent-codec.ts";
import { checkOrphan, decodeInode, decodeVolume } from "../format/inode-codec.ts";
import {
  chunkIdOfKey,
  chunkKey,
  cookieOfDentryKey,
  dentryKey,
  extentsKey,
  inodeKey,
  inodeOfKey,
  listOfKey,
  packIdOfKey,
  singleKey,
} from "../format/record-keys.ts";
import type {
  ChunkRecord,
  ChunkTotals,
  ExtentPage,
  InlineList,
  InodeRecord,
  PackRecord,
  VolumeRecord,
} from "../format/records.ts";
import type { ChunkId, InodeNumber, Name } from "../ids.ts";
import type { Database, StoredEntry } from "./database.ts";
import { CachedDentry, NO_COOKIE } from "./directory-cache.ts";
import type { Xattrs } from "./layer.ts";
import type { NameHasher } from "./name-hasher.ts";

/** Every method throws TcfsError `TCFS_CORRUPT` for a record that does not verify, and what {@link Database.get} throws. */
export class RecordReader {
  readonly #database: Database;
  readonly #records: RecordCipher;
  readonly #hasher: NameHasher;

  constructor(database: Database, records: RecordCipher, hasher: NameHasher) {
    this.#database = database;
    this.#records = records;
    this.#hasher = hasher;
  }

  volume(): VolumeRecord | undefined {
    const plain = this.#get(singleKey("volume"), "volume record", 0);
    return plain && decodeVolume(plain);
  }

  inode(ino: InodeNumber): InodeRecord | undefined {
    const plain = this.#get(inodeKey("inode", ino), "inode record", ino);
    return plain && decodeInode(ino, plain);
  }

  dentry(directory: InodeNumber, name: Name): CachedDentry | undefined {
    const key = dentryKey(directory, this.#hasher.hash(directory, name));
    const plain = this.#get(key, "dentry record in directory", directory);
    if (plain === undefined) return undefined;
    const { name: storedName, ino, type } = decodeDentry(directory, plain);
    if (storedName !== name) throw corrupt(`dentry record in directory ${String(directory)}`, "another name's");
    return new CachedDentry(name, ino, type, NO_COOKIE);
  }

  xattrs(ino: InodeNumber): Xattrs | undefined {
    const plain = this.#get(inodeKey("xattrs", ino), "xattr record of inode", ino);
    return plain && decodeXattrs(ino, plain);
  }

  extentPage(ino: InodeNumber, page: number): ExtentPage | undefined {
    const plain = this.#get(extentsKey(ino, page), "extent page of inode", ino);
    return plain && decodeExtentPage(ino, page, plain);
  }

  chunk(id: ChunkId): ChunkRecord | undefined {
    const plain = this.#get(chunkKey(id), "chunk record", 0);
    return plain && decodeChunk(plain);
  }

  chunkTotals(): ChunkTotals | undefined {
    const plain = this.#get(singleKey("chunkTotals"), "chunk totals record", 0);
    return plain && decodeChunkTotals(plain);
  }

  /* What walks find. */

  storedDentry(directory: InodeNumber, [key, sealed]: StoredEntry): CachedDentry {
    const plain = this.#unseal(key, sealed, "dentry record in directory", directory);
    const { name, ino, type } = decodeDentry(directory, plain);
    return new CachedDentry(name, ino, type, cookieOfDentryKey(key));
  }

  storedExtentPage([key, sealed]: StoredEntry): ExtentPage {
    const ino = inodeOfKey(key);
    return decodeExtentPage(ino, 0, this.#unseal(key, sealed, "extent page of inode", ino));
  }

  storedChunk([key, sealed]: StoredEntry): { readonly id: ChunkId; readonly record: ChunkRecord } {
    const id = chunkIdOfKey(key);
    return { id, record: decodeChunk(this.#unseal(key, sealed, "chunk record", 0)) };
  }

  storedPack([key, sealed]: StoredEntry): PackRecord {
    const pack = packIdOfKey(key);
    return decodePack(pack, this.#unseal(key, sealed, "pack record", 0));
  }

  storedInlineList([key, sealed]: StoredEntry): InlineList {
    return decodeInlineList(listOfKey(key), this.#unseal(key, sealed, "inline list record", 0));
  }

  storedOrphan([key, sealed]: StoredEntry): InodeNumber {
    const ino = inodeOfKey(key);
    checkOrphan(ino, this.#unseal(key, sealed, "orphan record", ino));
    return ino;
  }

  #get(key: Uint8Array, kind: string, ino: number): Uint8Array | undefined {
    const sealed = this.#database.get(key);
    const damage = this.#database.damage.ofRecord(key, sealed !== undefined);
    if (damage !== undefined) throw damage;
    return sealed && this.#unseal(key, sealed, kind, ino);
  }

  /** @param ino - 0: the record has none. */
  #unseal(key: Uint8Array, sealed: Uint8Array, kind: string, ino: number): Uint8Array {
    try {
      return this.#records.unseal(key, sealed);
    } catch (error) {
      if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
      throw corrupt(ino === 0 ? kind : `${kind} ${String(ino)}`, "does not verify", { cause: error });
    }
  }
}
