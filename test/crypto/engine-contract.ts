/** What every sealing engine does, whatever it is made of (src/crypto/engine.ts): naming, sealing, records, names. */
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EngineOptions, PackCipher, SealingEngine } from "../../src/crypto/engine.ts";
import { FRAME_BYTES, MAX_CHUNK_BYTES } from "../../src/crypto/engine.ts";
import { openEngine } from "../../src/crypto/open-engine.ts";
import type { PackId } from "../../src/ids.ts";
import {
  content,
  cutInto,
  engineOptions,
  expectSameBytes,
  forgeFrame,
  noise,
  PACK_ID,
  PACK_KEY,
  prose,
  SMALL_CHUNKING,
  splits,
  storedBytes,
  wholeRun,
  zerosBlock,
} from "./fixtures.ts";

export type EngineKind = SealingEngine["kind"];

const CLOSED = expect.objectContaining({ code: "TCFS_CLOSED" }) as Error;
const CORRUPT = expect.objectContaining({ code: "TCFS_CORRUPT" }) as Error;
const FRAME_OVERHEAD_BYTES = 20;
const LZ4 = 2 ** 24;

/** One sealed chunk with everything needed to open it again. */
interface Sealed {
  readonly run: ReturnType<typeof wholeRun>;
  readonly bytes: Uint8Array;
}

async function sealWhole(
  engine: SealingEngine,
  cipher: PackCipher,
  plain: Uint8Array,
  { firstFrame = 7, cuts = [] as readonly number[] } = {},
): Promise<Sealed> {
  const output = new Uint8Array(engine.sealBoundBytes(plain.length));
  const input = { pieces: cutInto(plain, cuts), lengthBytes: plain.length };
  const [sealed] = await cipher.seal([input], firstFrame, output);
  const run = wholeRun(sealed!);
  return { run, bytes: output.slice(0, storedBytes(run)) };
}

async function openWhole(cipher: PackCipher, { run, bytes }: Sealed): Promise<Uint8Array> {
  const output = new Uint8Array(run.lengthBytes);
  await cipher.unseal(run, bytes, output);
  return output;
}

async function expectRefused(cipher: PackCipher, sealed: Sealed): Promise<void> {
  await expect(openWhole(cipher, sealed)).rejects.toEqual(CORRUPT);
  expect(() => {
    cipher.unsealSync(sealed.run, sealed.bytes, new Uint8Array(sealed.run.lengthBytes));
  }).toThrow(CORRUPT);
}

function flipped(bytes: Uint8Array, index: number, mask = 1): Uint8Array {
  const copy = bytes.slice();
  copy[index]! ^= mask;
  return copy;
}

function lengths(chunks: readonly { readonly lengthBytes: number }[]): number[] {
  return chunks.map((chunk) => chunk.lengthBytes);
}

/** @param kind - Engine under test. */
export function testEngine(kind: EngineKind): void {
  const open = (change: Partial<EngineOptions> = {}) => openEngine(engineOptions(change), kind);
  describe(`${kind} engine`, () => {
    let engine: SealingEngine;
    beforeAll(() => {
      engine = open();
    });
    afterAll(() => {
      engine.close();
    });
    testNaming(() => engine, open);
    testSealing(() => engine);
    testForgeries(() => engine, open);
    testClosing(open);
  });
}

