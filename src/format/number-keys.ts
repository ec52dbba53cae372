/** Numbers in keys: 64 bits, big endian, after the byte of the kind (FORMAT.md §7). Pure. */
import { ByteReader, storeU64BigEndian } from "../bytes.ts";

export const NUMBER_BYTES = 8;

/** A kind and a number. */
export function numberKey(kind: number, value: number): Uint8Array {
  const key = new Uint8Array(1 + NUMBER_BYTES);
  key[0] = kind;
  storeU64BigEndian(key, 1, value);
  return key;
}

export function twoNumbersKey(kind: number, first: number, second: number): Uint8Array {
  const key = new Uint8Array(1 + 2 * NUMBER_BYTES);
  key[0] = kind;
  storeU64BigEndian(key, 1, first);
  storeU64BigEndian(key, 1 + NUMBER_BYTES, second);
  return key;
}

/**
 * The number at a byte of a key. Asked of every record of a batch: a reader, with its view of the key, is made only to
 * refuse one.
 * @throws TcfsError `TCFS_CORRUPT`
 */
export function numberAt(key: Uint8Array, offset: number): number {
  const high = wordAt(key, offset);
  if (key.length < offset + NUMBER_BYTES || high >= 2 ** 21) {
    return new ByteReader(key.subarray(offset), "record key").u64BigEndian();
  }
  return high * 2 ** 32 + wordAt(key, offset + 4);
}

function wordAt(key: Uint8Array, offset: number): number {
  const [a, b, c, d] = [key[offset] ?? 0, key[offset + 1] ?? 0, key[offset + 2] ?? 0, key[offset + 3] ?? 0];
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
}
