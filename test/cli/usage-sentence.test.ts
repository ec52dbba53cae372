import { describe, expect, test } from "vitest";
import { usageSentence } from "../../src/cli/usage-sentence.ts";

describe("a wrong command line is told of", () => {
  test.each([
    ["Unknown arguments: pasphrase-file, pasphraseFile", ["mount", "--pasphrase-file", "x", "m"]],
    ["Unknown arguments: pasphrase-file, pasphraseFile", ["mount", "--pasphrase-file=hunter2", "m"]],
  ])("by an option once, as it was typed, without its value", (sentence, words) => {
    expect(usageSentence(sentence, words)).toBe("tcfs mount does not know --pasphrase-file: tcfs mount --help");
  });

  test.each([
    [
      "Unknown argument: m",
      ["upload", "limit", "1k", "-m", "v"],
      "tcfs upload limit does not know -m: tcfs upload limit --help",
    ],
    ["Unknown argument: b", ["mount", "a", "b"], "tcfs mount takes fewer words than that: tcfs mount --help"],
    [
      "Unknown argument: hunter2",
      ["key", "test", "hunter2"],
      "tcfs key test takes fewer words than that: tcfs key test --help",
    ],
    ["Unknown argument: nosuch", ["nosuch"], "there is no command “nosuch”: tcfs --help lists them"],
    ["Did you mean mount?", ["mont", "x"], "there is no command “mont”: did you mean mount?"],
    ["Did you mean add?", ["key", "ad"], "there is no command “key ad”: did you mean add?"],
    [
      "Not enough non-option arguments: got 0, need at least 1",
      ["key", "remove", "--vault", "v"],
      "tcfs key remove needs to be told more: tcfs key remove --help",
    ],
    ["Not enough arguments following: vault", ["mount", "m", "--vault"], "--vault needs a value: tcfs mount --help"],
    ["Missing\n  two lines", ["gc"], "Missing two lines"],
  ])("%s", (sentence, words, expected) => {
    expect(usageSentence(sentence, words)).toBe(expected);
  });
});
