/**
 * How a vault directory and its store stand to each other, for somebody who has to choose; and the choice to go on from
 * the directory's state (FORMAT.md §11.4, Accepting). Nothing of the store is overwritten but the root, which is kept.
 */
import { toHex } from "../bytes.ts";
import { type ObjectSealer, epochOfObject } from "../crypto/object-seal.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import { type KeptRoot, type LostPack, MAX_KEPT_ROOTS, type Root } from "../format/replica-codec.ts";
import { DeviceBook, type NewIdentity, forgetIdentity } from "../keys/devices/device-book.ts";
import { type DeviceList, mergeDevices } from "../keys/devices/device-list.ts";
import type { Disk } from "../platform/disk.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import { LostPacks } from "./lost-packs.ts";
import { DEVICES_NAME, MAX_ROOT_BYTES, ROOT_NAME, keptHash, keptRootObject, sha256 } from "./object-names.ts";
import { readRemoteDevices } from "./remote-devices.ts";
import { type RemoteRoot, readManifest, readRoot } from "./remote-root.ts";
import { type KeptNote, type ReplicaState, type RootNote, newLink, writeState } from "./replica-state.ts";
import { isRefusal, peekRoot } from "./signed-objects.ts";
import { noteOf } from "./step-writer.ts";
import { StoredPacks } from "./stored-packs.ts";

/** Stands in the place of a root that is about to be deleted; it opens as none. */
const NO_ROOT = new Uint8Array(16);

/**
 * `known`: the store has what this directory knows. Else: it has lost its root; one that cannot be read; one that is refused
 * for who wrote it (FORMAT.md §11.6), or because the list of devices cannot be used; an older one of this history; a newer
 * one that the same device wrote, so that the directory is a copy; another device's. `behind`: the root is known, and the
 * directory holds an older state.
 */
export type Relation = "known" | "lost" | "unreadable" | "refused" | "older" | "copied" | "foreign" | "behind";

export interface Standing {
  readonly relation: Relation;
  /** What the store has. */
  readonly root: Root | undefined;
  /** SHA-256 of the root object, hexadecimal; undefined where there is none. */
  readonly rootHash: string | undefined;
  /** Steps of the store since the last one that this directory knew; undefined where it cannot be told. */
  readonly theirSteps: number | undefined;
  /** Of the vault: as the directory and the store know them; the directory alone where the store's list cannot be used. */
  readonly devices: DeviceList;
  /** Whether the store's list is damaged, or contradicts the directory's. */
  readonly isListUnusable: boolean;
  /** Why the root is refused. */
  readonly refusal?: string | undefined;
  /** Whether it is under a key that this directory has given up: what opened the vault before the rotation opens it. */
  readonly isOfBeforeRotation?: boolean | undefined;
}

/** What the directory knows. */
export interface Known {
  /** Its last commit. */
  readonly commit: number;
  readonly devices: DeviceList;
}

/** @returns What a root that is not ours is. */
function relationOf(root: Root, last: RootNote | null, deviceId: string): "older" | "copied" | "foreign" {
  if (last !== null && root.number < last.number) return "older";
  return toHex(root.deviceId) === deviceId ? "copied" : "foreign";
}

/** @returns What a root is that is not ours: why nothing is written any more. */
export function describeForeign(root: Root | undefined, last: RootNote | null, deviceId: string): string {
  if (root === undefined) return "the store has lost its root, or is another one";
  const { time } = noteOf(root, "");
  const relation = relationOf(root, last, deviceId);
  if (relation === "older") {
    return `the store shows an older state (step ${root.number} of ${time}) than it had (step ${last?.number ?? 0})`;
  }
  if (relation === "copied") {
    return `this vault directory is an older copy: the same device wrote step ${root.number} at ${time}`;
  }
  return `another device wrote to the store: step ${root.number} at ${time}`;
}

/**
 * @throws TcfsError `TCFS_UNKNOWN_FORMAT`, and what the store throws; `TCFS_REMOTE_DIVERGED` for a state under a newer key
 *   than the directory has.
 */
