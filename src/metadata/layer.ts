/** Changes not yet in the database, newest state per record; null: deleted. Encodes itself for a batch. */
import type { ByteWriter } from "../bytes.ts";
import { encodeDentry, encodeXattrs } from "../format/dentry-codec.ts";
import { encodeInode, encodeOrphan } from "../format/inode-codec.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import { dentryKey, inodeKey } from "../format/record-keys.ts";
import type { InodeRecord } from "../format/records.ts";
import type { Epoch, InodeNumber, Name } from "../ids.ts";
import type { CachedDentry } from "./directory-cache.ts";
import type { NameHasher } from "./name-hasher.ts";

export type Xattrs = ReadonlyMap<Name, Uint8Array>;

export class Layer {
  readonly inodes = new Map<InodeNumber, InodeRecord | null>();
  readonly dentries = new Map<InodeNumber, Map<Name, CachedDentry | null>>();
  /** All of an inode's; an empty map: deleted. */
  readonly xattrs = new Map<InodeNumber, Xattrs>();
  /** Whether an inode is an orphan. */
  readonly orphans = new Map<InodeNumber, boolean>();
  /** Records in plaintext that no reader of this layer looks for: what becomes of snapshots. */
  readonly plain: RecordChange[] = [];
  /** What this layer's dentries replace, where that is known: null, there was none. */
  readonly #replaced = new Map<InodeNumber, Map<Name, CachedDentry | null>>();
  #dentryCount = 0;

  get recordCount(): number {
    return this.inodes.size + this.#dentryCount + this.xattrs.size + this.orphans.size + this.plain.length;
  }

  /** @returns undefined where this layer says nothing. */
  dentry(directory: InodeNumber, name: Name): CachedDentry | null | undefined {
    return this.dentries.get(directory)?.get(name);
  }

  /** @param before - What the name was until now; null: known to be absent; undefined: not known. */
  setDentry(
    directory: InodeNumber,
    name: Name,
    dentry: CachedDentry | null,
    before: CachedDentry | null | undefined,
  ): void {
    const names = mapOf(this.dentries, directory);
    const countBefore = names.size;
    names.set(name, dentry);
    if (names.size === countBefore) return; // the layer had the name: what was there before the layer is noted
    this.#dentryCount++;
    if (before !== undefined) mapOf(this.#replaced, directory).set(name, before);
  }

  /**
   * The plaintext changes that bring the database up to this layer. @param writer - Holds their values.
   * @param tellsReplaced - Whether what is replaced may have to be kept.
   * @throws RangeError on a record that FORMAT.md cannot hold; the layer is unchanged.
   */
  encode(writer: ByteWriter, epoch: Epoch, hasher: NameHasher, tellsReplaced: boolean): RecordChange[] {
    const operations: RecordChange[] = [];
    for (const [ino, inode] of this.inodes) {
      if (inode !== null) encodeInode(writer, inode);
      operations.push({ key: inodeKey("inode", ino), value: inode === null ? undefined : writer.take() });
    }
    for (const [directory, names] of this.dentries) {
      const replacedNames = tellsReplaced ? this.#replaced.get(directory) : undefined;
      for (const [name, dentry] of names) {
        if (dentry !== null) encodeDentry(writer, epoch, dentry);
        const key = dentryKey(directory, hasher.hash(directory, name));
        const value = dentry === null ? undefined : writer.take();
        const replaced = encodeReplaced(writer, replacedNames?.get(name));
        operations.push(replaced === undefined ? { key, value } : { key, value, replaced });
        if (dentry !== null) dentry.epoch = epoch;
      }
    }
    for (const [ino, xattrs] of this.xattrs) {
      if (xattrs.size > 0) encodeXattrs(writer, epoch, xattrs);
      operations.push({ key: inodeKey("xattrs", ino), value: xattrs.size > 0 ? writer.take() : undefined });
    }
    for (const [ino, isOrphan] of this.orphans) {
      if (isOrphan) encodeOrphan(writer, epoch);
      operations.push({ key: inodeKey("orphan", ino), value: isOrphan ? writer.take() : undefined });
    }
    for (const operation of this.plain) operations.push(operation);
    return operations;
  }
}

/** The record as it was written: a cached dentry has all that its record says. */
function encodeReplaced(writer: ByteWriter, before: CachedDentry | null | undefined): Uint8Array | null | undefined {
  if (before?.epoch === undefined) return before === null ? null : undefined;
  encodeDentry(writer, before.epoch, before);
  return writer.take();
}

function mapOf<Value>(maps: Map<InodeNumber, Map<Name, Value>>, directory: InodeNumber): Map<Name, Value> {
  let names = maps.get(directory);
  if (names === undefined) {
    names = new Map();
    maps.set(directory, names);
  }
  return names;
}
