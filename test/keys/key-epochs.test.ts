/** Key epochs: what a rotation makes of a header and its keys, and what of an older one is refused (FORMAT.md §8.8). */
import { beforeAll, describe, expect, test } from "vitest";
import { EpochKeys } from "../../src/crypto/epoch-keys.ts";
import { formatHeader, parseHeader } from "../../src/keys/header.ts";
import type { VaultHeader } from "../../src/keys/header.ts";
import { EpochRooms } from "../../src/keys/epoch-rooms.ts";
import { VaultKeys } from "../../src/keys/key-epochs.ts";
import { formatRecoveryWords } from "../../src/keys/recovery-words.ts";
import { addPassphrase, endRotation, nameFeatures, rotateHeader, unlockHeader } from "../../src/keys/keyring.ts";
import type { NewVault, RotatedHeader } from "../../src/keys/keyring.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { PACK_ID, noise } from "../crypto/fixtures.ts";
import { PASSPHRASE, keyringOptions, makeVault, utf8 } from "./fixtures.ts";

const WORDS = { kind: { kind: "recovery-words" }, material: noise("entropy", 32) } as const;
const bad = expect.objectContaining({ code: "TCFS_BAD_HEADER" }) as Error;
const wrong = expect.objectContaining({ code: "TCFS_WRONG_KEY" }) as Error;

let vault: NewVault;
let rotated: RotatedHeader;

const rotate = (header: VaultHeader, key: RotatedHeader["key"], seed: string) =>
  rotateHeader(header, key, { slots: [WORDS], renewal: "wraps" }, keyringOptions(seed));
const roomsOf = ({ header, key }: RotatedHeader): EpochRooms => {
  const { vaultId, chunking } = header;
  return new EpochRooms(VaultKeys.open(header, key), { vaultId, chunking, random: systemRandom });
};
const ended = ({ header, key }: RotatedHeader): RotatedHeader => {
  const { newest } = VaultKeys.open(header, key);
  return { header: endRotation(header, newest.subkeys.header), key };
};
const withPassphrase = (header: VaultHeader) => unlockHeader(header, { kind: "passphrase", bytes: utf8(PASSPHRASE) });

beforeAll(async () => {
  vault = await makeVault();
  rotated = await rotate(vault.header, vault.key, "rotation");
});

describe("a rotated header", () => {
  test("has another key, the slots it was given and no others, and its epoch by name", async () => {
    const { header, key } = rotated;
    expect(Buffer.from(key.expose())).not.toEqual(Buffer.from(vault.key.expose()));
    expect(header).toMatchObject({ keyEpoch: 2, revision: 2, incompatibleFeatures: ["key-epochs"] });
    expect(header.slots.map(({ kind }) => kind)).toEqual(["recovery-words"]);
    expect(parseHeader(formatHeader(header))).toEqual(header);
    await expect(withPassphrase(header)).rejects.toThrow(wrong);
    await expect(unlockHeader(header, { kind: "recovery-words", bytes: utf8(vault.recoveryWords) })).rejects.toThrow(
      wrong,
    );
  });

  test("gives the key of the epoch before until it has ended, and the first epoch's names for ever", () => {
    const first = VaultKeys.open(vault.header, vault.key);
    const both = VaultKeys.open(rotated.header, rotated.key);
    expect(both.older.map(({ keyEpoch }) => keyEpoch)).toEqual([1]);
    expect(both.older[0]?.subkeys.records).toEqual(first.newest.subkeys.records);
    expect(both.newest.subkeys.records).not.toEqual(first.newest.subkeys.records);
    const after = VaultKeys.open(ended(rotated).header, rotated.key);
    expect(after.older).toEqual([]);
    for (const { chunkId, gear, names } of [both.newest.subkeys, after.newest.subkeys]) {
      expect([chunkId, gear, names]).toEqual([
        first.newest.subkeys.chunkId,
        first.newest.subkeys.gear,
        first.newest.subkeys.names,
      ]);
    }
  });

  test("takes changes of its slots and features, and keeps its keyring", async () => {
    const more = await addPassphrase(rotated.header, rotated.key, utf8("another"), keyringOptions("more"));
    const named = nameFeatures({ ...more, readOnlyCompatibleFeatures: [] }, rotated.key);
    for (const header of [more, named]) expect(header.keyring).toEqual(rotated.header.keyring);
    const opened = await unlockHeader(more, { kind: "passphrase", bytes: utf8("another") });
    expect(VaultKeys.open(more, opened.key).older).toHaveLength(1);
  });

  test("begins no other epoch before this one has ended, and then may", async () => {
    await expect(rotate(rotated.header, rotated.key, "too soon")).rejects.toThrow(
      expect.objectContaining({ code: "TCFS_BUSY" }) as Error,
    );
    const { header, key } = ended(rotated);
    const third = await rotate(header, key, "third");
    expect(third.header).toMatchObject({ keyEpoch: 3, incompatibleFeatures: ["key-epochs"] });
    expect(VaultKeys.open(third.header, third.key).older.map(({ keyEpoch }) => keyEpoch)).toEqual([2]);
    const names = (keys: VaultKeys) => keys.newest.subkeys.names;
    expect(names(VaultKeys.open(third.header, third.key))).toEqual(names(VaultKeys.open(vault.header, vault.key)));
  });

  test("is refused without a slot that needs no hardware", async () => {
    const slots: [] = [];
    await expect(rotateHeader(vault.header, vault.key, { slots, renewal: "data" }, keyringOptions())).rejects.toThrow(
      expect.objectContaining({ code: "TCFS_LAST_SLOT" }) as Error,
    );
  });
});

