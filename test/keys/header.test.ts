import { fc, test as property } from "@fast-check/vitest";
import { beforeAll, describe, expect, test } from "vitest";
import { createHash } from "node:crypto";
import { isTcfsError } from "../../src/errors.ts";
import type { TcfsErrorCode } from "../../src/errors.ts";
import { MAX_HEADER_BYTES, assertWritable, formatHeader, parseHeader } from "../../src/keys/header.ts";
import type { VaultHeader } from "../../src/keys/header.ts";
import { makeVault, utf8 } from "./fixtures.ts";

let header: VaultHeader;
let text: string;

beforeAll(async () => {
  const vault = await makeVault();
  vault.key.wipe();
  header = vault.header;
  text = Buffer.from(formatHeader(header)).toString();
});

type Json = Record<string, unknown>;

/** The header's text with something changed, its checksum made right again, as an attacker would. */
function altered(change: (json: Json) => void): Uint8Array {
  const { checksum: _, ...body } = JSON.parse(text) as Json;
  change(body);
  const checksum = createHash("sha256").update(JSON.stringify(body)).digest("hex");
  return utf8(`${JSON.stringify({ ...body, checksum }, null, 2)}\n`);
}

function firstSlot(json: Json): Json & { kdf: Json } {
  return (json["slots"] as (Json & { kdf: Json })[])[0] as Json & { kdf: Json };
}

function expectRefusal(content: Uint8Array, code: TcfsErrorCode, words: RegExp): void {
  try {
    parseHeader(content);
  } catch (error) {
    expect(isTcfsError(error, code), String(error)).toBe(true);
    expect(String(error)).toMatch(words);
    return;
  }
  expect.unreachable(`not refused with ${code}`);
}

describe("the header's text", () => {
  test("parses to what was formatted", () => {
    expect(parseHeader(formatHeader(header))).toEqual(header);
  });

  test("is what the alteration helper gives when nothing is altered", () => {
    expect(Buffer.from(altered(() => undefined)).toString()).toBe(text);
  });

  property.prop([fc.nat(), fc.integer({ min: 1, max: 255 })], { numRuns: 400 })(
    "is refused after any change of any byte",
    (position, mask) => {
      const content = utf8(text);
      const index = position % content.length;
      content[index] = (content[index] ?? 0) ^ mask;
      expect(() => parseHeader(content)).toThrow(/vault|header/u);
    },
  );

  property.prop([fc.nat()])("is refused when cut short anywhere", (position) => {
    const content = utf8(text);
    expect(() => parseHeader(content.subarray(0, position % content.length))).toThrow(/vault|header/u);
  });

  property.prop([fc.uint8Array({ maxLength: 300 })])(
    "never fails but with a refusal, whatever the bytes",
    (content) => {
      expectRefusal(content, "TCFS_BAD_HEADER", /header/u);
    },
  );

  property.prop([fc.json()])("never fails but with a refusal, whatever the JSON", (json) => {
    expectRefusal(utf8(json), "TCFS_BAD_HEADER", /header/u);
  });
});

