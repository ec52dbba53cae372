import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Attributes, DirectoryEntry } from "../../src/fs/operations.ts";
import {
  DirectoryPacker,
  ReplyBuffer,
  encodeAttributesReply,
  encodeEntry,
  encodeInit,
  encodeStatistics,
  encodeStatx,
} from "../../src/fuse/encode.ts";
import { negotiate } from "../../src/fuse/negotiate.ts";
import type { InodeNumber, Name } from "../../src/ids.ts";

const TIMEOUTS = { entrySeconds: 1.5, attributeSeconds: 3600 };
const ATTRIBUTES: Attributes = {
  ino: (2 ** 40 + 3) as InodeNumber,
  mode: 0o100644,
  uid: 1000,
  gid: 4_000_000_000,
  linkCount: 2,
  deviceNumber: 0x1234_5678,
  lengthBytes: 2n ** 63n - 1n,
  allocatedBytes: 513n,
  accessTime: { seconds: -2, nanoseconds: 1 },
  modifyTime: { seconds: 2 ** 34, nanoseconds: 2 },
  changeTime: { seconds: 3, nanoseconds: 3 },
  birthTime: { seconds: 4, nanoseconds: 4 },
};

function encoded(encode: (reply: ReplyBuffer) => number): Buffer {
  const bytes = new Uint8Array(4096).fill(0xee);
  const reply = new ReplyBuffer(bytes);
  return Buffer.from(bytes.subarray(16, 16 + encode(reply)));
}

describe("replies", () => {
  it("lays out attributes as fuse_attr_out", () => {
    const bytes = encoded((reply) => encodeAttributesReply(reply, 16, ATTRIBUTES, TIMEOUTS));
    expect(bytes.length).toBe(104);
    expect(bytes.readBigUInt64LE(0)).toBe(3600n);
    expect(bytes.readUInt32LE(8)).toBe(0);
    expect(bytes.readBigUInt64LE(16)).toBe(2n ** 40n + 3n);
    expect(bytes.readBigUInt64LE(24)).toBe(2n ** 63n - 1n);
    expect(bytes.readBigUInt64LE(32)).toBe(2n);
    expect(bytes.readBigInt64LE(40)).toBe(-2n);
    expect(bytes.readBigInt64LE(48)).toBe(2n ** 34n);
    expect(bytes.readUInt32LE(64)).toBe(1);
    expect(bytes.readUInt32LE(76)).toBe(0o100644);
    expect(bytes.readUInt32LE(80)).toBe(2);
    expect(bytes.readUInt32LE(88)).toBe(4_000_000_000);
    expect(bytes.readUInt32LE(92)).toBe(0x1234_5678);
    expect(bytes.readUInt32LE(96)).toBe(4096);
  });

  it("lays out an entry as fuse_entry_out, of generation 0 and with both timeouts", () => {
    const bytes = encoded((reply) => encodeEntry(reply, 16, ATTRIBUTES, TIMEOUTS));
    expect(bytes.length).toBe(128);
    expect(bytes.readBigUInt64LE(0)).toBe(2n ** 40n + 3n);
    expect(bytes.readBigUInt64LE(8)).toBe(0n);
    expect(bytes.readBigUInt64LE(16)).toBe(1n);
    expect(bytes.readUInt32LE(32)).toBe(500_000_000);
    expect(bytes.readBigUInt64LE(24)).toBe(3600n);
    expect(bytes.readBigUInt64LE(40)).toBe(2n ** 40n + 3n);
  });

  it("answers a name that is not there with inode 0 and how long that holds", () => {
    const bytes = encoded((reply) => encodeEntry(reply, 16, undefined, TIMEOUTS));
    expect(bytes.readBigUInt64LE(0)).toBe(0n);
    expect(bytes.readBigUInt64LE(16)).toBe(1n);
    expect(bytes.subarray(40).every((byte) => byte === 0)).toBe(true);
  });

  it("carries the time of birth in statx", () => {
    const bytes = encoded((reply) => encodeStatx(reply, 16, ATTRIBUTES, TIMEOUTS));
    expect(bytes.length).toBe(288);
    expect(bytes.readUInt32LE(32) & 0x800).toBe(0x800);
    expect(bytes.readUInt16LE(60)).toBe(0o100644);
    expect(bytes.readBigInt64LE(32 + 80)).toBe(4n);
    expect(bytes.readBigInt64LE(32 + 96)).toBe(3n);
    expect(bytes.readUInt32LE(32 + 128)).toBe(0x456);
    expect(bytes.readUInt32LE(32 + 132)).toBe(0x12378);
  });

  it("states space in blocks of 4 KiB", () => {
    const space = { totalBytes: 8192 * 4096, freeBytes: 4096 * 100, availableBytes: 4096 * 50 };
    const bytes = encoded((reply) => encodeStatistics(reply, 16, { space, inodeCount: 7 }));
    expect(bytes.length).toBe(80);
    expect([0, 8, 16, 24, 32].map((offset) => Number(bytes.readBigUInt64LE(offset)))).toEqual([
      8192, 100, 50, 207, 200,
    ]);
    expect([40, 44, 48].map((offset) => bytes.readUInt32LE(offset))).toEqual([4096, 255, 4096]);
  });

  it("packs directory entries that a reader gets back, and none that does not fit", () => {
    const entry = fc.record({
      name: fc
        .uint8Array({ minLength: 1, maxLength: 255 })
        .map((bytes) => Buffer.from(bytes).toString("latin1") as Name),
      ino: fc.integer({ min: 1, max: 2 ** 52 }).map((ino) => ino as InodeNumber),
      type: fc.integer({ min: 0, max: 15 }),
      cookie: fc.bigInt({ min: 1n, max: 2n ** 63n - 1n }),
    });
    fc.assert(
      fc.property(fc.array(entry), fc.integer({ min: 0, max: 3000 }), fc.boolean(), (entries, limitBytes, isPlus) => {
        const reply = new ReplyBuffer(new Uint8Array(2048).fill(0xee));
        const packer = new DirectoryPacker(reply, limitBytes, TIMEOUTS);
        const taken = entries.findIndex((entry) => !packer.take(entry, isPlus ? ATTRIBUTES : undefined, isPlus));
        expect(packer.usedBytes).toBeLessThanOrEqual(Math.min(limitBytes, 2048));
        const bytes = Buffer.from(reply.bytes.subarray(0, packer.usedBytes));
        expect(unpack(bytes, isPlus)).toEqual(taken < 0 ? entries : entries.slice(0, taken));
      }),
    );
  });
});

