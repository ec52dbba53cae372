/** Arbitrary records, as the filesystem may hand them to the codecs. */
import { fc } from "@fast-check/vitest";
import { nameFault } from "../../src/format/names.ts";
import { EXTENT_PAGE_BYTES, type ChunkRecord, type Extent, type InodeRecord } from "../../src/format/records.ts";
import type { ChunkId, Epoch, InodeNumber, Name, PackId } from "../../src/ids.ts";

const u32 = (): fc.Arbitrary<number> => fc.integer({ min: 0, max: 2 ** 32 - 1 });
const u53 = (): fc.Arbitrary<number> => fc.maxSafeNat();
const bytesOf = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
const byteString = (maxLength: number): fc.Arbitrary<string> =>
  fc.uint8Array({ minLength: 1, maxLength }).map((bytes) => Buffer.from(bytes).toString("latin1"));

export const anyEpoch = fc.integer({ min: 1, max: 2 ** 32 - 1 }) as fc.Arbitrary<Epoch>;
const anyInodeNumber = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }) as fc.Arbitrary<InodeNumber>;
const anyName = fc
  .oneof(byteString(20), byteString(255))
  .filter((text) => nameFault(text) === undefined) as fc.Arbitrary<Name>;
const anyChunkId = bytesOf(32) as fc.Arbitrary<ChunkId>;
const anyPackId = bytesOf(16) as fc.Arbitrary<PackId>;
const anyTime = fc.record({ seconds: fc.maxSafeInteger(), nanoseconds: fc.integer({ min: 0, max: 999_999_999 }) });

export const anyInode: fc.Arbitrary<InodeRecord> = fc.record({
  ino: anyInodeNumber,
  epoch: anyEpoch,
  mode: u32(),
  uid: u32(),
  gid: u32(),
  linkCount: u32(),
  deviceNumber: u32(),
  lengthBytes: fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
  allocatedBytes: u53(),
  accessTime: anyTime,
  modifyTime: anyTime,
  changeTime: anyTime,
  birthTime: anyTime,
  entryCount: u53(),
  parent: u53() as fc.Arbitrary<InodeNumber>,
  hasXattrs: fc.boolean(),
  loggedCommit: u53(),
  symlinkTarget: fc.option(fc.uint8Array({ minLength: 1, maxLength: 200 }), { nil: undefined }),
});

export const anyVolume = fc.record({
  nextInode: fc.integer({ min: 2, max: Number.MAX_SAFE_INTEGER }) as fc.Arbitrary<InodeNumber>,
  inodeCount: u53(),
  allocatedBytes: u53(),
  epoch: anyEpoch,
  commit: u53(),
  committedAt: anyTime,
});

export const anyDentry = fc.record({ name: anyName, ino: anyInodeNumber, type: fc.integer({ min: 0, max: 15 }) });

const anyXattrName = fc
  .oneof(byteString(20), byteString(255))
  .filter((text) => !text.includes("\0")) as fc.Arbitrary<Name>;
const anyXattrValue = fc.uint8Array({ maxLength: 100 });
export const anyXattrs = fc
  .array(fc.tuple(anyXattrName, anyXattrValue), { minLength: 1, maxLength: 6 })
  .map((pairs) => new Map(pairs));

/** Cuts of the page into runs, some of them holes; few distinct chunks, as after small overwrites of a large one. */
export const anyExtentPage = fc
  .tuple(
    fc.array(anyChunkId, { minLength: 1, maxLength: 4 }),
    fc.uniqueArray(fc.integer({ min: 1, max: EXTENT_PAGE_BYTES - 1 }), { maxLength: 40 }),
    fc.array(fc.tuple(fc.boolean(), fc.nat(), fc.nat({ max: 3 * EXTENT_PAGE_BYTES })), {
      minLength: 41,
      maxLength: 41,
    }),
  )
  .map(([chunks, cuts, choices]) => {
    const bounds = [0, ...cuts.sort((left, right) => left - right), EXTENT_PAGE_BYTES];
    return bounds.slice(1).flatMap((end, index): Extent[] => {
      const [isHole, chunk, chunkOffset] = choices[index] as [boolean, number, number];
      const start = bounds[index] as number;
      if (isHole) return [];
      return [{ start, lengthBytes: end - start, chunk: chunks[chunk % chunks.length] as ChunkId, chunkOffset }];
    });
  })
  .filter((page) => page.length > 0);

const anyPacked: fc.Arbitrary<ChunkRecord> = fc
  .tuple(anyPackId, u53(), u32(), fc.integer({ min: 1, max: 4 * 1024 * 1024 }), fc.integer({ min: 21, max: 65_556 }))
  .map(([pack, packOffset, firstFrame, lengthBytes, frameBytes]) => ({
    kind: "packed",
    pack,
    packOffset,
    firstFrame,
    lengthBytes,
    storedFrameBytes: new Uint32Array(Math.ceil(lengthBytes / 65_536)).fill(frameBytes),
  }));
const anyInline: fc.Arbitrary<ChunkRecord> = fc
  .uint8Array({ minLength: 1, maxLength: 300 })
  .map((content) => ({ kind: "inline", content }));
export const anyChunkRecord = fc.oneof(anyPacked, anyInline);

export const anyPackRecord = fc.record({
  pack: anyPackId,
  lengthBytes: u53(),
  contentBytes: u53(),
  isFinished: fc.boolean(),
});
export const anyChunkTotals = fc.record({
  packCount: u53(),
  packBytes: u53(),
  inlineBytes: u53(),
  uniqueBytes: u53(),
});
const anyLoggedRun = fc.record({
  page: u53(),
  start: fc.nat(EXTENT_PAGE_BYTES - 40),
  bytes: fc.uint8Array({ minLength: 1, maxLength: 40 }),
});
export const anyLoggedContent = fc.record({
  previousCommit: u53(),
  runs: fc.array(anyLoggedRun, { minLength: 1, maxLength: 5 }),
});

export const anyInlineList = fc.record({ list: u32(), chunks: fc.array(anyChunkId, { minLength: 1, maxLength: 5 }) });
