/** What two engines must have in common: each opens the other's output, and names and cuts are the same. */
import * as fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { DEFAULT_CHUNKING, FRAME_BYTES } from "../../src/crypto/engine.ts";
import { openEngine } from "../../src/crypto/open-engine.ts";
import { changesBytes, encodeChanges } from "../../src/format/journal-codec.ts";
import type { InodeNumber, Name } from "../../src/ids.ts";
import type { EngineKind } from "./engine-contract.ts";
import {
  content,
  cutInto,
  engineOptions,
  expectSameBytes,
  noise,
  PACK_ID,
  PACK_KEY,
  prose,
  splits,
  storedBytes,
} from "./fixtures.ts";

export function testAgreement(seals: EngineKind, opens: EngineKind): void {
  describe(`${seals} seals, ${opens} opens`, () => {
    const sealing = openEngine(engineOptions(), seals);
    const opening = openEngine(engineOptions(), opens);
    afterAll(() => {
      sealing.close();
      opening.close();
    });

    test("each cuts and names alike", async () => {
      const property = fc.asyncProperty(content, splits, fc.boolean(), async (bytes, cuts, isFinal) => {
        const named = await opening.nameChunks([{ pieces: [bytes], isFinal }]);
        expect(await sealing.nameChunks([{ pieces: cutInto(bytes, cuts), isFinal }])).toEqual(named);
      });
      await fc.assert(property, { numRuns: 40 });
    });

    test("each cuts and names alike at the sizes of a real vault", async () => {
      const bytes = Buffer.concat([noise("real", 6_000_000), prose(1_000_000), noise("tail", 300_000)]);
      const inputs = [{ pieces: cutInto(bytes, [1, 70_000, 5_999_999]), isFinal: true }];
      const [first, second] = [seals, opens].map((kind) =>
        openEngine(engineOptions({ chunking: DEFAULT_CHUNKING }), kind).nameChunks(inputs),
      );
      const named = await first!;
      expect(named[0]!.length).toBeGreaterThan(3);
      expect(await second).toEqual(named);
    });

    test("the other opens what one sealed", async () => {
      const property = fc.asyncProperty(content, splits, async (plain, cuts) => {
        const output = new Uint8Array(sealing.sealBoundBytes(plain.length));
        const input = { pieces: cutInto(plain, cuts), lengthBytes: plain.length };
        const [sealed] = await sealing.packCipher(PACK_ID, PACK_KEY, 1).seal([input], 5, output);
        const opened = new Uint8Array(plain.length);
        await opening
          .packCipher(PACK_ID, PACK_KEY, 1)
          .unseal(sealed!, output.subarray(0, storedBytes(sealed!)), opened);
        expectSameBytes(opened, plain);
      });
      await fc.assert(property, { numRuns: 40 });
    });

    test("each seals what does not compress to the same bytes", async () => {
      const plain = noise("same bytes", FRAME_BYTES + 777);
      const outputs = await Promise.all(
        [sealing, opening].map(async (engine) => {
          const output = new Uint8Array(engine.sealBoundBytes(plain.length));
          const input = { pieces: [plain], lengthBytes: plain.length };
          await engine.packCipher(PACK_ID, PACK_KEY, 1).seal([input], 2 ** 31, output);
          return output;
        }),
      );
      expectSameBytes(outputs[0]!, outputs[1]!);
    });

    test("each seals records to the same bytes, and opens the other's", () => {
      const [one, other] = [seals, opens].map((kind) => openEngine(engineOptions(), kind));
      const record = fc.record({
        key: fc.uint8Array({ minLength: 1, maxLength: 40 }),
        value: fc.uint8Array({ maxLength: 300 }),
      });
      fc.assert(
        fc.property(fc.array(record, { maxLength: 6 }), (plain) => {
          const sealed = one!.records.seal(plain);
          expect(other!.records.seal(plain)).toEqual(sealed);
          expect(plain.map(({ key }, i) => other!.records.unseal(key, sealed[i]!))).toEqual(plain.map((p) => p.value));
          const encoded = encodeChanges(plain, changesBytes(plain)).plain;
          expect(other!.records.sealChanges(encoded)).toEqual(one!.records.sealChanges(encoded));
        }),
        { numRuns: 40 },
      );
    });

    test("each gives names the same PRF values", () => {
      const name = fc
        .string({ unit: "binary-ascii", maxLength: 255 })
        .map((text) => text.replaceAll("@", "\xe9") as Name);
      fc.assert(
        fc.property(fc.nat(2 ** 50), name, (ino, text) => {
          expect(sealing.namePrf(ino as InodeNumber, text)).toEqual(opening.namePrf(ino as InodeNumber, text));
        }),
      );
    });
  });
}
