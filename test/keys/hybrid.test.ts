/** Slots that take a passphrase and an ML-KEM-768 key file together: open with both, with neither alone, and no other way. */
import { ml_kem768 } from "@noble/post-quantum/ml-kem.js";
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { createHash, hkdfSync } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { toHex } from "../../src/bytes.ts";
import { formatHeader, parseHeader } from "../../src/keys/header.ts";
import type { VaultHeader } from "../../src/keys/header.ts";
import { formatKeyFile, parseKeyFile } from "../../src/keys/key-file.ts";
import { addHybrid, addPassphrase, addSlot, removeSlot, unlockHeader } from "../../src/keys/keyring.ts";
import type { NewVault } from "../../src/keys/keyring.ts";
import { deriveKek } from "../../src/keys/kdf.ts";
import type { KeySlot } from "../../src/keys/slot-format.ts";
import { PASSPHRASE, codeOf, keyringOptions, makeVault, utf8, withChecksum } from "./fixtures.ts";

type Json = Record<string, unknown>;
type HybridJson = Json & { kdf: Json; kem: Json };
type HybridSlot = KeySlot & { readonly kind: "hybrid" };

const SEED = new Uint8Array(64).fill(0x3c);
const FILE = formatKeyFile(SEED, "hybrid");
const WORD = "zusätzlich";

const both = (passphrase: string, file = FILE): Uint8Array => Buffer.concat([file, utf8(passphrase)]);
const open = (header: VaultHeader, secret = both(WORD)) => unlockHeader(header, { kind: "hybrid", bytes: secret });

let vault: NewVault;
let header: VaultHeader;
let slot: HybridSlot;
beforeAll(async () => {
  vault = await makeVault();
  header = await addHybrid(vault.header, vault.key, both(WORD), keyringOptions("hybrid"));
  slot = header.slots.at(-1) as HybridSlot;
});

describe("a hybrid slot", () => {
  test("opens with passphrase and file, and keeps its bytes through the header's text", async () => {
    const { key } = await open(parseHeader(formatHeader(header)));
    expect(toHex(key.expose())).toBe(toHex(vault.key.expose()));
    expect(parseHeader(formatHeader(header))).toEqual(header);
    await open(header, both(WORD.normalize("NFD")));
  });

  test("holds if either part holds: neither the file alone nor the passphrase alone opens it", async () => {
    const stranger = formatKeyFile(new Uint8Array(64).fill(1), "hybrid");
    for (const secret of [both("zusatzlich"), both(""), both(WORD, stranger)])
      expect(await codeOf(open(header, secret))).toBe("TCFS_WRONG_KEY");
    for (const kind of ["passphrase", "key-file"] as const)
      expect(await codeOf(unlockHeader(header, { kind, bytes: kind === "passphrase" ? utf8(WORD) : FILE }))).toBe(
        "TCFS_WRONG_KEY",
      );
  });

  test("is what FORMAT.md says, step by step", async () => {
    const { publicKey, secretKey } = ml_kem768.keygen(SEED);
    const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest();
    expect(toHex(slot.kem.publicHash)).toBe(toHex(sha256(publicKey)));
    const shared = ml_kem768.decapsulate(slot.kem.ciphertext, secretKey);
    const stretched = await deriveKek(utf8(WORD), slot.salt, slot.kdf);
    const info = Buffer.concat([utf8("tcfs v1 hybrid"), sha256(publicKey), sha256(slot.kem.ciphertext)]);
    const derive = (ikm: Uint8Array, label: Uint8Array) =>
      new Uint8Array(hkdfSync("sha256", ikm, slot.salt, label, 32));
    const kek = derive(Buffer.concat([shared, stretched]), info);
    expect(toHex(derive(kek, utf8("tcfs v1 slot commitment")))).toBe(toHex(slot.commitment));
    const members = (JSON.parse(Buffer.from(formatHeader(header)).toString()) as { slots: Json[] }).slots.at(-1) ?? {};
    const binding = Object.fromEntries(Object.entries(members).slice(0, 6));
    expect(Object.keys(binding)).toEqual(["kind", "kdf", "kem", "id", "createdAt", "salt"]);
    const aad = Buffer.concat([utf8("tcfs v1 slot"), header.vaultId, utf8(JSON.stringify(binding))]);
    const cipher = xchacha20poly1305(derive(kek, utf8("tcfs v1 slot wrap")), slot.nonce, aad);
    expect(toHex(cipher.decrypt(slot.wrappedKey))).toBe(toHex(vault.key.expose()));
  });

  test("has a shared secret of its own each time, also for one file", async () => {
    const again = await addHybrid(header, vault.key, both(WORD), keyringOptions("again"));
    const second = again.slots.at(-1) as HybridSlot;
    expect(toHex(second.kem.publicHash)).toBe(toHex(slot.kem.publicHash));
    expect(toHex(second.kem.ciphertext)).not.toBe(toHex(slot.kem.ciphertext));
  });

  test("opens no longer once removed, needs no hardware, and is not made without a passphrase", async () => {
    expect(await codeOf(open(removeSlot(header, vault.key, slot.id)))).toBe("TCFS_WRONG_KEY");
    const [first, second] = header.slots as [KeySlot, KeySlot];
    const alone = removeSlot(removeSlot(header, vault.key, first.id), vault.key, second.id);
    await open(alone);
    expect(await codeOf(() => removeSlot(alone, vault.key, slot.id))).toBe("TCFS_LAST_SLOT");
    expect(await codeOf(addHybrid(header, vault.key, both(""), keyringOptions()))).toBe("TCFS_USAGE");
  });
});

