import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  MAX_FOOTER_BYTES,
  PACK_HEADER_BYTES,
  type PackIndexEntry,
  decodePackFooter,
  decodePackHeader,
  decodePackIndex,
  encodePackFooter,
  encodePackHeader,
  encodePackIndex,
  formatPackId,
  frameCount,
  parsePackId,
  sumBytes,
} from "../../src/chunkstore/pack-format.ts";
import { isTcfsError } from "../../src/errors.ts";
import type { ChunkId } from "../../src/ids.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { PACK_ID, VAULT_ID, noise } from "../crypto/fixtures.ts";

const WRAP = { keyEpoch: 1, wrappedKey: noise("wrapped", 72) };
const HEADER = { keyEpoch: 1, vaultId: VAULT_ID, pack: PACK_ID, wraps: [WRAP, undefined] };
const DATA_END = 2 ** 31;

const entry: fc.Arbitrary<PackIndexEntry> = fc
  .tuple(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.integer({ min: 1, max: 4 * 1024 * 1024 }), fc.nat(1000))
  .map(([id, lengthBytes, firstFrame]) => ({
    id: id as ChunkId,
    record: {
      kind: "packed",
      pack: PACK_ID,
      packOffset: PACK_HEADER_BYTES + firstFrame,
      firstFrame,
      lengthBytes,
      storedFrameBytes: new Uint32Array(frameCount(lengthBytes)).fill(1000),
    },
  }));

/** @returns Whether decoding gives a value or the one allowed error. */
function decodesOrRefuses(decode: () => unknown): boolean {
  try {
    decode();
    return true;
  } catch (error) {
    return isTcfsError(error, "TCFS_CORRUPT") || isTcfsError(error, "TCFS_UNKNOWN_FORMAT");
  }
}

describe("pack names", () => {
  test("are 32 hexadecimal digits, and nothing else is one", () => {
    expect(parsePackId(formatPackId(PACK_ID))).toEqual(PACK_ID);
    for (const name of ["", "..", "A".repeat(32), "0".repeat(31), `${"0".repeat(32)}.new`]) {
      expect(parsePackId(name)).toBeUndefined();
    }
  });
});

describe("the pack header", () => {
  test("gives back what was encoded", () => {
    expect(decodePackHeader(encodePackHeader(HEADER))).toEqual(HEADER);
    const second = { keyEpoch: 7, wrappedKey: noise("second", 72) };
    for (const wraps of [
      [undefined, second],
      [second, WRAP],
    ]) {
      expect(decodePackHeader(encodePackHeader({ ...HEADER, wraps }))).toEqual({ ...HEADER, wraps });
    }
  });

  test("refuses truncation, another magic, unknown versions and flags, and epoch 0", () => {
    const good = encodePackHeader(HEADER);
    const change = (at: number, value: number): Uint8Array => {
      const bytes = good.slice();
      bytes[at] = value;
      return bytes;
    };
    expect(() => decodePackHeader(good.subarray(0, 255))).toThrow(/truncated/);
    expect(() => decodePackHeader(change(0, 0))).toThrow(/magic/);
    for (const at of [8, 9, 10, 11]) {
      expect(() => decodePackHeader(change(at, 7))).toThrow(expect.objectContaining({ code: "TCFS_UNKNOWN_FORMAT" }));
    }
    expect(() => decodePackHeader(change(12, 0))).toThrow(/epoch 0/);
  });

  test("never fails in any other way", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => decodesOrRefuses(() => decodePackHeader(bytes))),
    );
  });
});

describe("the pack index", () => {
  test("gives back what was encoded", () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 20 }), (entries) => {
        expect(decodePackIndex(PACK_ID, encodePackIndex(entries, systemRandom), DATA_END)).toEqual(entries);
      }),
    );
  });

  test("refuses every truncation, bytes left over, and places outside the pack", () => {
    const [sample] = fc.sample(entry, { numRuns: 1, seed: 1 });
    const bytes = encodePackIndex([sample!], systemRandom);
    for (let length = 0; length < bytes.length; length += 3) {
      expect(() => decodePackIndex(PACK_ID, bytes.subarray(0, length), DATA_END)).toThrow(/truncated|left over/);
    }
    expect(() => decodePackIndex(PACK_ID, Buffer.concat([bytes, Buffer.alloc(1)]), DATA_END)).toThrow(/left over/);
    const end = sample!.record.packOffset + sumBytes(sample!.record.storedFrameBytes);
    expect(() => decodePackIndex(PACK_ID, bytes, end - 1)).toThrow(/outside/);
    expect(() => decodePackIndex(PACK_ID, bytes, end)).not.toThrow();
  });

  test("never fails in any other way, and allocates no more than it was given", () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 3 }), fc.nat(), fc.nat(255), (entries, at, value) => {
        const bytes = encodePackIndex(entries, systemRandom);
        bytes[at % bytes.length] = value;
        return decodesOrRefuses(() => decodePackIndex(PACK_ID, bytes, DATA_END));
      }),
    );
  });
});

describe("the pack footer", () => {
  const lengths = fc.integer({ min: 1, max: 4 * 1024 * 1024 });

  test("is found at the end of the file", () => {
    fc.assert(
      fc.property(lengths, fc.nat(1_000_000), (indexLengthBytes, data) => {
        const storedFrameBytes = new Uint32Array(frameCount(indexLengthBytes)).fill(500);
        const indexOffset = PACK_HEADER_BYTES + data;
        const encoded = encodePackFooter({ indexOffset, indexLengthBytes, storedFrameBytes });
        const fileBytes = indexOffset + sumBytes(storedFrameBytes) + encoded.length;
        const tail = Buffer.concat([Buffer.alloc(MAX_FOOTER_BYTES), encoded]).subarray(-MAX_FOOTER_BYTES);
        expect(decodePackFooter(tail, fileBytes)).toEqual({ indexOffset, indexLengthBytes, storedFrameBytes });
        expect(() => decodePackFooter(tail, fileBytes + 1)).toThrow(/outside/);
      }),
    );
  });

  test("is none where the pack was not finished", () => {
    expect(decodePackFooter(noise("data", MAX_FOOTER_BYTES), 10_000)).toBeUndefined();
    expect(decodePackFooter(new Uint8Array(0), 256)).toBeUndefined();
  });

  test("never fails in any other way", () => {
    const magic = Buffer.from("TCFSPEND");
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(), (bytes, fileBytes) =>
        decodesOrRefuses(() => decodePackFooter(Buffer.concat([bytes, magic]), fileBytes)),
      ),
    );
  });
});
