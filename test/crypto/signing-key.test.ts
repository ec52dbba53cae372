import { inspect } from "node:util";
import { expect, test } from "vitest";
import { toHex } from "../../src/bytes.ts";
import { SigningKey, isSignedBy } from "../../src/crypto/signing-key.ts";
import { noise } from "./fixtures.ts";

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, "hex"));

test("signs as RFC 8032, §7.1, test 3, and verifies that and nothing else", () => {
  const key = new SigningKey(bytes("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"));
  const message = bytes("af82");
  const signature = key.sign(message);
  expect(toHex(key.publicKey)).toBe("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025");
  expect(toHex(signature)).toBe(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
  );
  expect(isSignedBy(key.publicKey, message, signature)).toBe(true);
  expect(isSignedBy(key.publicKey, bytes("af83"), signature)).toBe(false);
  expect(isSignedBy(new SigningKey(noise("other", 32)).publicKey, message, signature)).toBe(false);
  for (let at = 0; at < signature.length; at += 7) {
    const flipped = signature.map((byte, index) => (index === at ? byte ^ 1 : byte));
    expect(isSignedBy(key.publicKey, message, flipped)).toBe(false);
  }
  expect(isSignedBy(new Uint8Array(32).fill(255), message, signature)).toBe(false);
  expect(isSignedBy(key.publicKey.subarray(1), message, signature)).toBe(false);
  expect(inspect(key)).not.toContain("c5aa8d");
});
