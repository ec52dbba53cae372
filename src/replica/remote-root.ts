/** Reading a store's root and the steps that it names (FORMAT.md §11.2, §11.4): every one by name and hash, none by a listing. */
import { corrupt, toHex } from "../bytes.ts";
import type { ObjectSealer } from "../crypto/object-seal.ts";
import { TcfsError } from "../errors.ts";
import type { Manifest, ManifestKind, Root } from "../format/replica-codec.ts";
import { type DeviceList, NO_DEVICES, mergeDevices } from "../keys/devices/device-list.ts";
import type { ObjectStore, ObjectVersion } from "../remote/object-store.ts";
import { MAX_MANIFEST_BYTES, MAX_ROOT_BYTES, ROOT_NAME, manifestObject, sha256 } from "./object-names.ts";
import { readRemoteDevices } from "./remote-devices.ts";
import { openManifest, openRoot } from "./signed-objects.ts";

export interface RemoteRoot {
  readonly root: Root;
  /** Of the object, hexadecimal. */
  readonly hash: string;
  readonly version: ObjectVersion;
  /** Who may have written what it leads to: what the store says of them, and what the caller knows. */
  readonly devices: DeviceList;
}

export interface RootOptions {
  /** What the caller knows of the devices. */
  readonly known?: DeviceList | undefined;
  /** Of another than the present one. */
  readonly name?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * @returns Undefined where there is none.
 * @throws TcfsError `TCFS_CORRUPT`, `TCFS_UNKNOWN_FORMAT`, and what the store throws; `TCFS_DEVICE_UNKNOWN`,
 *   `TCFS_DEVICE_REVOKED`, `TCFS_BAD_SIGNATURE`; `TCFS_REMOTE_DIVERGED` for an older list of devices than the root's.
 */
export async function readRoot(
  store: ObjectStore,
  sealer: ObjectSealer,
  { signal, known = NO_DEVICES, name = ROOT_NAME }: RootOptions = {},
): Promise<RemoteRoot | undefined> {
  const found = await store.get(name, { maxBytes: MAX_ROOT_BYTES, signal });
  if (found === undefined) return undefined;
  // After the root: the list that it names was there before it.
  const { list } = await readRemoteDevices(store, sealer, signal);
  const devices = mergeDevices(known, list);
  const root = openRoot(sealer, devices, found.content);
  if (list.revision < root.devicesRevision) {
    throw new TcfsError(
      "TCFS_REMOTE_DIVERGED",
      "the store shows an older list of devices than its root was written with",
    );
  }
  return { root, hash: toHex(sha256(found.content)), version: found.version, devices };
}

/** @returns The manifests from the checkpoint to the root's step. @throws as {@link readRoot}. */
export async function readSteps(
  store: ObjectStore,
  sealer: ObjectSealer,
  { root, devices }: Pick<RemoteRoot, "root" | "devices">,
  signal?: AbortSignal,
): Promise<Manifest[]> {
  const steps: Manifest[] = [];
  let hash = root.headHash;
  for (let number = root.number; number >= root.checkpoint; number--) {
    const kind = number === root.checkpoint ? "checkpoint" : "commit";
    const manifest = await readManifest(store, sealer, devices, { kind, number, hash }, signal);
    steps.push(manifest);
    hash = manifest.previousHash;
  }
  return steps.reverse();
}

export async function readManifest(
  store: ObjectStore,
  sealer: ObjectSealer,
  devices: DeviceList,
  { kind, number, hash }: { readonly kind: ManifestKind; readonly number: number; readonly hash: Uint8Array },
  signal?: AbortSignal,
): Promise<Manifest> {
  const name = manifestObject(kind, number, hash);
  const found = await store.get(name, { maxBytes: MAX_MANIFEST_BYTES, signal });
  if (found === undefined) throw corrupt(name, "it is not in the store");
  if (Buffer.compare(sha256(found.content), hash) !== 0) throw corrupt(name, "it is not what the root names");
  const manifest = openManifest(sealer, devices, { kind, number }, found.content);
  if (manifest.number !== number) throw corrupt(name, "it says to be another step");
  return manifest;
}
