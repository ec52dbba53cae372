/** What every engine's record cipher and name PRF do (src/crypto/engine.ts; FORMAT.md §6, §7). */
import { inspect } from "node:util";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { EngineOptions, SealingEngine } from "../../src/crypto/engine.ts";
import { openEngine } from "../../src/crypto/open-engine.ts";
import { changesBytes, decodeChanges, encodeChanges } from "../../src/format/journal-codec.ts";
import type { InodeNumber, Name } from "../../src/ids.ts";
import type { EngineKind } from "./engine-contract.ts";
import { engineOptions, expectSameBytes, noise } from "./fixtures.ts";

const CORRUPT = expect.objectContaining({ code: "TCFS_CORRUPT" }) as Error;
const CLOSED = expect.objectContaining({ code: "TCFS_CLOSED" }) as Error;
const OVERHEAD_BYTES = 30;

/** @param kind - Engine under test. */
export function testRecords(kind: EngineKind): void {
  const open = (change: Partial<EngineOptions> = {}) => openEngine(engineOptions(change), kind);
  describe(`${kind} records`, () => {
    testRoundTrips(open);
    testRefusals(open);
    testNames(open);
  });
}

const record = fc.record({
  key: fc.uint8Array({ maxLength: 60 }),
  value: fc.uint8Array({ maxLength: 400 }),
});

