/** What an open volume is made of, for those who work on it. */
import type { MetadataStore } from "../metadata/metadata-store.ts";
import type { Clock } from "../platform/clock.ts";
import type { AccessTimes } from "./access-times.ts";
import type { Committer } from "./committer.ts";
import type { Contents } from "./contents.ts";
import type { FileTable } from "./file-table.ts";
import type { Inodes } from "./inodes.ts";
import type { Namespace } from "./namespace.ts";
import type { SpaceGuard } from "./space-guard.ts";
import type { VersionKeeper } from "./versions/version-keeper.ts";
import type { Xattrs } from "./xattrs.ts";

export interface VolumeParts {
  readonly metadata: MetadataStore;
  readonly clock: Clock;
  readonly files: FileTable;
  readonly inodes: Inodes;
  readonly xattrs: Xattrs;
  readonly namespace: Namespace;
  readonly versions: VersionKeeper;
  readonly contents: Contents;
  readonly committer: Committer;
  readonly space: SpaceGuard;
  readonly isReadOnly: boolean;
  readonly accessTimes: AccessTimes;
}
