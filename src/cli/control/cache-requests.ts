/** What the commands on the cache ask of an open vault: over the control socket of its daemon, or directly. */
import { TcfsError } from "../../errors.ts";
import type { LocalCopies } from "../../fs/local-copies.ts";
import type { CacheAnswers, CacheRequest } from "./cache-protocol.ts";
import { askDaemon } from "./control-client.ts";
import type { Settings } from "../settings.ts";
import { formatBytes } from "../../vault/status.ts";
import { secretSource } from "../access/vault-access.ts";
import type { VaultArguments } from "../access/vault-access.ts";
import { withOpenVault } from "../access/with-open-vault.ts";

const PROGRESS_MS = 500;

/** Ask the daemon of a vault, or open it where none runs. @throws TcfsError as {@link LocalCopies} does, and as opening does. */
export async function askCache<R extends CacheRequest>(
  vault: string,
  request: R,
  parameters: VaultArguments,
  settings: Settings,
): Promise<CacheAnswers[R["operation"]]> {
  const reply = await askDaemon(vault, request);
  if (reply !== undefined) return reply.result as CacheAnswers[R["operation"]];
  return withOpenVault(vault, secretSource(parameters), settings, { isReadOnly: true }, async ({ copies }) => {
    return (await answerCacheRequest(copies, request)) as CacheAnswers[R["operation"]];
  });
}

/** As {@link askCache}, for what takes a while: tells a person at a terminal how far it is. */
export async function askWithProgress<R extends CacheRequest>(
  vault: string,
  request: R,
  parameters: VaultArguments,
  settings: Settings,
): Promise<CacheAnswers[R["operation"]]> {
  const progress = process.stderr.isTTY ? setInterval(() => void showProgress(vault), PROGRESS_MS) : undefined;
  try {
    return await askCache(vault, request, parameters, settings);
  } finally {
    if (progress !== undefined) {
      clearInterval(progress);
      process.stderr.write("\r\u001b[K");
    }
  }
}

async function showProgress(vault: string): Promise<void> {
  const reply = await askDaemon(vault, { operation: "cacheFigures" }).catch(() => undefined);
  const fetching = (reply?.result as CacheAnswers["cacheFigures"] | undefined)?.fetching;
  if (fetching === null || fetching === undefined) return;
  const percent = Math.floor((100 * fetching.doneBytes) / Math.max(1, fetching.totalBytes));
  process.stderr.write(`\r\u001b[Kfetching: ${percent} % of about ${formatBytes(fetching.totalBytes)}`);
}

/** @throws TcfsError `TCFS_USAGE` if the vault has no store. */
export async function answerCacheRequest(
  copies: LocalCopies | undefined,
  request: CacheRequest,
): Promise<CacheAnswers[CacheRequest["operation"]]> {
  if (copies === undefined)
    throw new TcfsError("TCFS_USAGE", "this vault has no store: all of it is here. tcfs store set URL gives it one");
  switch (request.operation) {
    case "cacheFigures":
      return copies.figures();
    case "cacheLimit":
      await copies.setLimit(request.maxBytes);
      return copies.figures();
    case "cacheClear":
      return { freedBytes: await copies.clear() };
    case "pin":
      return copies.pin(request.path);
    case "unpin":
      await copies.unpin(request.path);
      return null;
    case "listPins":
      return copies.pins();
    case "warm":
      return copies.warm(request.path);
  }
}
