/**
 * tpm2-tools as child processes: one at a time, each with a time limit, a bare environment and an explicit TCTI. No secret is
 * on a command line, in an environment or in a file: they go through standard input and output.
 */
import { constants } from "node:fs";
import { access, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { TcfsError } from "../../errors.ts";
import { toolError } from "./response-code.ts";
import { withScratch } from "./scratch.ts";

/** Making an RSA key takes some TPMs many seconds. */
const STEP_TIMEOUT_MS = 60_000;
const MAX_OUTPUT_BYTES = 64 * 1024;
/** They speak to no TPM, and refuse to be told of one. */
const NEEDS_NO_TPM: ReadonlySet<string> = new Set(["checkquote"]);

export interface TpmOptions {
  /** How to reach the TPM: see tpm2-tools(7), TCTI. `none` for tools that need none. */
  readonly tcti: string;
  /** PATH to find the tools by. */
  readonly toolPath: string;
}

/** One caller's talk with a TPM. File names are within its scratch directory. */
export class TpmTools {
  readonly #options: TpmOptions;
  readonly #scratch: string;
  /** Files of the sessions that are open. */
  readonly #sessions = new Set<string>();

  private constructor(options: TpmOptions, scratch: string) {
    this.#options = options;
    this.#scratch = scratch;
  }

  /**
   * Talk to the TPM; everything that was loaded or opened in it is flushed afterwards.
   * @throws TcfsError `TCFS_NO_TPM`, `TCFS_BUSY`, and what `action` throws.
   */
  static async use<T>(options: TpmOptions, action: (tpm: TpmTools) => Promise<T>): Promise<T> {
    await checkDevice(options.tcti);
    return withScratch(async (scratch) => {
      const tpm = new TpmTools(options, scratch);
      try {
        return await action(tpm);
      } finally {
        await tpm.#flushAll();
      }
    });
  }

  /**
   * Run `tpm2_TOOL`.
   * @param input - For its standard input. Lent until settled.
   * @returns What it printed; the caller wipes it if it is secret.
   * @throws TcfsError as {@link toolError} tells.
   */
  async run(tool: string, words: readonly string[], input: Uint8Array = new Uint8Array()): Promise<Uint8Array> {
    const { execa } = await import("execa");
    const place = NEEDS_NO_TPM.has(tool) ? [] : ["-T", this.#options.tcti];
    const result = await execa(`tpm2_${tool}`, [...words, ...place], {
      cwd: this.#scratch,
      env: { PATH: this.#options.toolPath, LC_ALL: "C" },
      extendEnv: false,
      input,
      encoding: "buffer",
      stripFinalNewline: false,
      maxBuffer: MAX_OUTPUT_BYTES,
      timeout: STEP_TIMEOUT_MS,
      reject: false,
    });
    if (!result.failed) return result.stdout;
    throw toolError({
      tool,
      errorOutput: new TextDecoder().decode(result.stderr),
      isMissing: result.code === "ENOENT",
      isTimedOut: result.timedOut,
    });
  }

  /** As {@link run}, for steps that load an object: it is saved to a file and leaves the TPM, which has three places. */
  async runAndFlush(tool: string, words: readonly string[], input?: Uint8Array): Promise<Uint8Array> {
    try {
      return await this.run(tool, words, input);
    } finally {
      await this.flushObjects();
    }
  }

  /**
   * Open a session. One that carries parameters is salted by the storage key and encrypts the first parameter each way, so
   * that nobody between processor and TPM reads it.
   */
  async openSession(file: string, kind: "trial" | "policy" | "hmac", saltHandle?: string): Promise<void> {
    const type = { trial: [], policy: ["--policy-session"], hmac: ["--hmac-session"] }[kind];
    const salt = saltHandle === undefined ? [] : ["--tpmkey-context", saltHandle];
    await this.run("startauthsession", ["-Q", "-S", file, ...type, ...salt]);
    this.#sessions.add(file);
    if (saltHandle !== undefined) await this.run("sessionconfig", [file, "--enable-encrypt", "--enable-decrypt"]);
  }

  async closeSession(file: string): Promise<void> {
    this.#sessions.delete(file);
    await this.run("flushcontext", ["-Q", file]);
  }

  async read(file: string): Promise<Uint8Array> {
    return Uint8Array.from(await readFile(join(this.#scratch, file)));
  }

  /** For what is not secret: what the TPM itself has sealed. */
  async write(file: string, content: Uint8Array): Promise<void> {
    await writeFile(join(this.#scratch, file), content, { mode: 0o600 });
  }

  /** What is loaded leaves the TPM. */
  async flushObjects(): Promise<void> {
    await this.run("flushcontext", ["-Q", "-t"]);
  }

  /** Of tools that open sessions themselves and leave them open. */
  async flushSessions(): Promise<void> {
    await this.run("flushcontext", ["-Q", "-l"]);
  }

  /** On every way out; what fails here has failed before, and was told. */
  async #flushAll(): Promise<void> {
    for (const file of this.#sessions) await this.closeSession(file).catch(() => undefined);
  }
}

async function checkDevice(tcti: string): Promise<void> {
  const device = /^device:(?<path>.+)$/u.exec(tcti)?.groups?.["path"];
  if (device === undefined) return;
  try {
    await access(device, constants.R_OK | constants.W_OK);
  } catch (cause) {
    const isMissing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    const why = isMissing
      ? `there is no TPM here: ${device} does not exist`
      : `you may not use the TPM: ${device} is closed to you (its group is usually “tss”)`;
    throw new TcfsError("TCFS_NO_TPM", why, { cause });
  }
}
