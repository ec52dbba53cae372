import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { NonceCounter } from "../../src/crypto/nonce-counter.ts";
import { PackKeyWrapper, WRAPPED_PACK_KEY_BYTES } from "../../src/crypto/pack-key.ts";
import { SecretKey } from "../../src/crypto/secret-key.ts";
import { deriveSubkeys } from "../../src/crypto/subkeys.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { firstEpoch, noise, PACK_ID, PACK_KEY, VAULT_ID } from "./fixtures.ts";

const CORRUPT = expect.objectContaining({ code: "TCFS_CORRUPT" }) as Error;
const CLOSED = expect.objectContaining({ code: "TCFS_CLOSED" }) as Error;

describe("deriveSubkeys", () => {
  test("gives nine keys, all different, and others to another vault", () => {
    const keys = Object.values<Uint8Array>({ ...deriveSubkeys(noise("vault key", 32), VAULT_ID) });
    const others = Object.values<Uint8Array>({ ...deriveSubkeys(noise("vault key", 32), noise("other vault", 16)) });
    const all = new Set([...keys, ...others].map((key) => Buffer.from(key).toString("hex")));
    expect(keys).toHaveLength(9);
    expect(all.size).toBe(18);
  });

  test("refuses keys and ids of another length", () => {
    expect(() => deriveSubkeys(new Uint8Array(31), VAULT_ID)).toThrow(RangeError);
    expect(() => deriveSubkeys(new Uint8Array(32), new Uint8Array(8))).toThrow(RangeError);
  });
});

describe("PackKeyWrapper", () => {
  const wrapper = () => new PackKeyWrapper(firstEpoch(noise("packs", 32)), VAULT_ID, systemRandom);

  test("unwraps what it wrapped, each time under another nonce", () => {
    const [first, second] = [wrapper().wrap(PACK_ID, PACK_KEY), wrapper().wrap(PACK_ID, PACK_KEY)];
    expect(first.keyEpoch).toBe(1);
    expect(first.wrappedKey).toHaveLength(WRAPPED_PACK_KEY_BYTES);
    expect(first.wrappedKey).not.toEqual(second.wrappedKey);
    expect(wrapper().unwrap(PACK_ID, [first])).toEqual(PACK_KEY);
    expect(wrapper().unwrap(PACK_ID, [second])).toEqual(PACK_KEY);
  });

  test("refuses every flipped byte, another vault and another key", () => {
    const wrapped = wrapper().wrap(PACK_ID, PACK_KEY);
    for (let i = 0; i < wrapped.wrappedKey.length; i++) {
      const wrappedKey = wrapped.wrappedKey.slice();
      wrappedKey[i]! ^= 0x80;
      expect(() => wrapper().unwrap(PACK_ID, [{ keyEpoch: 1, wrappedKey }])).toThrow(CORRUPT);
    }
    const otherVault = new PackKeyWrapper(firstEpoch(noise("packs", 32)), noise("other vault", 16), systemRandom);
    expect(() => otherVault.unwrap(PACK_ID, [wrapped])).toThrow(CORRUPT);
    const otherKey = new PackKeyWrapper(firstEpoch(noise("other packs", 32)), VAULT_ID, systemRandom);
    expect(() => otherKey.unwrap(PACK_ID, [wrapped])).toThrow(CORRUPT);
  });

  test("refuses every call once wiped", () => {
    const keys = firstEpoch(noise("packs", 32));
    const wiped = new PackKeyWrapper(keys, VAULT_ID, systemRandom);
    const wrap = wiped.wrap(PACK_ID, PACK_KEY);
    keys.wipe();
    expect(() => wiped.wrap(PACK_ID, PACK_KEY)).toThrow(CLOSED);
    expect(() => wiped.unwrap(PACK_ID, [wrap])).toThrow(CLOSED);
  });

  test("opens what any epoch wrapped whose key it has, the newest that verifies; and not under another's number", () => {
    const keys = firstEpoch(noise("packs", 32));
    const rotating = new PackKeyWrapper(keys, VAULT_ID, systemRandom);
    const old = rotating.wrap(PACK_ID, PACK_KEY);
    keys.begin({ keyEpoch: 2, key: noise("packs of epoch 2", 32) });
    const fresh = rotating.wrap(PACK_ID, PACK_KEY);
    expect(fresh.keyEpoch).toBe(2);
    const torn = { ...fresh, wrappedKey: fresh.wrappedKey.slice().fill(0, 40) };
    for (const wraps of [[old], [fresh], [old, fresh], [fresh, old], [old, torn], [torn, old]]) {
      expect(rotating.unwrap(PACK_ID, wraps)).toEqual(PACK_KEY);
    }
    expect(() => rotating.unwrap(PACK_ID, [torn])).toThrow(CORRUPT);
    expect(() => rotating.unwrap(PACK_ID, [{ ...old, keyEpoch: 2 }])).toThrow(CORRUPT);
    expect(() => rotating.unwrap(PACK_ID, [{ ...fresh, keyEpoch: 1 }])).toThrow(CORRUPT);
    expect(() => wrapper().unwrap(PACK_ID, [fresh])).toThrow(/key epoch 2/u);
    keys.forgetOlder();
    expect(() => rotating.unwrap(PACK_ID, [old])).toThrow(/key epoch 1/u);
    expect(rotating.unwrap(PACK_ID, [old, fresh])).toEqual(PACK_KEY);
    expect(() => rotating.unwrap(PACK_ID, [])).toThrow(/key epoch none/u);
  });
});

describe("SecretKey", () => {
  test("never shows its bytes, and refuses them once wiped", () => {
    const key = new SecretKey(Uint8Array.of(1, 2, 3));
    const bytes = key.expose();
    expect([inspect(key, { showHidden: true }), JSON.stringify(key)]).toEqual(["[key]", '"[key]"']);
    key.wipe();
    expect(bytes).toEqual(Uint8Array.of(0, 0, 0));
    expect(() => key.expose()).toThrow(CLOSED);
  });
});

describe("NonceCounter", () => {
  test("gives each value out once, up to 2^48", () => {
    const counter = new NonceCounter();
    expect([counter.take(3), counter.take(1), counter.take(0), counter.take(1)]).toEqual([0, 3, 4, 4]);
    const last = new NonceCounter(2 ** 48 - 2);
    expect(() => last.take(3)).toThrow(RangeError);
    expect(last.take(2)).toBe(2 ** 48 - 2);
    expect(() => last.take(1)).toThrow(RangeError);
  });
});