export async function readStanding(
  store: ObjectStore,
  sealer: ObjectSealer,
  { last, pending, deviceId }: ReplicaState,
  { commit, devices: known }: Known,
): Promise<Standing> {
  const merged = await readDevices(store, sealer, known);
  const devices = merged ?? known;
  const list = { devices, isListUnusable: merged === undefined };
  let found: RemoteRoot | undefined;
  try {
    found = await readRoot(store, sealer, { known });
  } catch (error) {
    if (!isRefusal(error) && !isTcfsError(error, "TCFS_CORRUPT")) throw error;
    const isRefused = isRefusal(error) || merged === undefined;
    return { ...list, ...(await readUntrusted(store, sealer)), ...(isRefused ? { refusal: error.message } : {}) };
  }
  const root = found?.root;
  const rootHash = found?.hash;
  const note = [last, ...pending].find((one) => one !== null && one.rootHash === rootHash);
  if (note !== undefined || (found === undefined && last === null)) {
    const isBehind = commit < (note?.commit ?? 0);
    return { ...list, relation: isBehind ? "behind" : "known", root, rootHash, theirSteps: 0 };
  }
  if (root === undefined) return { ...list, relation: "lost", root, rootHash, theirSteps: undefined };
  const theirSteps = await countSteps(store, sealer, devices, root, last);
  return { ...list, relation: relationOf(root, last, deviceId), root, rootHash, theirSteps };
}

/** @returns Undefined where the store's list cannot be used. */
async function readDevices(
  store: ObjectStore,
  sealer: ObjectSealer,
  known: DeviceList,
): Promise<DeviceList | undefined> {
  try {
    return mergeDevices(known, (await readRemoteDevices(store, sealer)).list);
  } catch (error) {
    if (isRefusal(error) || isTcfsError(error, "TCFS_CORRUPT")) return undefined;
    throw error;
  }
}

/** A root that is not to be believed. */
async function readUntrusted(
  store: ObjectStore,
  sealer: ObjectSealer,
): Promise<Pick<Standing, "relation" | "root" | "rootHash" | "theirSteps" | "isOfBeforeRotation">> {
  const object = await store.get(ROOT_NAME, { maxBytes: MAX_ROOT_BYTES });
  const rootHash = object && toHex(sha256(object.content));
  const nothing = { root: undefined, rootHash, theirSteps: undefined };
  if (object === undefined) return { ...nothing, relation: "lost" };
  const keyEpoch = epochOfObject(object.content);
  try {
    return { ...nothing, relation: "refused", root: peekRoot(sealer, object.content) };
  } catch (error) {
    if (isTcfsError(error, "TCFS_CORRUPT")) return { ...nothing, relation: "unreadable" };
    if (!isRefusal(error) || keyEpoch > sealer.keyEpoch) throw error;
    return { ...nothing, relation: "refused", isOfBeforeRotation: true };
  }
}

/** @returns Steps from `last` to the root, if the chain of hashes leads there within the root's checkpoint. */
async function countSteps(
  store: ObjectStore,
  sealer: ObjectSealer,
  devices: DeviceList,
  root: Root,
  last: RootNote | null,
): Promise<number | undefined> {
  if (last === null) return root.number;
  if (last.number >= root.number || last.number < root.checkpoint - 1) return undefined;
  let hash = root.headHash;
  try {
    for (let number = root.number; number > last.number; number--) {
      const kind = number === root.checkpoint ? "checkpoint" : "commit";
      hash = (await readManifest(store, sealer, devices, { kind, number, hash })).previousHash;
    }
  } catch (error) {
    if (isRefusal(error) || isTcfsError(error, "TCFS_CORRUPT")) return undefined;
    throw error;
  }
  return toHex(hash) === last.headHash ? root.number - last.number : undefined;
}

