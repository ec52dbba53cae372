/** What is wrong with a command line, in a sentence of ours where that of yargs says little. Pure. */

/** Commands that are made of two words. */
const GROUPS: ReadonlySet<string> = new Set(["key", "credentials", "device", "store", "upload"]);

/**
 * @param sentence - Of yargs.
 * @param words - Of the command line. Of them only names are told again, no values: these may be secrets.
 */
export function usageSentence(sentence: string, words: readonly string[]): string {
  const command = words.slice(0, GROUPS.has(words[0] ?? "") ? 2 : 1).filter((word) => !word.startsWith("-"));
  const name = ["tcfs", ...command].join(" ");
  if (sentence.startsWith("Not enough non-option arguments")) return `${name} needs to be told more: ${name} --help`;
  const likely = /^Did you mean (.+)\?$/u.exec(sentence)?.[1];
  if (likely !== undefined) return `there is no command “${command.join(" ")}”: did you mean ${likely}?`;
  const bare = /^Not enough arguments following: (.+)$/u.exec(sentence)?.[1];
  if (bare !== undefined) return `${asTyped(bare, words) ?? bare} needs a value: ${name} --help`;
  const unknown = /^Unknown (?:argument|command)s?: (.+)$/u.exec(sentence)?.[1]?.split(", ");
  if (unknown === undefined) return sentence.replaceAll(/\s*\n\s*/gu, " ").trim();
  if (unknown[0] === words[0]) return `there is no command “${unknown[0]}”: tcfs --help lists them`;
  // yargs tells of --a-b as aB, too.
  const names = unknown.filter((one) => !unknown.some((other) => other.includes("-") && camelCase(other) === one));
  const options = names.map((one) => asTyped(one, words)).filter((typed) => typed !== undefined);
  if (options.length === 0) return `${name} takes fewer words than that: ${name} --help`;
  return `${name} does not know ${options.join(", ")}: ${name} --help`;
}

/** @returns An option as it stands in the command line; undefined for a word that is none. */
function asTyped(name: string, words: readonly string[]): string | undefined {
  const isIt = (word: string): boolean => word === `-${name}` || word === `--${name}` || word.startsWith(`--${name}=`);
  return words.find(isIt)?.split("=")[0];
}

function camelCase(name: string): string {
  return name.replaceAll(/-(.)/gu, (_match, letter: string) => letter.toUpperCase());
}
