import { describe, expect, test, vi } from "vitest";
import { describeFailure } from "../../src/cli/exit-codes.ts";
import { formatHolders } from "../../src/cli/mounts/busy.ts";
import { printable, warn } from "../../src/cli/printable.ts";
import { TcfsError } from "../../src/errors.ts";

const EVIL = "\u001b]0;x\u0007\n\u009b31m\u202egpj.\u2066";
const SHOWN = "\\x1b]0;x\\x07\\x0a\\x9b31m\\u202egpj.\\u2066";

describe("what commands a terminal", () => {
  test("is shown as escapes, and nothing else is", () => {
    expect(printable(EVIL)).toBe(SHOWN);
    expect(printable("Grüße/日本/🙂 a.txt")).toBe("Grüße/日本/🙂 a.txt");
  });

  test("is shown so in the sentence of a failure, whoever chose the words", () => {
    expect(describeFailure(new TcfsError("TCFS_IO", `the store says: ${EVIL}`))).toBe(`tcfs: the store says: ${SHOWN}`);
  });

  test("is shown so, in one line, in what is told on standard error beside a result", () => {
    const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    try {
      warn(`not resealed: ${EVIL}`);
      expect(write.mock.calls).toEqual([[`not resealed: ${SHOWN}\n`]]);
    } finally {
      write.mockRestore();
    }
  });

  test("is shown so in the name of a program that keeps a mount busy", () => {
    expect(formatHolders([{ pid: 1, name: EVIL, reason: "open file" }])).toBe(`${SHOWN} (pid 1, open file)`);
  });
});
