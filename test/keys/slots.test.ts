import { fc, test as property } from "@fast-check/vitest";
import { beforeAll, describe, expect, test } from "vitest";
import { toHex } from "../../src/bytes.ts";
import type { SecretKey } from "../../src/crypto/secret-key.ts";
import { formatHeader, parseHeader } from "../../src/keys/header.ts";
import type { VaultHeader } from "../../src/keys/header.ts";
import { formatKeyFile, parseKeyFile } from "../../src/keys/key-file.ts";
import {
  addPassphrase,
  addSlot,
  changePassphrase,
  findSlot,
  removeSlot,
  replaceSlot,
  unlockHeader,
} from "../../src/keys/keyring.ts";
import type { NewSlot, NewVault } from "../../src/keys/keyring.ts";
import { FLOOR_KDF_COST } from "../../src/keys/kdf.ts";
import type { KeySlot, TpmSealing } from "../../src/keys/slot-format.ts";
import { readSlotUses, recordSlotUse } from "../../src/keys/slot-use.ts";
import { MemoryDisk, PASSPHRASE, codeOf, keyringOptions, makeVault, openedBy, utf8, withChecksum } from "./fixtures.ts";

type Json = Record<string, unknown>;

const FILE_KEY = new Uint8Array(32).fill(0x5a);
const KEY_FILE = { kind: { kind: "key-file" }, material: FILE_KEY } as const;

let vault: NewVault;
/** Passphrase, words, key file, second passphrase. */
let full: VaultHeader;

beforeAll(async () => {
  vault = await makeVault();
  const withFile = await addSlot(vault.header, vault.key, KEY_FILE, keyringOptions("file"));
  full = await addPassphrase(withFile, vault.key, utf8("second"), keyringOptions("second"));
});

const hexOf = (key: SecretKey) => toHex(key.expose());
const kinds = (header: VaultHeader) => header.slots.map(({ kind }) => kind);
const openFile = (header: VaultHeader, content = formatKeyFile(FILE_KEY)) =>
  unlockHeader(header, { kind: "key-file", bytes: content });
const openPassphrase = (header: VaultHeader, text: string) =>
  unlockHeader(header, { kind: "passphrase", bytes: utf8(text) });

describe("several key slots", () => {
  test("open the same vault, each with its own secret, and say which one did", async () => {
    expect(kinds(full)).toEqual(["passphrase", "recovery-words", "key-file", "passphrase"]);
    const opened = [
      await openPassphrase(full, PASSPHRASE),
      await unlockHeader(full, { kind: "recovery-words", bytes: utf8(vault.recoveryWords) }),
      await openFile(full),
      await openPassphrase(full, "second"),
    ];
    expect(opened.map(({ key }) => hexOf(key))).toEqual(Array.from({ length: 4 }, () => hexOf(vault.key)));
    expect(opened.map(({ slot }) => toHex(slot.id))).toEqual(full.slots.map(({ id }) => toHex(id)));
  });

  test("keep their bytes through the header's text", () => {
    expect(parseHeader(formatHeader(full))).toEqual(full);
  });

  test("are found by the beginning of their id, and only by one that is clear", () => {
    const [first] = full.slots as [KeySlot];
    expect(findSlot(full, toHex(first.id).slice(0, 6).toUpperCase())).toBe(first);
    expect(() => findSlot(full, "")).toThrow(/no key slot/u);
    expect(() => findSlot(full, "zz")).toThrow(/no key slot/u);
    const twins = { ...full, slots: [first, { ...first, id: Uint8Array.from(first.id).fill(0, 4) }] };
    expect(() => findSlot(twins, toHex(first.id).slice(0, 4))).toThrow(/more than one/u);
  });

  test("are at most eight", async () => {
    let header = full;
    for (let at = header.slots.length; at < 8; at++)
      header = await addSlot(header, vault.key, KEY_FILE, keyringOptions(`more ${at}`));
    expect(parseHeader(formatHeader(header)).slots).toHaveLength(8);
    expect(await codeOf(addSlot(header, vault.key, KEY_FILE, keyringOptions("ninth")))).toBe("TCFS_USAGE");
  });

  test("are not added if no reader would compute their derivations", async () => {
    const kdf = { memoryKiB: 1024 * 1024, passes: 8, lanes: 4 };
    const costly = { ...full, slots: full.slots.map((slot) => (slot.kind === "passphrase" ? { ...slot, kdf } : slot)) };
    expect(await codeOf(addSlot(costly, vault.key, KEY_FILE, keyringOptions("costly")))).toBe("TCFS_KDF_BOUNDS");
  });
});

