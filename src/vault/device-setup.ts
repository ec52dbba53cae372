/** Which device this copy of a vault is: found, or made when it is first needed. */
import { hostname } from "node:os";
import { ObjectSealer } from "../crypto/object-seal.ts";
import type { SecretKey } from "../crypto/secret-key.ts";
import { DeviceBook, type DeviceBookOptions, type NewIdentity } from "../keys/devices/device-book.ts";
import { deviceNameOf } from "../keys/devices/device-list.ts";
import { type EpochHeader, VaultKeys } from "../keys/key-epochs.ts";
import { systemClock } from "../platform/clock.ts";
import { systemRandom } from "../platform/random.ts";
import { readState } from "../replica/replica-state.ts";

/** Run `action` with what seals and opens the vault's lists; it is wiped then. @param key - Lent until settled. */
export async function withSealer<T>(
  header: EpochHeader,
  key: SecretKey,
  action: (sealer: ObjectSealer) => Promise<T>,
): Promise<T> {
  const keys = VaultKeys.open(header, key);
  const storeKeys = keys.keysFor("store");
  keys.wipe();
  try {
    return await action(new ObjectSealer(storeKeys, header.vaultId, systemRandom));
  } finally {
    storeKeys.wipe();
  }
}

/** @param id - See {@link NewIdentity}. */
export function newIdentity(id: Uint8Array): NewIdentity {
  return { id, name: deviceNameOf(hostname()), random: systemRandom, clock: systemClock };
}

/**
 * @param firstDeviceId - The header's: the directory's own, unless `store.json` has one.
 * @throws as {@link DeviceBook.open}.
 */
export async function openDeviceBook(options: DeviceBookOptions, firstDeviceId: Uint8Array): Promise<DeviceBook> {
  const state = await readState(options.disk, options.directory);
  const id = state === undefined ? firstDeviceId : Uint8Array.from(Buffer.from(state.deviceId, "hex"));
  return DeviceBook.open(options, newIdentity(id));
}
