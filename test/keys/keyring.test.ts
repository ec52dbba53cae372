import { fc, test as property } from "@fast-check/vitest";
import { inspect } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import { DEFAULT_CHUNKING } from "../../src/crypto/engine.ts";
import type { SecretKey } from "../../src/crypto/secret-key.ts";
import { isTcfsError } from "../../src/errors.ts";
import type { TcfsErrorCode } from "../../src/errors.ts";
import { formatHeader } from "../../src/keys/header.ts";
import type { VaultHeader } from "../../src/keys/header.ts";
import type { KeySlot } from "../../src/keys/slot-format.ts";
import { FLOOR_KDF_COST, KDF_BOUNDS, checkKdfCost, deriveKek, derivePortably } from "../../src/keys/kdf.ts";
import type { KdfCost } from "../../src/keys/kdf.ts";
import { changePassphrase, createHeader, nameFeatures, unlockHeader, verifyHeader } from "../../src/keys/keyring.ts";
import type { NewVault } from "../../src/keys/keyring.ts";
import { formatRecoveryWords, parseRecoveryWords } from "../../src/keys/recovery-words.ts";
import { PASSPHRASE, keyringOptions, makeVault, openedBy, utf8 } from "./fixtures.ts";

let vault: NewVault;

beforeAll(async () => {
  vault = await makeVault();
});

const withPassphrase = async (header: VaultHeader, text: string) =>
  (await unlockHeader(header, { kind: "passphrase", bytes: utf8(text) })).key;
const withWords = async (header: VaultHeader, text: string) =>
  (await unlockHeader(header, { kind: "recovery-words", bytes: utf8(text) })).key;
const hexOf = (key: SecretKey) => Buffer.from(key.expose()).toString("hex");

async function expectRefusal(attempt: Promise<unknown>, code: TcfsErrorCode, words: RegExp): Promise<void> {
  const error: unknown = await attempt.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(isTcfsError(error, code), String(error)).toBe(true);
  expect(String(error)).toMatch(words);
}

function withSlot(header: VaultHeader, index: number, change: Partial<KeySlot>): VaultHeader {
  const slots = header.slots.map((slot, at) => (at === index ? ({ ...slot, ...change } as KeySlot) : slot));
  return { ...header, slots };
}

describe("unlocking", () => {
  test("gives the same vault key for the passphrase and for the recovery words", async () => {
    expect(hexOf(await withPassphrase(vault.header, PASSPHRASE))).toBe(hexOf(vault.key));
    expect(hexOf(await withWords(vault.header, vault.recoveryWords))).toBe(hexOf(vault.key));
  });

  test("takes the words as typed from a numbered sheet, in any case", async () => {
    const sheet = vault.recoveryWords.split(" ").map((word, at) => `${at + 1}. ${word.toUpperCase()}`);
    expect(hexOf(await withWords(vault.header, sheet.join("\n")))).toBe(hexOf(vault.key));
  });

  test("refuses a wrong passphrase and another vault's words as a wrong key", async () => {
    const other = await makeVault("other", "other");
    await expectRefusal(withPassphrase(vault.header, "wrong"), "TCFS_WRONG_KEY", /passphrase is wrong/u);
    await expectRefusal(withWords(vault.header, other.recoveryWords), "TCFS_WRONG_KEY", /recovery words/u);
  });

  test("opens with composed and decomposed spellings of one passphrase", async () => {
    const made = await makeVault("Füße", "nfc");
    expect(hexOf(await withPassphrase(made.header, "Füße".normalize("NFD")))).toBe(hexOf(made.key));
  });

  test("takes a passphrase that is not UTF-8 byte for byte", async () => {
    const bytes = Uint8Array.of(0xff, 0xfe, 0x41);
    const made = await createHeader(bytes, DEFAULT_CHUNKING, keyringOptions("raw"));
    expect(hexOf((await unlockHeader(made.header, { kind: "passphrase", bytes })).key)).toBe(hexOf(made.key));
  });

  test("refuses an empty passphrase for a new vault", async () => {
    await expectRefusal(makeVault(""), "TCFS_USAGE", /empty/u);
  });
});

