import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { isTcfsError } from "../../src/errors.ts";
import { nameFault } from "../../src/format/names.ts";
import type { ExtentPage } from "../../src/format/records.ts";
import {
  DEFAULT_VERSION_POLICY,
  VERSION_KINDS,
  decodeChain,
  decodeVersion,
  decodeVersionPolicy,
  encodeChain,
  encodeVersion,
  encodeVersionPolicy,
  type VersionRecord,
} from "../../src/format/version-codec.ts";
import {
  fileVersionKey,
  nameVersionKey,
  versionPlaceOf,
  versionsOf,
  versionsOfName,
  type VersionNumber,
} from "../../src/format/version-keys.ts";
import type { InodeNumber, Name } from "../../src/ids.ts";
import { anyEpoch, anyExtentPage, anyInode, anyXattrs } from "./arbitrary-records.ts";

const u53 = fc.maxSafeNat();
const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const anyName = fc
  .uint8Array({ minLength: 1, maxLength: 255 })
  .map((bytes) => Buffer.from(bytes).toString("latin1"))
  .filter((text) => nameFault(text) === undefined) as fc.Arbitrary<Name>;
const anyPages = fc
  .uniqueArray(fc.tuple(fc.integer({ min: 0, max: 2 ** 32 - 1 }), anyExtentPage), {
    selector: ([page]) => page,
    maxLength: 4,
  })
  .map((pages) => new Map<number, ExtentPage>(pages.sort(([left], [right]) => left - right)));
const anyVersion: fc.Arbitrary<VersionRecord> = fc
  .record({
    version: u53 as fc.Arbitrary<VersionNumber>,
    kind: fc.constantFrom(...VERSION_KINDS),
    directory: fc.integer({ min: 1 }) as fc.Arbitrary<InodeNumber>,
    name: anyName,
    keptAt: fc.record({ seconds: fc.maxSafeInteger(), nanoseconds: fc.integer({ min: 0, max: 999_999_999 }) }),
    inode: anyInode,
    xattrs: fc.oneof(fc.constant(new Map<Name, Uint8Array>()), anyXattrs as fc.Arbitrary<Map<Name, Uint8Array>>),
    pages: fc.option(anyPages, { nil: undefined }),
    isDropped: fc.boolean(),
    isRestored: fc.boolean(),
  })
  .map((record) => {
    if (record.kind !== "changed") return record;
    return { ...record, directory: undefined, name: "" as Name, isRestored: false };
  });

const placeOf = ({ version, inode, directory }: VersionRecord) => ({
  version,
  owner: directory ?? inode.ino,
  isOfName: directory !== undefined,
});

describe("versions", () => {
  test.prop([anyEpoch, anyVersion])("decode to what was encoded", (epoch, record) => {
    expect(decodeVersion(placeOf(record), encodeVersion(epoch, record))).toEqual(record);
  });

  test.prop([anyEpoch, anyVersion])("cut short or longer are refused, or are another whole one", (epoch, record) => {
    const bytes = encodeVersion(epoch, record);
    for (const wrong of [bytes.subarray(0, -1), Buffer.concat([bytes, Buffer.of(0)])]) {
      expect(() => decodeVersion(placeOf(record), wrong)).toThrow();
    }
  });

  test.prop([fc.uint8Array({ maxLength: 400 }), fc.boolean()])(
    "arbitrary bytes are refused by name",
    (bytes, isOfName) => {
      const place = { version: 9 as VersionNumber, owner: 5 as InodeNumber, isOfName };
      for (const decode of [
        () => decodeVersion(place, bytes),
        () => decodeChain(5 as InodeNumber, bytes),
        () => decodeVersionPolicy(bytes),
      ]) {
        try {
          decode();
        } catch (error) {
          expect(isTcfsError(error, "TCFS_CORRUPT")).toBe(true);
        }
      }
    },
  );

  it("with unknown flags or kinds, or of another inode, are refused", () => {
    const record = fc
      .sample(anyVersion, { numRuns: 200, seed: 1 })
      .find(({ kind }) => kind === "changed") as VersionRecord;
    const bytes = encodeVersion(1 as never, record);
    for (const [at, value] of [
      [4, 8],
      [4, 4],
      [5, 1],
      [5, 9],
    ] as const) {
      const wrong = new Uint8Array(bytes);
      wrong[at] = value;
      expect(() => decodeVersion(placeOf(record), wrong)).toThrow();
    }
    expect(() => decodeVersion({ ...placeOf(record), owner: (record.inode.ino - 1) as InodeNumber }, bytes)).toThrow(
      "another inode",
    );
  });
});

test.prop([anyEpoch, fc.uniqueArray(u53, { minLength: 1, maxLength: 9 }), u53, fc.boolean()])(
  "chains decode to what was encoded",
  (epoch, versions, endPage, isDropped) => {
    const chain = versions
      .sort((left, right) => left - right)
      .map((version) => ({ version: version as VersionNumber, endPage, isDropped }));
    expect(decodeChain(5 as InodeNumber, encodeChain(epoch, chain))).toEqual(chain);
  },
);

test.prop([anyEpoch, fc.boolean(), fc.array(u32, { minLength: 7, maxLength: 7 }), u53])(
  "policies decode to what was encoded",
  (epoch, isOff, numbers, trashBytes) => {
    const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0] = numbers;
    const policy = {
      ...{ isOff, allSeconds: a, hourlySeconds: b, dailySeconds: c, maxVersions: d, trashSeconds: e },
      ...{ trashCount: f, trashBytes, minimumAgeSeconds: g },
    };
    expect(decodeVersionPolicy(encodeVersionPolicy(epoch, policy))).toEqual(policy);
    expect(decodeVersionPolicy(encodeVersionPolicy(epoch, DEFAULT_VERSION_POLICY))).toEqual(DEFAULT_VERSION_POLICY);
  },
);

test("keys tell files from names, and a name's range holds its versions alone", () => {
  const [directory, version] = [7 as InodeNumber, (2 ** 38) as VersionNumber];
  const prf = new Uint8Array(16).fill(0xff);
  const ofName = nameVersionKey(directory, prf, version);
  expect(versionPlaceOf(fileVersionKey(directory, version))).toEqual({ owner: 7, isOfName: false, version });
  expect(versionPlaceOf(ofName)).toEqual({ owner: 7, isOfName: true, version });
  const isWithin = ({ first, end }: { first: Uint8Array; end: Uint8Array }, key: Uint8Array): boolean =>
    Buffer.compare(first, key) <= 0 && Buffer.compare(key, end) < 0;
  expect(isWithin(versionsOfName(directory, prf), ofName)).toBe(true);
  expect(isWithin(versionsOfName(directory, new Uint8Array(16).fill(0xfe)), ofName)).toBe(false);
  expect(isWithin(versionsOf(directory), ofName)).toBe(true);
  expect(isWithin(versionsOf(8 as InodeNumber), ofName)).toBe(false);
  expect(() => versionPlaceOf(ofName.subarray(1))).toThrow("another length");
});
