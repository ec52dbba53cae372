/** A TPM 2.0 in software (swtpm) of a test's own, with its state in a temporary directory. */
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { attempt, eventually, run } from "./run.ts";
import { temporaryDirectory } from "./temporary-directory.ts";
import type { TemporaryDirectory } from "./temporary-directory.ts";

/** Why there can be no TPM here; undefined if there can. `npm test` installs both. */
export const swtpmIsMissing: string | undefined = ["swtpm", "tpm2_unseal"]
  .filter((command) => spawnSync(command, ["--version"], { stdio: "ignore" }).error !== undefined)
  .map((command) => `${command} is not installed`)
  .at(0);
if (swtpmIsMissing !== undefined) console.warn(`tests on a TPM are skipped: ${swtpmIsMissing}`);

const START_TIMEOUT_MS = 20_000;

export class SoftwareTpm implements AsyncDisposable {
  readonly tcti: string;
  readonly #directory: TemporaryDirectory;
  #process: ChildProcess | undefined;

  private constructor(directory: TemporaryDirectory) {
    this.#directory = directory;
    this.tcti = `swtpm:path=${join(directory.path, "tpm")}`;
  }

  /** Fresh from the factory, and started. */
  static async make(): Promise<SoftwareTpm> {
    const tpm = new SoftwareTpm(await temporaryDirectory("swtpm"));
    await mkdir(join(tpm.#directory.path, "state"));
    await tpm.start();
    return tpm;
  }

  /** Power on: PCRs are zero again, what is persistent is there. */
  async start(): Promise<void> {
    const socket = join(this.#directory.path, "tpm");
    const words = ["socket", "--tpm2", "--tpmstate", `dir=${join(this.#directory.path, "state")}`];
    const sockets = ["--server", `type=unixio,path=${socket}`, "--ctrl", `type=unixio,path=${socket}.ctrl`];
    const rest = ["--flags", "not-need-init,startup-clear", "--log", `file=${this.#log},level=20`];
    this.#process = spawn("swtpm", [...words, ...sockets, ...rest], { stdio: "ignore" });
    await eventually("swtpm answers", START_TIMEOUT_MS, async () => {
      return (await attempt("tpm2_getcap", ["handles-persistent", "-T", this.tcti])).code === 0;
    });
  }

  /** Power off. */
  async stop(): Promise<void> {
    const ending = this.#process;
    this.#process = undefined;
    if (ending === undefined || ending.exitCode !== null) return;
    const closed = once(ending, "close");
    ending.kill("SIGTERM");
    await closed;
  }

  /** A tool on this TPM, with what it needs to leave behind flushed. */
  async tool(name: string, ...words: readonly string[]): Promise<string> {
    const output = await run(`tpm2_${name}`, [...words, "-T", this.tcti]);
    await run("tpm2_flushcontext", ["-Q", "-t", "-T", this.tcti]);
    return output;
  }

  /** As an update of what PCR `index` measures would. */
  async extend(index: number): Promise<void> {
    await this.tool("pcrextend", `${index}:sha256=${"ab".repeat(32)}`);
  }

  /** Handles of what is loaded or open in it. */
  async leftInside(): Promise<string> {
    const kinds = ["handles-transient", "handles-loaded-session", "handles-saved-session"];
    let all = "";
    for (const kind of kinds) all += await run("tpm2_getcap", [kind, "-T", this.tcti]);
    return all.trim();
  }

  /** Every byte that went to it and came from it, as hexadecimal digits without anything between them. */
  traffic(): string {
    const lines = readFileSync(this.#log, "latin1").split("\n");
    return lines
      .map((line) => line.trim())
      .filter((line) => /^(?:[0-9A-F]{2} ?)+$/u.test(line))
      .join("")
      .replaceAll(" ", "")
      .toLowerCase();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#directory[Symbol.asyncDispose]();
  }

  get #log(): string {
    return join(this.#directory.path, "log");
  }
}
