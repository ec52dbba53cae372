/** Snapshot records, the rollback record, and what a snapshot may be called (FORMAT.md §7.12). Pure. */
import { ByteReader, type ByteWriter } from "../bytes.ts";
import type { Epoch, InodeNumber } from "../ids.ts";
import type { Timestamp } from "../platform/clock.ts";
import { readEpoch, readTimestamp, writeTimestamp } from "./inode-codec.ts";

/** A named frozen tree. */
export interface SnapshotRecord {
  /** The last epoch that it holds; the volume's went one up when it was taken. */
  readonly epoch: Epoch;
  /** 1 … {@link MAX_SNAPSHOT_SLOT}, another for each snapshot that is there: its place among inode numbers. */
  readonly slot: number;
  readonly name: string;
  /** May be empty. */
  readonly comment: string;
  readonly takenAt: Timestamp;
  /** The volume's next inode number: what has this one or a higher one came later. */
  readonly nextInode: InodeNumber;
  readonly inodeCount: number;
  /** Bytes that all files occupied. */
  readonly allocatedBytes: number;
  /** Taken by tcfs itself before it rolled the volume back. */
  readonly isSafety: boolean;
  /** Nobody sees it any more; what it kept is being cleared away. */
  readonly isForgotten: boolean;
}

/** A rollback that takes more than one batch, under way. */
export interface RollbackRecord {
  /** The snapshot that the volume goes back to. */
  readonly target: Epoch;
  /** The snapshot of the state before. */
  readonly safety: Epoch;
}

export const MAX_SNAPSHOT_SLOT = 8190;
const MAX_COMMENT_BYTES = 4096;
const MAX_SNAPSHOT_NAME_BYTES = 255;

const FORGOTTEN = 1;
const SAFETY = 2;
const KNOWN_FLAGS = FORGOTTEN | SAFETY;

/** C0, DEL, C1. */
const CONTROL = /\p{Cc}/u;
const LONE_SURROGATE = /\p{Cs}/u;

/** @returns Why nothing can be called `name`, as the end of a sentence; undefined if it can. */
export function snapshotNameFault(name: string): string | undefined {
  const lengthBytes = Buffer.byteLength(name);
  if (lengthBytes === 0) return "is empty";
  if (lengthBytes > MAX_SNAPSHOT_NAME_BYTES) return `is longer than ${MAX_SNAPSHOT_NAME_BYTES} bytes`;
  if (name === "." || name === "..") return "means a directory";
  if (name.includes("/")) return "has a slash in it";
  if (CONTROL.test(name)) return "has a control character in it";
  if (LONE_SURROGATE.test(name)) return "is not valid Unicode";
  return undefined;
}

/** @returns Why nothing can have this comment, as the end of a sentence; undefined if it can. */
export function commentFault(comment: string): string | undefined {
  if (Buffer.byteLength(comment) > MAX_COMMENT_BYTES) return `is longer than ${MAX_COMMENT_BYTES} bytes`;
  if (comment.includes("\0")) return "has a NUL in it";
  if (LONE_SURROGATE.test(comment)) return "is not valid Unicode";
  return undefined;
}

/** @throws RangeError on a record that FORMAT.md cannot hold. */
export function encodeSnapshot(writer: ByteWriter, snapshot: SnapshotRecord): void {
  const { slot, name, comment } = snapshot;
  if (snapshotNameFault(name) !== undefined || commentFault(comment) !== undefined) {
    throw new RangeError("an impossible name or comment");
  }
  if (!(slot >= 1 && slot <= MAX_SNAPSHOT_SLOT)) throw new RangeError("an impossible slot");
  const nameBytes = Buffer.from(name);
  const commentBytes = Buffer.from(comment);
  writer.u32(snapshot.epoch);
  writer.u16((snapshot.isForgotten ? FORGOTTEN : 0) | (snapshot.isSafety ? SAFETY : 0));
  writer.u16(slot);
  writer.u64(snapshot.nextInode);
  writer.u64(snapshot.inodeCount);
  writer.u64(snapshot.allocatedBytes);
  writeTimestamp(writer, snapshot.takenAt);
  writer.u8(nameBytes.length);
  writer.bytes(nameBytes);
  writer.u16(commentBytes.length);
  writer.bytes(commentBytes);
}

/**
 * @param epoch - From the key.
 * @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodeSnapshot} does not write.
 */
export function decodeSnapshot(epoch: Epoch, bytes: Uint8Array): SnapshotRecord {
  const reader = new ByteReader(bytes, `snapshot record ${epoch}`);
  if (readEpoch(reader) !== epoch) throw reader.fail("another epoch than its key's");
  const flags = reader.u16();
  if ((flags & ~KNOWN_FLAGS) !== 0) throw reader.fail("unknown flags");
  const slot = reader.u16();
  if (slot < 1 || slot > MAX_SNAPSHOT_SLOT) throw reader.fail("an impossible slot");
  const nextInode = reader.u64() as InodeNumber;
  if (nextInode < 2) throw reader.fail("a next inode below 2");
  const inodeCount = reader.u64();
  const allocatedBytes = reader.u64();
  const takenAt = readTimestamp(reader);
  const name = readText(reader, reader.u8());
  if (snapshotNameFault(name) !== undefined) throw reader.fail("an impossible name");
  const comment = readText(reader, reader.u16());
  if (commentFault(comment) !== undefined) throw reader.fail("an impossible comment");
  reader.end();
  const isSafety = (flags & SAFETY) !== 0;
  const isForgotten = (flags & FORGOTTEN) !== 0;
  return { epoch, slot, name, comment, takenAt, nextInode, inodeCount, allocatedBytes, isSafety, isForgotten };
}

export function encodeRollback(writer: ByteWriter, epoch: Epoch, rollback: RollbackRecord): void {
  writer.u32(epoch);
  writer.u32(rollback.target);
  writer.u32(rollback.safety);
}

/** @throws TcfsError `TCFS_CORRUPT` on anything that {@link encodeRollback} does not write. */
export function decodeRollback(bytes: Uint8Array): RollbackRecord {
  const reader = new ByteReader(bytes, "rollback record");
  readEpoch(reader);
  const target = readEpoch(reader);
  const safety = readEpoch(reader);
  if (target >= safety) throw reader.fail("a target that is not older than what was kept");
  reader.end();
  return { target, safety };
}

/** What is not UTF-8 comes back as another text, which has other bytes: refused. */
function readText(reader: ByteReader, lengthBytes: number): string {
  const bytes = reader.bytes(lengthBytes);
  const text = Buffer.from(bytes).toString("utf8");
  if (Buffer.compare(Buffer.from(text), bytes) !== 0) throw reader.fail("text that is not UTF-8");
  return text;
}