describe("a slot that is removed or replaced", () => {
  test("opens no longer; the others do", async () => {
    const file = full.slots[2] as KeySlot;
    const without = removeSlot(full, vault.key, file.id);
    expect(without.revision).toBe(full.revision + 1);
    expect(await codeOf(openFile(without))).toBe("TCFS_WRONG_KEY");
    expect(hexOf((await openPassphrase(without, "second")).key)).toBe(hexOf(vault.key));
    const fresh = { ...KEY_FILE, material: new Uint8Array(32).fill(1) };
    const replaced = await replaceSlot(full, vault.key, file.id, fresh, keyringOptions("replaced"));
    expect(kinds(replaced)).toEqual(kinds(full));
    expect(await codeOf(openFile(replaced))).toBe("TCFS_WRONG_KEY");
    expect(hexOf((await openFile(replaced, formatKeyFile(fresh.material))).key)).toBe(hexOf(vault.key));
  });

  test("is never the last one that needs no hardware", () => {
    let header = full;
    for (const { id } of full.slots.slice(1)) header = removeSlot(header, vault.key, id);
    expect(kinds(header)).toEqual(["passphrase"]);
    const [last] = header.slots as [KeySlot];
    expect(() => removeSlot(header, vault.key, last.id)).toThrow(/last key slot that needs no hardware/u);
  });
});

describe("another passphrase", () => {
  test("takes the place of the one that unlocked, among several", async () => {
    const opened = await openPassphrase(full, "second");
    const changed = await changePassphrase(full, opened, utf8("third"), keyringOptions("third"));
    expect(await codeOf(openPassphrase(changed, "second"))).toBe("TCFS_WRONG_KEY");
    expect(hexOf((await openPassphrase(changed, PASSPHRASE)).key)).toBe(hexOf(vault.key));
    expect(hexOf((await openPassphrase(changed, "third")).key)).toBe(hexOf(vault.key));
  });

  test("is refused if words do not tell which of several to replace, and made if there is none", async () => {
    const byWords = openedBy({ ...vault, header: full }, "recovery-words");
    expect(await codeOf(changePassphrase(full, byWords, utf8("x"), keyringOptions("x")))).toBe("TCFS_USAGE");
    const [first] = vault.header.slots as [KeySlot];
    const none = removeSlot(vault.header, vault.key, first.id);
    const made = await changePassphrase(none, byWords, utf8("x"), keyringOptions("x"));
    expect(kinds(made)).toEqual(["recovery-words", "passphrase"]);
    expect(hexOf((await openPassphrase(made, "x")).key)).toBe(hexOf(vault.key));
  });
});

describe("a key slot from an attacker", () => {
  const place = (header: VaultHeader, index: number, slot: KeySlot): VaultHeader => ({
    ...header,
    slots: header.slots.with(index, slot),
  });

  test("brought from another vault with the same key file is refused", async () => {
    const other = await makeVault("other", "other");
    const theirs = await addSlot(other.header, other.key, KEY_FILE, keyringOptions("theirs"));
    expect(await codeOf(openFile(place(full, 2, theirs.slots[2] as KeySlot)))).toBe("TCFS_BAD_HEADER");
  });

  test("that wraps a key of his own is refused, for the header does not verify under it", async () => {
    const { key, header } = await makeVault("his", "his");
    const his = await addSlot({ ...header, vaultId: full.vaultId }, key, KEY_FILE, keyringOptions("his own"));
    expect(await codeOf(openFile(place(full, 2, his.slots[2] as KeySlot)))).toBe("TCFS_BAD_HEADER");
  });

  test("that stood in an earlier header of this vault does not come back", async () => {
    const file = full.slots[2] as KeySlot;
    const without = removeSlot(full, vault.key, file.id);
    const restored = { ...without, slots: full.slots };
    expect(await codeOf(openFile(restored))).toBe("TCFS_BAD_HEADER");
  });

  test("called by another kind does not open", async () => {
    const { id, createdAt, salt, commitment, nonce, wrappedKey } = full.slots[2] as KeySlot;
    const renamed: KeySlot = { kind: "recovery-words", id, createdAt, salt, commitment, nonce, wrappedKey };
    expect(await codeOf(openFile(place(full, 2, renamed)))).toBe("TCFS_WRONG_KEY");
  });
});

