/** Running password managers on a session bus of a test's own. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Cleanup } from "./cleanup.ts";
import { attempt, eventually } from "./run.ts";
import { temporaryDirectory } from "./temporary-directory.ts";

/** What is not installed; `npm test` installs all of it. */
export const missingSecretService = ["dbus-daemon", "keepassxc", "gnome-keyring-daemon", "secret-tool"].filter(
  (command) => spawnSync("sh", ["-c", `command -v ${command}`], { stdio: "ignore" }).status !== 0,
);
if (missingSecretService.length > 0)
  console.warn(`tests with running password managers are skipped without: ${missingSecretService.join(", ")}`);

/** A session bus of the test's own, and what runs on it; all of it ends with the test. */
export class SecretSession implements AsyncDisposable {
  readonly #cleanup = new Cleanup();
  directory = "";
  bus = "";

  static async start(): Promise<SecretSession> {
    const session = new SecretSession();
    session.directory = session.#cleanup.use(await temporaryDirectory("secrets")).path;
    session.bus = `unix:path=${session.directory}/bus`;
    await mkdir(join(session.directory, "run"), { mode: 0o700 });
    // Nobody is started because he is asked for, as a desktop's bus does.
    const rules = '<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>';
    const policy = `<policy context="default">${rules}</policy>`;
    const config = join(session.directory, "bus.conf");
    await writeFile(config, `<busconfig><type>session</type><listen>${session.bus}</listen>${policy}</busconfig>`);
    session.spawn("dbus-daemon", ["--nofork", `--config-file=${config}`]);
    try {
      await eventually("the bus answers", 20_000, async () => (await session.#names()) !== undefined);
    } catch (error) {
      await session[Symbol.asyncDispose]();
      throw error;
    }
    return session;
  }

  get env(): Record<string, string> {
    const { directory, bus } = this;
    return {
      ...{ PATH: process.env["PATH"] ?? "", HOME: directory, XDG_RUNTIME_DIR: join(directory, "run") },
      ...{ DBUS_SESSION_BUS_ADDRESS: bus, QT_QPA_PLATFORM: "offscreen", LC_ALL: "C.UTF-8", TMPDIR: directory },
    };
  }

  spawn(program: string, words: readonly string[], input = ""): () => Promise<void> {
    const child = spawn(program, words, { env: this.env, stdio: ["pipe", "ignore", "ignore"] });
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
    const end = async (): Promise<void> => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    };
    this.#cleanup.add(end);
    return end;
  }

  /** Until somebody serves the Secret Service. */
  async serves(): Promise<void> {
    await eventually("the Secret Service is there", 60_000, async () => {
      return (await this.#names())?.includes("org.freedesktop.secrets") === true;
    });
  }

  /** GNOME Keyring, open. */
  async startKeyring(): Promise<void> {
    this.spawn("gnome-keyring-daemon", ["--foreground", "--unlock", "--components=secrets"], "login");
    await this.serves();
  }

  /** An item of GNOME Keyring. @param attributes - Names and values, alternating. */
  async store(label: string, secret: string, ...attributes: readonly string[]): Promise<void> {
    const words = ["store", `--label=${label}`, ...attributes];
    const store = () => attempt("secret-tool", words, { env: this.env, input: secret });
    await eventually(`${label} is stored`, 60_000, async () => (await store()).code === 0); // once it is open
  }

  async #names(): Promise<string | undefined> {
    const words = ["--session", "--print-reply", "--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.ListNames"];
    const { code, stdout } = await attempt("dbus-send", words, { env: this.env });
    return code === 0 ? stdout : undefined;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#cleanup[Symbol.asyncDispose]();
  }
}
