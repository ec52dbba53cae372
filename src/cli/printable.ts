/** Text of others (names from the vault, of programs, of a store) on a terminal: what would command it shows as an escape. */

/** Control characters, and those that turn the direction of what follows them. */
const COMMANDING = /[\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** Tell a person something beside the result: one line on standard error. */
export function warn(sentence: string): void {
  process.stderr.write(`${printable(sentence)}\n`);
}

/** @returns One line. */
export function printable(text: string): string {
  return text.replace(COMMANDING, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}
