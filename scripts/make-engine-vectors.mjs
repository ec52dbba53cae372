/**
 * Writes test/vectors/engine: what FORMAT.md §3 to §7 says of keys, chunks, frames, records and names, as bytes.
 * Run once, when the format changes; the files are committed. Written from FORMAT.md alone: it imports nothing of src/.
 *
 * A vector is lines `name: value`, an empty line, and a body (hexadecimal, or lines of words). `expect: ok`, or which
 * check of FORMAT.md refuses it. `data` is runs joined by " + ": `noise SEED LENGTH`, `text LENGTH`, `zeros LENGTH`.
 */
import { createCipheriv, createHash, hkdfSync } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { createKeyed } from "blake3-wasm";
import lz4 from "lz4-napi";

const DIRECTORY = join(import.meta.dirname, "..", "test", "vectors", "engine");
const FRAME_BYTES = 65_536;
const TWO_64 = 2n ** 64n;
const LZ4_KIND = 1;

/** @param {string} seed @param {number} lengthBytes */
const noise = (seed, lengthBytes) => createHash("shake256", { outputLength: lengthBytes }).update(seed).digest();
/** @param {string} text */
const latin1 = (text) => Buffer.from(text, "latin1");
/** @param {number} value */
const u16 = (value) => Buffer.from([value & 255, value >> 8]);
/** @param {number} value */
const u32 = (value) => Buffer.concat([u16(value & 0xffff), u16(value >>> 16)]);
/** @param {number | bigint} value */
const u64 = (value) => Buffer.concat([u32(Number(BigInt(value) & 0xffffffffn)), u32(Number(BigInt(value) >> 32n))]);

/** @param {Buffer} key @param {Buffer[]} parts @param {number} [lengthBytes] */
function keyed(key, parts, lengthBytes = 32) {
  const hasher = createKeyed(key);
  for (const part of parts) hasher.update(part);
  return hasher.digest({ length: lengthBytes });
}

/** @param {string} description */
function data(description) {
  const runs = description.split(" + ").map((run) => {
    const [kind, ...words] = run.split(" ");
    const lengthBytes = Number(words.at(-1));
    if (kind === "noise") return noise(String(words[0]), lengthBytes);
    return kind === "zeros"
      ? Buffer.alloc(lengthBytes)
      : Buffer.alloc(lengthBytes, "the quick brown fox jumps over the lazy dog\n");
  });
  return Buffer.concat(runs);
}

/** @param {string} name @param {Record<string, string | number | Buffer>} fields @param {Buffer | string[]} body */
function write(name, fields, body) {
  const lines = Object.entries(fields).map(
    ([key, value]) => `${key}: ${Buffer.isBuffer(value) ? value.toString("hex") : value}`,
  );
  const hex = Buffer.isBuffer(body) ? (body.toString("hex").match(/.{1,96}/g) ?? []) : body;
  writeFileSync(join(DIRECTORY, `${name}.txt`), `${[...lines, "", ...hex].join("\n")}\n`);
}

const vaultKey = noise("vector vault key", 32);
const vaultId = noise("vector vault id", 16);
const packId = noise("vector pack id", 16);
const packKey = noise("vector pack key", 32);
const generation = Buffer.concat([u16(1), u32(1)]);

/** @param {string} label */
const subkey = (label) => Buffer.from(hkdfSync("sha256", vaultKey, vaultId, `tcfs v1 ${label}`, 32));