function testNaming(engine: () => SealingEngine, open: (change?: Partial<EngineOptions>) => SealingEngine): void {
  const name = async (pieces: Uint8Array[], isFinal = true) => (await engine().nameChunks([{ pieces, isFinal }]))[0]!;

  test("names nothing where a final input is empty", async () => {
    expect(await engine().nameChunks([])).toEqual([]);
    expect(await name([])).toEqual([]);
    expect(await name([new Uint8Array(0)])).toEqual([]);
  });

  test.each([1, 255, 256])("names a final input of %i bytes as one chunk", async (lengthBytes) => {
    expect(lengths(await name([noise("short", lengthBytes)]))).toEqual([lengthBytes]);
  });

  test("cuts at the same places and gives the same names however the bytes lie in pieces", async () => {
    const property = fc.asyncProperty(content, splits, async (bytes, cuts) => {
      const whole = await name([bytes]);
      expect(await name(cutInto(bytes, cuts))).toEqual(whole);
      expect(lengths(whole).reduce((sum, length) => sum + length, 0)).toBe(bytes.length);
      for (const { lengthBytes } of whole.slice(0, -1)) expect(lengthBytes).toBeGreaterThan(SMALL_CHUNKING.minBytes);
      for (const { lengthBytes } of whole) expect(lengthBytes).toBeLessThanOrEqual(SMALL_CHUNKING.maxBytes);
    });
    await fc.assert(property, { numRuns: 60 });
  });

  test("leaves the end of a non-final input over, to be named with what follows it", async () => {
    const property = fc.asyncProperty(content, fc.nat(45_000), async (bytes, split) => {
      const whole = await name([bytes]);
      const first = await name([bytes.subarray(0, split)], false);
      const named = lengths(first).reduce((sum, length) => sum + length, 0);
      expect([...first, ...(await name([bytes.subarray(named)]))]).toEqual(whole);
      expect(Math.min(split, bytes.length) - named).toBeLessThan(SMALL_CHUNKING.maxBytes);
    });
    await fc.assert(property, { numRuns: 60 });
  });

  test("cuts at the largest size where the content gives no cut, non-final too", async () => {
    const zeros = new Uint8Array(4096 * 2 + 10);
    expect(lengths(await name([zeros]))).toEqual([4096, 4096, 10]);
    expect(lengths(await name([zeros], false))).toEqual([4096, 4096]);
  });

  test("finds the cuts again after an insertion", async () => {
    const bytes = noise("insertion", 60_000);
    const ids = new Set((await name([bytes])).map(({ id }) => Buffer.from(id).toString("hex")));
    const shifted = await name([noise("inserted", 100), bytes]);
    const found = shifted.filter(({ id }) => ids.has(Buffer.from(id).toString("hex")));
    expect(found.length).toBeGreaterThan(shifted.length / 2);
  });

  test("names equal chunks alike and by key alone", async () => {
    const bytes = noise("dedup", 200);
    const [twice] = await Promise.all([engine().nameChunks([1, 2].map(() => ({ pieces: [bytes], isFinal: true })))]);
    expect(twice[0]).toEqual(twice[1]);
    const { subkeys } = engineOptions();
    const other = open({ subkeys: { ...subkeys, chunkId: noise("other", 32) } });
    expect((await other.nameChunks([{ pieces: [bytes], isFinal: true }]))[0]).not.toEqual(twice[0]);
    other.close();
  });

  test("cuts elsewhere under another gear key", async () => {
    const bytes = noise("gear", 60_000);
    const { subkeys } = engineOptions();
    const other = open({ subkeys: { ...subkeys, gear: noise("other gear", 32) } });
    const [named] = await other.nameChunks([{ pieces: [bytes], isFinal: true }]);
    expect(lengths(named!)).not.toEqual(lengths(await name([bytes])));
    other.close();
  });

  test("gives fresh names and leaves its arguments alone", async () => {
    const bytes = noise("lent", 100_000);
    const before = bytes.slice();
    const first = await name([bytes]);
    const copy = first.map(({ id, lengthBytes }) => ({ id: id.slice(), lengthBytes }));
    first[0]!.id.fill(0);
    expect(first[1]).toEqual(copy[1]);
    expect(await name([bytes])).toEqual(copy);
    expectSameBytes(bytes, before);
  });

  test("names a thousand small inputs in one call", async () => {
    const inputs = Array.from({ length: 1000 }, (_, i) => ({ pieces: [noise(`small ${i}`, 40)], isFinal: true }));
    const named = await engine().nameChunks(inputs);
    expect(named.map(lengths)).toEqual(inputs.map(() => [40]));
    expect(named[999]).toEqual(await name([...inputs[999]!.pieces]));
  });

  test.each([
    { minBytes: 256, averageBytes: 1000, maxBytes: 4096 },
    { minBytes: 1024, averageBytes: 1024, maxBytes: 4096 },
    { minBytes: 0, averageBytes: 1024, maxBytes: 4096 },
    { minBytes: 256, averageBytes: 4096, maxBytes: 4096 },
    { minBytes: 256, averageBytes: 1024, maxBytes: MAX_CHUNK_BYTES + 1 },
  ])("refuses the chunk sizes %o", (chunking) => {
    expect(() => open({ chunking })).toThrow(RangeError);
  });

  test.each([{ vaultId: new Uint8Array(15) }, { sessionId: new Uint8Array(9) }])("refuses an id in %o", (change) => {
    expect(() => open(change)).toThrow(RangeError);
  });
}

const EDGES = [0, 1, 15, 16, 17, 31, 32, 33, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES + 5];

