/**
 * Questions to a person, on the controlling terminal with echo off. Without a terminal there is no question:
 * the caller gets `TCFS_USAGE` with what to give instead, at once.
 */
import { openSync, writeSync } from "node:fs";
import { ReadStream } from "node:tty";
import { TcfsError } from "../errors.ts";
import { onEndingSignal } from "../platform/ending-signals.ts";

const MAX_ANSWER_BYTES = 4096;
const KEY = { CONTROL_C: 3, CONTROL_D: 4, BACKSPACE: 8, LINE_FEED: 10, RETURN: 13, CONTROL_U: 21, DELETE: 127 };

/** @returns Whether somebody can be asked: there is a controlling terminal, and we were not wholly redirected away from it. */
export function hasTerminal(): boolean {
  if (!process.stdin.isTTY && !process.stderr.isTTY) return false;
  const fd = openTerminal();
  if (fd === undefined) return false;
  new ReadStream(fd).destroy();
  return true;
}

/**
 * Ask for a secret without echo.
 * @returns What was typed, as bytes; the caller wipes them.
 * @throws TcfsError `TCFS_USAGE` without a terminal, `TCFS_CANCELLED` on control-C or control-D.
 */
export async function askSecret(question: string): Promise<Uint8Array> {
  return ask(question, false);
}

/** Ask for a yes; anything else is a no. */
export async function askYes(question: string): Promise<boolean> {
  const answer = Buffer.from(await ask(`${question} [y/N] `, true)).toString();
  return /^y(es)?$/iu.test(answer.trim());
}

async function ask(question: string, isShown: boolean): Promise<Uint8Array> {
  const fd = process.stdin.isTTY || process.stderr.isTTY ? openTerminal() : undefined;
  if (fd === undefined) throw new TcfsError("TCFS_USAGE", "there is no terminal to ask on");
  const stream = new ReadStream(fd);
  const restore = (): void => {
    stream.setRawMode(false);
  };
  const endWatch = onEndingSignal(restore);
  try {
    stream.setRawMode(true); // before the question: nothing that is typed at once may be echoed
    writeSync(fd, question);
    return await readLine(stream, (text) => {
      if (isShown) writeSync(fd, text);
    });
  } finally {
    restore();
    writeSync(fd, "\n");
    endWatch();
    stream.destroy();
  }
}

/** In raw mode the editing of the line is ours: backspace (whole UTF-8 characters), control-U, control-C, control-D. */
function readLine(stream: ReadStream, echo: (text: string) => void): Promise<Uint8Array> {
  const line = new Uint8Array(MAX_ANSWER_BYTES);
  let length = 0;
  let isTooLong = false;
  return new Promise((resolve, reject) => {
    const cancel = (): void => {
      line.fill(0);
      reject(new TcfsError("TCFS_CANCELLED", "cancelled"));
    };
    const take = (byte: number): boolean => {
      if (byte === KEY.RETURN || byte === KEY.LINE_FEED) {
        const tooLong = new TcfsError("TCFS_USAGE", `an answer has at most ${String(MAX_ANSWER_BYTES)} bytes`);
        if (isTooLong)
          reject(tooLong); // cut short it would be another passphrase
        else resolve(line.slice(0, length));
        line.fill(0);
        return true;
      }
      if (byte === KEY.CONTROL_C || (byte === KEY.CONTROL_D && length === 0)) {
        cancel();
        return true;
      }
      if (byte === KEY.BACKSPACE || byte === KEY.DELETE) length = characterStart(line, length);
      else if (byte === KEY.CONTROL_U) [length, isTooLong] = [0, false];
      else if (length < MAX_ANSWER_BYTES) line[length++] = byte;
      else isTooLong = true;
      return false;
    };
    stream.on("data", (data: Buffer) => {
      echo(data.toString());
      const isDone = data.some(take);
      data.fill(0);
      if (isDone) stream.pause();
    });
    stream.once("end", cancel);
    stream.once("error", reject);
  });
}

function characterStart(line: Uint8Array, length: number): number {
  let start = Math.max(length - 1, 0);
  while (start > 0 && ((line[start] ?? 0) & 0xc0) === 0x80) start--;
  return start;
}

function openTerminal(): number | undefined {
  try {
    return openSync("/dev/tty", "r+");
  } catch {
    return undefined;
  }
}
