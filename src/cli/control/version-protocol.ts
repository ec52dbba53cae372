/** The control socket's requests on versions, and what each is answered with. */
import { z } from "zod";
import type { VersionPolicy } from "../../format/version-codec.ts";
import type { TrashFigures, TrashRestored } from "../../fs/versions/trash.ts";
import type { VersionFigures } from "../../fs/versions/version-manager.ts";

/** In the vault, from its root. */
const path = z.string();

const seconds = z
  .int()
  .min(0)
  .max(2 ** 32 - 1);
const policyChanges = z.strictObject({
  isOff: z.boolean().optional(),
  allSeconds: seconds.optional(),
  hourlySeconds: seconds.optional(),
  dailySeconds: seconds.optional(),
  maxVersions: z
    .int()
    .min(0)
    .max(2 ** 32 - 1)
    .optional(),
  trashSeconds: seconds.optional(),
  trashCount: z
    .int()
    .min(0)
    .max(2 ** 32 - 1)
    .optional(),
  trashBytes: z.int().min(0).optional(),
  minimumAgeSeconds: seconds.optional(),
});

export const VERSION_REQUESTS = [
  z.strictObject({ operation: z.literal("listVersions"), path }),
  z.strictObject({ operation: z.literal("restoreVersion"), path, time: z.string(), to: path.optional() }),
  z.strictObject({ operation: z.literal("listTrash") }),
  z.strictObject({ operation: z.literal("restoreTrash"), path, to: path.optional() }),
  z.strictObject({ operation: z.literal("emptyTrash"), olderThanSeconds: z.number().min(0) }),
  z.strictObject({ operation: z.literal("versionPolicy"), changes: policyChanges }),
] as const;

export type VersionRequest = z.infer<(typeof VERSION_REQUESTS)[number]>;

export type PolicyChanges = z.infer<typeof policyChanges>;

/** What each request is answered with. */
export interface VersionAnswers {
  readonly listVersions: readonly VersionFigures[];
  readonly restoreVersion: VersionFigures;
  readonly listTrash: readonly TrashFigures[];
  readonly restoreTrash: TrashRestored;
  readonly emptyTrash: { readonly files: number; readonly bytes: number };
  readonly versionPolicy: VersionPolicy;
}
