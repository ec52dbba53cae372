/** What the model test runs on. */
import { askDaemon } from "../../src/cli/control/control-client.ts";
import type { SnapshotAnswers, SnapshotRequest } from "../../src/cli/control/snapshot-protocol.ts";
import type { VersionAnswers, VersionRequest } from "../../src/cli/control/version-protocol.ts";
import { TcfsError } from "../../src/errors.ts";
import { loopExt4 } from "../support/loop-ext4.ts";
import { mountTcfs } from "../support/tcfs-mount.ts";
import type { Subject } from "./history.ts";
import type { SnapshotCommands } from "./snapshots.ts";
import type { VersionCommands } from "./versions.ts";

/** The reference: tests the model. It does not crash, it unmounts. */
export async function ext4Subject(): Promise<Subject> {
  const ext4 = await loopExt4(1024);
  return {
    mountPoint: ext4.mountPoint,
    remount: () => ext4.remount(),
    crash: () => ext4.remount(),
    crashesInUse: false,
    recover: () => Promise.resolve(),
    snapshots: undefined,
    versions: undefined,
    [Symbol.asyncDispose]: () => ext4[Symbol.asyncDispose](),
  };
}

export async function tcfsSubject(): Promise<Subject> {
  const mount = await mountTcfs();
  return {
    mountPoint: mount.mountPoint,
    remount: () => mount.remount(),
    crash: () => mount.kill9(),
    crashesInUse: true,
    recover: async () => {
      if (mount.pid === 0) await mount.mount();
    },
    snapshots: snapshotCommands(mount.vaultDirectory),
    versions: versionCommands(mount.vaultDirectory),
    [Symbol.asyncDispose]: () => mount[Symbol.asyncDispose](),
  };
}

type Request = SnapshotRequest | VersionRequest;
type Answers = SnapshotAnswers & VersionAnswers;

/** As the commands do it, without a process for each. */
async function askOf<R extends Request>(vault: string, request: R): Promise<Answers[R["operation"]]> {
  const reply = await askDaemon(vault, request);
  if (reply === undefined) throw new TcfsError("TCFS_DAEMON_ENDED", "no daemon runs");
  return reply.result as Answers[R["operation"]];
}

function versionCommands(vault: string): VersionCommands {
  return {
    keepYoung: async () => {
      await askOf(vault, { operation: "versionPolicy", changes: { minimumAgeSeconds: 0 } });
    },
    emptyTrash: async () => {
      await askOf(vault, { operation: "emptyTrash", olderThanSeconds: 0 });
    },
    listTrash: () => askOf(vault, { operation: "listTrash" }),
    list: (path) => askOf(vault, { operation: "listVersions", path }),
    restore: async (path, time) => {
      await askOf(vault, { operation: "restoreVersion", path, time });
    },
    restoreAt: (at, path) =>
      askOf(vault, { operation: "restorePaths", source: { at }, paths: [path], isDryRun: false }),
    restoreTrash: async (path) => (await askOf(vault, { operation: "restoreTrash", path })).skipped,
  };
}

function snapshotCommands(vault: string): SnapshotCommands {
  const ask = <R extends SnapshotRequest>(request: R): Promise<Answers[R["operation"]]> => askOf(vault, request);
  return {
    list: async () => (await ask({ operation: "listSnapshots" })).snapshots.map(({ name }) => name),
    take: async (name) => {
      await ask({ operation: "takeSnapshot", name, comment: "" });
    },
    forget: async (names) => {
      await ask({ operation: "forgetSnapshots", names: [...names], isDryRun: false });
    },
    restore: async (name) => (await ask({ operation: "restore", name })).safety,
    undo: () => ask({ operation: "undo" }),
    diff: (from, to) => ask({ operation: "diff", from, ...(to === undefined ? {} : { to }) }),
  };
}
