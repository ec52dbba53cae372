/** A connection to a daemon for many requests: the next may be sent before the last is answered. */
import { connect } from "node:net";
import type { Socket } from "node:net";
import { TcfsError } from "../errors.ts";
import { readReply } from "./control-protocol.ts";
import type { ControlRequest } from "./control-protocol.ts";
import { controlSocketPath } from "./vault-paths.ts";

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}

export class ControlConnection implements AsyncDisposable {
  readonly #socket: Socket;
  /** In the order of their requests. */
  readonly #waiting: Waiting[] = [];
  #pieces: string[] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#take(text));
    socket.on("close", () => {
      const gone = new TcfsError(
        "TCFS_DAEMON_ENDED",
        "the daemon ended without an answer: see daemon.log in the vault",
      );
      for (const { reject } of this.#waiting.splice(0)) reject(gone);
    });
    socket.on("error", () => socket.destroy());
  }

  /** @returns undefined if no daemon listens in this vault. @throws TcfsError `TCFS_ACCESS` if it is another user's. */
  static async open(vault: string): Promise<ControlConnection | undefined> {
    const path = await controlSocketPath(vault).catch(() => undefined);
    if (path === undefined) return undefined; // no such directory: no daemon either
    await using socketPath = path;
    return await new Promise((resolve, reject) => {
      const socket = connect({ path: socketPath.path });
      socket.once("connect", () => {
        socket.removeAllListeners("error");
        resolve(new ControlConnection(socket));
      });
      socket.once("error", (error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT" || error.code === "ECONNREFUSED") resolve(undefined);
        else reject(new TcfsError("TCFS_ACCESS", "the daemon cannot be reached", { cause: error }));
      });
    });
  }

  /** @throws what the daemon threw; `TCFS_DAEMON_ENDED`. */
  ask(request: ControlRequest): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) {
        reject(new TcfsError("TCFS_DAEMON_ENDED", "the daemon has ended"));
        return;
      }
      this.#waiting.push({ resolve, reject });
      this.#socket.write(`${JSON.stringify(request)}\n`);
    });
  }

  #take(text: string): void {
    let start = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", start)) {
      const line = this.#pieces.join("") + text.slice(start, end);
      this.#pieces = [];
      start = end + 1;
      this.#answer(line);
    }
    if (start < text.length) this.#pieces.push(text.slice(start));
  }

  #answer(line: string): void {
    const waiting = this.#waiting.shift();
    if (waiting === undefined) throw new Error("the daemon answered what nobody asked");
    try {
      waiting.resolve(readReply(line));
    } catch (error) {
      waiting.reject(error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    await Promise.resolve();
  }
}
