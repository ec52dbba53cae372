/** What the commands on snapshots ask of an open vault: over the control socket of its daemon, or directly. */
import { parsePolicy } from "../../fs/snapshots/policy-text.ts";
import type { SnapshotManager } from "../../fs/snapshots/snapshot-manager.ts";
import { TcfsError, isTcfsError } from "../../errors.ts";
import type { InodeNumber } from "../../ids.ts";
import { askDaemon } from "./control-client.ts";
import { EXIT_CODE } from "../exit-codes.ts";
import { findVault } from "../access/find-vault.ts";
import type { Settings } from "../settings.ts";
import type { SnapshotAnswers, SnapshotRequest } from "./snapshot-protocol.ts";
import { secretSource } from "../access/vault-access.ts";
import type { VaultArguments } from "../access/vault-access.ts";
import { withOpenVault } from "../access/with-open-vault.ts";
import { warn } from "../printable.ts";

/** How a command says which vault; the mount point instead of the directory, if given. */
export interface SnapshotArguments extends VaultArguments {
  readonly mountpoint?: string | undefined;
}

const OLD_OR_NEW = "the next mount has it as it was before, or as it was to be, and tcfs snapshots tells which";

const READING: ReadonlySet<SnapshotRequest["operation"]> = new Set(["listSnapshots", "diff", "snapshotAt"]);

/** Ask the daemon, or open the vault where none runs. @throws TcfsError as the manager does, and as opening does. */
export async function askVault<R extends SnapshotRequest>(
  request: R,
  parameters: SnapshotArguments,
  settings: Settings,
): Promise<SnapshotAnswers[R["operation"]]> {
  const directory = await findVault(parameters, settings);
  const isDryRun = "isDryRun" in request && request.isDryRun;
  const isReadOnly = isDryRun || READING.has(request.operation);
  const goesOn = isReadOnly
    ? "nothing was changed"
    : "the daemon goes on with it; tcfs snapshots tells when it is done";
  const reply = await whileInterruptible(goesOn, () => askDaemon(directory, request)).catch((error: unknown) => {
    throw isReadOnly || !isTcfsError(error, "TCFS_DAEMON_ENDED") ? error : endedInBetween(error);
  });
  if (reply !== undefined) return reply.result as SnapshotAnswers[R["operation"]];
  return withOpenVault(directory, secretSource(parameters), settings, { isReadOnly }, async ({ volume }) => {
    const answer = await whileInterruptible(isReadOnly ? "nothing was changed" : OLD_OR_NEW, async () => {
      const given = await answerSnapshotRequest(volume.snapshots, request);
      // No daemon stays to do it in the background.
      await volume.snapshots.cleared();
      return given;
    });
    return answer as SnapshotAnswers[R["operation"]];
  });
}

/** Say upon control-C how things stand, and end. */
async function whileInterruptible<T>(advice: string, action: () => Promise<T>): Promise<T> {
  const onInterrupt = (): never => {
    warn(`tcfs: interrupted: ${advice}`);
    process.exit(EXIT_CODE.CANCELLED);
  };
  process.once("SIGINT", onInterrupt);
  try {
    return await action();
  } finally {
    process.removeListener("SIGINT", onInterrupt);
  }
}

function endedInBetween(cause: TcfsError): TcfsError {
  return new TcfsError("TCFS_DAEMON_ENDED", `${cause.message}; mount the vault again: ${OLD_OR_NEW}`, { cause });
}

export async function answerSnapshotRequest(
  snapshots: SnapshotManager,
  request: SnapshotRequest,
): Promise<SnapshotAnswers[SnapshotRequest["operation"]]> {
  switch (request.operation) {
    case "takeSnapshot":
      await snapshots.take(request.name, request.comment);
      return null;
    case "listSnapshots":
      return { snapshots: await snapshots.list(), policy: snapshots.automatic.figures() };
    case "setSnapshotPolicy":
      return snapshots.automatic.setPolicy(parsePolicy(request.policy));
    case "forgetSnapshots":
      return snapshots.forget(request.names, request.isDryRun);
    case "diff":
      return snapshots.diff(request.from, request.to);
    case "restore":
      return snapshots.restore(request.name);
    case "restorePaths":
      return snapshots.restorePaths(request.source, request.paths, request.isDryRun);
    case "undo":
      return snapshots.undo();
    case "snapshotAt":
      return snapshots.at(request.time);
    case "readPath":
      return snapshots.reader(request.source).find(request.path);
    case "readDirectory":
      return snapshots.reader(request.source).list(request.ino as InodeNumber, request.after);
    case "readData": {
      const { source, ino, offset, lengthBytes, token } = request;
      return snapshots.reader(source).read(ino as InodeNumber, BigInt(offset), lengthBytes, token);
    }
  }
}
