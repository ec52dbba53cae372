/** What is told of a key rotation: while it is under way, and at its end. */
import { counted } from "../counted.ts";
import type { PackCount } from "../chunkstore/pack-rewrapper.ts";
import type { Renewal } from "../keys/key-epochs.ts";
import type { RecordCount } from "../metadata/record-renewal.ts";

export type RotationPhase = "packs" | "records" | "data" | "journal" | "store" | "count";

export interface RotationStatus {
  readonly keyEpoch: number;
  readonly endingEpoch: number;
  readonly renewal: Renewal;
  readonly phase: RotationPhase;
  /** Packs, records or objects handled in this phase. */
  readonly doneCount: number;
  /** Why it stands still, and is tried again. */
  readonly lastError: string | null;
  /** Whether it stands still until a person does something. */
  readonly needsPerson: boolean;
}

export interface RotationReport {
  readonly keyEpoch: number;
  readonly endedEpoch: number;
  readonly records: RecordCount;
  readonly packs: PackCount;
  /** Packs that `--reencrypt` could not replace; null without it. */
  readonly notRenewedCount: number | null;
  /** In the store; null without one. */
  readonly objectCount: number | null;
}

const DOING: Readonly<Record<RotationPhase, string>> = {
  packs: "packs wrapped anew",
  records: "records sealed anew",
  data: "steps of storing data anew",
  journal: "journal and tables cleared",
  store: "objects of the store",
  count: "counted",
};

/** `key epoch 1 is ending: 300 records sealed anew`. */
export function formatRotation({ endingEpoch, phase, doneCount, lastError }: RotationStatus): string {
  const trouble = lastError === null ? "" : `; stands still, and is tried again: ${lastError}`;
  return `key epoch ${endingEpoch} is ending: ${doneCount > 0 ? `${doneCount} ` : ""}${DOING[phase]}${trouble}`;
}

/** The lines that prove it. */
export function formatReport(report: RotationReport): string {
  const { keyEpoch, endedEpoch, records, packs, notRenewedCount, objectCount } = report;
  const inStore = objectCount === null ? "" : ` and ${counted(objectCount, "object")} of the store`;
  const lines = [
    `Counted: ${counted(records.recordCount, "record")}, ${counted(packs.packCount, "pack")}${inStore}, all under key epoch ${keyEpoch}.`,
    `0 objects left under epoch ${endedEpoch}`,
  ];
  const damagedCount = records.damagedCount + packs.damagedCount;
  if (damagedCount > 0) {
    lines.splice(
      1,
      0,
      `${damagedCount} of them are damaged, and open under no key: tcfs check tells what that concerns.`,
    );
  }
  const keptCount = notRenewedCount ?? packs.olderDataCount;
  if (keptCount > 0) {
    const what = `${counted(keptCount, "pack has", "packs have")} a new wrap around the key that ${keptCount === 1 ? "it was" : "they were"} made with`;
    const why =
      notRenewedCount === null
        ? "--reencrypt replaces these too"
        : "there was no room for new ones, or they are damaged (tcfs check); make room, then rotate again";
    lines.splice(1, 0, `${what}: ${why}.`);
  }
  return lines.join("\n");
}