function testSealing(engine: () => SealingEngine): void {
  const cipher = () => engine().packCipher(PACK_ID, PACK_KEY, 1);

  test.each([...EDGES, MAX_CHUNK_BYTES - 1, MAX_CHUNK_BYTES])("opens what it sealed, %i bytes", async (lengthBytes) => {
    for (const plain of [noise("sealed", lengthBytes), prose(lengthBytes)]) {
      const sealed = await sealWhole(engine(), cipher(), plain);
      expect(sealed.run).toMatchObject({ firstFrame: 7, lengthBytes });
      expect(sealed.run.storedFrameBytes).toHaveLength(Math.ceil(lengthBytes / FRAME_BYTES));
      expectSameBytes(await openWhole(cipher(), sealed), plain);
      const output = new Uint8Array(lengthBytes);
      cipher().unsealSync(sealed.run, sealed.bytes, output);
      expectSameBytes(output, plain);
    }
  });

  test("opens what it sealed, whatever the pieces", async () => {
    const property = fc.asyncProperty(content, splits, async (plain, cuts) => {
      const sealed = await sealWhole(engine(), cipher(), plain, { cuts });
      expectSameBytes(await openWhole(cipher(), sealed), plain);
    });
    await fc.assert(property, { numRuns: 40 });
  });

  test("compresses what compresses, and adds 20 bytes a frame to what does not", async () => {
    const packed = await sealWhole(engine(), cipher(), prose(2 * FRAME_BYTES));
    expect(packed.bytes.length).toBeLessThan(FRAME_BYTES / 2);
    const raw = await sealWhole(engine(), cipher(), noise("raw", 2 * FRAME_BYTES));
    expect(raw.bytes.length).toBe(2 * FRAME_BYTES + 2 * FRAME_OVERHEAD_BYTES);
    expect(engine().sealBoundBytes(2 * FRAME_BYTES)).toBe(raw.bytes.length);
  });

  test("compresses the rest of a chunk that begins with noise", async () => {
    const plain = Uint8Array.from(Buffer.concat([noise("head", 4 * FRAME_BYTES), prose(12 * FRAME_BYTES)]));
    expect((await sealWhole(engine(), cipher(), plain)).bytes.length).toBeLessThan(plain.length * 0.6);
  });

  test("seals many chunks one after another, frames numbered through", async () => {
    const plains = [prose(70_000), new Uint8Array(0), noise("b", 100), prose(2 * FRAME_BYTES)];
    const output = new Uint8Array(plains.reduce((sum, plain) => sum + engine().sealBoundBytes(plain.length), 0));
    const inputs = plains.map((plain) => ({ pieces: cutInto(plain, [33, 66_000]), lengthBytes: plain.length }));
    const sealed = await cipher().seal(inputs, 100, output);
    expect(sealed.map(({ firstFrame }) => firstFrame)).toEqual([100, 102, 102, 103]);
    let offset = 0;
    for (const [i, chunk] of sealed.entries()) {
      expect(chunk.outputOffset).toBe(offset);
      const run = wholeRun(chunk);
      offset += storedBytes(run);
      expectSameBytes(
        await openWhole(cipher(), { run, bytes: output.subarray(chunk.outputOffset, offset) }),
        plains[i]!,
      );
    }
  });

  test("opens any run of a chunk's frames by itself", async () => {
    const plain = prose(3 * FRAME_BYTES + 1000);
    const { run, bytes } = await sealWhole(engine(), cipher(), plain);
    const stored = run.storedFrameBytes;
    const middle = { firstFrame: 8, storedFrameBytes: stored.slice(1, 3), lengthBytes: 2 * FRAME_BYTES };
    const part = bytes.subarray(stored[0], stored[0]! + stored[1]! + stored[2]!);
    expectSameBytes(await openWhole(cipher(), { run: middle, bytes: part }), plain.slice(FRAME_BYTES, 3 * FRAME_BYTES));
    const last = { firstFrame: 10, storedFrameBytes: stored.slice(3), lengthBytes: 1000 };
    const end = bytes.subarray(bytes.length - stored[3]!);
    expectSameBytes(await openWhole(cipher(), { run: last, bytes: end }), plain.slice(3 * FRAME_BYTES));
  });

  test("seals and opens several calls at once with one cipher", async () => {
    const shared = cipher();
    const plains = Array.from({ length: 6 }, (_, i) => noise(`parallel ${i}`, 100_000));
    const sealed = await Promise.all(
      plains.map((plain, i) => sealWhole(engine(), shared, plain, { firstFrame: 2 * i })),
    );
    const opened = await Promise.all(sealed.map((one) => openWhole(shared, one)));
    for (const [i, plain] of plains.entries()) expectSameBytes(opened[i]!, plain);
  });

  test("leaves its arguments alone and gives fresh results", async () => {
    const plain = prose(100_000);
    const before = plain.slice();
    const key = PACK_KEY.slice();
    const own = engine().packCipher(PACK_ID, key, 1);
    key.fill(0);
    const sealed = await sealWhole(engine(), own, plain);
    const bytes = sealed.bytes.slice();
    expectSameBytes(await openWhole(cipher(), sealed), before);
    expectSameBytes(plain, before);
    expectSameBytes(sealed.bytes, bytes);
  });

  test("seals up to frame number 2^32 - 1 and no further", async () => {
    const plain = noise("last frame", 10);
    const sealed = await sealWhole(engine(), cipher(), plain, { firstFrame: 2 ** 32 - 1 });
    expectSameBytes(await openWhole(cipher(), sealed), plain);
    await expect(sealWhole(engine(), cipher(), plain, { firstFrame: 2 ** 32 })).rejects.toThrow(RangeError);
    await expect(sealWhole(engine(), cipher(), plain, { firstFrame: -1 })).rejects.toThrow(RangeError);
    const two = noise("two frames", FRAME_BYTES + 1);
    await expect(sealWhole(engine(), cipher(), two, { firstFrame: 2 ** 32 - 1 })).rejects.toThrow(RangeError);
  });

  test("refuses lengths that disagree", async () => {
    const plain = noise("lengths", 100);
    const bound = engine().sealBoundBytes(100);
    const seal = (lengthBytes: number, room: number) =>
      cipher().seal([{ pieces: [plain], lengthBytes }], 0, new Uint8Array(room));
    await expect(seal(99, bound)).rejects.toThrow(RangeError);
    await expect(seal(100, bound - 1)).rejects.toThrow(RangeError);
    const { run, bytes } = await sealWhole(engine(), cipher(), plain);
    await expect(cipher().unseal(run, bytes, new Uint8Array(101))).rejects.toThrow(RangeError);
    expect(() => engine().packCipher(PACK_ID, PACK_KEY.slice(1), 1)).toThrow(RangeError);
  });
}

