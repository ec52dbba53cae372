/** A vault and a mount point in a temporary directory, driven by the built command as a person would. */
import { readFileSync, writeFileSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { EXIT_CODE } from "../../src/cli/exit-codes.ts";
import type { ExitName } from "../../src/cli/exit-codes.ts";
import { unmountAnyway } from "../support/loop-ext4.ts";
import { eventually } from "../support/run.ts";
import type { RunOptions, RunResult } from "../support/run.ts";
import { isAlive, tcfs } from "../support/tcfs-mount.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import type { TemporaryDirectory } from "../support/temporary-directory.ts";
import { copyVault } from "../support/vault-template.ts";

export const COMMAND = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
/** What npm links under the name `tcfs`. */
export const LINKED_COMMAND = fileURLToPath(new URL("../../scripts/tcfs.mjs", import.meta.url));

const PASSPHRASE = "swordfish";
const DAEMON_END_TIMEOUT_MS = 180_000;

export class CommandLine implements AsyncDisposable {
  readonly directory: string;
  readonly vault: string;
  readonly mountPoint: string;
  readonly passphraseFile: string;
  readonly pidFile: string;
  readonly #temporary: TemporaryDirectory;
  readonly #places: string[] = [];
  readonly #pids = new Set<number>();

  private constructor(temporary: TemporaryDirectory) {
    this.#temporary = temporary;
    this.directory = temporary.path;
    this.vault = join(temporary.path, "vault");
    this.mountPoint = join(temporary.path, "mount");
    this.passphraseFile = join(temporary.path, "passphrase");
    this.pidFile = join(temporary.path, "pid");
  }

  /** With a vault, unless `isBare`. */
  static async make({ isBare = false } = {}): Promise<CommandLine> {
    const line = new CommandLine(await temporaryDirectory("cli"));
    await mkdir(line.mountPoint);
    line.#places.push(line.mountPoint);
    line.secretFile("passphrase", `${PASSPHRASE}\n`);
    const places = { vault: line.vault, words: join(line.directory, "words") };
    if (!isBare) await copyVault(places, PASSPHRASE, (words) => line.expect("OK", ["init", ...words]));
    return line;
  }

  get unlock(): string[] {
    return ["--vault", this.vault, "--passphrase-file", this.passphraseFile];
  }

  get mountWords(): string[] {
    return ["mount", this.mountPoint, ...this.unlock, "--pid-file", this.pidFile];
  }

  /** A file 0600 in the temporary directory. */
  secretFile(name: string, content: string): string {
    const path = join(this.directory, name);
    writeFileSync(path, content, { mode: 0o600 });
    return path;
  }

  /** Run a command that must end with this exit code. */
  async expect(name: ExitName, words: readonly string[], options?: RunOptions): Promise<RunResult> {
    const result = await tcfs(words, options);
    const told = `tcfs ${words.join(" ")}\n${result.stdout}${result.stderr}${this.log()}`;
    expect(result.code, told).toBe(EXIT_CODE[name]);
    if (words[0] === "mount" && name === "OK") this.#pids.add(this.pid());
    return result;
  }

  mount(...words: readonly string[]): Promise<RunResult> {
    return this.expect("OK", [...this.mountWords, ...words]);
  }

  umount(): Promise<RunResult> {
    return this.expect("OK", ["umount", this.mountPoint]);
  }

  /**
   * Have the vault leave its store alone, or not any longer. Some seconds after a write housekeeping moves it to a pack, and
   * uploads that: on a slow machine in between what two devices do.
   */
  uploads(word: "pause" | "resume"): Promise<RunResult> {
    return this.expect("OK", ["upload", word, "--vault", this.vault]);
  }

  /** Another place that is to be unmounted at the end. */
  async placeToMount(name: string): Promise<string> {
    const path = join(this.directory, name);
    await mkdir(path);
    this.#places.push(path);
    return path;
  }

  pid(): number {
    return Number(readFileSync(this.pidFile, "utf8"));
  }

  log(): string {
    try {
      return readFileSync(join(this.vault, "daemon.log"), "utf8");
    } catch {
      return "";
    }
  }

  async header(): Promise<Record<string, unknown>> {
    return JSON.parse(await readFile(join(this.vault, "vault.json"), "utf8")) as Record<string, unknown>;
  }

  writeHeader(header: object): void {
    writeFileSync(join(this.vault, "vault.json"), `${JSON.stringify(header, null, 2)}\n`);
  }

  async daemonEnds(pid: number): Promise<void> {
    await eventually(`daemon ${pid} ends\n${this.log()}`, DAEMON_END_TIMEOUT_MS, () => !isAlive(pid));
    this.#pids.delete(pid);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const place of this.#places) await unmountAnyway(place);
    for (const pid of this.#pids) {
      await this.daemonEnds(pid).catch(() => {
        process.kill(pid, "SIGKILL");
      });
    }
    await this.#temporary[Symbol.asyncDispose]();
  }
}

/** The mount table's line for a place, or nothing. */
export function mountLine(place: string): string | undefined {
  const lines = readFileSync("/proc/self/mounts", "utf8").split("\n");
  return lines.find((line) => line.split(" ")[1] === place);
}
