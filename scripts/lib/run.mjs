/** Running other programs from the scripts, and the one way in which a script gives up: a plain sentence. */
import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository. */
export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** A failure that is told in its message alone, without a stack. */
export class Failure extends Error {}

/**
 * Run a script's main function; a {@link Failure} becomes one line on stderr and exit code 1.
 * @param {() => Promise<number | undefined>} main - Resolves to the exit code; undefined is 0.
 */
export async function runMain(main) {
  try {
    process.exitCode = (await main()) ?? 0;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    console.error(`tcfs: ${error.message}`);
    process.exitCode = 1;
  }
}

/**
 * Say on a line what is being done; later lines say nothing of what is already there.
 * @param {string} what
 */
export function step(what) {
  console.log(`· ${what}`);
}

/**
 * @param {string} command
 * @returns {boolean} Whether the command is found in PATH or the system directories that a user's PATH may lack.
 */
export function hasCommand(command) {
  const directories = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/local/sbin", "/usr/sbin", "/sbin"];
  return directories.some((directory) => {
    try {
      accessSync(join(directory, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * Run a program to its end with its output kept back, and shown only if it fails.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, terminal?: boolean }} [options] - `terminal`: the program may ask on it.
 * @returns {{ ok: boolean, output: string }}
 */
export function runQuietly(command, args, { cwd = ROOT, env = process.env, terminal = false } = {}) {
  const result = spawnSync(command, args, {
    cwd,
    env,
    encoding: "utf8",
    maxBuffer: 64 * 2 ** 20,
    stdio: [terminal ? "inherit" : "ignore", "pipe", terminal ? "inherit" : "pipe"],
  });
  if (result.error !== undefined) return { ok: false, output: result.error.message };
  // A stream that the terminal took is null here, and joins as nothing.
  return { ok: result.status === 0, output: [result.stdout, result.stderr].join("").trim() };
}

/**
 * Run a program with its output shown.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ env?: NodeJS.ProcessEnv, terminal?: boolean }} [options] - `terminal`: it may read standard input.
 * @returns {Promise<number>} The exit code; 1 if a signal ended it or it could not be started.
 */
export function runShown(command, args, { env = process.env, terminal = false } = {}) {
  const child = spawn(command, args, {
    cwd: ROOT,
    env,
    stdio: [terminal ? "inherit" : "ignore", "inherit", "inherit"],
  });
  return new Promise((resolve) => {
    child.on("error", (error) => {
      console.error(`tcfs: ${command} could not be started: ${error.message}`);
      resolve(1);
    });
    child.on("close", (code) => {
      resolve(code ?? 1);
    });
  });
}
