import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { EXIT_CODE, EXIT_OF, describeFailure, exitCodeOf } from "../../src/cli/exit-codes.ts";
import { ERRNO_OF, TcfsError } from "../../src/errors.ts";
import type { TcfsErrorCode } from "../../src/errors.ts";

const page = readFileSync(new URL("../../docs/ERRORS.md", import.meta.url), "utf8");

/** Cells of the table under a heading, without back-ticks. */
function tableUnder(heading: string): string[][] {
  const section = page.split(`## ${heading}`)[1]?.split("\n## ")[0] ?? "";
  const lines = section.split("\n").filter((line) => line.startsWith("| "));
  return lines.slice(1).map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll("`", "")),
  );
}

test("docs/ERRORS.md and the table of errno say the same, both ways", () => {
  const documented = tableUnder("Error codes").map(([code = "", errno = ""]) => [code, errno]);
  expect(Object.fromEntries(documented)).toEqual(ERRNO_OF);
  expect(documented).toHaveLength(Object.keys(ERRNO_OF).length);
});

test("docs/ERRORS.md and the table of exit codes say the same, both ways", () => {
  const documented = tableUnder("Exit codes of tcfs".replace("tcfs", "`tcfs`"));
  const numbers = documented.map(([number = "", name = ""]) => [name, Number(number)]);
  expect(Object.fromEntries(numbers)).toEqual(EXIT_CODE);
  expect(numbers).toHaveLength(Object.keys(EXIT_CODE).length);
});

test("docs/ERRORS.md and the exit code of each error say the same, both ways", () => {
  const documented = tableUnder("Error codes").flatMap(([code = "", , exit = ""]) =>
    exit === "–" ? [] : [[code, exit]],
  );
  expect(Object.fromEntries(documented)).toEqual(EXIT_OF);
});

test("every meaning is told in words", () => {
  for (const row of [...tableUnder("Error codes"), ...tableUnder("Exit codes of `tcfs`")])
    expect(row.at(-1)?.length, row.join(" ")).toBeGreaterThan(3);
});

test("every exit code has its own number", () => {
  expect(new Set(Object.values(EXIT_CODE)).size).toBe(Object.keys(EXIT_CODE).length);
});

test("what is no TcfsError, or none that belongs on the command line, is told as a bug with its stack", () => {
  for (const error of [new RangeError("bad index"), new TcfsError("TCFS_STALE", "gone")]) {
    expect(exitCodeOf(error)).toBe(EXIT_CODE.INTERNAL);
    expect(describeFailure(error)).toMatch(/report[^]*errors-doc\.test/u);
  }
});

test("an error of the world is told in one line", () => {
  for (const code of Object.keys(EXIT_OF) as TcfsErrorCode[]) {
    expect(describeFailure(new TcfsError(code, "so it is"))).toBe("tcfs: so it is");
    expect(exitCodeOf(new TcfsError(code, "so it is"))).toBeGreaterThan(1);
  }
});
