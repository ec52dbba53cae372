/**
 * A key file: 32 random bytes to keep on a stick or a second disk (FORMAT.md §8.3). Only files that tcfs made are taken:
 * a photograph or a text that somebody chose would be guessed at the speed of a hash.
 */
import { createHash } from "node:crypto";
import { TcfsError } from "../errors.ts";

const MAGIC = Buffer.from("TCFSKEY1", "latin1");
const KEY_BYTES = 32;
const CHECK_BYTES = 8;
const KEY_END = MAGIC.length + KEY_BYTES;

/** @param key - 32 bytes, lent. @returns The file's 48 bytes, which the caller wipes. */
export function formatKeyFile(key: Uint8Array): Uint8Array {
  const content = new Uint8Array(KEY_END + CHECK_BYTES);
  content.set(MAGIC);
  content.set(key, MAGIC.length);
  content.set(checkOf(content), KEY_END);
  return content;
}

/**
 * @param content - Lent.
 * @returns The 32 bytes of the key; the caller wipes them.
 * @throws TcfsError `TCFS_WRONG_KEY` if it is no key file, or a damaged one.
 */
export function parseKeyFile(content: Uint8Array): Uint8Array {
  if (content.length !== KEY_END + CHECK_BYTES || !MAGIC.equals(content.subarray(0, MAGIC.length)))
    throw new TcfsError("TCFS_WRONG_KEY", "this is no key file: tcfs key add --new-key-file FILE makes one");
  if (!Buffer.from(checkOf(content)).equals(content.subarray(KEY_END)))
    throw new TcfsError("TCFS_WRONG_KEY", "the key file is damaged: its check value is not right");
  return content.slice(MAGIC.length, KEY_END);
}

function checkOf(content: Uint8Array): Uint8Array {
  return createHash("sha256").update(content.subarray(0, KEY_END)).digest().subarray(0, CHECK_BYTES);
}
