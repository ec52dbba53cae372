/** Replies as bytes: layouts of linux/fuse.h, written in place, native byte order. Knows no filesystem. */
import type { Attributes, DirectoryEntry, FileSystemStatistics } from "../fs/operations.ts";
import type { Timestamp } from "../platform/clock.ts";
import { NAME_MAX_BYTES } from "./protocol.ts";
import type { Agreement } from "./negotiate.ts";

/** Memory that a reply is put together in. Offsets must be multiples of the width written. */
export class ReplyBuffer {
  readonly bytes: Uint8Array;
  readonly #words: Uint32Array;
  readonly #longs: BigUint64Array;

  /** @param bytes - 8-byte aligned, a multiple of 8 long. Kept. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2);
    this.#longs = new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 3);
  }

  u32(offset: number, value: number): void {
    this.#words[offset >>> 2] = value;
  }

  u64(offset: number, value: bigint): void {
    this.#longs[offset >>> 3] = value;
  }

  /** A whole number within ±2^53 as 64 bits, two's complement. */
  i53(offset: number, value: number): void {
    this.#words[offset >>> 2] = value;
    this.#words[(offset >>> 2) + 1] = Math.floor(value / 2 ** 32);
  }

  fill(offset: number, lengthBytes: number): void {
    this.bytes.fill(0, offset, offset + lengthBytes);
  }
}

const ENTRY_BYTES = 128;
const ATTRIBUTES_REPLY_BYTES = 104;
const OPEN_BYTES = 16;
const DIRENT_BYTES = 24;
const BLOCK_BYTES = 4096;

/** How long the kernel may use what it is told. */
export interface CacheTimeouts {
  readonly entrySeconds: number;
  readonly attributeSeconds: number;
}

/** What changes unseen is asked for each time. */
const NO_TIMEOUTS: CacheTimeouts = { entrySeconds: 0, attributeSeconds: 0 };

/** fuse_attr, 88 bytes. */
function encodeAttributes(reply: ReplyBuffer, offset: number, attributes: Attributes): void {
  reply.i53(offset, attributes.ino);
  reply.u64(offset + 8, attributes.lengthBytes);
  reply.i53(offset + 16, Number(attributes.allocatedBytes + 511n) / 512);
  reply.i53(offset + 24, attributes.accessTime.seconds);
  reply.i53(offset + 32, attributes.modifyTime.seconds);
  reply.i53(offset + 40, attributes.changeTime.seconds);
  reply.u32(offset + 48, attributes.accessTime.nanoseconds);
  reply.u32(offset + 52, attributes.modifyTime.nanoseconds);
  reply.u32(offset + 56, attributes.changeTime.nanoseconds);
  reply.u32(offset + 60, attributes.mode);
  reply.u32(offset + 64, attributes.linkCount);
  reply.u32(offset + 68, attributes.uid);
  reply.u32(offset + 72, attributes.gid);
  reply.u32(offset + 76, attributes.deviceNumber);
  reply.u32(offset + 80, BLOCK_BYTES);
  reply.u32(offset + 84, 0);
}

function encodeSeconds(reply: ReplyBuffer, seconds: number, secondsOffset: number, nanosecondsOffset: number): void {
  const whole = Math.floor(seconds);
  reply.i53(secondsOffset, whole);
  reply.u32(nanosecondsOffset, Math.floor((seconds - whole) * 1e9));
}

/** fuse_attr_out: attr_valid, attr_valid_nsec, dummy, attr. */
export function encodeAttributesReply(
  reply: ReplyBuffer,
  offset: number,
  attributes: Attributes,
  timeouts: CacheTimeouts,
): number {
  const { attributeSeconds } = attributes.isVolatile === true ? NO_TIMEOUTS : timeouts;
  encodeSeconds(reply, attributeSeconds, offset, offset + 8);
  reply.u32(offset + 12, 0);
  encodeAttributes(reply, offset + 16, attributes);
  return ATTRIBUTES_REPLY_BYTES;
}

/**
 * fuse_entry_out: nodeid, generation, entry_valid, attr_valid, 2 × nsec, attr. The generation is always 0, for inode
 * numbers are never used again; the kernel wants 0 for the root in any case.
 * @param attributes - Undefined: no such name, which the kernel may remember.
 */
export function encodeEntry(
  reply: ReplyBuffer,
  offset: number,
  attributes: Attributes | undefined,
  timeouts: CacheTimeouts,
): number {
  reply.i53(offset, attributes?.ino ?? 0);
  reply.i53(offset + 8, 0);
  const { entrySeconds, attributeSeconds } = attributes?.isVolatile === true ? NO_TIMEOUTS : timeouts;
  encodeSeconds(reply, entrySeconds, offset + 16, offset + 32);
  encodeSeconds(reply, attributeSeconds, offset + 24, offset + 36);
  if (attributes === undefined) reply.fill(offset + 40, ENTRY_BYTES - 40);
  else encodeAttributes(reply, offset + 40, attributes);
  return ENTRY_BYTES;
}

/** fuse_open_out: fh, open_flags, backing_id. There are no handles: requests name inodes. */
export function encodeOpen(reply: ReplyBuffer, offset: number, flags: number): number {
  reply.i53(offset, 0);
  reply.u32(offset + 8, flags);
  reply.u32(offset + 12, 0);
  return OPEN_BYTES;
}

/** STATX_BASIC_STATS | STATX_BTIME */
const STATX_MASK = 0xfff;

