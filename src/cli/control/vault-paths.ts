/** Names of what the daemon keeps in the vault directory besides data (FORMAT.md §2). */
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";

/** `sun_path` of unix(7), its NUL not counted. */
const MAX_SOCKET_PATH_BYTES = 107;
const SOCKET_NAME = "control.sock";

export function logPath(vault: string): string {
  return join(vault, "daemon.log");
}

/** A path at which the control socket can be bound or reached, valid until closed. */
export interface SocketPath extends AsyncDisposable {
  readonly path: string;
}

/**
 * The control socket's path. Where it is too long for the system call, the directory is opened and the socket named
 * through its descriptor.
 */
export async function controlSocketPath(vault: string): Promise<SocketPath> {
  const path = join(vault, SOCKET_NAME);
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES) return { path, [Symbol.asyncDispose]: () => Promise.resolve() };
  const directory = await open(vault, constants.O_RDONLY | constants.O_DIRECTORY);
  return {
    path: `/proc/self/fd/${directory.fd}/${SOCKET_NAME}`,
    [Symbol.asyncDispose]: () => directory.close(),
  };
}
