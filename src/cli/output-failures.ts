/** Standard output and error that take nothing more: a reader that has gone (`| head`) is no failure, a full disk is one. */
import { isErrno } from "../errors.ts";
import { EXIT_CODE } from "./exit-codes.ts";

/**
 * From now on a command goes on to its end whatever becomes of what it prints.
 * @returns Gives the exit code, once a command has ended with the one that it is given.
 */
export function watchOutput(): (code: number) => number {
  let isLost = false;
  process.stderr.on("error", () => undefined); // there is nowhere to tell it
  process.stdout.on("error", (error: Error) => {
    if (isLost || isErrno(error, "EPIPE")) return;
    isLost = true;
    process.stderr.write(`tcfs: standard output cannot be written: ${error.message}\n`);
    if (process.exitCode === EXIT_CODE.OK) process.exitCode = EXIT_CODE.IO; // told after the command's end
  });
  return (code) => (isLost && code === EXIT_CODE.OK ? EXIT_CODE.IO : code);
}