/** @param {Buffer} key @param {Buffer} nonce @param {Buffer} aad @param {Buffer} plain */
function gcm(key, nonce, aad, plain) {
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(aad);
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** @param {number} number @param {number} length @param {number} kind @param {Buffer} payload */
function frame(number, length, kind, payload) {
  const aad = Buffer.concat([latin1("tcfs frame"), generation, vaultId, packId]);
  return gcm(
    packKey,
    Buffer.concat([u64(number), u32(0)]),
    aad,
    Buffer.concat([u32(length + kind * 2 ** 24), payload]),
  );
}

/** @param {Buffer} plain */
const block = (plain) => lz4.compressSync(plain).subarray(4);

function writeSubkeys() {
  const labels = ["chunk-id", "gear", "records", "names", "packs", "header"];
  const lines = labels.map((label) => `${label} ${subkey(label).toString("hex")}`);
  write("subkeys", { kind: "subkeys", expect: "ok", "vault-key": vaultKey, "vault-id": vaultId }, lines);
}

/** @param {Buffer} bytes @param {{min: number, average: number, max: number}} sizes */
function cut(bytes, { min, average, max }) {
  const table = keyed(subkey("gear"), [latin1("tcfs gear")], 2048);
  const bits = BigInt(Math.log2(average));
  const [strict, loose] = [2n ** (64n - bits - 2n), 2n ** (64n - bits + 2n)];
  const lengths = [];
  for (let start = 0; start < bytes.length;) {
    let length = Math.min(min, bytes.length - start);
    for (let h = 0n; start + length < bytes.length;) {
      h = (2n * h + table.readBigUInt64LE(8 * Number(bytes[start + length]))) % TWO_64;
      length += 1;
      if (length === max || h < (length < average ? strict : loose)) break;
    }
    lengths.push(length);
    start += length;
  }
  return lengths;
}

/** @param {string} name @param {string} description @param {{min: number, average: number, max: number}} sizes */
function writeChunks(name, description, sizes) {
  const bytes = data(description);
  let at = 0;
  const lines = cut(bytes, sizes).map((length) => {
    const id = keyed(subkey("chunk-id"), [bytes.subarray(at, at + length)]);
    at += length;
    return `${length} ${id.toString("hex")}`;
  });
  const keys = { "vault-key": vaultKey, "vault-id": vaultId };
  write(`chunks-${name}`, { kind: "chunks", expect: "ok", ...keys, ...sizes, data: description }, lines);
}

/** @param {string} name @param {string} expected @param {number} first @param {string} plain @param {Buffer[]} frames */
function writeFrames(name, expected, first, plain, frames) {
  const stored = frames.map((one) => one.length).join(",");
  const keys = { "vault-id": vaultId, "pack-id": packId, "pack-key": packKey };
  const fields = { kind: "frames", expect: expected, ...keys, "first-frame": first, stored, data: plain };
  write(`frames-${name}`, fields, Buffer.concat(frames));
}

function writeAllFrames() {
  const long = data(`text ${FRAME_BYTES + 1000}`);
  const [head, tail] = [long.subarray(0, FRAME_BYTES), long.subarray(FRAME_BYTES)];
  const packed = frame(5, FRAME_BYTES, LZ4_KIND, block(head));
  const rest = frame(6, 1000, LZ4_KIND, block(tail));
  const text = `text ${FRAME_BYTES + 1000}`;
  writeFrames("lz4", "ok", 5, text, [packed, rest]);
  writeFrames("raw", "ok", 2 ** 32 - 1, "noise raw 90", [frame(2 ** 32 - 1, 90, 0, data("noise raw 90"))]);
  writeFrames("one-byte", "ok", 0, "text 1", [frame(0, 1, 0, latin1("t"))]);
  writeFrames("other-number", "tag", 6, text, [packed, rest]);
  writeFrames("swapped", "tag", 5, text, [rest, packed]);
  writeFrames("truncated", "tag", 5, text, [packed, rest.subarray(0, -1)]);
  writeFrames("too-short", "stored length", 5, "text 1", [frame(5, 0, 0, Buffer.alloc(0))]);
  writeFrames("bomb", "lz4 length", 5, "text 4000", [frame(5, 4000, LZ4_KIND, block(head))]);
  writeFrames("lz4-short", "lz4 length", 5, "text 4001", [frame(5, 4001, LZ4_KIND, block(data("text 4000")))]);
  writeFrames("lz4-junk", "lz4 block", 5, "text 4000", [frame(5, 4000, LZ4_KIND, noise("junk", 300))]);
  writeFrames("lz4-longer", "lz4 payload", 5, "text 8", [frame(5, 8, LZ4_KIND, block(data("text 8")))]);
  writeFrames("header-length", "header length", 5, "text 4000", [frame(5, 65_535, LZ4_KIND, block(data("text 4000")))]);
  writeFrames("kind", "kind", 5, "text 40", [frame(5, 40, 2, data("text 40"))]);
  writeFrames("raw-long", "raw length", 5, "text 40", [frame(5, 40, 0, data("text 41"))]);
  writeFrames("raw-short", "raw length", 5, "text 40", [frame(5, 40, 0, data("text 39"))]);
  const flipped = Buffer.from(rest);
  flipped[500 % flipped.length] = Number(flipped[500 % flipped.length]) ^ 4;
  writeFrames("flipped", "tag", 5, text, [packed, flipped]);
}

function writeRecords() {
  const sessionId = noise("vector session", 8);
  const key = keyed(subkey("records"), [latin1("tcfs session"), sessionId]);
  const counter = u64(2 ** 40 + 3).subarray(0, 6);
  const recordKey = noise("vector record key", 21);
  const aad = Buffer.concat([latin1("tcfs record"), generation, vaultId, recordKey]);
  /** @param {Buffer} value */
  const seal = (value) =>
    Buffer.concat([sessionId, counter, gcm(key, Buffer.concat([counter, Buffer.alloc(6)]), aad, value)]);
  const common = { "vault-key": vaultKey, "vault-id": vaultId };
  const value = latin1("a record's value");
  /** @param {string} name @param {string} expected @param {Buffer} sealed @param {Buffer} [under] */
  const put = (name, expected, sealed, under = recordKey) => {
    write(`record-${name}`, { kind: "record", expect: expected, ...common, "record-key": under, value }, sealed);
  };
  const sealed = seal(value);
  put("ok", "ok", sealed);
  put("other-key", "tag", sealed, noise("another record key", 21));
  put("longer-key", "tag", sealed, Buffer.concat([recordKey, Buffer.alloc(1)]));
  put("truncated", "tag", sealed.subarray(0, -1));
  put("too-short", "length", sealed.subarray(0, 29));
  put("empty", "length", Buffer.alloc(0));
  const other = Buffer.from(sealed);
  other[0] = Number(other[0]) ^ 1;
  put("other-session", "tag", other);
  const later = Buffer.from(sealed);
  later[8] = Number(later[8]) ^ 1;
  put("other-counter", "tag", later);
}

function writePackKeys() {
  const nonce = noise("vector nonce", 24);
  const aad = Buffer.concat([vaultId, latin1("pack"), generation, packId]);
  const wrapped = Buffer.concat([nonce, xchacha20poly1305(subkey("packs"), nonce, aad).encrypt(packKey)]);
  const fields = { "vault-key": vaultKey, "vault-id": vaultId, "pack-key": packKey };
  /** @param {string} name @param {string} expected @param {Buffer} bytes @param {Buffer} [id] */
  const put = (name, expected, bytes, id = packId) => {
    write(`pack-key-${name}`, { kind: "pack-key", expect: expected, ...fields, "pack-id": id }, bytes);
  };
  put("ok", "ok", wrapped);
  put("other-pack", "tag", wrapped, noise("another pack", 16));
  put("truncated", "length", wrapped.subarray(0, -1));
  const flipped = Buffer.from(wrapped);
  flipped[30] = Number(flipped[30]) ^ 1;
  put("flipped", "tag", flipped);
}

function writeNames() {
  const names = ["a", "notes.txt", "caf\xe9", "\xff\xfe\x01", "x".repeat(255)];
  const lines = [1, 2, 2 ** 32 + 1, 2 ** 53 - 1].flatMap((ino) =>
    names.map((name) => {
      const prefix = Buffer.from(u64(BigInt(ino))).reverse();
      const prf = keyed(subkey("names"), [prefix, latin1(name)], 16);
      return `${ino} ${latin1(name).toString("hex")} ${prf.toString("hex")}`;
    }),
  );
  write("names", { kind: "names", expect: "ok", "vault-key": vaultKey, "vault-id": vaultId }, lines);
}

mkdirSync(DIRECTORY, { recursive: true });
writeSubkeys();
const small = { min: 256, average: 1024, max: 4096 };
writeChunks("noise", "noise cuts 20000", small);
writeChunks("mixed", "text 3000 + noise mixed 9000 + zeros 9000 + text 500", small);
writeChunks("short", "noise short 200", small);
writeChunks("default", "noise default 5000000", { min: 262_144, average: 1_048_576, max: 4_194_304 });
writeAllFrames();
writeRecords();
writePackKeys();
writeNames();