function testRoundTrips(open: (change?: Partial<EngineOptions>) => SealingEngine): void {
  test("opens what it sealed, one or many at a time", () => {
    const { records } = open();
    fc.assert(
      fc.property(fc.array(record, { maxLength: 20 }), (plain) => {
        const before = structuredClone(plain);
        const sealed = records.seal(plain);
        expect(plain).toEqual(before);
        expect(sealed.map((one) => one.length)).toEqual(plain.map(({ value }) => value.length + OVERHEAD_BYTES));
        expect(plain.map(({ key }, i) => records.unseal(key, sealed[i]!))).toEqual(plain.map(({ value }) => value));
      }),
      { numRuns: 50 },
    );
  });

  test("opens records larger than any buffer it keeps", () => {
    const { records } = open();
    for (const lengthBytes of [65_000, 65_536, 300_000]) {
      const plain = { key: noise("key", 30), value: noise("large", lengthBytes) };
      const [sealed] = records.seal([plain]);
      expect(Buffer.compare(records.unseal(plain.key, sealed!), plain.value)).toBe(0);
    }
    const many = Array.from({ length: 5000 }, (_, i) => ({ key: noise(`k${i}`, 25), value: noise(`v${i}`, 10) }));
    const sealed = records.seal(many);
    expect(records.unseal(many[4999]!.key, sealed[4999]!)).toEqual(many[4999]!.value);
  });

  test("seals into the caller's memory, touching no more of it, and opens that", () => {
    const { records } = open();
    for (const lengthBytes of [0, 1, 500, 65_536, 300_000]) {
      const plain = { key: noise("key", 9), value: noise("into", lengthBytes) };
      const memory = new Uint8Array(lengthBytes + OVERHEAD_BYTES + 20).fill(0xee);
      const sealed = records.sealInto(plain, memory.subarray(10, memory.length - 5));
      expect(sealed.buffer).toBe(memory.buffer);
      expect([sealed.byteOffset, sealed.length]).toEqual([10, lengthBytes + OVERHEAD_BYTES]);
      expect([...memory.subarray(0, 10), ...memory.subarray(10 + sealed.length)]).toEqual(Array(20).fill(0xee));
      expect(Buffer.compare(records.unseal(plain.key, sealed), plain.value)).toBe(0);
      expectSameBytes(plain.value, noise("into", lengthBytes));
      expect(() => records.unseal(noise("other", 9), sealed)).toThrow(CORRUPT);
    }
    const [key, value] = [noise("key", 9), noise("into", 100)];
    expect(() => records.sealInto({ key, value }, new Uint8Array(129))).toThrow(RangeError);
  });

  test("counts what it seals into memory with the rest: no nonce comes twice", () => {
    const { records } = open();
    const plain = { key: noise("key", 9), value: noise("value", 50) };
    const [before] = records.seal([plain]);
    const into = records.sealInto(plain, new Uint8Array(80));
    const again = records.sealInto(plain, new Uint8Array(80));
    const [after] = records.seal([plain]);
    const nonces = [before!, into, again, after!].map((one) => Buffer.from(one.subarray(0, 14)).toString("hex"));
    expect(new Set(nonces).size).toBe(4);
  });

  test("seals encoded changes, deletions as they are, little and much at a time", async () => {
    const { records } = open();
    const one = fc.record({
      key: fc.uint8Array({ minLength: 1, maxLength: 255 }),
      value: fc.option(fc.uint8Array({ maxLength: 400 }), { nil: undefined }),
    });
    const few = fc.array(one, { maxLength: 20 });
    const many = fc.array(one, { minLength: 300, maxLength: 300 });
    const property = fc.asyncProperty(fc.oneof(few, many), async (plain) => {
      const { plain: encoded } = encodeChanges(plain, changesBytes(plain));
      const before = encoded.slice();
      const sealed = decodeChanges(await records.sealChanges(encoded));
      expectSameBytes(encoded, before);
      expect(sealed.map(({ key }) => key)).toEqual(plain.map(({ key }) => key));
      expect(sealed.map(({ key, value }) => value && records.unseal(key, value))).toEqual(plain.map((p) => p.value));
    });
    await fc.assert(property, { numRuns: 30 });
  });

  test("counts what it seals in encoded changes with the rest, also while the pool is at it", async () => {
    const { records } = open();
    const plain = { key: noise("key", 20), value: noise("value", 50) };
    const changes = Array.from({ length: 1000 }, () => plain);
    const { plain: encoded } = encodeChanges(changes, changesBytes(changes));
    const [first, second] = [records.sealChanges(encoded), records.sealChanges(encoded)];
    const [between] = records.seal([plain]);
    const sealed = [...[await first, await second].flatMap(decodeChanges).map(({ value }) => value!), between!];
    expect(new Set(sealed.map((value) => Buffer.from(value.subarray(0, 14)).toString("hex"))).size).toBe(2001);
  });

  test("refuses encoded changes that are not whole", () => {
    const { records } = open();
    const changes = [{ key: noise("key", 20), value: noise("value", 50) }];
    const { plain } = encodeChanges([...changes, ...changes], changesBytes(changes) * 2);
    for (let length = 1; length < plain.length; length++) {
      if (length === plain.length / 2) continue;
      expect(() => records.sealChanges(plain.subarray(0, length))).toThrow(CORRUPT);
    }
    expect(() => records.sealChanges(Uint8Array.of(0, 0, 0, 0, 0))).toThrow(CORRUPT);
  });

  test("never seals the same way twice", () => {
    const { records } = open();
    const plain = { key: noise("key", 20), value: noise("value", 50) };
    const sealed = [...records.seal([plain, plain]), ...records.seal([plain])];
    const nonces = new Set(sealed.map((one) => Buffer.from(one.subarray(0, 14)).toString("hex")));
    expect(nonces.size).toBe(3);
    expect([...nonces].every((nonce) => nonce.startsWith(Buffer.from(noise("session", 8)).toString("hex")))).toBe(true);
  });

  test("opens the records of more sessions than it remembers", () => {
    const key = noise("key", 20);
    const sealed = Array.from({ length: 200 }, (_, i) => {
      const engine = open({ sessionId: noise(`session ${i}`, 8) });
      const [one] = engine.records.seal([{ key, value: noise(`value ${i}`, 40) }]);
      engine.close();
      return one!;
    });
    const { records } = open();
    for (let round = 0; round < 2; round++) {
      for (const [i, one] of sealed.entries()) expect(records.unseal(key, one)).toEqual(noise(`value ${i}`, 40));
    }
  });

  test("gives fresh memory", () => {
    const { records } = open();
    const key = noise("key", 20);
    const [first, second] = records.seal([
      { key, value: noise("1", 10) },
      { key, value: noise("2", 10) },
    ]);
    const opened = records.unseal(key, first!);
    first!.fill(0);
    expect(records.unseal(key, second!)).toEqual(noise("2", 10));
    expect(opened).toEqual(noise("1", 10));
  });
}