/** fuse_statx_out: attr_valid, attr_valid_nsec, flags, 2 × spare, then 256 bytes as struct statx. */
export function encodeStatx(
  reply: ReplyBuffer,
  offset: number,
  attributes: Attributes,
  timeouts: CacheTimeouts,
): number {
  const device = attributes.deviceNumber;
  const time = (at: number, value: Timestamp): void => {
    reply.i53(at, value.seconds);
    reply.u32(at + 8, value.nanoseconds);
  };
  reply.fill(offset, 288);
  encodeSeconds(reply, timeouts.attributeSeconds, offset, offset + 8);
  const stat = offset + 32;
  reply.u32(stat, STATX_MASK);
  reply.u32(stat + 4, BLOCK_BYTES);
  reply.u32(stat + 16, attributes.linkCount);
  reply.u32(stat + 20, attributes.uid);
  reply.u32(stat + 24, attributes.gid);
  new Uint16Array(reply.bytes.buffer, reply.bytes.byteOffset + stat + 28, 1)[0] = attributes.mode;
  reply.i53(stat + 32, attributes.ino);
  reply.u64(stat + 40, attributes.lengthBytes);
  reply.u64(stat + 48, (attributes.allocatedBytes + 511n) / 512n);
  time(stat + 64, attributes.accessTime);
  time(stat + 80, attributes.birthTime);
  time(stat + 96, attributes.changeTime);
  time(stat + 112, attributes.modifyTime);
  // new_encode_dev: minor bits 0…7, major 8…19, minor 20…31.
  reply.u32(stat + 128, (device >>> 8) & 0xfff);
  reply.u32(stat + 132, (device & 0xff) | ((device >>> 12) & 0xfff00));
  return 288;
}

/** An inode's records take about this much: what free space holds of them is the answer to "how many more". */
const BYTES_PER_INODE = 1024;

/** fuse_kstatfs: blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, padding, spare. */
export function encodeStatistics(reply: ReplyBuffer, offset: number, statistics: FileSystemStatistics): number {
  const { space, inodeCount } = statistics;
  const freeInodeCount = Math.floor(space.availableBytes / BYTES_PER_INODE);
  reply.fill(offset, 80);
  reply.i53(offset, Math.floor(space.totalBytes / BLOCK_BYTES));
  reply.i53(offset + 8, Math.floor(space.freeBytes / BLOCK_BYTES));
  reply.i53(offset + 16, Math.floor(space.availableBytes / BLOCK_BYTES));
  reply.i53(offset + 24, inodeCount + freeInodeCount);
  reply.i53(offset + 32, freeInodeCount);
  reply.u32(offset + 40, BLOCK_BYTES);
  reply.u32(offset + 44, NAME_MAX_BYTES);
  reply.u32(offset + 48, BLOCK_BYTES);
  return 80;
}

/** fuse_init_out, 64 bytes. */
export function encodeInit(reply: ReplyBuffer, offset: number, agreement: Agreement): number {
  reply.fill(offset, 64);
  reply.u32(offset, agreement.major);
  reply.u32(offset + 4, agreement.minor);
  reply.u32(offset + 8, agreement.maxReadaheadBytes);
  reply.u32(offset + 12, agreement.flags);
  const halves = new Uint16Array(reply.bytes.buffer, reply.bytes.byteOffset + offset, 32);
  halves[8] = agreement.maxBackgroundCount;
  halves[9] = agreement.congestionThresholdCount;
  reply.u32(offset + 20, agreement.maxWriteBytes);
  reply.u32(offset + 24, agreement.timeGranularityNanoseconds);
  halves[14] = agreement.maxPageCount;
  reply.u32(offset + 32, agreement.flags2);
  return 64;
}

/** Directory entries packed one after another, each padded to 8 bytes. */
export class DirectoryPacker {
  readonly #reply: ReplyBuffer;
  readonly #timeouts: CacheTimeouts;
  readonly #limitBytes: number;
  #usedBytes = 0;

  /** @param limitBytes - What the kernel takes; no more than `reply` has room for. */
  constructor(reply: ReplyBuffer, limitBytes: number, timeouts: CacheTimeouts) {
    this.#reply = reply;
    this.#limitBytes = Math.min(limitBytes, reply.bytes.length);
    this.#timeouts = timeouts;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /**
   * Append a fuse_dirent (ino, off, namelen, type, name) or, with `isPlus`, a fuse_direntplus: a fuse_entry_out
   * before it, whose nodeid is 0 where there are no attributes.
   * @returns false, and nothing appended, if there is no room.
   */
  take(entry: DirectoryEntry, attributes: Attributes | undefined, isPlus: boolean): boolean {
    const reply = this.#reply;
    const nameBytes = entry.name.length;
    const start = this.#usedBytes;
    const dirent = isPlus ? start + ENTRY_BYTES : start;
    const end = dirent + ((DIRENT_BYTES + nameBytes + 7) & ~7);
    if (end > this.#limitBytes) return false;
    if (isPlus) {
      if (attributes === undefined) reply.fill(start, ENTRY_BYTES);
      else encodeEntry(reply, start, attributes, this.#timeouts);
    }
    reply.i53(dirent, entry.ino);
    reply.u64(dirent + 8, entry.cookie);
    reply.u32(dirent + 16, nameBytes);
    reply.u32(dirent + 20, entry.type);
    reply.i53(end - 8, 0);
    const { bytes } = reply;
    for (let index = 0; index < nameBytes; index++) bytes[dirent + DIRENT_BYTES + index] = entry.name.charCodeAt(index);
    this.#usedBytes = end;
    return true;
  }
}
