import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { NonceCounter } from "../../src/crypto/nonce-counter.ts";
import { PackKeyWrapper, WRAPPED_PACK_KEY_BYTES } from "../../src/crypto/pack-key.ts";
import { SecretKey } from "../../src/crypto/secret-key.ts";
import { deriveSubkeys } from "../../src/crypto/subkeys.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { noise, PACK_ID, PACK_KEY, VAULT_ID } from "./fixtures.ts";

const CORRUPT = expect.objectContaining({ code: "TCFS_CORRUPT" }) as Error;
const CLOSED = expect.objectContaining({ code: "TCFS_CLOSED" }) as Error;

describe("deriveSubkeys", () => {
  test("gives seven keys, all different, and others to another vault", () => {
    const keys = Object.values<Uint8Array>({ ...deriveSubkeys(noise("vault key", 32), VAULT_ID) });
    const others = Object.values<Uint8Array>({ ...deriveSubkeys(noise("vault key", 32), noise("other vault", 16)) });
    const all = new Set([...keys, ...others].map((key) => Buffer.from(key).toString("hex")));
    expect(keys).toHaveLength(7);
    expect(all.size).toBe(14);
  });

  test("refuses keys and ids of another length", () => {
    expect(() => deriveSubkeys(new Uint8Array(31), VAULT_ID)).toThrow(RangeError);
    expect(() => deriveSubkeys(new Uint8Array(32), new Uint8Array(8))).toThrow(RangeError);
  });
});

describe("PackKeyWrapper", () => {
  const wrapper = () => new PackKeyWrapper(noise("packs", 32), VAULT_ID, systemRandom);

  test("unwraps what it wrapped, each time under another nonce", () => {
    const [first, second] = [wrapper().wrap(PACK_ID, PACK_KEY), wrapper().wrap(PACK_ID, PACK_KEY)];
    expect(first).toHaveLength(WRAPPED_PACK_KEY_BYTES);
    expect(first).not.toEqual(second);
    expect(wrapper().unwrap(PACK_ID, first)).toEqual(PACK_KEY);
    expect(wrapper().unwrap(PACK_ID, second)).toEqual(PACK_KEY);
  });

  test("refuses every flipped byte, another vault and another key", () => {
    const wrapped = wrapper().wrap(PACK_ID, PACK_KEY);
    for (let i = 0; i < wrapped.length; i++) {
      const forged = wrapped.slice();
      forged[i]! ^= 0x80;
      expect(() => wrapper().unwrap(PACK_ID, forged)).toThrow(CORRUPT);
    }
    const otherVault = new PackKeyWrapper(noise("packs", 32), noise("other vault", 16), systemRandom);
    expect(() => otherVault.unwrap(PACK_ID, wrapped)).toThrow(CORRUPT);
    const otherKey = new PackKeyWrapper(noise("other packs", 32), VAULT_ID, systemRandom);
    expect(() => otherKey.unwrap(PACK_ID, wrapped)).toThrow(CORRUPT);
  });

  test("refuses every call once wiped", () => {
    const wiped = wrapper();
    wiped.wipe();
    expect(() => wiped.wrap(PACK_ID, PACK_KEY)).toThrow(CLOSED);
    expect(() => wiped.unwrap(PACK_ID, new Uint8Array(WRAPPED_PACK_KEY_BYTES))).toThrow(CLOSED);
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
