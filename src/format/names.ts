/** What a stored file name may be (FORMAT.md §7.4). */
import type { Name } from "../ids.ts";

/** NAME_MAX of Linux. */
const MAX_NAME_BYTES = 255;

/** @returns Why `text` cannot be the name of a directory entry; undefined if it can. */
export function nameFault(text: string): string | undefined {
  if (text.length === 0 || text.length > MAX_NAME_BYTES) return "a name of impossible length";
  if (text.includes("/") || text.includes("\0")) return "a name with a slash or a NUL";
  if (text === "." || text === "..") return "a name that means a directory";
  return undefined;
}

/** @returns Why `text` cannot be the name of an extended attribute; undefined if it can. */
export function xattrNameFault(text: string): string | undefined {
  if (text.length === 0 || text.length > MAX_NAME_BYTES) return "an attribute name of impossible length";
  if (text.includes("\0")) return "an attribute name with a NUL";
  return undefined;
}

/** The order of byte strings, as the format sorts names. */
export function compareNames(left: Name, right: Name): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
