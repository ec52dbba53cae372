import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { ByteWriter } from "../../src/bytes.ts";
import { isTcfsError } from "../../src/errors.ts";
import { encodeVolume } from "../../src/format/inode-codec.ts";
import {
  JOURNAL_BLOCK_BYTES,
  JOURNAL_HEADER_BYTES,
  changesBytes,
  decodeChanges,
  encodeChanges,
  frameJournalRecord,
  journalKey,
  journalRecordBytes,
  parseJournalHeader,
} from "../../src/format/journal-codec.ts";
import { inodeKey, singleKey } from "../../src/format/record-keys.ts";
import type { Epoch, InodeNumber } from "../../src/ids.ts";

const anyChanges = fc.array(
  fc.record({
    key: fc.uint8Array({ minLength: 1, maxLength: 255 }),
    value: fc.option(fc.uint8Array({ maxLength: 300 }), { nil: undefined }),
  }),
  { maxLength: 30 },
);
const anyCommit = fc.oneof(fc.maxSafeNat(), fc.nat({ max: 300 }));

function encoded(changes: Parameters<typeof encodeChanges>[0]): ReturnType<typeof encodeChanges> {
  return encodeChanges(changes, changesBytes(changes));
}

describe("changes", () => {
  test.prop([anyChanges])("are what was encoded, to the byte", (changes) => {
    const { plain, changes: own } = encoded(changes);
    expect(decodeChanges(plain)).toEqual(changes);
    expect(own).toEqual(changes);
    for (const [index, { key, value }] of own.entries()) {
      expect(key).toBe(changes[index]?.key);
      if (value !== undefined) expect(value.buffer).toBe(plain.buffer);
    }
  });

  test.prop([fc.uint8Array({ maxLength: 400 })])("of any bytes are refused as damage, or are those bytes", (bytes) => {
    let changes;
    try {
      changes = decodeChanges(bytes);
    } catch (error) {
      expect(isTcfsError(error, "TCFS_CORRUPT")).toBe(true);
      return;
    }
    expect(encoded(changes).plain).toEqual(bytes);
  });

  test.prop([anyChanges, fc.nat()])("cut short are refused, unless cut between two of them", (changes, where) => {
    const { plain } = encoded(changes);
    const cut = plain.length === 0 ? 0 : where % plain.length;
    const ends = changes.map((_, index) => changesBytes(changes.slice(0, index)));
    const decode = (): unknown => decodeChanges(plain.subarray(0, cut));
    if (cut === 0 || ends.includes(cut)) expect(decode()).toHaveLength(Math.max(0, ends.indexOf(cut)));
    else expect(decode).toThrow(expect.objectContaining({ code: "TCFS_CORRUPT" }));
  });

  it("do not have keys that are too long, or empty", () => {
    expect(() => encoded([{ key: new Uint8Array(256), value: undefined }])).toThrow(RangeError);
    const { plain } = encoded([{ key: Uint8Array.of(0x41), value: Uint8Array.of(1) }]);
    expect(() => decodeChanges(Uint8Array.of(0, ...plain.subarray(2)))).toThrow("an empty key");
  });

  it("are those of the example in FORMAT.md §7.14", () => {
    const writer = new ByteWriter();
    encodeVolume(writer, {
      epoch: 1 as Epoch,
      nextInode: 6 as InodeNumber,
      inodeCount: 1,
      allocatedBytes: 0,
      commit: 2,
      committedAt: { seconds: 0, nanoseconds: 0 },
    });
    const volume = writer.take();
    const { plain } = encoded([
      { key: inodeKey("orphan", 5 as InodeNumber), value: undefined },
      { key: singleKey("volume"), value: volume },
    ]);
    const text = `094f0000000000000005ffffffff015630000000${Buffer.from(volume).toString("hex")}`;
    expect(Buffer.from(plain).toString("hex")).toBe(text);
    expect([plain.length, plain.length + 30, journalRecordBytes(plain.length + 30)]).toEqual([68, 98, 4096]);
  });
});

describe("a record", () => {
  test.prop([anyCommit, fc.nat({ max: 20_000 }), fc.nat({ max: 3 })])(
    "is found again at its block, with its number and length",
    (commit, sealedBytes, block) => {
      const into = new Uint8Array(JOURNAL_HEADER_BYTES + sealedBytes + JOURNAL_BLOCK_BYTES).fill(0xee);
      const record = frameJournalRecord(commit, sealedBytes, into);
      expect(record.length % JOURNAL_BLOCK_BYTES).toBe(0);
      expect(record.length - JOURNAL_HEADER_BYTES - sealedBytes).toBeLessThan(JOURNAL_BLOCK_BYTES);
      const content = record.subarray(JOURNAL_HEADER_BYTES, JOURNAL_HEADER_BYTES + sealedBytes);
      expect(content.every((byte) => byte === 0xee)).toBe(true);
      expect(record.subarray(JOURNAL_HEADER_BYTES + sealedBytes).every((byte) => byte === 0)).toBe(true);
      const file = new Uint8Array(block * JOURNAL_BLOCK_BYTES + record.length);
      file.set(record, block * JOURNAL_BLOCK_BYTES);
      expect(parseJournalHeader(file, block * JOURNAL_BLOCK_BYTES)).toEqual({ commit, lengthBytes: sealedBytes });
    },
  );

  it("is none without its magic, beyond the file's end, or with a number that none can have", () => {
    const file = new Uint8Array(2 * JOURNAL_BLOCK_BYTES);
    expect(parseJournalHeader(file, 0)).toBeUndefined();
    const put = (commit: number, sealedBytes: number): void => {
      file.set(frameJournalRecord(commit, sealedBytes, new Uint8Array(3 * JOURNAL_BLOCK_BYTES)).subarray(0, 16));
    };
    put(7, file.length - JOURNAL_HEADER_BYTES);
    expect(parseJournalHeader(file, 0)?.commit).toBe(7);
    expect(parseJournalHeader(file.subarray(0, file.length - 1), 0)).toBeUndefined();
    file[0] = 0;
    expect(parseJournalHeader(file, 0)).toBeUndefined();
    put(Number.MAX_SAFE_INTEGER, 50);
    expect(parseJournalHeader(file, 0)?.commit).toBe(Number.MAX_SAFE_INTEGER);
    file[14] = 0x20;
    expect(parseJournalHeader(file, 0)).toBeUndefined();
  });

  it("is bound to its number by its key", () => {
    expect(Buffer.from(journalKey(2 ** 40 + 5)).toString("hex")).toBe("4a0000010000000005");
  });
});
