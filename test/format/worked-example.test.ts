/** FORMAT.md §10 is true: its bytes open one after the other as a reader opens them, and are what a writer writes. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ByteWriter, toHex } from "../../src/bytes.ts";
import { decodePackHeader, encodePackHeader, wrapsOf } from "../../src/chunkstore/pack-format.ts";
import { DEFAULT_CHUNKING, type SealingEngine } from "../../src/crypto/engine.ts";
import { openEngine } from "../../src/crypto/open-engine.ts";
import { PackKeyWrapper } from "../../src/crypto/pack-key.ts";
import { deriveSubkeys } from "../../src/crypto/subkeys.ts";
import { decodeChunk, encodeChunk } from "../../src/format/chunk-codec.ts";
import { decodeDentry, encodeDentry } from "../../src/format/dentry-codec.ts";
import { decodeExtentPage, encodeExtentPage } from "../../src/format/extent-codec.ts";
import { decodeInode, encodeInode } from "../../src/format/inode-codec.ts";
import { chunkKey, dentryKey, extentsKey, inodeKey } from "../../src/format/record-keys.ts";
import { type Epoch, type InodeNumber, type Name, type PackId, ROOT_INODE } from "../../src/ids.ts";
import { firstEpoch } from "../crypto/fixtures.ts";

/** Lines `name  hexadecimal digits` of the section's code blocks; spaces among the digits do not count. */
function readExample(): Map<string, Uint8Array> {
  const text = readFileSync(join(import.meta.dirname, "../../docs/FORMAT.md"), "utf8");
  const section = text.slice(text.indexOf("\n## 10. "), text.indexOf("\n## 11. "));
  const rows = section.matchAll(/^([A-Za-z_]+(?: [a-z]+)?) {2,}([0-9a-f][0-9a-f ]*)$/gmu);
  return new Map([...rows].map(([, name = "", digits = ""]) => [name, Buffer.from(digits.replaceAll(" ", ""), "hex")]));
}

const example = readExample();

function given(name: string): Uint8Array {
  const bytes = example.get(name);
  if (bytes === undefined) throw new Error(`FORMAT.md §10 has no line “${name}”`);
  return Uint8Array.from(bytes);
}

const vaultId = given("vault id");
const subkeys = deriveSubkeys(given("vault key"), vaultId);
const HELLO = "hello.txt" as Name;
const INO = 2 as InodeNumber;

function openAs(kind: SealingEngine["kind"]): SealingEngine {
  const options = { vaultId, subkeys, chunking: DEFAULT_CHUNKING, sessionId: given("session id"), keyEpoch: 1 };
  return openEngine(options, kind);
}

test("the subkeys are those of the vault key", () => {
  expect(toHex(subkeys.chunkId)).toBe(toHex(given("K_id")));
  expect(toHex(subkeys.records)).toBe(toHex(given("K_rec")));
  expect(toHex(subkeys.names)).toBe(toHex(given("K_name")));
  expect(toHex(subkeys.packs)).toBe(toHex(given("K_pack")));
});

test.each(["native", "portable"] as const)(
  "a reader gets from the vault key to the file's bytes, %s engine",
  async (kind) => {
    const engine = openAs(kind);
    const open = (name: string): Uint8Array => {
      const plain = engine.records.unseal(given(`${name} key`), given(`${name} sealed`));
      expect(toHex(plain)).toBe(toHex(given(`${name} value`)));
      return plain;
    };
    expect(toHex(dentryKey(ROOT_INODE, engine.namePrf(ROOT_INODE, HELLO)))).toBe(toHex(given("dentry key")));
    expect(decodeDentry(ROOT_INODE, open("dentry"))).toEqual({ name: HELLO, ino: INO, type: 0o10, epoch: 1 });
    expect(toHex(inodeKey("inode", INO))).toBe(toHex(given("inode key")));
    const inode = decodeInode(INO, open("inode"));
    expect(toHex(extentsKey(INO, 0))).toBe(toHex(given("extents key")));
    const [extent] = decodeExtentPage(INO, 0, open("extents"));
    if (extent === undefined) throw new Error("the page has no extent");
    expect(toHex(chunkKey(extent.chunk))).toBe(toHex(given("chunk key")));
    const chunk = decodeChunk(open("chunk"));
    if (chunk.kind !== "packed") throw new Error("the chunk is in no pack");
    const header = decodePackHeader(packHeader());
    expect(toHex(header.pack)).toBe(toHex(chunk.pack));
    const packKeys = new PackKeyWrapper(firstEpoch(subkeys.packs), vaultId, { bytes: () => new Uint8Array(0) });
    const packKey = packKeys.unwrap(header.pack, wrapsOf(header));
    expect(toHex(packKey)).toBe(toHex(given("pack key")));
    const content = new Uint8Array(chunk.lengthBytes);
    engine.packCipher(header.pack, packKey, header.keyEpoch).unsealSync(chunk, given("frame"), content);
    expect(Buffer.from(content).toString()).toBe("Hello, world!\n");
    expect(inode.lengthBytes).toBe(BigInt(content.length));
    const [[named] = []] = await engine.nameChunks([{ pieces: [content], isFinal: true }]);
    expect(toHex(named?.id ?? new Uint8Array(0))).toBe(toHex(extent.chunk));
    engine.close();
  },
);

test.each(["native", "portable"] as const)("a writer writes these bytes, %s engine", async (kind) => {
  const engine = openAs(kind);
  const writer = new ByteWriter();
  const epoch = 1 as Epoch;
  const values = {
    dentry: (): void => encodeDentry(writer, epoch, decodeDentry(ROOT_INODE, given("dentry value"))),
    inode: (): void => encodeInode(writer, decodeInode(INO, given("inode value"))),
    extents: (): void => encodeExtentPage(writer, epoch, decodeExtentPage(INO, 0, given("extents value"))),
    chunk: (): void => encodeChunk(writer, epoch, decodeChunk(given("chunk value"))),
  };
  // Sealed one after the other in the session's beginning: the counters are 0 to 3.
  for (const [name, encode] of Object.entries(values)) {
    encode();
    const [sealed] = engine.records.seal([{ key: given(`${name} key`), value: writer.take() }]);
    expect(toHex(sealed ?? new Uint8Array(0)), name).toBe(toHex(given(`${name} sealed`)));
  }
  const pack = given("pack id") as PackId;
  const packKeys = new PackKeyWrapper(firstEpoch(subkeys.packs), vaultId, { bytes: () => given("wrap nonce") });
  const wraps = [packKeys.wrap(pack, given("pack key"))];
  expect(toHex(encodePackHeader({ vaultId, keyEpoch: 1, pack, wraps }))).toBe(toHex(packHeader()));
  const content = Buffer.from("Hello, world!\n");
  const output = new Uint8Array(engine.sealBoundBytes(content.length));
  const cipher = engine.packCipher(pack, given("pack key"), 1);
  await cipher.seal([{ pieces: [content], lengthBytes: content.length }], 0, output);
  expect(toHex(output.subarray(0, given("frame").length))).toBe(toHex(given("frame")));
  engine.close();
});

/** The section leaves out the zeros at the header's end. */
function packHeader(): Uint8Array {
  const header = new Uint8Array(256);
  header.set(given("pack header"));
  return header;
}