describe("negotiate", () => {
  const offer = { kind: "init", major: 7, minor: 45, flags: -1, flags2: -1 } as const;

  it("takes 1 MiB writes and leaves what would break a promise", () => {
    const agreement = negotiate(offer);
    expect(agreement).toMatchObject({ major: 7, minor: 45, maxWriteBytes: 1024 * 1024, maxPageCount: 256 });
    if (agreement === undefined || agreement === "again") throw new RangeError("refused");
    const left = { ATOMIC_O_TRUNC: 3, AUTO_INVAL_DATA: 12, WRITEBACK_CACHE: 16, POSIX_LOCKS: 1, FLOCK_LOCKS: 10 };
    for (const [name, bit] of Object.entries(left)) expect([name, agreement.flags & (1 << bit)]).toEqual([name, 0]);
  });

  it("asks for nothing that the kernel does not offer", () => {
    expect(negotiate({ ...offer, minor: 31, flags: 0 })).toMatchObject({
      minor: 31,
      flags: 0,
      flags2: 0,
      maxWriteBytes: 128 * 1024,
      hasLongSetxattr: false,
    });
  });

  it("has a newer major version ask again, and refuses an older kernel", () => {
    expect(negotiate({ ...offer, major: 8 })).toBe("again");
    expect(negotiate({ ...offer, major: 6 })).toBeUndefined();
    expect(negotiate({ ...offer, minor: 30 })).toBeUndefined();
  });

  it("is encoded as fuse_init_out", () => {
    const agreement = negotiate(offer);
    if (agreement === undefined || agreement === "again") throw new RangeError("refused");
    const bytes = encoded((reply) => encodeInit(reply, 16, agreement));
    expect(bytes.length).toBe(64);
    expect(bytes.readUInt32LE(0)).toBe(7);
    expect(bytes.readUInt16LE(16)).toBe(64);
    expect(bytes.readUInt16LE(18)).toBe(48);
    expect(bytes.readUInt32LE(20)).toBe(1024 * 1024);
    expect(bytes.readUInt32LE(24)).toBe(1);
    expect(bytes.readUInt16LE(28)).toBe(256);
  });
});

function unpack(bytes: Buffer, isPlus: boolean): DirectoryEntry[] {
  const entries = [];
  for (let offset = 0; offset < bytes.length;) {
    if (isPlus) offset += 128;
    const nameBytes = bytes.readUInt32LE(offset + 16);
    entries.push({
      ino: Number(bytes.readBigUInt64LE(offset)) as InodeNumber,
      cookie: bytes.readBigUInt64LE(offset + 8),
      type: bytes.readUInt32LE(offset + 20),
      name: bytes.toString("latin1", offset + 24, offset + 24 + nameBytes) as Name,
    });
    offset += (24 + nameBytes + 7) & ~7;
  }
  return entries;
}
