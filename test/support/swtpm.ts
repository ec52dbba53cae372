/** A TPM 2.0 in software (swtpm) of a test's own, with its state in a temporary directory. */
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { attempt, eventually, run } from "./run.ts";
import { temporaryDirectory } from "./temporary-directory.ts";
import type { TemporaryDirectory } from "./temporary-directory.ts";

/** Why there can be no TPM here; undefined if there can. `npm test` installs all of them. */
export const swtpmIsMissing: string | undefined = ["swtpm", "swtpm_localca", "tpm2_unseal"]
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

  /**
   * As a maker delivers it: with an endorsement key, and a certificate for it.
   * @returns The maker's authorities too, in PEM.
   */
  static async makeCertified(): Promise<{ readonly tpm: SoftwareTpm; readonly authorities: string }> {
    const tpm = new SoftwareTpm(await temporaryDirectory("swtpm"));
    const at = (name: string): string => join(tpm.#directory.path, name);
    await mkdir(at("state"));
    await mkdir(at("ca"));
    const files = ["signingkey = ca/signkey.pem", "issuercert = ca/issuercert.pem", "certserial = ca/certserial"];
    const places = files.map((line) => line.replace("ca/", `${at("ca")}/`));
    await writeFile(at("ca.conf"), `statedir = ${at("ca")}\n${places.join("\n")}\n`);
    const tool = (await run("sh", ["-c", "command -v swtpm_localca"])).trim();
    const lines = [`create_certs_tool=${tool}`, `create_certs_tool_config=${at("ca.conf")}`];
    await writeFile(at("setup.conf"), `${lines.join("\n")}\ncreate_certs_tool_options=/dev/null\n`);
    const words = ["--tpm2", "--tpmstate", at("state"), "--create-ek-cert", "--config", at("setup.conf")];
    await run("swtpm_setup", words);
    await tpm.start();
    const names = ["swtpm-localca-rootca-cert.pem", "issuercert.pem"];
    return { tpm, authorities: names.map((name) => readFileSync(join(at("ca"), name), "latin1")).join("\n") };
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

  /** Fill an index of its memory. @param owner - Who is allowed to: the machine's owner, or who knows the index. */
  async write(index: string, content: Uint8Array, owner = index): Promise<void> {
    const file = join(this.#directory.path, "content");
    await writeFile(file, content);
    await this.tool("nvwrite", "-C", owner, index, "-i", file);
  }

  /** What an index of its memory holds. */
  async memory(index: string): Promise<Uint8Array> {
    const file = join(this.#directory.path, "content");
    await this.tool("nvread", "-C", index, index, "-o", file);
    return Uint8Array.from(readFileSync(file));
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
