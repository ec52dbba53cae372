/** One question to a daemon. */
import { ControlConnection } from "./control-connection.ts";
import type { ControlRequest } from "./control-protocol.ts";

/**
 * @returns The daemon's result, boxed; undefined if no daemon listens in this vault.
 * @throws as {@link ControlConnection.open} and {@link ControlConnection.ask}.
 */
export async function askDaemon(
  vault: string,
  request: ControlRequest,
  maxReplyBytes?: number,
): Promise<{ result: unknown } | undefined> {
  await using connection = await ControlConnection.open(vault, maxReplyBytes);
  return connection && { result: await connection.ask(request) };
}
