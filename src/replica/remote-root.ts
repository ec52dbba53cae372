/** Reading a store's root and the steps that it names (FORMAT.md §11.2, §11.4): every one by name and hash, none by a listing. */
import { corrupt } from "../bytes.ts";
import type { ObjectSealer } from "../crypto/object-seal.ts";
import { type Manifest, type ManifestKind, type Root, decodeManifest, decodeRoot } from "../format/replica-codec.ts";
import type { ObjectStore, ObjectVersion } from "../remote/object-store.ts";
import { MAX_MANIFEST_BYTES, MAX_ROOT_BYTES, ROOT_NAME, manifestObject, sha256, toHex } from "./object-names.ts";

export interface RemoteRoot {
  readonly root: Root;
  /** Of the object, hexadecimal. */
  readonly hash: string;
  readonly version: ObjectVersion;
}

/** @param name - Of another than the present one. @returns Undefined where there is none. @throws TcfsError `TCFS_CORRUPT`, `TCFS_UNKNOWN_FORMAT`, and what the store throws. */
export async function readRoot(
  store: ObjectStore,
  sealer: ObjectSealer,
  signal?: AbortSignal,
  name = ROOT_NAME,
): Promise<RemoteRoot | undefined> {
  const found = await store.get(name, { maxBytes: MAX_ROOT_BYTES, signal });
  if (found === undefined) return undefined;
  const root = decodeRoot(sealer.unseal("root", 0, found.content));
  return { root, hash: toHex(sha256(found.content)), version: found.version };
}

/** @returns The manifests from the checkpoint to the root's step. @throws as {@link readRoot}. */
export async function readSteps(
  store: ObjectStore,
  sealer: ObjectSealer,
  root: Root,
  signal?: AbortSignal,
): Promise<Manifest[]> {
  const steps: Manifest[] = [];
  let hash = root.headHash;
  for (let number = root.number; number >= root.checkpoint; number--) {
    const kind = number === root.checkpoint ? "checkpoint" : "commit";
    const manifest = await readManifest(store, sealer, { kind, number, hash }, signal);
    steps.push(manifest);
    hash = manifest.previousHash;
  }
  return steps.reverse();
}

export async function readManifest(
  store: ObjectStore,
  sealer: ObjectSealer,
  { kind, number, hash }: { readonly kind: ManifestKind; readonly number: number; readonly hash: Uint8Array },
  signal?: AbortSignal,
): Promise<Manifest> {
  const name = manifestObject(kind, number, hash);
  const found = await store.get(name, { maxBytes: MAX_MANIFEST_BYTES, signal });
  if (found === undefined) throw corrupt(name, "it is not in the store");
  if (Buffer.compare(sha256(found.content), hash) !== 0) throw corrupt(name, "it is not what the root names");
  const manifest = decodeManifest(sealer.unseal(kind, number, found.content));
  if (manifest.number !== number) throw corrupt(name, "it says to be another step");
  return manifest;
}