describe("a vault that is about to be written", () => {
  test("names every feature that may be in it, under its MAC", async () => {
    expect(vault.header.readOnlyCompatibleFeatures).toEqual(["snapshots", "snapshot-policy", "versions", "lost-packs"]);
    const without = { ...vault.header, readOnlyCompatibleFeatures: [] };
    const named = nameFeatures(without, vault.key);
    expect(named).toMatchObject({
      revision: without.revision + 1,
      readOnlyCompatibleFeatures: vault.header.readOnlyCompatibleFeatures,
    });
    expect(hexOf(await withPassphrase(named, PASSPHRASE))).toBe(hexOf(vault.key));
  });

  test("keeps a header that names them already", () => {
    expect(nameFeatures(vault.header, vault.key)).toBe(vault.header);
  });
});

describe("a header that its owner did not write", () => {
  const flips: [string, (header: VaultHeader) => VaultHeader][] = [
    ["another vault id", (header) => ({ ...header, vaultId: new Uint8Array(16) })],
    ["another device id", (header) => ({ ...header, deviceId: new Uint8Array(16) })],
    ["another creation time", (header) => ({ ...header, createdAt: "2001-01-01T00:00:00.000Z" })],
    ["another key epoch", (header) => ({ ...header, keyEpoch: 2 })],
    ["an older revision", (header) => ({ ...header, revision: 7 })],
    ["other chunking", (header) => ({ ...header, chunking: { ...header.chunking, minBytes: 4096 } })],
    ["a feature added", (header) => ({ ...header, readOnlyCompatibleFeatures: ["x"] })],
    ["the recovery slot gone", (header) => ({ ...header, slots: header.slots.slice(0, 1) })],
    ["a changed MAC", (header) => ({ ...header, mac: new Uint8Array(32) })],
    ["a changed nonce", (header) => withSlot(header, 0, { nonce: new Uint8Array(24) })],
    ["a changed wrapped key", (header) => withSlot(header, 0, { wrappedKey: new Uint8Array(48) })],
    ["a changed slot id", (header) => withSlot(header, 0, { id: new Uint8Array(8) })],
  ];
  test.each(flips)("with %s is refused as tampered with", async (_name, change) => {
    await expectRefusal(withPassphrase(change(vault.header), PASSPHRASE), "TCFS_BAD_HEADER", /tampered/u);
  });

  test.each([
    ["salt", { salt: new Uint8Array(16) }],
    ["commitment", { commitment: new Uint8Array(32) }],
    ["KDF cost", { kdf: { ...FLOOR_KDF_COST, passes: 4 } }],
  ])("with another %s does not open", async (_name, change) => {
    const header = withSlot(vault.header, 0, change);
    await expectRefusal(withPassphrase(header, PASSPHRASE), "TCFS_WRONG_KEY", /wrong/u);
  });

  test("with a weaker KDF does not compute it", async () => {
    const header = withSlot(vault.header, 0, { kdf: { memoryKiB: 8, passes: 1, lanes: 1 } });
    await expectRefusal(withPassphrase(header, PASSPHRASE), "TCFS_KDF_BOUNDS", /memoryKiB/u);
  });

  test("with a slot of another vault with the same passphrase is refused", async () => {
    const other = await makeVault(PASSPHRASE, "foreign");
    const foreign = other.header.slots[0] as KeySlot;
    const header = { ...vault.header, slots: [foreign, ...vault.header.slots.slice(1)] };
    await expectRefusal(withPassphrase(header, PASSPHRASE), "TCFS_BAD_HEADER", /another vault/u);
  });

  test("does not verify under the right vault key, which is wiped then", async () => {
    const key = await withPassphrase(vault.header, PASSPHRASE);
    expect(() => {
      verifyHeader({ ...vault.header, keyEpoch: 2 }, key);
    }).toThrow(/tampered/u);
    expect(() => hexOf(key)).toThrow(/is wiped/u);
  });
});