describe("somebody who rewrites the header", () => {
  const altered = (change: (last: HybridJson) => void): Uint8Array =>
    withChecksum(header, (body) => {
      change(body.slots.at(-1) as HybridJson);
    });
  const flip = (hex: unknown, at: number): string => {
    const bytes = Buffer.from(hex as string, "hex");
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    return bytes.toString("hex");
  };

  test("cannot make the slot another kind, KEM or KDF: it is refused by name, or bounded", async () => {
    const refused: [(last: HybridJson) => void, string][] = [
      [({ kem }) => (kem["algorithm"] = "ml-kem-512"), "TCFS_UNKNOWN_FORMAT"],
      [({ kdf }) => (kdf["algorithm"] = "md5"), "TCFS_UNKNOWN_FORMAT"],
      [({ kdf }) => (kdf["memoryKiB"] = 8), "TCFS_KDF_BOUNDS"],
      [({ kem }) => (kem["ciphertext"] = "00"), "TCFS_BAD_HEADER"],
      [(last) => (last["kind"] = "passphrase"), "TCFS_BAD_HEADER"],
      [(last) => Reflect.deleteProperty(last, "kem"), "TCFS_BAD_HEADER"],
    ];
    for (const [change, code] of refused) {
      const content = altered(change);
      expect(await codeOf(() => parseHeader(content)), change.toString()).toBe(code);
    }
    expect(() => parseHeader(altered(({ kem }) => (kem["algorithm"] = "ml-kem-512")))).toThrow(/ml-kem-512/u);
  });

  test("cannot take one part out of it: a passphrase slot with its members does not open", async () => {
    const { kdf, id, createdAt, salt, commitment, nonce, wrappedKey } = slot;
    const weaker: KeySlot = { kind: "passphrase", kdf, id, createdAt, salt, commitment, nonce, wrappedKey };
    const forged = { ...header, slots: header.slots.with(-1, weaker) };
    expect(await codeOf(unlockHeader(forged, { kind: "passphrase", bytes: utf8(WORD) }))).toBe("TCFS_WRONG_KEY");
  });

  test("cannot change a bit of what is derived from, or bring the slot from elsewhere", async () => {
    const changes: ((last: HybridJson) => void)[] = [
      ({ kem }) => (kem["ciphertext"] = flip(kem["ciphertext"], 0)),
      ({ kem }) => (kem["ciphertext"] = flip(kem["ciphertext"], 1087)),
      ({ kem }) => (kem["publicHash"] = flip(kem["publicHash"], 31)),
      (last) => (last["salt"] = flip(last["salt"], 3)),
      ({ kdf }) => (kdf["passes"] = 4),
    ];
    for (const change of changes)
      expect(await codeOf(open(parseHeader(altered(change)))), change.toString()).toBe("TCFS_WRONG_KEY");
    const sealed = altered((last) => (last["createdAt"] = "2026-01-01T00:00:00.000Z"));
    expect(await codeOf(open(parseHeader(sealed)))).toBe("TCFS_BAD_HEADER");
    const other = await makeVault("other", "other");
    const theirs = await addHybrid(other.header, other.key, both(WORD), keyringOptions("theirs"));
    const brought = { ...header, slots: header.slots.with(-1, theirs.slots.at(-1) as KeySlot) };
    expect(await codeOf(open(brought))).toBe("TCFS_BAD_HEADER");
  });
});

describe("its key file", () => {
  test("is no key file of the other kind, nor that one of this; a changed byte is found", async () => {
    expect(parseKeyFile(FILE, "hybrid")).toEqual(SEED);
    expect(FILE).toHaveLength(80);
    const plain = formatKeyFile(new Uint8Array(32));
    expect(await codeOf(() => parseKeyFile(FILE))).toBe("TCFS_WRONG_KEY");
    expect(await codeOf(() => parseKeyFile(plain, "hybrid"))).toBe("TCFS_WRONG_KEY");
    for (let at = 0; at < FILE.length; at++) {
      const damaged = FILE.map((byte, index) => (index === at ? byte ^ 0x80 : byte));
      expect(await codeOf(() => parseKeyFile(damaged, "hybrid")), String(at)).toBe("TCFS_WRONG_KEY");
    }
  });

  test("does not stand in the way of the vault's other slots", async () => {
    const more = await addPassphrase(header, vault.key, utf8("third"), keyringOptions("third"));
    const file = { kind: { kind: "key-file" }, material: new Uint8Array(32).fill(7) } as const;
    const full = await addSlot(more, vault.key, file, keyringOptions("file"));
    expect((await unlockHeader(full, { kind: "passphrase", bytes: utf8(PASSPHRASE) })).slot.kind).toBe("passphrase");
    expect((await open(full)).slot.kind).toBe("hybrid");
  });
});
