/** The command's end of the control socket. */
import { connect } from "node:net";
import { TcfsError } from "../errors.ts";
import { MAX_REPLY_BYTES, readReply } from "./control-protocol.ts";
import type { ControlRequest } from "./control-protocol.ts";
import { controlSocketPath } from "./vault-paths.ts";

/**
 * @returns The daemon's result, boxed; undefined if no daemon listens in this vault.
 * @throws what the daemon threw; `TCFS_DAEMON_ENDED`; `TCFS_IO` for a reply longer than a daemon's.
 */
export async function askDaemon(
  vault: string,
  request: ControlRequest,
  maxReplyBytes: number = MAX_REPLY_BYTES,
): Promise<{ result: unknown } | undefined> {
  const line = await exchange(vault, `${JSON.stringify(request)}\n`, maxReplyBytes);
  return line === undefined ? undefined : { result: readReply(line) };
}

async function exchange(vault: string, request: string, maxReplyBytes: number): Promise<string | undefined> {
  let socketPath;
  try {
    socketPath = await controlSocketPath(vault);
  } catch {
    return undefined; // no such directory: no daemon either
  }
  await using path = socketPath;
  return await new Promise((resolve, reject) => {
    const socket = connect({ path: path.path });
    let reply = "";
    socket.setEncoding("utf8");
    socket.once("connect", () => socket.end(request));
    socket.on("data", (text: string) => {
      reply += text;
      if (reply.length > maxReplyBytes) {
        reject(new TcfsError("TCFS_IO", "the answer at the vault's control socket is too long to be the daemon's"));
        socket.destroy();
      }
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ECONNREFUSED") resolve(undefined);
      else if (error.code === "EACCES")
        reject(new TcfsError("TCFS_ACCESS", "the daemon belongs to another user", { cause: error }));
      else reject(new TcfsError("TCFS_DAEMON_ENDED", "the daemon ended without an answer", { cause: error }));
    });
    socket.once("close", () => {
      if (reply.endsWith("\n")) resolve(reply.trimEnd());
      else
        reject(new TcfsError("TCFS_DAEMON_ENDED", "the daemon ended without an answer: see daemon.log in the vault"));
    });
  });
}
