/** Running programs under the benchmark's clock. Nothing here blocks, so that Ctrl-C is heard. */
import { spawn } from "node:child_process";
import { Failure } from "../lib/run.mjs";

/** A row that takes longer than this is stuck. */
const LIMIT_MS = 20 * 60 * 1000;

/** Turned on by SIGINT and SIGTERM. */
export const stopping = new AbortController();

/**
 * Run a program to its end. What it prints is returned, or thrown if it fails.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, input?: string, discard?: boolean, signal?: AbortSignal }} [options] - `discard`: its output
 *   goes to /dev/null. `signal` ends it.
 * @returns {Promise<{ seconds: number, output: string }>}
 */
export function run(command, args, { cwd = "/", input, discard = false, signal } = {}) {
  const startedAt = performance.now();
  const env = { ...process.env, LC_ALL: "C", GIT_CONFIG_NOSYSTEM: "1", GIT_CONFIG_GLOBAL: "/dev/null" };
  const out = discard ? "ignore" : "pipe";
  const child = spawn(command, args, {
    cwd,
    env,
    stdio: ["pipe", out, "pipe"],
    timeout: LIMIT_MS,
    ...(signal === undefined ? {} : { signal }),
  });
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(input);
  let output = "";
  let complaint = "";
  child.stdout?.on("data", (/** @type {Buffer} */ data) => (output += data.toString()));
  child.stderr?.on("data", (/** @type {Buffer} */ data) => (complaint += data.toString()));
  return new Promise((resolve, reject) => {
    child.on("error", (error) => {
      reject(new Failure(`${command}: ${error.message}`));
    });
    // "exit", not "close": a daemon that the program leaves behind may keep its stderr.
    child.on("exit", (code, killedBy) => {
      const seconds = (performance.now() - startedAt) / 1000;
      if (code === 0) resolve({ seconds, output });
      else
        reject(new Failure(`${command} ${args.join(" ")} failed (${String(code ?? killedBy)}): ${complaint.trim()}`));
      child.stderr?.destroy();
    });
  });
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @returns {Promise<void>} Resolved even if it fails.
 */
export async function tryRun(command, args) {
  try {
    await run(command, args, { discard: true });
  } catch {
    // The caller looks at what is so afterwards.
  }
}