describe("a TPM's key slot", () => {
  const bytes = (lengthBytes: number) => new Uint8Array(lengthBytes).fill(3);
  const tpm: TpmSealing = {
    pcrBank: "sha256",
    pcrs: [0, 7],
    pcrDigests: [bytes(32), bytes(32)],
    parentName: bytes(34),
    public: bytes(80),
    private: bytes(160),
  };
  const pin = { kdf: FLOOR_KDF_COST, salt: bytes(16), public: bytes(50), private: bytes(160) };
  const slot: NewSlot = { kind: { kind: "tpm2-pin", tpm, pin }, material: bytes(64) };

  /** The header with a slot of a TPM in its last place, changed by somebody who made the checksum right again. */
  async function altered(change: (slot: { tpm: Json; pin: { kdf: Json } }) => void): Promise<Uint8Array> {
    const header = await addSlot(vault.header, vault.key, slot, keyringOptions("tpm"));
    return withChecksum(header, ({ slots }) => {
      change(slots.at(-1) as Parameters<typeof change>[0]);
    });
  }

  test("keeps its bytes through the header's text, and needs a slot beside it that needs no hardware", async () => {
    const header = await addSlot(vault.header, vault.key, slot, keyringOptions("tpm"));
    expect(parseHeader(formatHeader(header))).toEqual(header);
    expect(parseHeader(await altered(() => undefined))).toEqual(header);
    const [first, second] = header.slots as [KeySlot, KeySlot];
    const less = removeSlot(header, vault.key, first.id);
    expect(await codeOf(() => removeSlot(less, vault.key, second.id))).toBe("TCFS_LAST_SLOT");
  });

  const refused: [string, Parameters<typeof altered>[0], string][] = [
    ["no PCRs", ({ tpm }) => Object.assign(tpm, { pcrs: [], pcrDigests: [] }), "TCFS_BAD_HEADER"],
    ["PCRs out of order", ({ tpm }) => (tpm["pcrs"] = [7, 0]), "TCFS_BAD_HEADER"],
    ["a PCR that there is not", ({ tpm }) => (tpm["pcrs"] = [0, 24]), "TCFS_BAD_HEADER"],
    ["a weak bank", ({ tpm }) => (tpm["pcrBank"] = "sha1"), "TCFS_BAD_HEADER"],
    ["digests of another length", ({ tpm }) => (tpm["pcrBank"] = "sha512"), "TCFS_BAD_HEADER"],
    ["a digest too few", ({ tpm }) => (tpm["pcrDigests"] = ["03".repeat(32)]), "TCFS_BAD_HEADER"],
    ["a huge blob", ({ tpm }) => (tpm["public"] = "03".repeat(1025)), "TCFS_BAD_HEADER"],
    ["another KDF for the PIN", ({ pin }) => (pin.kdf["algorithm"] = "md5"), "TCFS_UNKNOWN_FORMAT"],
    ["a weak KDF for the PIN", ({ pin }) => (pin.kdf["memoryKiB"] = 8), "TCFS_KDF_BOUNDS"],
  ];
  test.each(refused)("with %s is refused", async (_name, change, code) => {
    const content = await altered(change);
    expect(await codeOf(() => parseHeader(content))).toBe(code);
  });
});

describe("a key file", () => {
  property.prop([fc.uint8Array({ minLength: 32, maxLength: 32 })])("gives back its key", (key) => {
    expect(parseKeyFile(formatKeyFile(key))).toEqual(key);
  });

  property.prop([fc.nat({ max: 47 }), fc.integer({ min: 1, max: 255 })])(
    "with any byte changed is refused as no key file or a damaged one",
    async (at, mask) => {
      const content = formatKeyFile(FILE_KEY);
      content[at] = (content[at] ?? 0) ^ mask;
      expect(await codeOf(() => parseKeyFile(content))).toBe("TCFS_WRONG_KEY");
    },
  );

  test("is not just any file", () => {
    expect(() => parseKeyFile(utf8("a photograph"))).toThrow(/this is no key file/u);
    expect(() => parseKeyFile(formatKeyFile(FILE_KEY).slice(0, -1))).toThrow(/this is no key file/u);
  });
});

describe("when a slot was last used", () => {
  const [at, later] = ["2026-11-22T07:00:00.000Z", "2026-11-23T07:00:00.000Z"] as const;

  test("is kept for each slot, and forgotten with it", async () => {
    const disk = new MemoryDisk();
    const [passphrase, words] = full.slots as [KeySlot, KeySlot];
    await recordSlotUse(disk.asDisk(), "/v", full.slots, passphrase, at);
    await recordSlotUse(disk.asDisk(), "/v", full.slots, words, later);
    const uses = { [toHex(passphrase.id)]: at, [toHex(words.id)]: later };
    expect(await readSlotUses(disk.asDisk(), "/v")).toEqual(uses);
    await recordSlotUse(disk.asDisk(), "/v", [words], words, later);
    expect(await readSlotUses(disk.asDisk(), "/v")).toEqual({ [toHex(words.id)]: later });
  });

  test.each(["", "{", "[]", '{"x":1}', '{"0011223344556677":"yesterday"}', " ".repeat(5000)])(
    "is not known where the file holds %j",
    async (text) => {
      const disk = new MemoryDisk();
      disk.files.set("/v/slot-use.json", utf8(text));
      expect(await readSlotUses(disk.asDisk(), "/v")).toEqual({});
    },
  );
});
