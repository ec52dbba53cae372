/** Typed secrets as bytes: one passphrase, whichever keyboard or system composed its letters (FORMAT.md §8.3). */

/**
 * Unicode NFC of what is UTF-8, and anything else as it is.
 * @returns Fresh memory, owned by the caller, who wipes it.
 */
export function normalizePassphrase(bytes: Uint8Array): Uint8Array {
  // ASCII, the common case, never becomes a string: strings cannot be wiped.
  if (bytes.every((byte) => byte < 0x80)) return Uint8Array.from(bytes);
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return new TextEncoder().encode(text.normalize("NFC"));
  } catch {
    return Uint8Array.from(bytes);
  }
}
