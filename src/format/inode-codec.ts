/** Inode, volume and orphan records ⇄ bytes (FORMAT.md §7.2, §7.3, §7.7). Pure. */
import { ByteReader, type ByteWriter } from "../bytes.ts";
import type { Epoch, InodeNumber } from "../ids.ts";
import type { Timestamp } from "../platform/clock.ts";
import type { InodeRecord, VolumeRecord } from "./records.ts";

const HAS_XATTRS = 1;
const HAS_SYMLINK_TARGET = 2;
const HAS_LOGGED_WRITES = 4;
const KNOWN_FLAGS = HAS_XATTRS | HAS_SYMLINK_TARGET | HAS_LOGGED_WRITES;

/** PATH_MAX of Linux less the NUL. */
const MAX_SYMLINK_BYTES = 4095;
const NANOSECONDS_PER_SECOND = 1_000_000_000;

/** @throws RangeError on a record that FORMAT.md cannot hold. */
export function encodeInode(writer: ByteWriter, inode: InodeRecord): void {
  const target = inode.symlinkTarget;
  writer.u32(inode.epoch);
  writer.u16(flagsOf(inode));
  writer.u32(inode.mode);
  writer.u32(inode.uid);
  writer.u32(inode.gid);
  writer.u32(inode.linkCount);
  writer.u32(inode.deviceNumber);
  writer.bigU63(inode.lengthBytes);
  writer.u64(inode.allocatedBytes);
  writeTimestamp(writer, inode.accessTime);
  writeTimestamp(writer, inode.modifyTime);
  writeTimestamp(writer, inode.changeTime);
  writeTimestamp(writer, inode.birthTime);
  writer.u64(inode.entryCount);
  writer.u64(inode.parent);
  if (inode.loggedCommit > 0) writer.u64(inode.loggedCommit);
  if (target === undefined) return;
  if (target.length === 0 || target.length > MAX_SYMLINK_BYTES) throw new RangeError("a symlink target too long");
  writer.bytes(target);
}

function flagsOf(inode: InodeRecord): number {
  return (
    (inode.hasXattrs ? HAS_XATTRS : 0) |
    (inode.symlinkTarget === undefined ? 0 : HAS_SYMLINK_TARGET) |
    (inode.loggedCommit > 0 ? HAS_LOGGED_WRITES : 0)
  );
}

/** @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodeInode} does not write. */
export function decodeInode(ino: InodeNumber, bytes: Uint8Array): InodeRecord {
  const reader = new ByteReader(bytes, `inode record ${String(ino)}`);
  const epoch = readEpoch(reader);
  const flags = reader.u16();
  if ((flags & ~KNOWN_FLAGS) !== 0) throw reader.fail("unknown flags");
  const mode = reader.u32();
  const uid = reader.u32();
  const gid = reader.u32();
  const linkCount = reader.u32();
  const deviceNumber = reader.u32();
  const lengthBytes = reader.bigU63();
  const allocatedBytes = reader.u64();
  const accessTime = readTimestamp(reader);
  const modifyTime = readTimestamp(reader, accessTime);
  const changeTime = readTimestamp(reader, modifyTime);
  const birthTime = readTimestamp(reader, changeTime);
  const entryCount = reader.u64();
  const parent = reader.u64() as InodeNumber;
  const loggedCommit = (flags & HAS_LOGGED_WRITES) === 0 ? 0 : readLoggedCommit(reader);
  const symlinkTarget = (flags & HAS_SYMLINK_TARGET) === 0 ? undefined : readSymlinkTarget(reader);
  reader.end();
  return {
    ino,
    epoch,
    mode,
    uid,
    gid,
    linkCount,
    deviceNumber,
    lengthBytes,
    allocatedBytes,
    accessTime,
    modifyTime,
    changeTime,
    birthTime,
    entryCount,
    parent,
    hasXattrs: (flags & HAS_XATTRS) !== 0,
    loggedCommit,
    symlinkTarget,
  };
}

function readLoggedCommit(reader: ByteReader): number {
  const commit = reader.u64();
  if (commit === 0) throw reader.fail("logged writes of no commit");
  return commit;
}

/** @throws RangeError on a record that FORMAT.md cannot hold. */
export function encodeVolume(writer: ByteWriter, volume: VolumeRecord): void {
  writer.u32(volume.epoch);
  writer.u64(volume.nextInode);
  writer.u64(volume.inodeCount);
  writer.u64(volume.allocatedBytes);
  writer.u64(volume.commit);
  writeTimestamp(writer, volume.committedAt);
}

/** @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodeVolume} does not write. */
export function decodeVolume(bytes: Uint8Array): VolumeRecord {
  const reader = new ByteReader(bytes, "volume record");
  const epoch = readEpoch(reader);
  const nextInode = reader.u64() as InodeNumber;
  if (nextInode < 2) throw reader.fail("a next inode below 2");
  const volume = {
    nextInode,
    inodeCount: reader.u64(),
    allocatedBytes: reader.u64(),
    epoch,
    commit: reader.u64(),
    committedAt: readTimestamp(reader),
  };
  reader.end();
  return volume;
}

/** An orphan's key says everything; its value is the epoch alone. */
export function encodeOrphan(writer: ByteWriter, epoch: Epoch): void {
  writer.u32(epoch);
}

/** @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodeOrphan} does not write. */
export function checkOrphan(ino: InodeNumber, bytes: Uint8Array): void {
  const reader = new ByteReader(bytes, `orphan record ${String(ino)}`);
  readEpoch(reader);
  reader.end();
}

/** The first field of every record: the epoch that wrote it, 1 or more. */
export function readEpoch(reader: ByteReader): Epoch {
  const epoch = reader.u32();
  if (epoch === 0) throw reader.fail("epoch 0");
  return epoch as Epoch;
}

export function writeTimestamp(writer: ByteWriter, time: Timestamp): void {
  if (!(time.nanoseconds >= 0 && time.nanoseconds < NANOSECONDS_PER_SECOND)) throw new RangeError("nanoseconds");
  writer.i64(time.seconds);
  writer.u32(time.nanoseconds);
}

/** @param before - An earlier field: answered itself when equal, as times often are, so that a record is small. */
export function readTimestamp(reader: ByteReader, before?: Timestamp): Timestamp {
  const seconds = reader.i64();
  const nanoseconds = reader.u32();
  if (nanoseconds >= NANOSECONDS_PER_SECOND) throw reader.fail("nanoseconds beyond a second");
  if (before !== undefined && before.nanoseconds === nanoseconds && before.seconds === seconds) return before;
  return { seconds, nanoseconds };
}

function readSymlinkTarget(reader: ByteReader): Uint8Array {
  if (reader.remaining === 0 || reader.remaining > MAX_SYMLINK_BYTES) {
    throw reader.fail("a symlink target of impossible length");
  }
  return reader.bytes(reader.remaining);
}
