/** What the commands on versions ask of an open vault: over the control socket of its daemon, or directly. */
import type { VersionManager } from "../../fs/versions/version-manager.ts";
import { askDaemon } from "./control-client.ts";
import type { Settings } from "../settings.ts";
import { secretSource } from "../access/vault-access.ts";
import type { VaultArguments } from "../access/vault-access.ts";
import type { VersionAnswers, VersionRequest } from "./version-protocol.ts";
import { withOpenVault } from "../access/with-open-vault.ts";

const READING: ReadonlySet<VersionRequest["operation"]> = new Set(["listVersions", "listTrash"]);

/** Ask the daemon of a vault, or open it where none runs. @throws TcfsError as the manager does, and as opening does. */
export async function askVersions<R extends VersionRequest>(
  vault: string,
  request: R,
  parameters: VaultArguments,
  settings: Settings,
): Promise<VersionAnswers[R["operation"]]> {
  const reply = await askDaemon(vault, request);
  if (reply !== undefined) return reply.result as VersionAnswers[R["operation"]];
  const isAsking = request.operation === "versionPolicy" && Object.keys(request.changes).length === 0;
  const isReadOnly = isAsking || READING.has(request.operation);
  return withOpenVault(vault, secretSource(parameters), settings, { isReadOnly }, async ({ volume }) => {
    return (await answerVersionRequest(volume.versions, request)) as VersionAnswers[R["operation"]];
  });
}

export async function answerVersionRequest(
  versions: VersionManager,
  request: VersionRequest,
): Promise<VersionAnswers[VersionRequest["operation"]]> {
  switch (request.operation) {
    case "listVersions":
      return versions.list(request.path);
    case "restoreVersion":
      return versions.restore(request.path, request.time, request.to);
    case "listTrash":
      return versions.listTrash();
    case "restoreTrash":
      return versions.restoreTrash(request.path, request.to);
    case "emptyTrash":
      return versions.emptyTrash(request.olderThanSeconds);
    case "versionPolicy": {
      const changes = Object.entries(request.changes).filter(([, value]) => value !== undefined);
      if (changes.length > 0) await versions.setPolicy({ ...versions.policy, ...Object.fromEntries(changes) });
      return versions.policy;
    }
  }
}
