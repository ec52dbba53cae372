/** Byte strings in the driver's line protocol: percent-encoded, one character per byte (latin1) on this side. */

/** A path: text that is encoded as UTF-8, or bytes. */
export type Path = string | Uint8Array;

export function encodeText(value: Path): string {
  const bytes = Buffer.from(value);
  if (bytes.length === 0) return "%00";
  let encoded = "";
  for (const byte of bytes) {
    const isPlain = byte > 0x20 && byte < 0x7f && byte !== 0x25;
    encoded += isPlain ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, "0")}`;
  }
  return encoded;
}

/** @returns One character per byte. */
export function decodeText(encoded: string): string {
  if (encoded === "%00") return "";
  return encoded.replaceAll(/%([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
