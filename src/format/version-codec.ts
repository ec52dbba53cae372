/** Versions of files, their chains and the vault's policy ⇄ bytes (FORMAT.md §7.16). Pure. */
import { ByteReader, ByteWriter } from "../bytes.ts";
import type { Epoch, InodeNumber, Name } from "../ids.ts";
import type { Timestamp } from "../platform/clock.ts";
import { decodeXattrs, encodeXattrs } from "./dentry-codec.ts";
import { decodeExtentPage, encodeExtentPage } from "./extent-codec.ts";
import { decodeInode, encodeInode, readEpoch, readTimestamp, writeTimestamp } from "./inode-codec.ts";
import { nameFault } from "./names.ts";
import type { ExtentPage, InodeRecord } from "./records.ts";
import type { VersionNumber } from "./version-keys.ts";

/** Why there is a version: its file's contents were changed, or it lost its last name. */
export const VERSION_KINDS = ["changed", "replaced", "deleted", "directory"] as const;
export type VersionKind = (typeof VERSION_KINDS)[number];

/** Extent pages by number, ascending, none empty. */
export type EmbeddedPages = ReadonlyMap<number, ExtentPage>;

export interface VersionRecord {
  readonly version: VersionNumber;
  readonly kind: VersionKind;
  /** The directory in which the name was; undefined for the version of a file. */
  readonly directory: InodeNumber | undefined;
  /** Empty for the version of a file. */
  readonly name: Name;
  readonly keptAt: Timestamp;
  /** As it was; `ino` is whose version it is. */
  readonly inode: InodeRecord;
  readonly xattrs: ReadonlyMap<Name, Uint8Array>;
  /** Undefined: apart, with those of the inode's chain. */
  readonly pages: EmbeddedPages | undefined;
  readonly isDropped: boolean;
  /** Of a name: no longer in the trash. */
  readonly isRestored: boolean;
}

/** One version in the chain of those that share pages with their inode. */
export interface ChainLink {
  readonly version: VersionNumber;
  /** First extent page that its contents do not reach. */
  readonly endPage: number;
  readonly isDropped: boolean;
}

/** What is kept, and for how long. */
export interface VersionPolicy {
  readonly isOff: boolean;
  readonly allSeconds: number;
  readonly hourlySeconds: number;
  readonly dailySeconds: number;
  readonly maxVersions: number;
  readonly trashSeconds: number;
  readonly trashCount: number;
  readonly trashBytes: number;
  /** A file that is deleted sooner after it was made is not kept. */
  readonly minimumAgeSeconds: number;
}

export const DEFAULT_VERSION_POLICY: VersionPolicy = {
  isOff: false,
  allSeconds: 3600,
  hourlySeconds: 24 * 3600,
  dailySeconds: 365 * 24 * 3600,
  maxVersions: 1000,
  trashSeconds: 30 * 24 * 3600,
  trashCount: 200_000,
  trashBytes: Number.MAX_SAFE_INTEGER,
  minimumAgeSeconds: 60,
};

const APART = 1;
const DROPPED = 2;
const RESTORED = 4;
const KNOWN_FLAGS = APART | DROPPED | RESTORED;
const LINK_BYTES = 17;
const OFF = 1;

/** @returns Fresh bytes. @throws RangeError on a record that FORMAT.md cannot hold. */
export function encodeVersion(epoch: Epoch, record: VersionRecord): Uint8Array {
  const { kind, name, inode, xattrs, pages } = record;
  const isOfName = kind !== "changed";
  if (isOfName !== (record.directory !== undefined)) throw new RangeError("an impossible place of a version");
  if (isOfName ? nameFault(name) !== undefined : name !== "") throw new RangeError("an impossible name");
  const writer = records;
  writer.drop();
  writer.u32(epoch);
  writer.u8((pages === undefined ? APART : 0) | (record.isDropped ? DROPPED : 0) | (record.isRestored ? RESTORED : 0));
  writer.u8(VERSION_KINDS.indexOf(kind));
  writer.u64(inode.ino);
  writeTimestamp(writer, record.keptAt);
  writer.u8(name.length);
  writer.latin1(name);
  const inodeBytes = encoded((inner) => encodeInode(inner, inode));
  writer.u16(inodeBytes.length);
  writer.bytes(inodeBytes);
  const xattrBytes = xattrs.size === 0 ? new Uint8Array(0) : encoded((inner) => encodeXattrs(inner, epoch, xattrs));
  writer.u24(xattrBytes.length);
  writer.bytes(xattrBytes);
  for (const [page, extents] of pages ?? []) {
    const pageBytes = encoded((inner) => encodeExtentPage(inner, epoch, extents));
    writer.varint(page);
    writer.u24(pageBytes.length);
    writer.bytes(pageBytes);
  }
  return writer.take();
}

/**
 * @param place - From the key.
 * @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodeVersion} does not write.
 */
