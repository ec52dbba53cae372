import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ObjectSealer, epochOfObject } from "../../src/crypto/object-seal.ts";
import {
  type KeptRoot,
  MAX_KEPT_ROOTS,
  type Manifest,
  type Root,
  decodeManifest,
  decodeRoot,
  encodeManifest,
  encodeRoot,
  padContent,
  padme,
  unpadContent,
} from "../../src/format/replica-codec.ts";
import type { ChunkId, PackId } from "../../src/ids.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { firstEpoch, noise } from "../crypto/fixtures.ts";

const corrupt: unknown = expect.objectContaining({ code: "TCFS_CORRUPT" });
const bytes = (lengthBytes: number) => fc.uint8Array({ minLength: lengthBytes, maxLength: lengthBytes });
const time = fc.record({ seconds: fc.integer({ min: 0, max: 2 ** 40 }), nanoseconds: fc.nat(999_999_999) });
const chunk = fc
  .record({
    lengthBytes: fc.integer({ min: 1, max: 300_000 }),
    id: bytes(32),
    pack: bytes(16),
    firstFrame: fc.nat(1000),
  })
  .map(({ lengthBytes, id, pack, firstFrame }) => ({
    id: id as ChunkId,
    pack: pack as PackId,
    packOffset: 256 + firstFrame,
    firstFrame,
    lengthBytes,
    storedFrameBytes: new Uint32Array(Math.ceil(lengthBytes / 65_536)).fill(2000),
  }));
const manifest: fc.Arbitrary<Manifest> = fc.record({
  number: fc.integer({ min: 1, max: 2 ** 40 }),
  deviceId: bytes(16),
  previousHash: bytes(32),
  time,
  commit: fc.nat(),
  lost: fc.array(
    fc.record({ pack: bytes(16).map((id) => id as PackId), kind: fc.constantFrom("missing", "damaged") }),
    { maxLength: 3 },
  ),
  stream: fc.oneof(
    fc.record({ kind: fc.constant("inline" as const), content: fc.uint8Array({ maxLength: 200 }) }),
    fc.record({ kind: fc.constant("chunks" as const), chunks: fc.array(chunk, { minLength: 1, maxLength: 4 }) }),
  ),
});
const root: fc.Arbitrary<Root> = fc
  .record({
    number: fc.integer({ min: 1, max: 2 ** 40 }),
    steps: fc.nat(1024),
    headHash: bytes(32),
    deviceId: bytes(16),
    time,
    kept: fc.array(
      bytes(8).map((hash) => ({ number: 9, hash: Buffer.from(hash).toString("hex") })),
      { maxLength: MAX_KEPT_ROOTS },
    ),
  })
  .map(({ number, steps, headHash, deviceId, time: at, kept }) => {
    const checkpoint = Math.max(1, number - steps);
    const headKind = checkpoint === number ? "checkpoint" : "commit";
    return {
      number,
      headKind,
      headHash,
      checkpoint,
      deviceId,
      time: at,
      commit: 7,
      headerRevision: 3,
      devicesRevision: 2,
      kept,
    };
  });

describe("manifests and the root", () => {
  test("come back as they were", () => {
    fc.assert(
      fc.property(manifest, (one) => {
        expect(decodeManifest(encodeManifest(one))).toEqual(one);
      }),
    );
    fc.assert(
      fc.property(root, (one) => {
        expect(decodeRoot(encodeRoot(one))).toEqual(one);
      }),
    );
  });

  test("of arbitrary bytes are refused or fields, never another error", () => {
    const refuses = (decode: (content: Uint8Array) => unknown) =>
      fc.property(fc.uint8Array({ maxLength: 400 }), (content) => {
        try {
          decode(content);
        } catch (error) {
          expect(error).toEqual(corrupt);
        }
      });
    fc.assert(refuses(decodeManifest));
    fc.assert(refuses(decodeRoot));
    fc.assert(refuses(unpadContent));
  });

  test("refuse impossible steps, and chunks that no pack can hold", () => {
    const one: Root = {
      number: 5,
      headKind: "commit",
      headHash: new Uint8Array(32),
      checkpoint: 4,
      deviceId: new Uint8Array(16),
      time: { seconds: 0, nanoseconds: 0 },
      commit: 1,
      headerRevision: 1,
      devicesRevision: 1,
      kept: [],
    };
    for (const change of [
      { checkpoint: 0 },
      { checkpoint: 6 },
      { checkpoint: 5 },
      { headKind: "checkpoint" as const },
    ]) {
      expect(() => decodeRoot(encodeRoot({ ...one, ...change }))).toThrow(corrupt);
    }
    expect(() => decodeRoot(encodeRoot({ ...one, number: 2000 }))).toThrow(corrupt);
    const kept = new Array<KeptRoot>(MAX_KEPT_ROOTS + 1).fill({ number: 1, hash: "00".repeat(8) });
    expect(() => decodeRoot(encodeRoot({ ...one, kept }))).toThrow(corrupt);
  });
});