function testForgeries(engine: () => SealingEngine, open: (change?: Partial<EngineOptions>) => SealingEngine): void {
  const cipher = () => engine().packCipher(PACK_ID, PACK_KEY, 1);

  test("refuses every flipped byte of a frame", async () => {
    for (const plain of [noise("flip", 60), prose(300)]) {
      const { run, bytes } = await sealWhole(engine(), cipher(), plain);
      for (let i = 0; i < bytes.length; i++) {
        expect(() => {
          cipher().unsealSync(run, flipped(bytes, i), new Uint8Array(plain.length));
        }).toThrow(CORRUPT);
      }
    }
  });

  test("refuses a flipped bit anywhere in a long run", async () => {
    const shared = cipher();
    const { run, bytes } = await sealWhole(engine(), shared, prose(20 * FRAME_BYTES));
    const property = fc.asyncProperty(fc.nat(bytes.length - 1), fc.nat(7), async (index, bit) => {
      await expectRefused(shared, { run, bytes: flipped(bytes, index, 1 << bit) });
    });
    await fc.assert(property, { numRuns: 20 });
  });

  test("refuses a frame moved to another number, pack or vault", async () => {
    const sealed = await sealWhole(engine(), cipher(), prose(1000));
    await expectRefused(cipher(), { ...sealed, run: { ...sealed.run, firstFrame: 8 } });
    await expectRefused(engine().packCipher(noise("other pack", 16) as PackId, PACK_KEY, 1), sealed);
    await expectRefused(engine().packCipher(PACK_ID, noise("other key", 32), 1), sealed);
    const other = open({ vaultId: noise("other vault", 16) });
    await expectRefused(other.packCipher(PACK_ID, PACK_KEY, 1), sealed);
    other.close();
  });

  test("refuses frames in another order", async () => {
    const { run, bytes } = await sealWhole(engine(), cipher(), noise("order", 2 * FRAME_BYTES));
    const half = bytes.length / 2;
    const swapped = Uint8Array.from(Buffer.concat([bytes.subarray(half), bytes.subarray(0, half)]));
    await expectRefused(cipher(), { run, bytes: swapped });
  });

  test("refuses what is truncated, too long or impossible", async () => {
    const { run, bytes } = await sealWhole(engine(), cipher(), prose(FRAME_BYTES + 100));
    const stored = run.storedFrameBytes;
    await expectRefused(cipher(), { run, bytes: bytes.slice(0, -1) });
    await expectRefused(cipher(), { run, bytes: new Uint8Array(0) });
    await expectRefused(cipher(), { run, bytes: Uint8Array.from([...bytes, 0]) });
    await expectRefused(cipher(), {
      run: { ...run, storedFrameBytes: stored.slice(1) },
      bytes: bytes.slice(stored[0]),
    });
    const short = { firstFrame: 0, lengthBytes: 5, storedFrameBytes: Uint32Array.of(FRAME_OVERHEAD_BYTES) };
    await expectRefused(cipher(), { run: short, bytes: new Uint8Array(FRAME_OVERHEAD_BYTES) });
    const giant = { firstFrame: 0, lengthBytes: 5, storedFrameBytes: Uint32Array.of(2 ** 32 - 1) };
    await expectRefused(cipher(), { run: giant, bytes: new Uint8Array(100) });
  });

  test("opens a forger's frame only where it keeps every rule", async () => {
    const run = (lengthBytes: number, sealed: Uint8Array): Sealed => ({
      run: { firstFrame: 3, lengthBytes, storedFrameBytes: Uint32Array.of(sealed.length) },
      bytes: sealed,
    });
    const forged = (lengthBytes: number, header: number, payload: Uint8Array) =>
      run(lengthBytes, forgeFrame(3, header, payload));
    expect(await openWhole(cipher(), forged(4096, 4096 + LZ4, zerosBlock(4096)))).toEqual(new Uint8Array(4096));
    expect(await openWhole(cipher(), forged(9, 9, noise("ok", 9)))).toEqual(noise("ok", 9));
    const hostile: Record<string, Sealed> = {
      "a bomb: opens to more than its header says": forged(4096, 4096 + LZ4, zerosBlock(60_000)),
      "opens to less than its header says": forged(4096, 4096 + LZ4, zerosBlock(4095)),
      "header says another length than the run": forged(4096, 60_000 + LZ4, zerosBlock(60_000)),
      "raw, longer than the run": forged(10, 10, noise("x", 11)),
      "raw, shorter than the run": forged(10, 10, noise("x", 9)),
      "raw, header disagrees": forged(10, 11, noise("x", 10)),
      "LZ4 that saves nothing": forged(32, 32 + LZ4, noise("x", 32)),
      "no LZ4 block at all": forged(4096, 4096 + LZ4, noise("junk", 500)),
      "a match before the beginning": forged(64, 64 + LZ4, Uint8Array.of(0x1f, 0, 9, 0, 30, 0x50, 0, 0, 0, 0, 0)),
      "an unknown kind": forged(10, 10 + 2 * LZ4, noise("x", 10)),
      "another frame's number": run(9, forgeFrame(4, 9, noise("ok", 9))),
    };
    for (const [what, sealed] of Object.entries(hostile)) {
      await expect(openWhole(cipher(), sealed), what).rejects.toEqual(CORRUPT);
    }
  });
}