export function decodeVersion(
  place: { readonly owner: InodeNumber; readonly isOfName: boolean; readonly version: VersionNumber },
  bytes: Uint8Array,
): VersionRecord {
  const reader = new ByteReader(bytes, `version ${String(place.version)}`);
  readEpoch(reader);
  const flags = reader.u8();
  if ((flags & ~KNOWN_FLAGS) !== 0) throw reader.fail("unknown flags");
  const kind = VERSION_KINDS[reader.u8()];
  if (kind === undefined || (kind !== "changed") !== place.isOfName) throw reader.fail("an unknown kind");
  if ((flags & RESTORED) !== 0 && !place.isOfName) throw reader.fail("a restored version of a file");
  const ino = reader.u64() as InodeNumber;
  if (ino < 1 || (!place.isOfName && ino !== place.owner)) throw reader.fail("another inode");
  const keptAt = readTimestamp(reader);
  const name = reader.latin1(reader.u8()) as Name;
  const fault = place.isOfName ? nameFault(name) : name === "" ? undefined : "a name";
  if (fault !== undefined) throw reader.fail(fault);
  const inode = decodeInode(ino, reader.bytes(reader.u16()));
  const xattrBytes = reader.bytes(reader.u24());
  const xattrs = xattrBytes.length === 0 ? new Map<Name, Uint8Array>() : decodeXattrs(ino, xattrBytes);
  const isApart = (flags & APART) !== 0;
  const pages = isApart ? undefined : readPages(reader, ino);
  reader.end();
  return {
    version: place.version,
    kind,
    directory: place.isOfName ? place.owner : undefined,
    name,
    keptAt,
    inode,
    xattrs,
    pages,
    isDropped: (flags & DROPPED) !== 0,
    isRestored: (flags & RESTORED) !== 0,
  };
}

function readPages(reader: ByteReader, ino: InodeNumber): EmbeddedPages {
  const pages = new Map<number, ExtentPage>();
  let previous = -1;
  while (reader.remaining > 0) {
    const page = reader.varint();
    if (page <= previous) throw reader.fail("pages out of order");
    pages.set(page, decodeExtentPage(ino, page, reader.bytes(reader.u24())));
    previous = page;
  }
  return pages;
}

/** @returns Fresh bytes. @throws RangeError on an empty or unsorted chain. */
export function encodeChain(epoch: Epoch, chain: readonly ChainLink[]): Uint8Array {
  if (chain.length === 0) throw new RangeError("an empty chain");
  const writer = new ByteWriter();
  writer.u32(epoch);
  let previous = -1;
  for (const { version, endPage, isDropped } of chain) {
    if (version <= previous) throw new RangeError("a chain out of order");
    writer.u64(version);
    writer.u64(endPage);
    writer.u8(isDropped ? 1 : 0);
    previous = version;
  }
  return writer.take();
}

/** @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodeChain} does not write. */
export function decodeChain(ino: InodeNumber, bytes: Uint8Array): ChainLink[] {
  const reader = new ByteReader(bytes, `version chain of inode ${String(ino)}`);
  readEpoch(reader);
  if (reader.remaining === 0 || reader.remaining % LINK_BYTES !== 0) throw reader.fail("another length");
  const chain: ChainLink[] = [];
  let previous = -1;
  while (reader.remaining > 0) {
    const version = reader.u64() as VersionNumber;
    if (version <= previous) throw reader.fail("versions out of order");
    const endPage = reader.u64();
    const flags = reader.u8();
    if (flags > 1) throw reader.fail("unknown flags");
    chain.push({ version, endPage, isDropped: flags === 1 });
    previous = version;
  }
  return chain;
}

/** @returns Fresh bytes. @throws RangeError on a number out of its bounds. */
export function encodeVersionPolicy(epoch: Epoch, policy: VersionPolicy): Uint8Array {
  const writer = new ByteWriter();
  writer.u32(epoch);
  writer.u8(policy.isOff ? OFF : 0);
  writer.u32(policy.allSeconds);
  writer.u32(policy.hourlySeconds);
  writer.u32(policy.dailySeconds);
  writer.u32(policy.maxVersions);
  writer.u32(policy.trashSeconds);
  writer.u32(policy.trashCount);
  writer.u64(policy.trashBytes);
  writer.u32(policy.minimumAgeSeconds);
  return writer.take();
}

/** @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodeVersionPolicy} does not write. */
export function decodeVersionPolicy(bytes: Uint8Array): VersionPolicy {
  const reader = new ByteReader(bytes, "version policy");
  readEpoch(reader);
  const flags = reader.u8();
  if ((flags & ~OFF) !== 0) throw reader.fail("unknown flags");
  const policy = {
    isOff: flags === OFF,
    allSeconds: reader.u32(),
    hourlySeconds: reader.u32(),
    dailySeconds: reader.u32(),
    maxVersions: reader.u32(),
    trashSeconds: reader.u32(),
    trashCount: reader.u32(),
    trashBytes: reader.u64(),
    minimumAgeSeconds: reader.u32(),
  };
  reader.end();
  return policy;
}

/** @returns Bytes that the next call writes over. */
function encoded(encode: (writer: ByteWriter) => void): Uint8Array {
  scratch.reset();
  encode(scratch);
  return scratch.take();
}

/** Records share arenas: thousands may wait for one batch. */
const records = new ByteWriter();
const scratch = new ByteWriter();