function testRefusals(open: (change?: Partial<EngineOptions>) => SealingEngine): void {
  test("refuses every flipped byte, and every shorter record", () => {
    const { records } = open();
    const key = noise("key", 20);
    const [sealed] = records.seal([{ key, value: noise("value", 50) }]);
    for (let i = 0; i < sealed!.length; i++) {
      const forged = sealed!.slice();
      forged[i]! ^= 0x10;
      expect(() => records.unseal(key, forged)).toThrow(CORRUPT);
      expect(() => records.unseal(key, sealed!.slice(0, i))).toThrow(CORRUPT);
    }
  });

  test("refuses a record put under another key, or of another vault", () => {
    const { records } = open();
    const [a, b] = [noise("key a", 20), noise("key b", 20)];
    const [sealedA, sealedB] = records.seal([
      { key: a, value: noise("a", 30) },
      { key: b, value: noise("b", 30) },
    ]);
    expect(() => records.unseal(a, sealedB!)).toThrow(CORRUPT);
    expect(() => records.unseal(b, sealedA!)).toThrow(CORRUPT);
    expect(() => records.unseal(a.slice(1), sealedA!)).toThrow(CORRUPT);
    expect(() => open({ vaultId: noise("other vault", 16) }).records.unseal(a, sealedA!)).toThrow(CORRUPT);
    const { subkeys } = engineOptions();
    const other = open({ subkeys: { ...subkeys, records: noise("other records", 32) } });
    expect(() => other.records.unseal(a, sealedA!)).toThrow(CORRUPT);
    expect(records.unseal(a, sealedA!)).toEqual(noise("a", 30));
  });

  test("refuses every call once wiped, and never prints a key", () => {
    const engine = open();
    expect(inspect(engine, { depth: 5, showHidden: true })).toContain("[key]");
    engine.records.wipe();
    expect(() => engine.records.seal([])).toThrow(CLOSED);
    expect(() => engine.records.sealChanges(new Uint8Array(0))).toThrow(CLOSED);
    const plain = { key: noise("key", 9), value: noise("value", 5) };
    expect(() => engine.records.sealInto(plain, new Uint8Array(50))).toThrow(CLOSED);
    expect(() => engine.records.unseal(new Uint8Array(5), new Uint8Array(50))).toThrow(CLOSED);
    engine.close();
  });
}

function testNames(open: (change?: Partial<EngineOptions>) => SealingEngine): void {
  const name = (text: string) => text as Name;
  const ino = (value: number) => value as InodeNumber;

  test("gives a name one PRF value per directory, fresh each time", () => {
    const engine = open();
    const first = engine.namePrf(ino(1), name("notes.txt"));
    expect(first).toHaveLength(16);
    const copy = first.slice();
    first.fill(0);
    expect(engine.namePrf(ino(1), name("notes.txt"))).toEqual(copy);
    expect(engine.namePrf(ino(2), name("notes.txt"))).not.toEqual(copy);
    expect(engine.namePrf(ino(2 ** 32 + 1), name("notes.txt"))).not.toEqual(copy);
    expect(engine.namePrf(ino(1), name("notes.txs"))).not.toEqual(copy);
    const { subkeys } = engineOptions();
    const other = open({ subkeys: { ...subkeys, names: noise("other names", 32) } });
    expect(other.namePrf(ino(1), name("notes.txt"))).not.toEqual(copy);
  });

  test("tells all names apart, of any bytes and 255 of them", () => {
    const engine = open();
    const all = [...Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)), "", "\xff".repeat(255)];
    all.push("x".repeat(254), "x".repeat(255), "a", "a\0");
    const values = new Set(all.map((one) => Buffer.from(engine.namePrf(ino(2 ** 53 - 1), name(one))).toString("hex")));
    expect(values.size).toBe(new Set(all).size);
  });
}
