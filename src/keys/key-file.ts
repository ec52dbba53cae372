/**
 * Key files: random bytes to keep on a stick or a second disk (FORMAT.md §8.3). Only files that tcfs made are taken: a
 * photograph or a text that somebody chose would be guessed at the speed of a hash.
 */
import { createHash } from "node:crypto";
import { TcfsError } from "../errors.ts";

const CHECK_BYTES = 8;

interface Kind {
  readonly magic: Uint8Array;
  /** Of the random bytes. */
  readonly keyBytes: number;
}

const MAGIC_BYTES = 8;
const KINDS = {
  /** The key itself. */
  "key-file": { magic: Buffer.from("TCFSKEY1", "latin1"), keyBytes: 32 },
  /** The seed of an ML-KEM-768 key pair, for a hybrid slot. */
  hybrid: { magic: Buffer.from("TCFSPQK1", "latin1"), keyBytes: 64 },
} as const satisfies Record<string, Kind>;

export type KeyFileKind = keyof typeof KINDS;

/** How long such a file is. */
export const HYBRID_FILE_BYTES = MAGIC_BYTES + KINDS.hybrid.keyBytes + CHECK_BYTES;
export const HYBRID_SEED_BYTES = KINDS.hybrid.keyBytes;

/** @param key - Random, lent. @returns The file's bytes, which the caller wipes. */
export function formatKeyFile(key: Uint8Array, kind: KeyFileKind = "key-file"): Uint8Array {
  const { magic, keyBytes } = KINDS[kind];
  if (key.length !== keyBytes) throw new RangeError(`a key file of this kind has ${keyBytes} random bytes`);
  const body = Buffer.concat([magic, key]);
  const content = Uint8Array.from([...body, ...checkOf(body)]);
  body.fill(0);
  return content;
}

/** @returns What the file is for, by its first bytes; a file that tcfs did not make is for nothing else than to be refused. */
export function keyFileKind(content: Uint8Array): KeyFileKind {
  return KINDS.hybrid.magic.equals(content.subarray(0, MAGIC_BYTES)) ? "hybrid" : "key-file";
}

/**
 * @param content - Lent.
 * @returns The random bytes; the caller wipes them.
 * @throws TcfsError `TCFS_WRONG_KEY` if it is no key file of this kind, or a damaged one.
 */
export function parseKeyFile(content: Uint8Array, kind: KeyFileKind = "key-file"): Uint8Array {
  const { magic, keyBytes } = KINDS[kind];
  const end = MAGIC_BYTES + keyBytes;
  if (content.length !== end + CHECK_BYTES || !magic.equals(content.subarray(0, MAGIC_BYTES)))
    throw new TcfsError("TCFS_WRONG_KEY", "this is no key file: tcfs key add --new-key-file FILE makes one");
  if (!Buffer.from(checkOf(content.subarray(0, end))).equals(content.subarray(end)))
    throw new TcfsError("TCFS_WRONG_KEY", "the key file is damaged: its check value is not right");
  return content.slice(MAGIC_BYTES, end);
}

function checkOf(body: Uint8Array): Uint8Array {
  return createHash("sha256").update(body).digest().subarray(0, CHECK_BYTES);
}
