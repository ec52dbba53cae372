/** Questions at a terminal: a pseudo-terminal by script(1), answered when asked, as a person would. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, expect, test } from "vitest";
import { EXIT_CODE } from "../../src/cli/exit-codes.ts";
import type { ExitName } from "../../src/cli/exit-codes.ts";
import { COMMAND, CommandLine, mountLine } from "./fixtures.ts";

/** What is typed once the screen ends with these words. */
type Answer = readonly [question: string, typed: string];

/** Run a command in a terminal of its own. @returns Everything on its screen. */
async function talk(words: readonly string[], exit: ExitName, answers: readonly Answer[]): Promise<string> {
  const command = [process.execPath, COMMAND, ...words].map((word) => `'${word}'`).join(" ");
  const script = spawn("script", ["-qec", command, "/dev/null"], { stdio: "pipe" });
  let screen = "";
  let answered = 0;
  let heard = 0;
  script.stdout.on("data", (data: Buffer) => {
    screen += data.toString();
    const next = answers[answered];
    if (next === undefined || !screen.slice(heard).trimEnd().endsWith(next[0])) return;
    heard = screen.length;
    answered++;
    script.stdin.write(next[1]);
  });
  const [code] = (await once(script, "close")) as [number];
  expect(code, screen).toBe(EXIT_CODE[exit]);
  expect(answered, screen).toBe(answers.length);
  return screen;
}

describe("at a terminal", () => {
  test("a vault that is not there is offered, made, and mounted", async () => {
    await using line = await CommandLine.make({ isBare: true });
    const words = ["mount", line.mountPoint, "--vault", line.vault, "--pid-file", line.pidFile];
    const screen = await talk(words, "OK", [
      ["Make one? [y/N]", "y\r"],
      ["New passphrase:", "Füße\r"],
      ["The same again:", "Füße\r"],
    ]);
    expect(screen).toContain("is mounted at");
    expect(screen.match(/\d+\. [a-z]+/gu)).toHaveLength(24);
    expect(screen).not.toContain("Füße");
    await line.umount();
    const file = line.secretFile("nfd", `${"Füße".normalize("NFD")}\n`);
    await line.mount("--passphrase-file", file);
    await line.umount();
  });

  test("a passphrase longer than is read is refused, not cut short", async () => {
    await using line = await CommandLine.make();
    const words = ["mount", line.mountPoint, "--vault", line.vault, "--pid-file", line.pidFile];
    const screen = await talk(words, "USAGE", [["Passphrase:", `${"x".repeat(4097)}\r`]]);
    expect(screen).toContain("at most 4096 bytes");
  });

  test("a no, or silence, makes nothing", async () => {
    await using line = await CommandLine.make({ isBare: true });
    const words = ["mount", line.mountPoint, "--vault", line.vault];
    await talk(words, "NO_VAULT", [["Make one? [y/N]", "\r"]]);
    await line.expect("NO_VAULT", ["status", "--vault", line.vault]);
  });

  test("a wrong passphrase may be corrected, while typing and twice after", async () => {
    await using line = await CommandLine.make();
    const words = ["mount", line.mountPoint, "--vault", line.vault, "--pid-file", line.pidFile];
    const screen = await talk(words, "OK", [
      ["Passphrase:", "sworx\r"],
      ["Passphrase:", "\r"],
      ["Passphrase:", "garbage\u0015swordfishß\u007f\r"],
    ]);
    expect(screen.match(/the passphrase is wrong/gu)).toHaveLength(2);
    expect(screen).not.toMatch(/sworx|swordfish|garbage/u);
    await line.umount();
    await talk(words, "WRONG_KEY", [
      ["Passphrase:", "1\r"],
      ["Passphrase:", "2\r"],
      ["Passphrase:", "3\r"],
    ]);
  });

  test("control-C ends the question and mounts nothing", async () => {
    await using line = await CommandLine.make();
    await talk(["mount", line.mountPoint, "--vault", line.vault], "CANCELLED", [["Passphrase:", "swor\u0003"]]);
    expect(mountLine(line.mountPoint)).toBeUndefined();
  });

  test("two new passphrases that differ change nothing", async () => {
    await using line = await CommandLine.make();
    const before = await line.header();
    await talk(["key", "passwd", "--vault", line.vault], "USAGE", [
      ["Passphrase:", "swordfish\r"],
      ["New passphrase:", "a\r"],
      ["The same again:", "b\r"],
    ]);
    expect(await line.header()).toEqual(before);
  });
});
