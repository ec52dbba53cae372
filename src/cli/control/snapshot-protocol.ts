/** The control socket's requests on snapshots, and what each is answered with. */
import { z } from "zod";
import type { TreeChange } from "../../fs/snapshots/diff.ts";
import type { PolicyFigures } from "../../fs/snapshots/automatic-snapshots.ts";
import type { PathRestoreReport } from "../../fs/snapshots/path-restore.ts";
import type {
  ForgetReport,
  RestoreReport,
  SnapshotFigures,
  SnapshotTime,
} from "../../fs/snapshots/snapshot-manager.ts";
import type { SnapshotDataAnswer, SnapshotListAnswer, SnapshotPathAnswer } from "../../fs/snapshots/snapshot-reader.ts";

const name = z.string();
/** A snapshot, or this one of that name and no other; or a time. */
const source = z.union([
  z.strictObject({ name, epoch: z.int().min(1).optional() }),
  z.strictObject({ at: z.iso.datetime() }),
]);
const inode = z.int().min(1);
/** A number that may be beyond 2^53. */
const decimal = z.string().regex(/^\d{1,19}$/u);

export const SNAPSHOT_REQUESTS = [
  z.strictObject({ operation: z.literal("takeSnapshot"), name, comment: z.string() }),
  z.strictObject({ operation: z.literal("listSnapshots") }),
  z.strictObject({ operation: z.literal("setSnapshotPolicy"), policy: z.string() }),
  z.strictObject({ operation: z.literal("forgetSnapshots"), names: z.array(name), isDryRun: z.boolean() }),
  z.strictObject({ operation: z.literal("diff"), from: name, to: name.optional() }),
  z.strictObject({ operation: z.literal("restore"), name }),
  z.strictObject({ operation: z.literal("restorePaths"), source, paths: z.array(z.string()), isDryRun: z.boolean() }),
  z.strictObject({ operation: z.literal("undo") }),
  z.strictObject({ operation: z.literal("snapshotAt"), time: z.iso.datetime() }),
  z.strictObject({ operation: z.literal("readPath"), source, path: z.string() }),
  z.strictObject({ operation: z.literal("readDirectory"), source, ino: inode, after: decimal }),
  z.strictObject({
    operation: z.literal("readData"),
    source,
    ino: inode,
    offset: decimal,
    lengthBytes: z.int().min(1),
    token: z.string().optional(),
  }),
] as const;

export type SnapshotRequest = z.infer<(typeof SNAPSHOT_REQUESTS)[number]>;

/** What each request is answered with. */
export interface SnapshotAnswers {
  readonly takeSnapshot: null;
  readonly listSnapshots: { readonly snapshots: readonly SnapshotFigures[]; readonly policy: PolicyFigures };
  readonly setSnapshotPolicy: PolicyFigures;
  readonly forgetSnapshots: ForgetReport;
  readonly diff: readonly TreeChange[];
  readonly restore: RestoreReport;
  readonly restorePaths: PathRestoreReport;
  readonly undo: RestoreReport | PathRestoreReport;
  readonly snapshotAt: SnapshotTime;
  readonly readPath: SnapshotPathAnswer;
  readonly readDirectory: SnapshotListAnswer;
  readonly readData: SnapshotDataAnswer;
}
