/** The daemon's end of the control socket: bounded lines, few connections, one answer for each request. */
import { chmod, rm } from "node:fs/promises";
import { createServer } from "node:net";
import type { Server, Socket } from "node:net";
import { MAX_REQUEST_BYTES, failureReply, parseRequest } from "./control-protocol.ts";
import type { ControlReply, ControlRequest } from "./control-protocol.ts";
import { toTcfsError } from "../../platform/node-disk.ts";
import { controlSocketPath } from "./vault-paths.ts";

const MAX_CONNECTIONS = 16;

/** @returns What goes into the reply; a rejection is answered as a failure. */
export type ControlHandler = (request: ControlRequest) => Promise<unknown>;

/**
 * Listen in a vault whose lock is held; a socket that a killed daemon left is replaced. 0600 before anyone can connect:
 * the umask must be 077.
 * @throws TcfsError `TCFS_ACCESS`, `TCFS_READ_ONLY`, … if the socket cannot be made there.
 * @returns Stops listening, ends the connections once their answers are out, and takes the socket away.
 */
export async function serveControl(vault: string, handle: ControlHandler): Promise<AsyncDisposable> {
  const socketPath = await controlSocketPath(vault);
  await rm(socketPath.path, { force: true });
  const connections = new Set<Socket>();
  const answers = new Set<Promise<void>>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
    serveConnection(socket, handle, answers);
  });
  server.maxConnections = MAX_CONNECTIONS;
  await listen(server, socketPath.path).catch((error: unknown) => {
    throw error instanceof Error ? toTcfsError(error, "make the control socket in", vault) : error;
  });
  await chmod(socketPath.path, 0o600);
  return {
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      await Promise.all(answers);
      for (const socket of connections) socket.destroySoon();
      await closed;
      await rm(socketPath.path, { force: true });
      await socketPath[Symbol.asyncDispose]();
    },
  };
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ path }, () => {
      server.removeListener("error", reject);
      resolve();
    });
  });
}

function serveConnection(socket: Socket, handle: ControlHandler, answers: Set<Promise<void>>): void {
  let pending = "";
  let answered = Promise.resolve();
  socket.setEncoding("utf8");
  socket.on("error", () => socket.destroy()); // the client went away; what it asked for goes on
  socket.on("data", (text: string) => {
    const lines = (pending + text).split("\n");
    pending = lines.pop() ?? "";
    if ([...lines, pending].some((line) => line.length > MAX_REQUEST_BYTES)) {
      socket.destroy();
      return;
    }
    for (const line of lines) {
      const answer = answered.then(() => answerLine(socket, line, handle));
      answers.add(answer);
      answered = answer.finally(() => answers.delete(answer));
    }
  });
  socket.on("end", () => {
    void answered.then(() => socket.end());
  });
}

async function answerLine(socket: Socket, line: string, handle: ControlHandler): Promise<void> {
  let reply: ControlReply;
  try {
    const request = parseRequest(line);
    const result = request.operation === "hello" ? null : await handle(request);
    reply = { ok: true, result: result ?? null };
  } catch (error) {
    reply = failureReply(error);
  }
  if (socket.writable) socket.write(`${JSON.stringify(reply)}\n`);
}
