import { constants } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TcfsError } from "../../src/errors.ts";
import { decodeRequest } from "../../src/fuse/decode.ts";
import type { Request } from "../../src/fuse/decode.ts";
import { OPCODE } from "../../src/fuse/protocol.ts";
import { RequestBuffer } from "../../src/fuse/request-buffer.ts";
import { begin, fields, layRequest, requestMemory } from "./fixtures/requests.ts";

const memory = requestMemory();
const buffer = new RequestBuffer(memory);
const opcodes = fc.constantFrom(...Object.values(OPCODE));
const byteName = fc
  .uint8Array({ minLength: 1, maxLength: 255 })
  .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0x41 : byte))).toString("latin1"));

function decode(opcode: number, body: Uint8Array, hasLongSetxattr = true): Request {
  return decodeRequest(buffer, begin(memory, buffer, { opcode, body }), hasLongSetxattr);
}

describe("decodeRequest", () => {
  it("reads the header, with inode numbers above 32 bits", () => {
    const fields = {
      opcode: OPCODE.GETATTR,
      unique: 0x1234_5678_9abc_def0n,
      ino: 2n ** 40n + 7n,
      uid: 5,
      gid: 6,
      pid: 7,
    };
    expect(begin(memory, buffer, fields)).toEqual({
      opcode: OPCODE.GETATTR,
      uniqueLow: 0x9abc_def0,
      uniqueHigh: 0x1234_5678,
      ino: 2 ** 40 + 7,
      uid: 5,
      gid: 6,
      pid: 7,
    });
  });

  it("has no header for less than 40 bytes, or a length that is not the message's", () => {
    const lengthBytes = layRequest(memory, { opcode: OPCODE.GETATTR });
    expect(buffer.begin(39)).toBeUndefined();
    expect(buffer.begin(lengthBytes + 1)).toBeUndefined();
    expect(buffer.begin(memory.length + 40)).toBeUndefined();
  });

  it("keeps every byte of a name", () => {
    fc.assert(
      fc.property(byteName, (name) => {
        expect(decode(OPCODE.LOOKUP, fields(name))).toEqual({ kind: "lookup", name });
      }),
    );
  });

  it("reads both names of a rename, whatever they hold", () => {
    fc.assert(
      fc.property(byteName, byteName, fc.integer({ min: 0, max: 7 }), (name, newName, flags) => {
        expect(decode(OPCODE.RENAME2, fields(9n, flags, 0, name, newName))).toEqual({
          kind: "rename",
          name,
          newName,
          newParent: 9,
          flags: { noReplace: (flags & 1) !== 0, exchange: (flags & 2) !== 0, whiteout: (flags & 4) !== 0 },
        });
      }),
    );
  });

  it("reads how a file or directory was opened from what is read of it", () => {
    const { O_DIRECT, O_NOATIME } = constants;
    fc.assert(
      fc.property(fc.boolean(), fc.boolean(), (isDirect, keepsAccessTime) => {
        const body = fields(0n, 7n, 9, 0, 0n, (isDirect ? O_DIRECT : 0) | (keepsAccessTime ? O_NOATIME : 0), 0);
        const read = { kind: "read", offset: 7n, lengthBytes: 9, isDirect, keepsAccessTime };
        const list = { kind: "readDirectory", cookie: 7n, lengthBytes: 9, withAttributes: true, keepsAccessTime };
        expect(decode(OPCODE.READ, body)).toEqual(read);
        expect(decode(OPCODE.READDIRPLUS, body)).toEqual(list);
      }),
    );
  });

  it("reads the offset, flags and data of a write", () => {
    const offset = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
    fc.assert(
      fc.property(offset, fc.uint8Array({ maxLength: 5000 }), fc.boolean(), (offset, data, clearSetId) => {
        const body = fields(0n, offset, data.length, clearSetId ? 4 : 0, 0n, 0, 0, data);
        const request = decode(OPCODE.WRITE, body);
        expect(request).toMatchObject({ kind: "write", offset, clearSetId, sync: false });
        expect(request.kind === "write" && Buffer.compare(request.data, data)).toBe(0);
      }),
    );
  });

  it("asks for a sync of its own only where no FSYNC follows", () => {
    const write = (flags: number): Request =>
      decode(OPCODE.WRITE, fields(0n, 0n, 1, 0, 0n, flags, 0, Buffer.from("x")));
    expect(write(constants.O_SYNC)).toMatchObject({ sync: false });
    expect(write(constants.O_DSYNC | constants.O_DIRECT)).toMatchObject({ sync: true });
  });

  it("reads times before 1970 and past 2038, and tells now from a given time", () => {
    const times = fields(-5n, 2n ** 33n, 0n, 999_999_999, 1, 0);
    const rest = fields(0o644, 0, 10, 11, 0);
    const setattr = (valid: number): Request => decode(OPCODE.SETATTR, fields(valid, 0, 0n, 77n, 0n, times, rest));
    expect(setattr((1 << 4) | (1 << 5))).toEqual({
      kind: "setAttributes",
      changes: {
        accessTime: { seconds: -5, nanoseconds: 999_999_999 },
        modifyTime: { seconds: 2 ** 33, nanoseconds: 1 },
      },
    });
    expect(setattr(0b1111_1011_0111 | (1 << 3))).toEqual({
      kind: "setAttributes",
      changes: {
        mode: 0o644,
        uid: 10,
        gid: 11,
        lengthBytes: 77n,
        accessTime: "now",
        modifyTime: "now",
        clearSetId: true,
      },
    });
    expect(setattr(0)).toEqual({ kind: "setAttributes", changes: {} });
  });

  it("knows the short and the long form of SETXATTR", () => {
    const value = Buffer.from([0, 1, 2]);
    const expected = { kind: "setXattr", name: "user.a", value: new Uint8Array(value) };
    expect(decode(OPCODE.SETXATTR, fields(3, 1, "user.a", value), false)).toEqual({
      ...expected,
      flags: { create: true, replace: false, clearSetGid: false },
    });
    expect(decode(OPCODE.SETXATTR, fields(3, 2, 1, 0, "user.a", value), true)).toEqual({
      ...expected,
      flags: { create: false, replace: true, clearSetGid: true },
    });
  });

  it("copies what outlives the request, so that the next one does not change it", () => {
    const request = decode(OPCODE.SYMLINK, fields("name", "target"));
    memory.fill(0xff);
    expect(request).toEqual({ kind: "makeSymlink", name: "name", target: new Uint8Array(Buffer.from("target")) });
  });

  it("reads forgets of one and of many", () => {
    expect(decode(OPCODE.FORGET, fields(3n))).toEqual({ kind: "forget", forgets: [{ ino: 1, count: 3 }] });
    expect(decode(OPCODE.BATCH_FORGET, fields(2, 0, 5n, 1n, 6n, 2n))).toEqual({
      kind: "forget",
      forgets: [
        { ino: 5, count: 1 },
        { ino: 6, count: 2 },
      ],
    });
  });

  it.each([
    ["a name without NUL", OPCODE.LOOKUP, Buffer.from("abc"), "TCFS_INVALID"],
    ["an empty name", OPCODE.UNLINK, Buffer.from([0]), "TCFS_INVALID"],
    ["a name of 256 bytes", OPCODE.MKDIR, fields(0, 0, "n".repeat(256)), "TCFS_NAME_TOO_LONG"],
    ["a symlink without target", OPCODE.SYMLINK, fields("name"), "TCFS_INVALID"],
    ["more data than sent", OPCODE.WRITE, fields(0n, 0n, 0xffff_ffff, 0, 0n, 0, 0, Buffer.alloc(9)), "TCFS_INVALID"],
    ["a negative offset", OPCODE.READ, fields(0n, -1n, 1, 0), "TCFS_INVALID"],
    ["more forgets than sent", OPCODE.BATCH_FORGET, fields(0x1000_0000, 0), "TCFS_INVALID"],
    ["an unknown rename flag", OPCODE.RENAME2, fields(1n, 8, 0, "a", "b"), "TCFS_INVALID"],
    ["a value longer than sent", OPCODE.SETXATTR, fields(100, 0, 0, 0, "user.a", Buffer.alloc(3)), "TCFS_INVALID"],
    ["SEEK_SET, which the kernel does itself", OPCODE.LSEEK, fields(0n, 0n, 0, 0), "TCFS_INVALID"],
  ])("refuses %s", (_, opcode, body, code) => {
    expect(() => decode(opcode, body)).toThrow(expect.objectContaining({ code }) as Error);
  });

  it("answers for any bytes with a request or a TcfsError, and never reads beyond the message", () => {
    const body = fc.uint8Array({ maxLength: 200 });
    fc.assert(
      fc.property(fc.oneof(opcodes, fc.nat(100)), body, fc.boolean(), fc.nat(255), (opcode, body, isLong, stale) => {
        memory.fill(stale);
        try {
          const request = decode(opcode, body, isLong);
          expect(request.kind).toBeTypeOf("string");
          if (request.kind === "write") expect(request.data.length).toBeLessThanOrEqual(body.length);
          if (request.kind === "lookup") expect(request.name.length).toBeLessThan(body.length);
        } catch (error) {
          expect(error).toBeInstanceOf(TcfsError);
        }
      }),
      { numRuns: 3000 },
    );
  });
});
