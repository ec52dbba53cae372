/** The header's kinds of fields: how byte strings, times and numbers are spelt in `vault.json` (FORMAT.md §8.2). */
import { z } from "zod";

/** Bytes in lower-case hexadecimal, of one length or of any up to `mostBytes`. */
export function hexField(leastBytes: number, mostBytes: number = leastBytes) {
  const digits = leastBytes === mostBytes ? String(leastBytes * 2) : `${leastBytes * 2} to ${mostBytes * 2}`;
  return z
    .string()
    .regex(new RegExp(`^(?:[0-9a-f]{2}){${leastBytes},${mostBytes}}$`), `must be ${digits} hexadecimal digits`)
    .transform((text) => Uint8Array.from(Buffer.from(text, "hex")));
}

/** `YYYY-MM-DDThh:mm:ss.sssZ`. */
export const timeField = z.iso.datetime({ precision: 3 });
