/** The 24 recovery words: 256 bits of entropy as a BIP-39 English mnemonic (FORMAT.md §8.3). */
import { entropyToMnemonic, mnemonicToEntropy } from "@scure/bip39";
import { wordlist } from "@scure/bip39/wordlists/english.js";
import { TcfsError } from "../errors.ts";

const WORD_COUNT = 24;

/** @param entropy - 32 bytes, lent. */
export function formatRecoveryWords(entropy: Uint8Array): string {
  return entropyToMnemonic(entropy, wordlist);
}

/**
 * Words back to 32 bytes of entropy. Case and white space do not matter; numbers such as `1.` before a word are skipped,
 * so that words typed from a numbered sheet are read as they stand.
 * @throws TcfsError `TCFS_WRONG_KEY`, naming the position (never the word) that cannot be right.
 */
export function parseRecoveryWords(text: string): Uint8Array {
  const words = text
    .normalize("NFKD")
    .toLowerCase()
    .split(/\s+/u)
    .filter((word) => word !== "" && !/^\d+[.):]?$/u.test(word));
  if (words.length !== WORD_COUNT)
    throw new TcfsError("TCFS_WRONG_KEY", `there must be ${WORD_COUNT} recovery words, not ${words.length}`);
  const stranger = words.findIndex((word) => !wordlist.includes(word));
  if (stranger !== -1)
    throw new TcfsError("TCFS_WRONG_KEY", `recovery word ${stranger + 1} is not in the list of words: mistyped?`);
  try {
    return mnemonicToEntropy(words.join(" "), wordlist);
  } catch {
    // The cause is dropped: its text might hold words.
    throw new TcfsError("TCFS_WRONG_KEY", "the recovery words do not belong together: one is wrong, or out of order");
  }
}
