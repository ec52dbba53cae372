import { fc, test } from "@fast-check/vitest";
import { describe, expect } from "vitest";
import { ByteWriter } from "../../src/bytes.ts";
import {
  epochOfHistoryKey,
  historyKey,
  keyOfSuperseded,
  liveKeyOf,
  ownerOfVersioned,
  snapshotKey,
  supersededIn,
  supersededKey,
} from "../../src/format/history-keys.ts";
import { dentryKey, extentsKey, inodeKey, singleKey } from "../../src/format/record-keys.ts";
import {
  MAX_SNAPSHOT_SLOT,
  commentFault,
  decodeRollback,
  decodeSnapshot,
  encodeRollback,
  encodeSnapshot,
  snapshotNameFault,
  type SnapshotRecord,
} from "../../src/format/snapshot-codec.ts";
import type { Epoch, InodeNumber } from "../../src/ids.ts";
import { anyEpoch } from "./arbitrary-records.ts";

const count = fc.maxSafeNat();
const anySnapshot = fc.record({
  epoch: anyEpoch,
  slot: fc.integer({ min: 1, max: MAX_SNAPSHOT_SLOT }),
  name: fc
    .string({ unit: "grapheme", minLength: 1, maxLength: 40 })
    .filter((text) => snapshotNameFault(text) === undefined),
  comment: fc.string({ unit: "grapheme" }).filter((text) => commentFault(text) === undefined),
  takenAt: fc.record({ seconds: fc.maxSafeInteger(), nanoseconds: fc.integer({ min: 0, max: 999_999_999 }) }),
  nextInode: fc.integer({ min: 2, max: Number.MAX_SAFE_INTEGER }) as fc.Arbitrary<InodeNumber>,
  inodeCount: count,
  allocatedBytes: count,
  isSafety: fc.boolean(),
  isForgotten: fc.boolean(),
});

function encoded(snapshot: SnapshotRecord): Uint8Array {
  const writer = new ByteWriter();
  encodeSnapshot(writer, snapshot);
  return new Uint8Array(writer.take());
}

describe("a snapshot record", () => {
  test.prop([anySnapshot])("comes back as it was", (snapshot) => {
    expect(decodeSnapshot(snapshot.epoch, encoded(snapshot))).toEqual(snapshot);
  });

  test.prop([anySnapshot, fc.nat(), fc.integer({ min: 1, max: 255 })])(
    "with any byte changed is refused, or another record that would be written so",
    (snapshot, at, change) => {
      const bytes = encoded(snapshot);
      bytes[at % bytes.length] = (bytes[at % bytes.length] as number) ^ change;
      let decoded;
      try {
        decoded = decodeSnapshot(snapshot.epoch, bytes);
      } catch (error) {
        expect(error).toMatchObject({ code: "TCFS_CORRUPT" });
        return;
      }
      expect(encoded(decoded)).toEqual(bytes);
    },
  );

  test.prop([anySnapshot, fc.nat()])("cut short is refused", (snapshot, at) => {
    const bytes = encoded(snapshot);
    const cut = bytes.subarray(0, at % bytes.length);
    expect(() => decodeSnapshot(snapshot.epoch, cut)).toThrow(expect.objectContaining({ code: "TCFS_CORRUPT" }));
  });

  test("under another epoch's key is refused", () => {
    const [snapshot] = fc.sample(anySnapshot, 1) as [SnapshotRecord];
    const other = (snapshot.epoch === 1 ? 2 : 1) as Epoch;
    expect(() => decodeSnapshot(other, encoded(snapshot))).toThrow("another epoch");
  });
});

test.each([
  ["", "is empty"],
  ["a".repeat(256), "longer than 255 bytes"],
  ["ä".repeat(128), "longer than 255 bytes"],
  [".", "means a directory"],
  ["..", "means a directory"],
  ["a/b", "a slash"],
  ["a\0b", "control character"],
  ["a\nb", "control character"],
  ["a\u0085b", "control character"],
  ["a\ud800", "Unicode"],
])("nothing is called %j", (text, why) => {
  expect(snapshotNameFault(text)).toContain(why);
});

test.each(["a", "before upgrade", "…", "2026-11-22 10:00", "-n", "a".repeat(255)])(
  "a snapshot may be called %j",
  (text) => {
    expect(snapshotNameFault(text)).toBeUndefined();
  },
);

test("a rollback record comes back as it was, and only goes back", () => {
  const encode = (target: number, safety: number): Uint8Array => {
    const writer = new ByteWriter();
    encodeRollback(writer, 9 as Epoch, { target: target as Epoch, safety: safety as Epoch });
    return writer.take();
  };
  expect(decodeRollback(encode(3, 8))).toEqual({ target: 3, safety: 8 });
  expect(() => decodeRollback(encode(8, 8))).toThrow(expect.objectContaining({ code: "TCFS_CORRUPT" }));
  expect(() => decodeRollback(encode(3, 8).subarray(0, 11))).toThrow("truncated");
});

const anyIno = fc.maxSafeNat() as fc.Arbitrary<InodeNumber>;
const anyKey = fc.oneof(
  anyIno.map((ino) => inodeKey("inode", ino)),
  fc.tuple(anyIno, fc.maxSafeNat()).map(([ino, page]) => extentsKey(ino, page)),
  fc.tuple(anyIno, fc.uint8Array({ minLength: 16, maxLength: 16 })).map(([ino, prf]) => dentryKey(ino, prf)),
);

test.prop([anyKey, anyEpoch])("keys of history and of notes give back what they were made from", (key, epoch) => {
  expect(liveKeyOf(historyKey(key, epoch))).toEqual(key);
  expect(epochOfHistoryKey(historyKey(key, epoch))).toBe(epoch);
  expect(keyOfSuperseded(supersededKey(epoch, key))).toEqual(key);
  expect(liveKeyOf(key)).toBe(key);
});

test.prop([anyKey, anyEpoch, anyEpoch, anyEpoch])(
  "the notes of a range of epochs are one range of keys",
  (key, epoch, from, to) => {
    const noted = supersededKey(epoch, key);
    const { first, end } = supersededIn(from, to);
    const isIn = Buffer.compare(noted, first) >= 0 && Buffer.compare(noted, end) < 0;
    expect(isIn).toBe(epoch >= from && epoch < to);
  },
);

test("what has no history has no owner", () => {
  expect(ownerOfVersioned(singleKey("volume"))).toBeUndefined();
  expect(ownerOfVersioned(snapshotKey(7 as Epoch))).toBeUndefined();
  expect(ownerOfVersioned(inodeKey("orphan", 5 as InodeNumber))).toBeUndefined();
  expect(ownerOfVersioned(inodeKey("xattrs", 5 as InodeNumber))).toBe(5);
});
