/** Programs run by tests: with a time limit, and with failures that show the command, its exit and what it printed. */
import { spawn } from "node:child_process";

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  readonly timeoutMs?: number;
  readonly uid?: number;
  readonly gid?: number;
}

export interface RunResult {
  /** Exit code; undefined when a signal ended it. */
  readonly code: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** For what would never end: a machine that others use too may take ten times as long as a quiet one. */
const DEFAULT_TIMEOUT_MS = 600_000;
/** Nothing is given up earlier than after so long: less would judge the machine. */
const LEAST_PATIENCE_MS = 180_000;
const SHOWN_OUTPUT_CHARACTERS = 4_000;

/** Run a program to its end and give back how it ended, whatever that was. @throws Error if it takes too long. */
export function attempt(program: string, parameters: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, parameters, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
      ...(options.uid === undefined ? {} : { uid: options.uid }),
      ...(options.gid === undefined ? {} : { gid: options.gid }),
    });
    const output: Buffer[] = [];
    const errors: Buffer[] = [];
    let timedOut = false;
    const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const timer = setTimeout(() => {
      timedOut = true;
      killGroup(child.pid);
    }, timeoutMs);
    child.stdout.on("data", (piece: Buffer) => output.push(piece));
    child.stderr.on("data", (piece: Buffer) => errors.push(piece));
    child.stdin.on("error", () => undefined); // a program may end without having read its input
    child.stdin.end(options.input);
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      clearTimeout(timer);
      // A daemon that it left behind may hold the pipes: what matters was printed before the exit, and is read by then,
      // since the event loop looks at the pipes between the timer and the immediate, however late the timer comes.
      const finish = (): void => {
        const result = {
          code: code ?? undefined,
          signal: signal ?? undefined,
          stdout: Buffer.concat(output).toString(),
          stderr: Buffer.concat(errors).toString(),
        };
        child.stdout.destroy();
        child.stderr.destroy();
        if (timedOut) reject(new Error(describe(`took longer than ${timeoutMs} ms`, program, parameters, result)));
        else resolve(result);
      };
      setTimeout(() => setImmediate(finish), 10);
    });
  });
}

/** Run a program that must succeed. @returns What it printed. */
export async function run(program: string, parameters: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await attempt(program, parameters, options);
  if (result.code !== 0) {
    throw new Error(describe(`ended with ${result.code ?? result.signal}`, program, parameters, result));
  }
  return result.stdout;
}

/** Run a script in bash, stopping at the first failure, pipes included. @returns What it printed. */
export function shell(script: string, options: RunOptions = {}): Promise<string> {
  return run("bash", ["--norc", "-euo", "pipefail", "-c", script], options);
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/**
 * Ask again until `isTrue` says yes.
 * @param timeoutMs - After which to give up; at least {@link LEAST_PATIENCE_MS}.
 * @throws Error naming `what` when it never does.
 */
export async function eventually(
  what: string,
  timeoutMs: number,
  isTrue: () => boolean | Promise<boolean>,
): Promise<void> {
  const patienceMs = Math.max(timeoutMs, LEAST_PATIENCE_MS);
  const deadline = performance.now() + patienceMs;
  while (!(await isTrue())) {
    if (performance.now() > deadline) throw new Error(`not within ${patienceMs} ms: ${what}`);
    await sleep(20);
  }
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It ended by itself in between.
  }
}

function describe(what: string, program: string, parameters: readonly string[], result: RunResult): string {
  const last = (text: string): string => text.slice(-SHOWN_OUTPUT_CHARACTERS);
  return `${what}: ${program} ${parameters.join(" ")}\n${last(result.stdout)}\n${last(result.stderr)}`;
}
