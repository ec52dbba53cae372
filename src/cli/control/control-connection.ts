/** A connection to a daemon for many requests: the next may be sent before the last is answered. */
import { connect } from "node:net";
import type { Socket } from "node:net";
import { TcfsError } from "../../errors.ts";
import { MAX_REPLY_BYTES, readReply } from "./control-protocol.ts";
import type { ControlRequest } from "./control-protocol.ts";
import { controlSocketPath } from "./vault-paths.ts";

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
   * @returns undefined if no daemon listens in this vault.
   * @throws TcfsError `TCFS_ACCESS` if it is another user's; `TCFS_DAEMON_ENDED` if it cannot be reached.
   */
  static async open(vault: string, maxReplyBytes: number = MAX_REPLY_BYTES): Promise<ControlConnection | undefined> {
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
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) {
        reject(ended());
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

function ended(cause?: Error): TcfsError {
  return new TcfsError("TCFS_DAEMON_ENDED", "the daemon ended without an answer: see daemon.log in the vault", {
    cause,
  });
}
