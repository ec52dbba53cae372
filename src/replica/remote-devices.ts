/** The list of devices in a store (FORMAT.md §11.6): read, and replaced by compare-and-swap. */
import { type ObjectSealer, epochOfObject } from "../crypto/object-seal.ts";
import { isTcfsError } from "../errors.ts";
import type { DeviceBook } from "../keys/devices/device-book.ts";
import {
  type Device,
  type DeviceList,
  NO_DEVICES,
  formatDevices,
  mergeDevices,
  parseDevices,
  requireNotRevoked,
} from "../keys/devices/device-list.ts";
import type { ObjectStore, ObjectVersion } from "../remote/object-store.ts";
import { DEVICES_NAME, MAX_DEVICES_BYTES } from "./object-names.ts";
import { unsealRemote } from "./remote-epoch.ts";

export interface RemoteDevices {
  /** {@link NO_DEVICES} where the store has none. */
  readonly list: DeviceList;
  readonly version: ObjectVersion | undefined;
  /** Whether it is sealed under an older key epoch than the sealer's newest. */
  readonly isOlder: boolean;
}

/** @throws TcfsError `TCFS_CORRUPT`, what {@link unsealRemote} throws, and what the store throws. */
export async function readRemoteDevices(
  store: ObjectStore,
  sealer: ObjectSealer,
  signal?: AbortSignal,
): Promise<RemoteDevices> {
  const found = await store.get(DEVICES_NAME, { maxBytes: MAX_DEVICES_BYTES, signal });
  if (found === undefined) return { list: NO_DEVICES, version: undefined, isOlder: false };
  const isOlder = epochOfObject(found.content) < sealer.keyEpoch;
  return { list: parseDevices(unsealRemote(sealer, "devices", 0, found.content)), version: found.version, isOlder };
}

/**
 * Make the store's list say all that `ours` says, under the newest key epoch, whoever changes it meanwhile.
 * @returns What it is then: `ours`, or more.
 * @throws TcfsError `TCFS_REMOTE_DIVERGED` if they contradict each other, and what the store throws.
 */
export async function pushDevices(
  store: ObjectStore,
  sealer: ObjectSealer,
  ours: DeviceList,
  signal?: AbortSignal,
): Promise<DeviceList> {
  for (let attempt = 1; ; attempt++) {
    const { list, version, isOlder } = await readRemoteDevices(store, sealer, signal);
    const merged = mergeDevices(ours, list);
    if (merged === list && !isOlder) return list;
    const object = sealer.seal("devices", 0, formatDevices(merged));
    try {
      if (version === undefined) await store.putIfAbsent(DEVICES_NAME, object, signal);
      else await store.putIfMatch(DEVICES_NAME, object, version, signal);
      return merged;
    } catch (error) {
      // Another device's change came first, or it was ours, whose answer was lost.
      if (!isTcfsError(error, "TCFS_REMOTE_CONFLICT") || attempt === MAX_ATTEMPTS) throw error;
    }
  }
}

/** Whose list it is. */
export interface DeviceSettlers {
  readonly devices: DeviceBook;
  readonly sealer: ObjectSealer;
  /** Told of devices that came into the list without this one's doing. */
  readonly onNewDevices: (devices: readonly Device[]) => void;
}

/**
 * What this device and the store say of the devices becomes one. At each step, for this one may have been revoked.
 * @returns The revision that the store has then. @throws TcfsError `TCFS_DEVICE_REVOKED`; what {@link pushDevices} throws.
 */
export async function settleDevices(
  store: ObjectStore,
  { devices, sealer, onNewDevices }: DeviceSettlers,
  ours: DeviceList,
  signal: AbortSignal,
): Promise<number> {
  const theirs = await pushDevices(store, sealer, ours, signal);
  const fresh = await devices.learn(theirs);
  if (fresh.length > 0) onNewDevices(fresh);
  requireNotRevoked(devices.list, devices.identity.id);
  return theirs.revision;
}

const MAX_ATTEMPTS = 5;