export interface AcceptPlace {
  readonly disk: Disk;
  /** The vault's, which nobody else has open. */
  readonly directory: string;
  readonly sealer: ObjectSealer;
  /** What the directory is to be known as from now on, where another copy of it may be the same device. */
  readonly identity: NewIdentity;
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
  { relation, root, rootHash, isListUnusable, devices }: Standing,
  { disk, directory, sealer, identity }: AcceptPlace,
): Promise<string | undefined> {
  const isTrusted = relation !== "unreadable" && relation !== "refused";
  const number = Math.max(root?.number ?? 0, state.last?.number ?? 0, ...state.pending.map((note) => note.number));
  const keptNumber = root?.number ?? number; // so that whoever wrote the root can tell the name
  const kept = rootHash === undefined ? undefined : keptRootObject(keptNumber, rootHash);
  const notes = keptNotes(state.kept, isTrusted ? root?.kept : undefined, rootHash, keptNumber);
  if (kept !== undefined) await putAway(store, kept, rootHash, isTrusted);
  const lost = isTrusted && root !== undefined ? await readLost(store, sealer, devices, root) : [];
  if (isListUnusable) await store.delete(DEVICES_NAME); // the next upload brings the directory's
  if (relation === "copied" || relation === "behind") await forgetIdentity({ disk, directory });
  const book = await DeviceBook.open({ disk, directory, sealer }, identity);
  // Commit 0: no state of this directory, so that none is taken to be in the store.
  const isHead = isTrusted && root !== undefined && rootHash !== undefined;
  const last = isHead ? { ...noteOf(root, rootHash), number, commit: 0 } : null;
  const link = newLink(identity.random);
  const deviceId = toHex(book.identity.id);
  const next = { url: state.url, deviceId, last, pending: [], keptBelow: number + 1, kept: notes, link };
  await LostPacks.addTo(disk, directory, lost);
  await StoredPacks.forget(disk, directory);
  await writeState(disk, directory, next, sealer);
  return kept;
}

/** @returns What a root says its state lacks; nothing where that cannot be read any more. */
async function readLost(
  store: ObjectStore,
  sealer: ObjectSealer,
  devices: DeviceList,
  { number, checkpoint, headHash: hash }: Root,
): Promise<readonly LostPack[]> {
  const kind = number === checkpoint ? "checkpoint" : "commit";
  try {
    return (await readManifest(store, sealer, devices, { kind, number, hash })).lost;
  } catch (error) {
    if (isRefusal(error) || isTcfsError(error, "TCFS_CORRUPT")) return [];
    throw error;
  }
}

/**
 * Keep the root under another name, and take away one that nobody can or may go on from: replaced by comparison first, so
 * that no root which came meanwhile is deleted.
 * @throws TcfsError `TCFS_REMOTE_CONFLICT` if it is another one by now.
 */
async function putAway(
  store: ObjectStore,
  kept: string,
  rootHash: string | undefined,
  isTrusted: boolean,
): Promise<void> {
  const object = await store.get(ROOT_NAME, { maxBytes: MAX_ROOT_BYTES });
  if (object === undefined || toHex(sha256(object.content)) !== rootHash) {
    throw new TcfsError("TCFS_REMOTE_CONFLICT", "the store's root has changed since it was told of: look again");
  }
  await store.putIfAbsent(kept, object.content);
  if (isTrusted) return;
  await store.putIfMatch(ROOT_NAME, NO_ROOT, object.version);
  await store.delete(ROOT_NAME);
}

/** @throws TcfsError `TCFS_USAGE` where there are as many as may be. */
function keptNotes(
  ours: readonly KeptNote[],
  theirs: readonly KeptRoot[] = [],
  rootHash: string | undefined,
  number: number,
): KeptNote[] {
  const fresh = rootHash === undefined ? [] : [{ number, hash: keptHash(rootHash) }];
  const notes = new Map<string, KeptNote>(ours.map((note) => [note.hash, note]));
  for (const root of [...theirs, ...fresh]) notes.set(root.hash, { ...root, missingSince: null });
  if (notes.size <= MAX_KEPT_ROOTS) return [...notes.values()];
  const message = `the store keeps ${MAX_KEPT_ROOTS} roots already: tcfs store forget deletes one`;
  throw new TcfsError("TCFS_USAGE", message);
}