describe("a new passphrase", () => {
  test("opens the vault in the place of the old one; the words go on opening it", async () => {
    const after = await changePassphrase(
      vault.header,
      openedBy(vault, "passphrase"),
      utf8("new"),
      keyringOptions("change"),
    );
    expect(after.revision).toBe(vault.header.revision + 1);
    expect(hexOf(await withPassphrase(after, "new"))).toBe(hexOf(vault.key));
    expect(hexOf(await withWords(after, vault.recoveryWords))).toBe(hexOf(vault.key));
    await expectRefusal(withPassphrase(after, PASSPHRASE), "TCFS_WRONG_KEY", /wrong/u);
  });

  test("is never cheaper to guess at than the one whose place it takes, however slow the machine is just then", async () => {
    const costly = { ...FLOOR_KDF_COST, memoryKiB: 2 * FLOOR_KDF_COST.memoryKiB };
    const change = (before: VaultHeader, kdf: KdfCost) =>
      changePassphrase(before, openedBy({ ...vault, header: before }, "passphrase"), utf8("new"), {
        ...keyringOptions("cost"),
        kdf,
      });
    const dearer = await change(vault.header, costly);
    const costs = async (header: Promise<VaultHeader> | VaultHeader): Promise<unknown[]> =>
      (await header).slots.flatMap((slot) => (slot.kind === "passphrase" ? [slot.kdf] : []));
    expect(await costs(dearer)).toEqual([costly]);
    expect(await costs(change(dearer, FLOOR_KDF_COST))).toEqual([costly]);
  });

  test("may not be empty", async () => {
    const attempt = changePassphrase(vault.header, openedBy(vault, "passphrase"), utf8(""), keyringOptions("empty"));
    await expectRefusal(attempt, "TCFS_USAGE", /empty/u);
  });
});

describe("recovery words", () => {
  property.prop([fc.uint8Array({ minLength: 32, maxLength: 32 })])("give back their entropy", (entropy) => {
    expect(parseRecoveryWords(formatRecoveryWords(entropy))).toEqual(entropy);
  });

  test("that are too few, strange or out of order are refused without being repeated", () => {
    const words = vault.recoveryWords.split(" ");
    expect(() => parseRecoveryWords(words.slice(1).join(" "))).toThrow(/24 recovery words, not 23/u);
    expect(() => parseRecoveryWords(words.with(4, "xylofon").join(" "))).toThrow(/^recovery word 5 is not/u);
    const swapped = words.with(0, words[1] === "abandon" ? "ability" : "abandon");
    expect(() => parseRecoveryWords(swapped.join(" "))).toThrow(/^the recovery words do not belong together[^"]*$/u);
  });
});

describe("Argon2id", () => {
  test("gives the same key natively and portably", async () => {
    const salt = new Uint8Array(16).fill(7);
    const cost = { ...FLOOR_KDF_COST, lanes: 2 };
    expect(await deriveKek(utf8("x"), salt, cost)).toEqual(await derivePortably(utf8("x"), salt, cost));
  });

  test("is computed at the floor and the ceiling of its bounds, and nowhere beyond", () => {
    const { memoryKiB, passes, lanes } = KDF_BOUNDS;
    checkKdfCost({ memoryKiB: memoryKiB.min, passes: passes.min, lanes: lanes.min });
    checkKdfCost({ memoryKiB: memoryKiB.max, passes: passes.max, lanes: lanes.max });
    for (const value of [Number.NaN, 0.5, -1, 2 ** 40]) {
      expect(() => {
        checkKdfCost({ ...FLOOR_KDF_COST, memoryKiB: value });
      }).toThrow(/memoryKiB/u);
    }
  });
});

describe("the vault key", () => {
  test("never prints its bytes", () => {
    expect(inspect(vault, { depth: 9 })).toContain("[key]");
    expect(JSON.stringify(vault)).toContain('"key":"[key]"');
  });

  test("is in none of the header's bytes", () => {
    expect(Buffer.from(formatHeader(vault.header)).toString()).not.toContain(hexOf(vault.key));
  });
});
