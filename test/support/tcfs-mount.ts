/** A vault of its own, mounted by the built command in a daemon of its own, for the length of a test. */
import { existsSync, readFileSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Cleanup } from "./cleanup.ts";
import { unmountAnyway } from "./loop-ext4.ts";
import { attempt, eventually, run, type RunOptions, type RunResult } from "./run.ts";
import { temporaryDirectory } from "./temporary-directory.ts";
import { copyVault } from "./vault-template.ts";

const COMMAND = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
/** Far beyond what a command takes, on a machine that many share too. */
const COMMAND_TIMEOUT_MS = 600_000;

export const TEST_PASSPHRASE = "canary-passphrase correct horse battery";

export interface TcfsOptions {
  /** Where the vault goes; a temporary directory if not given. An existing vault is used as it is. */
  readonly vaultDirectory?: string;
  /** More words for `tcfs mount`, such as `--read-only`. */
  readonly mountParameters?: readonly string[];
}

export interface TcfsMount extends AsyncDisposable {
  readonly mountPoint: string;
  readonly vaultDirectory: string;
  /** Holds the passphrase file, the recovery words, the pid file and what the command printed. */
  readonly controlDirectory: string;
  /** The daemon's process id; changes with each mount. */
  readonly pid: number;
  readonly recoveryFile: string;
  /** `tcfs umount`, then wait until the daemon has ended. */
  unmount(): Promise<void>;
  /** SIGKILL to the daemon; the stale mount stays until the next `mount`. */
  kill9(): Promise<void>;
  /** `tcfs mount` after `unmount` or `kill9`. */
  mount(): Promise<void>;
  /** `unmount` and `mount`. */
  remount(): Promise<void>;
  /** Any `tcfs` command, whatever its end. */
  tcfs(parameters: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** Everything that the daemon has logged so far. */
  log(): Promise<string>;
}

/** Run the built command. */
export function tcfs(parameters: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return attempt(process.execPath, [COMMAND, ...parameters], { timeoutMs: COMMAND_TIMEOUT_MS, ...options });
}

/** Make a vault (unless there is one) and mount it. On failure and on disposal nothing is left behind. */
export async function mountTcfs(options: TcfsOptions = {}): Promise<TcfsMount> {
  const mount = new MountedVault(options);
  try {
    await mount.prepare();
    await mount.mount();
    return mount;
  } catch (error) {
    await mount[Symbol.asyncDispose]();
    throw error;
  }
}

class MountedVault implements TcfsMount {
  readonly #cleanup = new Cleanup();
  readonly #mountParameters: readonly string[];
  readonly #wantedVault: string | undefined;
  readonly #vaultParameters: string[] = [];
  controlDirectory = "";
  vaultDirectory = "";
  mountPoint = "";
  recoveryFile = "";
  #pidFile = "";
  pid = 0;

  constructor(options: TcfsOptions) {
    this.#wantedVault = options.vaultDirectory;
    this.#mountParameters = options.mountParameters ?? [];
  }

  async prepare(): Promise<void> {
    const directory = this.#cleanup.use(await temporaryDirectory("mount"));
    this.mountPoint = join(directory.path, "mount");
    this.controlDirectory = join(directory.path, "control");
    this.vaultDirectory = this.#wantedVault ?? join(directory.path, "vault");
    this.recoveryFile = join(this.controlDirectory, "recovery");
    this.#pidFile = join(this.controlDirectory, "pid");
    await mkdir(this.mountPoint);
    await mkdir(this.controlDirectory, { mode: 0o700 });
    const passphraseFile = join(this.controlDirectory, "passphrase");
    await writeFile(passphraseFile, `${TEST_PASSPHRASE}\n`, { mode: 0o600 });
    this.#vaultParameters.push("--vault", this.vaultDirectory, "--passphrase-file", passphraseFile);
    if (existsSync(join(this.vaultDirectory, "vault.json"))) return;
    const places = { vault: this.vaultDirectory, words: this.recoveryFile };
    await copyVault(places, TEST_PASSPHRASE, (words) => this.#succeed(["init", ...words]));
  }

  async mount(): Promise<void> {
    await rm(this.#pidFile, { force: true });
    const parameters = ["--pid-file", this.#pidFile, ...this.#mountParameters];
    this.#cleanup.add(() => this.#release());
    await this.#succeed(["mount", this.mountPoint, ...this.#vaultParameters, ...parameters]);
    await run("mountpoint", ["-q", this.mountPoint]);
    this.pid = await this.#readPid();
    if (!isAlive(this.pid)) throw new Error(`tcfs mount returned, but its daemon ${this.pid} does not run`);
  }

  async unmount(): Promise<void> {
    await this.#succeed(["umount", this.mountPoint]);
    const pid = this.pid;
    await eventually(`daemon ${pid} ends after umount`, COMMAND_TIMEOUT_MS, () => !isAlive(pid));
    await this.#forgetDaemon();
  }

  async kill9(): Promise<void> {
    const pid = this.pid;
    if (pid <= 0) throw new Error("no daemon runs"); // 0 would be this very process group
    process.kill(pid, "SIGKILL");
    await eventually(`daemon ${pid} ends after SIGKILL`, COMMAND_TIMEOUT_MS, () => !isAlive(pid));
    await this.#forgetDaemon();
  }

  async remount(): Promise<void> {
    await this.unmount();
    await this.mount();
  }

  tcfs(parameters: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return tcfs(parameters, options);
  }

  async log(): Promise<string> {
    const path = join(this.vaultDirectory, "daemon.log");
    return existsSync(path) ? readFile(path, "utf8") : "";
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#cleanup[Symbol.asyncDispose]();
  }

  async #succeed(parameters: readonly string[]): Promise<void> {
    const result = await tcfs(parameters);
    if (result.code === 0) return;
    const how = result.code ?? result.signal;
    throw new Error(
      `tcfs ${parameters[0]} ended with ${how}:\n${result.stdout}\n${result.stderr}\n${await this.log()}`,
    );
  }

  async #readPid(): Promise<number> {
    const text = (await readFile(this.#pidFile, "utf8")).trim();
    if (!/^[1-9]\d*$/.test(text)) throw new Error(`the pid file holds "${text}"`);
    return Number(text);
  }

  /** The number may soon belong to another process. */
  async #forgetDaemon(): Promise<void> {
    this.pid = 0;
    await rm(this.#pidFile, { force: true });
  }

  async #release(): Promise<void> {
    if (this.pid === 0 && existsSync(this.#pidFile)) this.pid = await this.#readPid();
    await unmountAnyway(this.mountPoint);
    const pid = this.pid;
    this.pid = 0;
    if (pid === 0) return;
    const ended = eventually("the daemon ends", 10_000, () => !isAlive(pid));
    await ended.catch(() => process.kill(pid, "SIGKILL"));
  }
}

/** @returns Whether a process runs (one that ended and waits for its parent does not). */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  return !readStatus(pid).includes("State:\tZ");
}

function readStatus(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return "State:\tZ"; // gone in between
  }
}
