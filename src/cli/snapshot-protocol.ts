/** The control socket's requests on snapshots, and what each is answered with. */
import { z } from "zod";
import type { TreeChange } from "../fs/snapshots/diff.ts";
import type { PolicyFigures } from "../fs/snapshots/automatic-snapshots.ts";
import type { PathRestoreReport } from "../fs/snapshots/path-restore.ts";
import type { RestoreReport, SnapshotFigures } from "../fs/snapshots/snapshot-manager.ts";

const name = z.string();

export const SNAPSHOT_REQUESTS = [
  z.strictObject({ operation: z.literal("takeSnapshot"), name, comment: z.string() }),
  z.strictObject({ operation: z.literal("listSnapshots") }),
  z.strictObject({ operation: z.literal("setSnapshotPolicy"), policy: z.string() }),
  z.strictObject({ operation: z.literal("forgetSnapshots"), names: z.array(name), isDryRun: z.boolean() }),
  z.strictObject({ operation: z.literal("diff"), from: name, to: name.optional() }),
  z.strictObject({ operation: z.literal("restore"), name }),
  z.strictObject({ operation: z.literal("restorePaths"), name, paths: z.array(z.string()), isDryRun: z.boolean() }),
  z.strictObject({ operation: z.literal("undo") }),
] as const;

export type SnapshotRequest = z.infer<(typeof SNAPSHOT_REQUESTS)[number]>;

/** What each request is answered with. */
export interface SnapshotAnswers {
  readonly takeSnapshot: null;
  readonly listSnapshots: { readonly snapshots: readonly SnapshotFigures[]; readonly policy: PolicyFigures };
  readonly setSnapshotPolicy: PolicyFigures;
  readonly forgetSnapshots: readonly SnapshotFigures[];
  readonly diff: readonly TreeChange[];
  readonly restore: RestoreReport;
  readonly restorePaths: PathRestoreReport;
  readonly undo: RestoreReport | PathRestoreReport;
}
