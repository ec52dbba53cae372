/** The checksum of LevelDB's files: CRC-32C, rotated and offset, since a checksum of data that holds checksums is weak. */
import { crc32c } from "@node-rs/crc32";

const MASK_DELTA = 0xa282ead8;

/** @returns As LevelDB stores it, a u32. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const sum = crc32c(bytes);
  return (((sum >>> 15) | (sum << 17)) + MASK_DELTA) >>> 0;
}
