/** A connection to a daemon for many requests: the next may be sent before the last is answered. */
import { connect } from "node:net";
import type { Socket } from "node:net";
import { setTimeout } from "node:timers/promises";
import { TcfsError, isTcfsError } from "../../errors.ts";
import { DAEMON_STOPPED, listDaemons, processState } from "../mounts/mount-table.ts";
import { MAX_REPLY_BYTES, readReply } from "./control-protocol.ts";
import type { AnyRequest, ControlRequest } from "./control-protocol.ts";
import { controlSocketPath } from "./vault-paths.ts";

/** A daemon that runs says hello as soon as it has finished one step: this long none takes, unless its disk hangs. */
const HELLO_TIMEOUT_MS = 60_000;
const STOPPED_LOOK_MS = 500;

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}

export class ControlConnection implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #maxReplyBytes: number;
  /** In the order of their requests. */
  readonly #waiting: Waiting[] = [];
  /** Of the reply that is not yet whole. */
  #pieces: string[] = [];
  #pieceLength = 0;

  private constructor(socket: Socket, maxReplyBytes: number) {
    this.#socket = socket;
    this.#maxReplyBytes = maxReplyBytes;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#take(text));
    socket.on("close", () => this.#fail(ended()));
    socket.on("error", () => socket.destroy());
  }

  /**
   * @returns undefined if no daemon listens in this vault; else it has said hello.
   * @throws TcfsError `TCFS_ACCESS` if it is another user's; `TCFS_DAEMON_ENDED` if it cannot be reached;
   *   `TCFS_DAEMON_SILENT` if it is stopped, or says nothing.
   */
  static async open(vault: string, maxReplyBytes: number = MAX_REPLY_BYTES): Promise<ControlConnection | undefined> {
    const connection = await ControlConnection.#connect(vault, maxReplyBytes);
    if (connection === undefined) return undefined;
    try {
      await connection.#greet(vault);
      return connection;
    } catch (error) {
      await connection[Symbol.asyncDispose]();
      throw error;
    }
  }

  static async #connect(vault: string, maxReplyBytes: number): Promise<ControlConnection | undefined> {
    const path = await controlSocketPath(vault).catch(() => undefined);
    if (path === undefined) return undefined; // no such directory: no daemon either
    await using socketPath = path;
    return await new Promise((resolve, reject) => {
      const socket = connect({ path: socketPath.path });
      socket.once("connect", () => {
        socket.removeAllListeners("error");
        resolve(new ControlConnection(socket, maxReplyBytes));
      });
      socket.once("error", (error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT" || error.code === "ECONNREFUSED") resolve(undefined);
        else if (error.code === "EACCES")
          reject(new TcfsError("TCFS_ACCESS", "the daemon belongs to another user", { cause: error }));
        else reject(ended(error));
      });
    });
  }

  /** @throws what the daemon threw; `TCFS_DAEMON_ENDED`; `TCFS_IO` for a reply longer than a daemon's. */
  ask(request: ControlRequest): Promise<unknown> {
    return this.#ask(request);
  }

  #ask(request: AnyRequest): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) {
        reject(ended());
        return;
      }
      this.#waiting.push({ resolve, reject });
      this.#socket.write(`${JSON.stringify(request)}\n`);
    });
  }

  /** What is asked for later may take its time: whether anybody is there at all is known soon. */
  async #greet(vault: string): Promise<void> {
    const watch = new AbortController();
    try {
      await Promise.race([this.#hello(), toldSilent(vault, watch.signal)]);
    } finally {
      watch.abort();
    }
  }

  async #hello(): Promise<void> {
    try {
      await this.#ask({ operation: "hello" });
    } catch (error) {
      if (!isTcfsError(error, "TCFS_USAGE")) throw error; // an older daemon, which knows no hello
    }
  }

  #take(text: string): void {
    let start = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", start)) {
      const line = this.#pieces.join("") + text.slice(start, end);
      this.#pieces = [];
      this.#pieceLength = 0;
      start = end + 1;
      this.#answer(line);
    }
    if (start === text.length) return;
    this.#pieces.push(text.slice(start));
    this.#pieceLength += text.length - start;
    if (this.#pieceLength <= this.#maxReplyBytes) return;
    this.#fail(new TcfsError("TCFS_IO", "the answer at the vault's control socket is too long to be the daemon's"));
    this.#socket.destroy();
  }

  #answer(line: string): void {
    const waiting = this.#waiting.shift();
    try {
      waiting?.resolve(readReply(line));
    } catch (error) {
      waiting?.reject(error);
    }
  }

  #fail(error: TcfsError): void {
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    await Promise.resolve();
  }
}

/** Rejects once the daemon is found stopped, or time is up. */
async function toldSilent(vault: string, signal: AbortSignal): Promise<void> {
  for (let waitedMs = 0; waitedMs < HELLO_TIMEOUT_MS; waitedMs += STOPPED_LOOK_MS) {
    await setTimeout(STOPPED_LOOK_MS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    const pid = listDaemons().find((daemon) => daemon.vault === vault)?.pid;
    if (pid === undefined || processState(pid) !== DAEMON_STOPPED) continue;
    const advice = `kill -CONT ${pid} lets it go on`;
    throw new TcfsError("TCFS_DAEMON_SILENT", `the daemon (pid ${pid}) is stopped by a signal: ${advice}`);
  }
  const pid = listDaemons().find((daemon) => daemon.vault === vault)?.pid;
  const who = pid === undefined ? "the daemon" : `the daemon (pid ${pid})`;
  const message = `${who} has said nothing for ${HELLO_TIMEOUT_MS / 1000} s: its disk may hang, see daemon.log in ${vault}`;
  throw new TcfsError("TCFS_DAEMON_SILENT", message);
}

function ended(cause?: Error): TcfsError {
  return new TcfsError("TCFS_DAEMON_ENDED", "the daemon ended without an answer: see daemon.log in the vault", {
    cause,
  });
}
