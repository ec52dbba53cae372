/**
 * How a vault directory and its store stand to each other, for somebody who has to choose; and the choice to go on from
 * the directory's state (FORMAT.md §11.4, Accepting). Nothing of the store is overwritten but the root, which is kept.
 */
import type { ObjectSealer } from "../crypto/object-seal.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { Root } from "../format/replica-codec.ts";
import type { Disk } from "../platform/disk.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import { MAX_ROOT_BYTES, ROOT_NAME, keptRootObject, sha256, toHex } from "./object-names.ts";
import { type RemoteRoot, readManifest, readRoot } from "./remote-root.ts";
import { type ReplicaState, type RootNote, writeState } from "./replica-state.ts";
import { noteOf } from "./step-writer.ts";
import { StoredPacks } from "./stored-packs.ts";

/**
 * `known`: the store has what this directory knows. Else: it has lost its root; one that cannot be read; an older one of
 * this history; a newer one that the same device wrote, so that the directory is a copy; another device's. `behind`: the
 * root is known, and the directory holds an older state.
 */
export type Relation = "known" | "lost" | "unreadable" | "older" | "copied" | "foreign" | "behind";

export interface Standing {
  readonly relation: Relation;
  /** What the store has. */
  readonly root: Root | undefined;
  /** SHA-256 of the root object, hexadecimal; undefined where there is none. */
  readonly rootHash: string | undefined;
  /** Steps of the store since the last one that this directory knew; undefined where it cannot be told. */
  readonly theirSteps: number | undefined;
}

/** @returns What a root that is not ours is. */
export function relationOf(root: Root, last: RootNote | null, deviceId: string): "older" | "copied" | "foreign" {
  if (last !== null && root.number < last.number) return "older";
  return toHex(root.deviceId) === deviceId ? "copied" : "foreign";
}

/** @param commit - The directory's. @throws TcfsError `TCFS_UNKNOWN_FORMAT`, and what the store throws. */
export async function readStanding(
  store: ObjectStore,
  sealer: ObjectSealer,
  { last, pending, deviceId }: ReplicaState,
  commit: number,
): Promise<Standing> {
  let found: RemoteRoot | undefined;
  try {
    found = await readRoot(store, sealer);
  } catch (error) {
    if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
    const object = await store.get(ROOT_NAME, { maxBytes: MAX_ROOT_BYTES });
    const rootHash = object && toHex(sha256(object.content));
    return { relation: "unreadable", root: undefined, rootHash, theirSteps: undefined };
  }
  const root = found?.root;
  const rootHash = found?.hash;
  const known = [last, pending].find((note) => note !== null && note.rootHash === rootHash);
  if (known !== undefined || (found === undefined && last === null)) {
    const isBehind = commit < (known?.commit ?? 0);
    return { relation: isBehind ? "behind" : "known", root, rootHash, theirSteps: 0 };
  }
  if (root === undefined) return { relation: "lost", root, rootHash, theirSteps: undefined };
  const theirSteps = await countSteps(store, sealer, root, last);
  return { relation: relationOf(root, last, deviceId), root, rootHash, theirSteps };
}

/** @returns Steps from `last` to the root, if the chain of hashes leads there within the root's checkpoint. */
async function countSteps(
  store: ObjectStore,
  sealer: ObjectSealer,
  root: Root,
  last: RootNote | null,
): Promise<number | undefined> {
  if (last === null) return root.number;
  if (last.number >= root.number || last.number < root.checkpoint - 1) return undefined;
  let hash = root.headHash;
  try {
    for (let number = root.number; number > last.number; number--) {
      const kind = number === root.checkpoint ? "checkpoint" : "commit";
      hash = (await readManifest(store, sealer, { kind, number, hash })).previousHash;
    }
  } catch (error) {
    if (isTcfsError(error, "TCFS_CORRUPT")) return undefined;
    throw error;
  }
  return toHex(hash) === last.headHash ? root.number - last.number : undefined;
}

export interface AcceptPlace {
  readonly disk: Disk;
  /** The vault's, which nobody else has open. */
  readonly directory: string;
  readonly sealer: ObjectSealer;
  /** 16 bytes in hexadecimal: what the directory is to be known as from now on, since another may have been it too. */
  readonly newDeviceId: string;
}

/**
 * Go on from the directory's state over the root that `standing` tells of: the next upload is a checkpoint after it, for
 * which every pack is asked for anew. Should the root change before that, the upload is refused like any other.
 * @returns The name under which the store keeps the root; undefined where it had none.
 * @throws TcfsError `TCFS_REMOTE_CONFLICT`, and what the store and the disk throw; then nothing has changed.
 */
export async function acceptStanding(
  store: ObjectStore,
  state: ReplicaState,
  { relation, root, rootHash }: Standing,
  { disk, directory, sealer, newDeviceId }: AcceptPlace,
): Promise<string | undefined> {
  const number = Math.max(root?.number ?? 0, state.last?.number ?? 0, state.pending?.number ?? 0);
  const kept = rootHash === undefined ? undefined : keptRootObject(number, rootHash);
  if (kept !== undefined) {
    const object = await store.get(ROOT_NAME, { maxBytes: MAX_ROOT_BYTES });
    if (object === undefined || toHex(sha256(object.content)) !== rootHash) {
      throw new TcfsError("TCFS_REMOTE_CONFLICT", "the store's root has changed since it was told of: look again");
    }
    await store.putIfAbsent(kept, object.content);
    if (relation === "unreadable") await store.delete(ROOT_NAME); // nobody can tell what comes after it
  }
  // Commit 0: no state of this directory, so that none is taken to be in the store.
  const last = root === undefined || rootHash === undefined ? null : { ...noteOf(root, rootHash), number, commit: 0 };
  const next = { url: state.url, deviceId: newDeviceId, last, pending: null, keptBelow: number + 1 };
  await StoredPacks.forget(disk, directory);
  await writeState(disk, directory, next, sealer);
  return kept;
}
