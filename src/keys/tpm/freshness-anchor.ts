/**
 * What a TPM remembers of a vault's newest state (FORMAT.md §8.11): a counter that nothing sets back, and beside it two
 * places for a record that is bound to the counter's value, written in turn.
 */
import { toHex } from "../../bytes.ts";
import type { ObjectSealer } from "../../crypto/object-seal.ts";
import { TpmTools } from "./tpm-tools.ts";
import type { TpmOptions } from "./tpm-tools.ts";

/** TCG's registry leaves 0x01800000 to 0x01BFFFFF to the machine's owner. */
const FIRST_INDEX = 0x0180_0000;
const INDEX_PAIRS = 0x20_0000;
const ATTRIBUTES = "authread|authwrite|no_da";
const COUNTER_BYTES = 8;
const FIELD_BYTES = 40;
const RECORD_BYTES = FIELD_BYTES + 32;
const DAY_MS = 24 * 60 * 60 * 1000;
/** NV memory wears out, some of it after 100,000 writes: this many a day, and two of them each time, is ten years. */
export const ADVANCES_PER_DAY = 24;

/** A state of the vault. */
export interface AnchoredState {
  /** The vault's last commit. */
  readonly commit: number;
  /** Number of the store's last known root; 0 without one. */
  readonly root: number;
}

export interface Anchor extends AnchoredState {
  /** When it was written, by the machine's clock; milliseconds since 1970. */
  readonly timeMs: number;
  /** How often it was written on that day (in UTC). */
  readonly writesOfDay: number;
}

/** Undefined: the TPM knows nothing of the vault. `broken`: it knows something, and that is not what was written. */
export type FoundAnchor = Anchor | "broken" | undefined;

/** Which vault, and which TPM. */
export interface AnchorPlace {
  readonly tpm: TpmOptions;
  readonly vaultId: Uint8Array;
  readonly sealer: ObjectSealer;
}

/** @throws TcfsError `TCFS_NO_TPM`, `TCFS_TPM` */
export function readAnchor(place: AnchorPlace): Promise<FoundAnchor> {
  return TpmTools.use(place.tpm, async (tpm) => (await find(tpm, place)).anchor);
}

/**
 * Let the TPM remember `state` instead of what it did. The new record is bound to the counter's next value and written
 * before the counter is raised; either way one of the two records holds, wherever a crash comes.
 * @param isForced - Whether the day's budget does not matter: for what a person asked for.
 * @returns Whether it was done: false if the day's budget is spent.
 * @throws TcfsError `TCFS_NO_TPM`, `TCFS_TPM`
 */
export function advanceAnchor(
  place: AnchorPlace,
  state: AnchoredState,
  { nowMs, isForced }: { readonly nowMs: number; readonly isForced: boolean },
): Promise<boolean> {
  return TpmTools.use(place.tpm, async (tpm) => {
    const { anchor, counter, hasCounter, hasRecords } = await find(tpm, place);
    const before = typeof anchor === "object" && dayOf(anchor.timeMs) === dayOf(nowMs) ? anchor.writesOfDay : 0;
    if (before >= ADVANCES_PER_DAY && !isForced) return false;
    const [counterIndex, recordIndex] = indexesOf(place.vaultId);
    let present = counter;
    if (present === undefined) {
      const words = ["-Q", "-C", "o", counterIndex, "-s", String(COUNTER_BYTES), "-a", `nt=counter|${ATTRIBUTES}`];
      if (!hasCounter) await tpm.run("nvdefine", words);
      await tpm.run("nvincrement", ["-Q", "-C", counterIndex, counterIndex]);
      present = await readCounter(tpm, counterIndex);
    }
    if (!hasRecords) {
      const words = ["-Q", "-C", "o", recordIndex, "-s", String(2 * RECORD_BYTES), "-a", ATTRIBUTES];
      await tpm.run("nvdefine", words);
    }
    const record = encode(place.sealer, present + 1, { ...state, timeMs: nowMs, writesOfDay: before + 1 });
    const offset = String(((present + 1) % 2) * RECORD_BYTES);
    await tpm.run("nvwrite", ["-Q", "-C", recordIndex, recordIndex, "-i", "-", "--offset", offset], record);
    await tpm.run("nvincrement", ["-Q", "-C", counterIndex, counterIndex]);
    return true;
  });
}

