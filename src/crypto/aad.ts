/** What everything sealed is bound to: the AAD of frames, records and wrapped pack keys (FORMAT.md §4–§6). */
import type { PackId } from "../ids.ts";

export const FORMAT_VERSION = 1;

/** `u16 format version || u32 key epoch`. */
function generation(keyEpoch: number): Uint8Array {
  const bytes = new Uint8Array(6);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, FORMAT_VERSION, true);
  view.setUint32(2, keyEpoch, true);
  return bytes;
}

/**
 * @param keyEpoch - In which the pack was made.
 * @returns `"tcfs frame" || generation || vault id || pack id`; the frame's number is its nonce.
 */
export function frameAad(vaultId: Uint8Array, packId: PackId, keyEpoch: number): Uint8Array {
  return new Uint8Array(Buffer.concat([Buffer.from("tcfs frame", "latin1"), generation(keyEpoch), vaultId, packId]));
}

/** @returns `"tcfs record" || generation || vault id`; the record's key follows it. */
export function recordAadPrefix(vaultId: Uint8Array, keyEpoch: number): Uint8Array {
  return new Uint8Array(Buffer.concat([Buffer.from("tcfs record", "latin1"), generation(keyEpoch), vaultId]));
}

/** @returns `vault id || "pack" || generation || pack id`. */
export function packKeyAad(vaultId: Uint8Array, packId: PackId, keyEpoch: number): Uint8Array {
  return new Uint8Array(Buffer.concat([vaultId, Buffer.from("pack", "latin1"), generation(keyEpoch), packId]));
}