function testClosing(open: (change?: Partial<EngineOptions>) => SealingEngine): void {
  test("refuses every call once closed", async () => {
    const engine = open();
    engine.close();
    engine.close();
    await expect((async () => engine.nameChunks([]))()).rejects.toEqual(CLOSED);
    expect(() => engine.packCipher(PACK_ID, PACK_KEY, 1)).toThrow(CLOSED);
    expect(() => engine.namePrf(1 as never, "a" as never)).toThrow(CLOSED);
    expect(() => engine.records.seal([])).toThrow(CLOSED);
    expect(() => engine.records.unseal(new Uint8Array(1), new Uint8Array(40))).toThrow(CLOSED);
  });

  test("refuses every call of a wiped pack cipher, and lets a call under way finish", async () => {
    const engine = open();
    const cipher = engine.packCipher(PACK_ID, PACK_KEY, 1);
    const plain = noise("under way", 500_000);
    const sealed = await sealWhole(engine, cipher, plain);
    const opening = openWhole(cipher, sealed);
    cipher.wipe();
    cipher.wipe();
    expectSameBytes(await opening, plain);
    await expect(openWhole(cipher, sealed)).rejects.toEqual(CLOSED);
    await expect(sealWhole(engine, cipher, plain)).rejects.toEqual(CLOSED);
    engine.close();
  });

  test("lets naming under way finish when closed", async () => {
    const bytes = noise("closing", 3_000_000);
    const [engine, other] = [open(), open()];
    const expected = await other.nameChunks([{ pieces: [bytes], isFinal: true }]);
    other.close();
    const naming = engine.nameChunks([{ pieces: [bytes], isFinal: true }]);
    engine.close();
    expect(await naming).toEqual(expected);
  });
}
