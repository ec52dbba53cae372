/** How a vault and its store stand, as `tcfs status` tells it: figures with stable names. */
import type { LostPackName } from "./lost-packs.ts";

export interface ReplicaStatus {
  readonly url: string;
  readonly activity: "idle" | "waiting" | "uploading" | "deleting" | "failing" | "paused" | "stopped";
  /** Packs that the store lacks, and records that it does not know. */
  readonly backlogBytes: number;
  readonly backlogPacks: number;
  /** Files and directories with changes that the store's root does not have; null after a restart or very many. */
  readonly backlogFiles: number | null;
  /** Since when the oldest of them waits; null: nothing does. */
  readonly oldestSince: string | null;
  readonly uploadedBytes: number;
  readonly bytesPerSecond: number | null;
  /** That somebody set. */
  readonly limitBytesPerSecond: number | null;
  readonly maxAgeSeconds: number;
  readonly lastRoot: { readonly number: number; readonly time: string; readonly commit: number } | null;
  readonly lastError: string | null;
  /** Objects of the store that no root leads to any more, until they are deleted. */
  readonly deadObjects: number;
  /** Of those whose length is known. */
  readonly deadBytes: number;
  readonly deletedObjects: number;
  readonly keepDeletedSeconds: number;
  /** Why nothing is deleted though it is due. */
  readonly collectionProblem: string | null;
  /** Packs that the vault names and that neither this disk nor the store has, or has whole. */
  readonly lostPacks: readonly LostPackName[];
}