describe("a downgraded or altered epoch", () => {
  test("an older epoch's slot in the newer header opens the old key, and is refused", async () => {
    const slots = [...rotated.header.slots, ...vault.header.slots];
    await expect(withPassphrase({ ...rotated.header, slots })).rejects.toThrow(bad);
  });

  const changes: [string, (header: VaultHeader) => VaultHeader][] = [
    [
      "the keyring of an ended rotation given back",
      (header) => ({ ...ended(rotated).header, keyring: header.keyring }),
    ],
    ["another renewal", (header) => withOlder(header, { renewal: "data" })],
    ["another older epoch", (header) => withOlder({ ...header, keyEpoch: 3 }, { keyEpoch: 2 })],
    ["another wrapped key", (header) => withOlder(header, { wrappedKey: new Uint8Array(48) })],
    ["a later epoch", (header) => ({ ...header, keyEpoch: 3 })],
  ];
  test.each(changes)("%s does not verify", async (_name, change) => {
    const header = parseHeader(formatHeader(change(rotated.header)));
    await expect(unlockHeader(header, { kind: "recovery-words", bytes: wordsOf() })).rejects.toThrow(bad);
  });

  test.each<[string, (header: VaultHeader) => VaultHeader]>([
    ["an epoch above the first without a keyring", (header) => ({ ...header, keyring: undefined })],
    ["a keyring in the first epoch", (header) => ({ ...header, keyEpoch: 1 })],
    ["no feature", (header) => ({ ...header, incompatibleFeatures: [] })],
    ["an older epoch that is not older", (header) => withOlder(header, { keyEpoch: 2 })],
  ])("%s is not parsed", (_name, change) => {
    expect(() => parseHeader(formatHeader(change(rotated.header)))).toThrow(bad);
  });

  test("keys that are kept of the epoch before open under their own epoch alone", () => {
    const { header, key } = rotated;
    const [older] = header.keyring?.older ?? [];
    expect(older).toBeDefined();
    expect(() => VaultKeys.open({ ...header, keyEpoch: 3 }, key)).toThrow(bad);
    expect(() => VaultKeys.open(withOlder(header, { wrappedKey: noise("forged", 48) }), key)).toThrow(bad);
    expect(() => VaultKeys.open(header, vault.key)).toThrow(bad);
  });
});

describe("engine and wrappers over two epochs", () => {
  const plain = { key: noise("record key", 9), value: noise("value", 50) };

  test("open what either sealed, seal under the newer, and forget the older", () => {
    const first = roomsOf(vault);
    const [old] = first.engine.records.seal([plain]);
    const oldWrap = first.packKeys.wrap(PACK_ID, noise("pack key", 32));
    const both = roomsOf(rotated);
    const [fresh] = both.engine.records.seal([plain]);
    for (const sealed of [old!, fresh!]) expect(both.engine.records.unseal(plain.key, sealed)).toEqual(plain.value);
    expect([old!, fresh!].map((sealed) => both.engine.records.epochOf(plain.key, sealed))).toEqual([1, 2]);
    const corrupt = expect.objectContaining({ code: "TCFS_CORRUPT" }) as Error;
    expect(() => first.engine.records.unseal(plain.key, fresh!)).toThrow(corrupt);
    expect(() => both.engine.records.epochOf(noise("other", 9), old!)).toThrow(corrupt);
    expect(both.packKeys.unwrap(PACK_ID, [oldWrap])).toEqual(noise("pack key", 32));
    both.forgetOlder();
    expect(() => both.engine.records.unseal(plain.key, old!)).toThrow(corrupt);
    expect(both.engine.records.unseal(plain.key, fresh!)).toEqual(plain.value);
    expect(() => both.packKeys.unwrap(PACK_ID, [oldWrap])).toThrow(/key epoch 1/u);
    for (const rooms of [first, both]) rooms.close();
  });

  test("go over to the next epoch while they are in use", async () => {
    const rooms = roomsOf(vault);
    const { records } = rooms.engine;
    const [old] = records.seal([plain]);
    const content = [{ pieces: [noise("content", 5000)], isFinal: true }];
    const named = await rooms.engine.nameChunks(content);
    rooms.begin(VaultKeys.open(rotated.header, rotated.key));
    expect([rooms.engine.keyEpoch, records.keyEpoch, rooms.packKeys.keyEpoch]).toEqual([2, 2, 2]);
    const [fresh] = records.seal([plain]);
    expect([old!, fresh!].map((sealed) => records.epochOf(plain.key, sealed))).toEqual([1, 2]);
    expect(await rooms.engine.nameChunks(content)).toEqual(named);
    rooms.close();
    expect(() => records.seal([plain])).toThrow(expect.objectContaining({ code: "TCFS_CLOSED" }) as Error);
  });

  test("take epochs in their order alone", () => {
    const keys = new EpochKeys({ keyEpoch: 3, key: noise("3", 32) });
    expect(() => {
      keys.begin({ keyEpoch: 3, key: noise("again", 32) });
    }).toThrow(RangeError);
    expect(() => new EpochKeys({ keyEpoch: 1, key: noise("1", 32) }, [{ keyEpoch: 2, key: noise("2", 32) }])).toThrow(
      RangeError,
    );
  });
});

function withOlder(header: VaultHeader, change: object): VaultHeader {
  if (header.keyring === undefined) throw new RangeError("no keyring");
  const older = header.keyring.older.map((epoch) => ({ ...epoch, ...change }));
  return { ...header, keyring: { ...header.keyring, older } };
}

function wordsOf(): Uint8Array {
  return utf8(formatRecoveryWords(WORDS.material));
}