describe("a hostile header", () => {
  test("is refused unread when longer than 64 KiB", () => {
    expectRefusal(new Uint8Array(MAX_HEADER_BYTES + 1).fill(0x20), "TCFS_BAD_HEADER", /longer/u);
  });

  test("is refused when nested 30,000 deep", () => {
    expectRefusal(utf8("[".repeat(30_000) + "]".repeat(30_000)), "TCFS_BAD_HEADER", /header/u);
  });

  test("of another format version is refused by its number, whatever else it holds", () => {
    const content = utf8(JSON.stringify({ format: "tcfs vault", formatVersion: 2, somethingNew: {} }));
    expectRefusal(content, "TCFS_UNKNOWN_FORMAT", /format version 2/u);
  });

  test("with an unknown incompatible feature is refused by its name", () => {
    const content = altered((json) => (json["incompatibleFeatures"] = ["quantum-names"]));
    expectRefusal(content, "TCFS_UNKNOWN_FORMAT", /quantum-names/u);
  });

  test("with an unknown read-only-compatible feature parses, but may not be written", () => {
    const parsed = parseHeader(altered((json) => (json["readOnlyCompatibleFeatures"] = ["extra-index"])));
    expect(() => {
      assertWritable(parsed);
    }).toThrow(/extra-index/u);
    assertWritable(header);
  });

  test("with an unknown kind of slot is refused by its name", () => {
    const content = altered((json) => (firstSlot(json)["kind"] = "retina"));
    expectRefusal(content, "TCFS_UNKNOWN_FORMAT", /retina/u);
  });

  test("with another KDF is refused by its name", () => {
    const content = altered((json) => (firstSlot(json).kdf["algorithm"] = "md5"));
    expectRefusal(content, "TCFS_UNKNOWN_FORMAT", /md5/u);
  });

  const outOfBounds: [string, Json][] = [
    ["memoryKiB", { memoryKiB: 65_535 }],
    ["memoryKiB", { memoryKiB: 1024 * 1024 + 1 }],
    ["memoryKiB", { memoryKiB: -65_536 }],
    ["passes", { passes: 2 }],
    ["passes", { passes: 17 }],
    ["lanes", { lanes: 0 }],
    ["lanes", { lanes: 17 }],
  ];
  test.each(outOfBounds)("with %s out of bounds (%o) is refused before computing", (name, change) => {
    const content = altered((json) => Object.assign(firstSlot(json).kdf, change));
    expectRefusal(content, "TCFS_KDF_BOUNDS", new RegExp(name, "u"));
  });

  test("whose passphrase slots together cost too much is refused", () => {
    const content = altered((json) => {
      const slot = firstSlot(json);
      Object.assign(slot.kdf, { memoryKiB: 1024 * 1024, passes: 4 });
      json["slots"] = [slot, slot, slot];
    });
    expectRefusal(content, "TCFS_KDF_BOUNDS", /together/u);
  });

  const malformed: [string, (json: Json) => void][] = [
    ["a key that is not known", (json) => (json["extra"] = 1)],
    ["a key of a slot that is not known", (json) => (firstSlot(json)["extra"] = 1)],
    ["__proto__", (json) => Object.defineProperty(json, "__proto__", { value: {}, enumerable: true })],
    ["no slots", (json) => (json["slots"] = [])],
    ["nine slots", (json) => (json["slots"] = Array.from({ length: 9 }, () => firstSlot(json)))],
    ["a short salt", (json) => (firstSlot(json)["salt"] = "00")],
    ["upper-case digits", (json) => (json["vaultId"] = "A".repeat(32))],
    ["chunks of 1 byte", (json) => (json["chunking"] = { minBytes: 1, averageBytes: 4096, maxBytes: 8192 })],
    ["chunks of 8 GiB", (json) => (json["chunking"] = { minBytes: 4096, averageBytes: 4096, maxBytes: 2 ** 33 })],
    ["an uneven average", (json) => (json["chunking"] = { minBytes: 4096, averageBytes: 8193, maxBytes: 16384 })],
    [
      "chunk lengths out of order",
      (json) => (json["chunking"] = { minBytes: 8192, averageBytes: 4096, maxBytes: 8192 }),
    ],
    ["a revision of 0", (json) => (json["revision"] = 0)],
    ["a time that is none", (json) => (json["createdAt"] = "yesterday")],
    ["no MAC", (json) => delete json["mac"]],
  ];
  test.each(malformed)("with %s is refused", (_name, change) => {
    expectRefusal(altered(change), "TCFS_BAD_HEADER", /header/u);
  });

  test("with a key given twice is refused, though JSON allows it", () => {
    const content = utf8(text.replace(`"keyEpoch": 1,`, `"keyEpoch": 9,\n  "keyEpoch": 1,`));
    expectRefusal(content, "TCFS_BAD_HEADER", /text/u);
  });
});
