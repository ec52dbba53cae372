/** Signatures on what devices write to a store (FORMAT.md §11.6): made beneath the seal, checked before anything is believed. */
import { type ObjectSealer, type SignedKind, tellsLost } from "../crypto/object-seal.ts";
import { SIGNATURE_BYTES, isSignedBy } from "../crypto/signing-key.ts";
import { corrupt, toHex } from "../bytes.ts";
import { TcfsError, type TcfsErrorCode, isTcfsError } from "../errors.ts";
import { type Manifest, type Root, decodeManifest, decodeRoot } from "../format/replica-codec.ts";
import type { DeviceIdentity } from "../keys/devices/device-book.ts";
import { type Device, type DeviceList, describeDevice, findDevice } from "../keys/devices/device-list.ts";
import { unsealRemote } from "./remote-epoch.ts";

/** What trying again does not mend, and would do harm. */
const REFUSALS: ReadonlySet<TcfsErrorCode> = new Set([
  "TCFS_REMOTE_DIVERGED",
  "TCFS_DEVICE_UNKNOWN",
  "TCFS_DEVICE_REVOKED",
  "TCFS_BAD_SIGNATURE",
]);

/** @returns Whether what the store shows, or this device, is refused: by whom it was written, or for another state known. */
export function isRefusal(error: unknown): error is TcfsError {
  return isTcfsError(error) && REFUSALS.has(error.code);
}

/**
 * @param place - Number: its step; 0 for the root. `tellsLost`: of a manifest, whether it tells of packs that are lost.
 * @returns The object, fresh.
 */
export function sealSigned(
  sealer: ObjectSealer,
  { key }: DeviceIdentity,
  place: { readonly kind: SignedKind; readonly number: number; readonly tellsLost?: boolean },
  fields: Uint8Array,
): Uint8Array {
  const { kind, number } = place;
  const signature = key.sign(sealer.signable(kind, number, fields));
  return sealer.seal(kind, number, Buffer.concat([fields, signature]), place.tellsLost);
}

/**
 * @param devices - All that is known of them.
 * @throws TcfsError `TCFS_DEVICE_UNKNOWN`, `TCFS_DEVICE_REVOKED`, `TCFS_BAD_SIGNATURE`; what {@link unsealRemote} throws.
 */
export function openRoot(sealer: ObjectSealer, devices: DeviceList, object: Uint8Array): Root {
  const { fields, signature } = split("root", unsealRemote(sealer, "root", 0, object));
  const root = decodeRoot(fields);
  const device = requireSigner(
    devices,
    root.deviceId,
    sealer.signable("root", 0, fields),
    signature,
    "the store's root",
  );
  const { revoked } = device;
  const isOfBefore =
    revoked !== null && root.number === revoked.number && toHex(root.headHash) === toHex(revoked.headHash);
  if (revoked !== null && !isOfBefore) throw revokedDevice(device, `wrote the store's root (step ${root.number})`);
  return root;
}

/** What a root says that {@link openRoot} refuses, to tell of it. @throws what {@link unsealRemote} throws. */
export function peekRoot(sealer: ObjectSealer, object: Uint8Array): Root {
  return decodeRoot(split("root", unsealRemote(sealer, "root", 0, object)).fields);
}

/**
 * A manifest that its hash was already found by: what the root leads to.
 * @throws as {@link openRoot}.
 */
export function openManifest(
  sealer: ObjectSealer,
  devices: DeviceList,
  place: { readonly kind: "commit" | "checkpoint"; readonly number: number },
  object: Uint8Array,
): Manifest {
  const { kind, number } = place;
  const { fields, signature } = split("manifest", unsealRemote(sealer, kind, number, object));
  const manifest = decodeManifest(fields);
  const message = sealer.signable(kind, number, fields);
  const device = requireSigner(devices, manifest.deviceId, message, signature, `step ${number} of the store`);
  if (device.revoked !== null && number > device.revoked.number) throw revokedDevice(device, `wrote step ${number}`);
  if (tellsLost(object) !== manifest.lost.length > 0) throw corrupt("manifest", "its flags and its content differ");
  return manifest;
}

function split(what: string, content: Uint8Array): { readonly fields: Uint8Array; readonly signature: Uint8Array } {
  const end = content.length - SIGNATURE_BYTES;
  if (end < 0) throw corrupt(what, "it has no room for a signature");
  return { fields: content.subarray(0, end), signature: content.subarray(end) };
}

function requireSigner(
  devices: DeviceList,
  id: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
  what: string,
): Device {
  const device = findDevice(devices, id);
  if (device === undefined) {
    const message = `${what} was written by a device that is not in the vault's list of devices (${toHex(id).slice(0, 8)})`;
    throw new TcfsError("TCFS_DEVICE_UNKNOWN", message);
  }
  if (!isSignedBy(device.publicKey, message, signature)) {
    const claim = `${what} says to be written by ${describeDevice(device)}`;
    throw new TcfsError("TCFS_BAD_SIGNATURE", `${claim}, and that device's signature is not on it`);
  }
  return device;
}

function revokedDevice(device: Device, what: string): TcfsError {
  const since = device.revoked === null ? "" : ` at ${device.revoked.at}, after step ${device.revoked.number}`;
  return new TcfsError(
    "TCFS_DEVICE_REVOKED",
    `${describeDevice(device)} ${what}, but was revoked${since}: it is refused`,
  );
}
