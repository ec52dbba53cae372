/** `store.json` (FORMAT.md §11.5): where the vault's store is, and the roots that this device knows to be its own. */
import { join } from "node:path";
import { z } from "zod";
import { toHex } from "../bytes.ts";
import type { ObjectSealer } from "../crypto/object-seal.ts";
import { TcfsError } from "../errors.ts";
import type { Disk } from "../platform/disk.ts";
import { KEPT_HASH_BYTES, MAX_KEPT_ROOTS } from "../format/replica-codec.ts";
import type { RandomSource } from "../platform/random.ts";

export const STATE_NAME = "store.json";
const MAX_STATE_BYTES = 16 * 1024;
const LINK_BYTES = 16;
/** More roots are not written over one whose fate is unknown without an answer; then the oldest is forgotten. */
const MAX_PENDING = 8;

const hex = (lengthBytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${lengthBytes * 2}}$`, "u"));
const count = z.int().min(0);

const noteSchema = z.strictObject({
  number: count.min(1),
  rootHash: hex(32),
  headHash: hex(32),
  checkpoint: count.min(1),
  streamBytes: count,
  commit: count,
  headerRevision: count.max(0xffff_ffff),
  time: z.iso.datetime({ precision: 3 }),
});

const keptSchema = z.strictObject({
  number: count,
  hash: hex(KEPT_HASH_BYTES),
  missingSince: z.iso.datetime({ precision: 3 }).nullable(),
});

const stateSchema = z.strictObject({
  format: z.literal("tcfs store"),
  formatVersion: z.literal(1),
  url: z.string().max(1024),
  deviceId: hex(16),
  last: noteSchema.nullable(),
  pending: z.array(noteSchema).max(MAX_PENDING),
  keptBelow: count,
  kept: z.array(keptSchema).max(MAX_KEPT_ROOTS),
  link: hex(LINK_BYTES),
  mac: hex(32),
});

/** A root, as this device wrote it or was about to. Hashes are hexadecimal. */
export type RootNote = z.infer<typeof noteSchema>;

/** A kept root, and since when the store was seen not to have it any more. */
export type KeptNote = z.infer<typeof keptSchema>;

export interface ReplicaState {
  readonly url: string;
  /** 16 bytes in hexadecimal: this copy of the vault, among those that write to the store. */
  readonly deviceId: string;
  /** The root that the store is known to have had last; null before the first. */
  readonly last: RootNote | null;
  /**
   * Those whose answers did not come, since `last`; the newest last. A request that was given up may be carried out later
   * than the next one is made.
   */
  readonly pending: readonly RootNote[];
  /** Steps below this number may be another device's alone: nothing is taken over from them. */
  readonly keptBelow: number;
  /** What was replaced on purpose and is there still, as far as it is known: while it is, nothing is deleted. */
  readonly kept: readonly KeptNote[];
  /**
   * 16 random bytes in hexadecimal, others whenever the vault is given a store or a root to go on from: what a cache knew
   * of the store before counts no more.
   */
  readonly link: string;
}

export function newLink(random: RandomSource): string {
  return toHex(random.bytes(LINK_BYTES));
}

/** @returns The state with one more root that is about to be written. */
export function withPending(state: ReplicaState, note: RootNote): ReplicaState {
  return { ...state, pending: [...state.pending.slice(1 - MAX_PENDING), note] };
}

/**
 * The roots that the directory may go on from. One with a commit that it does not have is none: it is a copy, or was
 * restored, perhaps in part. That is kept before it commits again; once its commits have the same numbers nobody can tell.
 * Durable when it resolves.
 * @param commit - The directory's last, as it was opened.
 */
export async function disownNewer(
  disk: Disk,
  directory: string,
  state: ReplicaState,
  commit: number,
  sealer: ObjectSealer,
): Promise<ReplicaState> {
  const isOwn = (note: RootNote): boolean => note.commit <= commit;
  const last = state.last !== null && isOwn(state.last) ? state.last : null;
  const pending = state.pending.filter(isOwn);
  if (last === state.last && pending.length === state.pending.length) return state;
  const own = { ...state, last, pending };
  await writeState(disk, directory, own, sealer);
  return own;
}

/**
 * What the vault directory says of its store. Not authenticated: see {@link verifyState}.
 * @returns Undefined where there is no store. @throws TcfsError `TCFS_CORRUPT`
 */
export async function readState(disk: Disk, directory: string): Promise<(ReplicaState & { mac: string }) | undefined> {
  const content = await disk.readFile(join(directory, STATE_NAME));
  if (content === undefined) return undefined;
  try {
    if (content.length > MAX_STATE_BYTES) throw new RangeError("too long");
    return stateSchema.parse(JSON.parse(Buffer.from(content).toString("utf8")));
  } catch (cause) {
    throw new TcfsError("TCFS_CORRUPT", `${STATE_NAME} in the vault directory is damaged`, { cause });
  }
}

/** @throws TcfsError `TCFS_CORRUPT` if it was not this vault's key that wrote it. */
export function verifyState(state: ReplicaState & { mac: string }, sealer: ObjectSealer): ReplicaState {
  const { mac, ...rest } = state;
  if (!sealer.verifies(JSON.stringify(bodyOf(rest)), Buffer.from(mac, "hex"))) {
    throw new TcfsError("TCFS_CORRUPT", `${STATE_NAME} in the vault directory was not written by this vault`);
  }
  return rest;
}

/** Durable when it resolves. */
export async function writeState(
  disk: Disk,
  directory: string,
  state: ReplicaState,
  sealer: ObjectSealer,
): Promise<void> {
  const body = bodyOf(state);
  const mac = toHex(sealer.mac(JSON.stringify(body)));
  await disk.replaceFile(join(directory, STATE_NAME), Buffer.from(`${JSON.stringify({ ...body, mac }, null, 2)}\n`));
}

function bodyOf({ url, deviceId, last, pending, keptBelow, kept, link }: ReplicaState): object {
  const notes = { last: last && noteOf(last), pending: pending.map(noteOf) };
  return { format: "tcfs store", formatVersion: 1, url, deviceId, ...notes, keptBelow, kept, link };
}

/** In the order that FORMAT.md gives. */
function noteOf(note: RootNote): RootNote {
  const { number, rootHash, headHash, checkpoint, streamBytes, commit, headerRevision, time } = note;
  return { number, rootHash, headHash, checkpoint, streamBytes, commit, headerRevision, time };
}
