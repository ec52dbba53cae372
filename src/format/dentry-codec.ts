/** Dentry and xattr records ⇄ bytes (FORMAT.md §7.4, §7.5). Pure. */
import { ByteReader, type ByteWriter } from "../bytes.ts";
import type { Epoch, InodeNumber, Name } from "../ids.ts";
import { readEpoch } from "./inode-codec.ts";
import { compareNames, nameFault, xattrNameFault } from "./names.ts";
import type { DentryRecord } from "./records.ts";

/** Type bits of st_mode, shifted right by 12. */
const MAX_TYPE = 15;
/** XATTR_SIZE_MAX of Linux. */
const MAX_XATTR_VALUE_BYTES = 65_536;

/** A dentry with the epoch of the batch that wrote it. */
export interface StoredDentry extends DentryRecord {
  readonly epoch: Epoch;
}

/** @throws RangeError on a record that FORMAT.md cannot hold. */
export function encodeDentry(writer: ByteWriter, epoch: Epoch, dentry: DentryRecord): void {
  if (nameFault(dentry.name) !== undefined) throw new RangeError("an impossible name");
  if (dentry.ino < 1 || dentry.type < 0 || dentry.type > MAX_TYPE) throw new RangeError("an impossible dentry");
  writer.u32(epoch);
  writer.u64(dentry.ino);
  writer.u8(dentry.type);
  writer.latin1(dentry.name);
}

/**
 * @param directory - For the error text alone.
 * @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodeDentry} does not write.
 */
export function decodeDentry(directory: InodeNumber, bytes: Uint8Array): StoredDentry {
  const reader = new ByteReader(bytes, `dentry record in directory ${String(directory)}`);
  const epoch = readEpoch(reader);
  const ino = reader.u64() as InodeNumber;
  if (ino < 1) throw reader.fail("inode 0");
  const type = reader.u8();
  if (type > MAX_TYPE) throw reader.fail("an unknown type");
  const name = reader.latin1(reader.remaining) as Name;
  const fault = nameFault(name);
  if (fault !== undefined) throw reader.fail(fault);
  return { name, ino, type, epoch };
}

/**
 * All attributes of one inode, sorted by name.
 * @throws RangeError on an empty map or what FORMAT.md cannot hold.
 */
export function encodeXattrs(writer: ByteWriter, epoch: Epoch, xattrs: ReadonlyMap<Name, Uint8Array>): void {
  if (xattrs.size === 0) throw new RangeError("no attributes");
  writer.u32(epoch);
  for (const [name, value] of [...xattrs].sort((left, right) => compareNames(left[0], right[0]))) {
    if (xattrNameFault(name) !== undefined) throw new RangeError("an impossible attribute name");
    if (value.length > MAX_XATTR_VALUE_BYTES) throw new RangeError("an attribute value too long");
    writer.u8(name.length);
    writer.latin1(name);
    writer.u24(value.length);
    writer.bytes(value);
  }
}

/** @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodeXattrs} does not write. */
export function decodeXattrs(ino: InodeNumber, bytes: Uint8Array): ReadonlyMap<Name, Uint8Array> {
  const reader = new ByteReader(bytes, `xattr record of inode ${String(ino)}`);
  readEpoch(reader);
  const xattrs = new Map<Name, Uint8Array>();
  let previous = "" as Name;
  do {
    const name = reader.latin1(reader.u8()) as Name;
    const fault = xattrNameFault(name);
    if (fault !== undefined) throw reader.fail(fault);
    if (compareNames(previous, name) >= 0) throw reader.fail("attribute names out of order");
    const lengthBytes = reader.u24();
    if (lengthBytes > MAX_XATTR_VALUE_BYTES) throw reader.fail("an attribute value too long");
    xattrs.set(name, reader.bytes(lengthBytes));
    previous = name;
  } while (reader.remaining > 0);
  return xattrs;
}