describe("padding", () => {
  test("adds at most an eighth, tells few lengths, and is taken away again", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (lengthBytes) => {
        const padded = padme(lengthBytes);
        expect(padded).toBeGreaterThanOrEqual(lengthBytes);
        expect(padded).toBeLessThanOrEqual(lengthBytes * 1.12 + 1);
        expect(padme(padded)).toBe(padded);
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array(), (content) => {
        expect(unpadContent(padContent(content))).toEqual(content);
      }),
    );
    const forged = padContent(noise("padded", 1000));
    forged[forged.length - 1] = 1;
    expect(() => unpadContent(forged)).toThrow(corrupt);
  });
});

describe("a sealed object", () => {
  const sealer = new ObjectSealer(firstEpoch(noise("store", 32)), noise("vault", 16), systemRandom);
  const content = noise("content", 100);
  const object = sealer.seal("commit", 7, content);

  test("opens as what it was sealed as, and as nothing else", () => {
    expect(sealer.unseal("commit", 7, object)).toEqual(content);
    expect(() => sealer.unseal("commit", 8, object)).toThrow(corrupt);
    expect(() => sealer.unseal("checkpoint", 7, object)).toThrow(corrupt);
    const asCheckpoint = object.slice();
    asCheckpoint.set(Buffer.from("TCFSCHEK"));
    expect(() => sealer.unseal("checkpoint", 7, asCheckpoint)).toThrow(corrupt);
    for (const [key, vault] of [
      ["other", "vault"],
      ["store", "other"],
    ] as const) {
      const stranger = new ObjectSealer(firstEpoch(noise(key, 32)), noise(vault, 16), systemRandom);
      expect(() => stranger.unseal("commit", 7, object)).toThrow(corrupt);
    }
  });

  test("of an older key epoch opens until that is over; a newer one, or another's number, never", () => {
    const keys = firstEpoch(noise("store", 32));
    const rotating = new ObjectSealer(keys, noise("vault", 16), systemRandom);
    const mac = rotating.mac("text");
    keys.begin({ keyEpoch: 2, key: noise("store of epoch 2", 32) });
    const newer = rotating.seal("root", 0, content);
    expect(epochOfObject(newer)).toBe(2);
    expect(rotating.unseal("commit", 7, object)).toEqual(content);
    expect(rotating.unseal("root", 0, newer)).toEqual(content);
    const unknown = expect.objectContaining({ code: "TCFS_UNKNOWN_FORMAT" }) as Error;
    expect(() => sealer.unseal("root", 0, newer)).toThrow(unknown);
    const downgraded = newer.slice();
    downgraded[12] = 1;
    expect(() => rotating.unseal("root", 0, downgraded)).toThrow(corrupt);
    expect([rotating.verifies("text", mac), rotating.verifies("other", mac)]).toEqual([true, false]);
    keys.forgetOlder();
    expect(() => rotating.unseal("commit", 7, object)).toThrow(unknown);
    expect(rotating.verifies("text", mac)).toBe(false);
  });

  test("does not open with any byte flipped, or cut", () => {
    for (let at = 0; at < object.length; at++) {
      const flipped = object.slice();
      flipped[at] = (flipped[at] ?? 0) ^ 0x10;
      expect(() => sealer.unseal("commit", 7, flipped)).toThrow();
    }
    for (let end = 0; end < object.length; end += 7) {
      expect(() => sealer.unseal("commit", 7, object.subarray(0, end))).toThrow(corrupt);
    }
    const newer = object.slice();
    newer[8] = 2;
    expect(() => sealer.unseal("commit", 7, newer)).toThrow(
      expect.objectContaining({ code: "TCFS_UNKNOWN_FORMAT" }) as Error,
    );
  });
});
