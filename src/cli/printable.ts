/** Names from the vault on a terminal: what would command the terminal shows as an escape instead. */

const CONTROL = /\p{Cc}/gu;

export function printable(name: string): string {
  return name.replace(CONTROL, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
}
