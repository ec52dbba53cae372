/**
 * What a store has under a key epoch that is not this directory's (FORMAT.md §11.8): one that was brought back from before
 * a rotation, or a rotation that another copy of the directory made.
 */
import { PACK_HEADER_BYTES } from "../chunkstore/pack-format.ts";
import { openHeader } from "../chunkstore/pack-rewrapper.ts";
import { FIRST_KEY_EPOCH } from "../crypto/epoch-keys.ts";
import { type ObjectSealer, type SealedKind, epochOfObject } from "../crypto/object-seal.ts";
import type { PackKeyWrapper } from "../crypto/pack-key.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { ObjectPart, ObjectStore } from "../remote/object-store.ts";
import { diverged } from "./divergence.ts";
import { packObject } from "./object-names.ts";

export interface PackRooms {
  readonly packKeys: PackKeyWrapper;
  readonly vaultId: Uint8Array;
}

/**
 * Whether the store has a pack that will do. After a rotation its length tells too little: the object may be one of before
 * it, whose key nobody has any more.
 * @returns How long it is; undefined where there is none, or one whose key does not open.
 */
export async function usableLength(
  store: ObjectStore,
  pack: PackId,
  rooms: PackRooms,
  signal?: AbortSignal,
): Promise<number | undefined> {
  if (rooms.packKeys.keyEpoch === FIRST_KEY_EPOCH) return store.head(packObject(pack), signal);
  return (await usableStart(store, { pack, lengthBytes: PACK_HEADER_BYTES }, rooms, signal))?.objectBytes;
}

/**
 * The first bytes of a pack, if it is one that will do.
 * @param lengthBytes - At least a header's.
 */
export async function usableStart(
  store: ObjectStore,
  { pack, lengthBytes }: { readonly pack: PackId; readonly lengthBytes: number },
  rooms: PackRooms,
  signal?: AbortSignal,
): Promise<ObjectPart | undefined> {
  const start = await store.getPart(packObject(pack), { offset: 0, lengthBytes }, signal);
  if (start === undefined || rooms.packKeys.keyEpoch === FIRST_KEY_EPOCH) return start;
  return openHeader(start.content.subarray(0, PACK_HEADER_BYTES), { pack, ...rooms }) && start;
}

/** @throws TcfsError `TCFS_REMOTE_DIVERGED` for a key epoch that is not this directory's; what {@link ObjectSealer.unseal} throws. */
export function unsealRemote(sealer: ObjectSealer, kind: SealedKind, number: number, object: Uint8Array): Uint8Array {
  try {
    return sealer.unseal(kind, number, object);
  } catch (error) {
    const keyEpoch = epochOfObject(object);
    if (!isTcfsError(error, "TCFS_UNKNOWN_FORMAT") || keyEpoch === sealer.keyEpoch) throw error;
    throw keyEpoch > sealer.keyEpoch ? rotatedElsewhere(keyEpoch) : ofBeforeRotation(kind, keyEpoch, sealer.keyEpoch);
  }
}

/** Nothing may go over a state under a newer key from here: the store would be under a key that was given up. */
export function rotatedElsewhere(keyEpoch: number): TcfsError {
  const advice =
    "tcfs attach opens the store's state in a new directory; what only this one has is read with tcfs mount --read-only";
  return new TcfsError(
    "TCFS_REMOTE_DIVERGED",
    `the vault's key was rotated from another copy of this directory (the store is under key epoch ${keyEpoch}): ${advice}`,
  );
}

function ofBeforeRotation(kind: SealedKind, keyEpoch: number, newest: number): TcfsError {
  const what = `the store's ${kind} is of before the vault's key was rotated (key epoch ${keyEpoch}, now ${newest})`;
  return diverged(`${what}: the store shows an older state than it had`);
}