interface Found {
  readonly anchor: FoundAnchor;
  /** Undefined where there is none that was ever raised. */
  readonly counter: number | undefined;
  readonly hasCounter: boolean;
  readonly hasRecords: boolean;
}

async function find(tpm: TpmTools, { vaultId, sealer }: AnchorPlace): Promise<Found> {
  const [counterIndex, recordIndex] = indexesOf(vaultId);
  const defined = new TextDecoder().decode(await tpm.run("getcap", ["handles-nv-index"]));
  const indexes = defined.toLowerCase().split(/\s+/u);
  const [hasCounter, hasRecords] = [indexes.includes(counterIndex), indexes.includes(recordIndex)];
  const isCounting = hasCounter && (await isWritten(tpm, counterIndex));
  const counter = isCounting ? await readCounter(tpm, counterIndex) : undefined;
  const found = { counter, hasCounter, hasRecords };
  if (counter === undefined && !hasRecords) return { anchor: undefined, ...found };
  if (counter === undefined || !hasRecords || !(await isWritten(tpm, recordIndex)))
    return { anchor: "broken", ...found };
  await tpm.run("nvread", ["-Q", "-C", recordIndex, recordIndex, "-o", "records"]);
  const records = await tpm.read("records");
  const halves = [records.subarray(0, RECORD_BYTES), records.subarray(RECORD_BYTES)];
  const [next, last] = [counter + 1, counter].map((value) => decode(sealer, value, halves[value % 2]));
  return { anchor: next ?? last ?? "broken", ...found };
}

/** Of the counter, and of the records. */
function indexesOf(vaultId: Uint8Array): readonly [string, string] {
  const pair = new DataView(vaultId.buffer, vaultId.byteOffset).getUint32(0, true) % INDEX_PAIRS;
  const first = FIRST_INDEX + 2 * pair;
  return [`0x${first.toString(16)}`, `0x${(first + 1).toString(16)}`];
}

async function isWritten(tpm: TpmTools, index: string): Promise<boolean> {
  const told = new TextDecoder().decode(await tpm.run("nvreadpublic", [index]));
  return /\bwritten\b/u.test(told);
}

async function readCounter(tpm: TpmTools, index: string): Promise<number> {
  await tpm.run("nvread", ["-Q", "-C", index, index, "-o", "counter"]);
  const bytes = await tpm.read("counter");
  return Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0));
}

function encode(sealer: ObjectSealer, counter: number, { commit, root, timeMs, writesOfDay }: Anchor): Uint8Array {
  const record = new Uint8Array(RECORD_BYTES);
  const view = new DataView(record.buffer);
  [counter, commit, root, timeMs, writesOfDay].forEach((value, at) => {
    view.setBigUint64(8 * at, BigInt(value), true);
  });
  record.set(sealer.mac(textOf(record)), FIELD_BYTES);
  return record;
}

/** @returns Undefined unless it was written for this value of the counter, under the vault's key. */
function decode(sealer: ObjectSealer, counter: number, record: Uint8Array = new Uint8Array(0)): Anchor | undefined {
  if (record.length !== RECORD_BYTES) return undefined;
  if (!sealer.verifies(textOf(record), record.subarray(FIELD_BYTES))) return undefined;
  const view = new DataView(record.buffer, record.byteOffset);
  const field = (at: number): number => Number(view.getBigUint64(8 * at, true));
  if (field(0) !== counter) return undefined;
  return { commit: field(1), root: field(2), timeMs: field(3), writesOfDay: field(4) };
}

function textOf(record: Uint8Array): string {
  return `tcfs anchor ${toHex(record.subarray(0, FIELD_BYTES))}`;
}

function dayOf(timeMs: number): number {
  return Math.floor(timeMs / DAY_MS);
}
