/** Starts a daemon, hands it the vault key over a socket pair, and waits until the mount is ready. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, closeSync } from "node:fs";
import { availableParallelism } from "node:os";
import type { Socket } from "node:net";
import { fileURLToPath } from "node:url";
import type { SecretKey } from "../../crypto/secret-key.ts";
import { TcfsError } from "../../errors.ts";
import { readReply } from "../control/control-protocol.ts";
import { openLogFile } from "./daemon-log.ts";
import { LAUNCH_FD } from "./launch-protocol.ts";
import type { LaunchRequest } from "./launch-protocol.ts";
import { daemonArguments } from "../mounts/mount-table.ts";
import type { Settings } from "../settings.ts";
import { logPath } from "../control/vault-paths.ts";

/** Threads for sealing, disk and LevelDB calls: more than cores, since most of them wait for the disk. */
const MIN_THREADS = 6;
const MAX_THREADS = 16;

/** Each thread that allocates would get a heap of glibc's of its own, which keeps what it once held. */
const MALLOC_ARENAS = 2;

/** util-linux; sets the limit and then becomes the daemon (same pid), since Node cannot set it for itself. */
const PRLIMIT_PATHS = ["/usr/bin/prlimit", "/bin/prlimit"];

/**
 * Start a daemon in a session of its own, or in the foreground as a child.
 * @param key - Lent until settled.
 * @returns The daemon, ready: its mount answers. In the foreground its end is the caller's to wait for.
 * @throws TcfsError what the daemon threw before it was ready; `TCFS_DAEMON_ENDED` if it ended without a word.
 */
export async function launchDaemon(request: LaunchRequest, key: SecretKey, settings: Settings): Promise<ChildProcess> {
  const child = spawnDaemon(request, settings);
  const channel = child.stdio[LAUNCH_FD] as Socket;
  try {
    const reply = receiveLine(channel, child);
    channel.write(`${JSON.stringify(request)}\n`);
    const bytes = Uint8Array.from(key.expose());
    channel.write(bytes, () => bytes.fill(0));
    readReply(await reply);
  } catch (error) {
    channel.destroy();
    throw error;
  }
  if (!request.isForeground) {
    channel.destroy();
    child.unref();
  }
  return child;
}

function spawnDaemon(request: LaunchRequest, settings: Settings): ChildProcess {
  const { vault, mountPoint, isForeground } = request;
  const daemon = fileURLToPath(new URL("./daemon.js", import.meta.url));
  const command = [process.execPath, daemon, ...daemonArguments(vault, mountPoint)];
  const prlimit = PRLIMIT_PATHS.find((path) => existsSync(path));
  const [program = process.execPath, ...parameters] =
    prlimit === undefined ? command : [prlimit, "--core=0:0", "--", ...command];
  // What Node itself prints when it dies belongs into the log, if there is one to be had.
  const errors = isForeground ? undefined : openLogFile(logPath(vault));
  try {
    return spawn(program, parameters, {
      cwd: "/",
      detached: !isForeground,
      stdio: ["ignore", isForeground ? "inherit" : "ignore", errors ?? (isForeground ? "inherit" : "ignore"), "pipe"],
      env: {
        ...settings.daemonEnvironment,
        UV_THREADPOOL_SIZE: String(threadCount()),
        MALLOC_ARENA_MAX: String(MALLOC_ARENAS),
      },
    });
  } finally {
    if (errors !== undefined) closeSync(errors);
  }
}

function threadCount(): number {
  return Math.min(Math.max(availableParallelism() * 2, MIN_THREADS), MAX_THREADS);
}

function receiveLine(channel: Socket, child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    channel.setEncoding("utf8");
    channel.on("data", (piece: string) => {
      text += piece;
      if (text.endsWith("\n")) resolve(text.trimEnd());
    });
    channel.on("error", () => undefined); // EPIPE of a daemon that died: told by its exit
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      const how = signal ?? `exit code ${code}`;
      const message = `the daemon ended before the mount was ready (${how}): see daemon.log in the vault directory`;
      // What it said last may still be in the socket.
      setImmediate(() => {
        reject(new TcfsError("TCFS_DAEMON_ENDED", message));
      });
    });
  });
}
