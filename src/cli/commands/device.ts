/** `tcfs device list|revoke`: which copies of the vault write to its store (FORMAT.md §11.6). */
import { toHex } from "../../bytes.ts";
import type { ObjectSealer } from "../../crypto/object-seal.ts";
import { TcfsError } from "../../errors.ts";
import type { DeviceBook } from "../../keys/devices/device-book.ts";
import {
  type Device,
  type DeviceList,
  type Revocation,
  describeDevice,
  pickDevice,
  withDevice,
} from "../../keys/devices/device-list.ts";
import { systemClock } from "../../platform/clock.ts";
import { preciseIsoTime } from "../../platform/iso-time.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import type { ObjectStore } from "../../remote/object-store.ts";
import { pushDevices, readRemoteDevices } from "../../replica/remote-devices.ts";
import { readRoot } from "../../replica/remote-root.ts";
import { type ReplicaState, readState, verifyState } from "../../replica/replica-state.ts";
import { isRefusal } from "../../replica/signed-objects.ts";
import { openDeviceBook, withSealer } from "../../vault/device-setup.ts";
import type { Settings } from "../settings.ts";
import { openNamedStore } from "../access/store-setup.ts";
import { secretSource, unlockVault, vaultDirectory } from "../access/vault-access.ts";
import type { VaultArguments } from "../access/vault-access.ts";

export interface DeviceListArguments extends VaultArguments {
  readonly json?: boolean | undefined;
}

export interface DeviceArguments extends VaultArguments {
  /** A name, or the beginning of an id. */
  readonly device: string;
}

/** A vault directory, unlocked, as the commands on devices work on it; a daemon may have it mounted. */
export interface OpenedBook {
  readonly book: DeviceBook;
  readonly sealer: ObjectSealer;
  readonly directory: string;
  /** Of its store, where it has one. */
  readonly state: ReplicaState | undefined;
}

/** @throws TcfsError what unlocking and {@link DeviceBook.open} throw. */
export async function withDeviceBook<T>(
  parameters: VaultArguments,
  settings: Settings,
  action: (opened: OpenedBook) => Promise<T>,
): Promise<T> {
  const directory = await vaultDirectory(parameters, settings);
  const { header, key } = await unlockVault(directory, secretSource(parameters), settings);
  try {
    return await withSealer(header, key, async (sealer) => {
      const disk = new NodeDisk();
      const state = await readState(disk, directory);
      const book = await openDeviceBook({ disk, directory, sealer }, header.deviceId);
      return action({ book, sealer, directory, state: state && verifyState(state, sealer) });
    });
  } finally {
    key.wipe();
  }
}

export async function runDeviceList(parameters: DeviceListArguments, settings: Settings): Promise<void> {
  await withDeviceBook(parameters, settings, async ({ book: { list, identity } }) => {
    const rows = list.devices.map(({ id, name, enrolledAt, tpm, revoked }) => {
      const isThis = toHex(id) === toHex(identity.id);
      const proof = tpm && { attestedAt: tpm.attestedAt, certifiedBy: tpm.certificate?.issuer ?? null };
      return { id: toHex(id), name, enrolledAt, isThis, tpm: proof, revokedAt: revoked?.at ?? null };
    });
    if (parameters.json === true) {
      process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
      return Promise.resolve();
    }
    const line = (id: string, name: string, enrolled: string, state: string): string =>
      `${id.padEnd(10)}${name.padEnd(24)} ${enrolled.padEnd(26)}${state}`.trimEnd() + "\n";
    process.stdout.write(line("device", "name", "enrolled", ""));
    for (const { id, name, enrolledAt, isThis, tpm, revokedAt } of rows) {
      const attested = tpm === null ? "not attested" : `attested ${tpm.attestedAt}`;
      const checked = tpm?.certifiedBy === null ? "certificate not checked" : "";
      const states = [isThis ? "this one" : "", attested, checked, revokedAt === null ? "" : `revoked ${revokedAt}`];
      process.stdout.write(line(id.slice(0, 8), name, enrolledAt, states.filter((state) => state !== "").join(", ")));
    }
    return Promise.resolve();
  });
}

/** What a device wrote up to now stays; what it writes from now on is refused. */
export async function runDeviceRevoke(parameters: DeviceArguments, settings: Settings): Promise<void> {
  await withDeviceBook(parameters, settings, async (opened) => {
    const { book, state } = opened;
    if (state === undefined) {
      tellRevoked(await revoke(book, parameters.device, undefined));
      return;
    }
    const store = await openNamedStore(state.url, settings, secretSource(parameters), {
      create: false,
      directory: opened.directory,
    });
    try {
      const { sealer } = opened;
      await book.learn((await readRemoteDevices(store, sealer)).list);
      const device = await revoke(book, parameters.device, await lastStep(store, opened));
      await book.learn(await pushDevices(store, sealer, book.list));
      tellRevoked(device);
    } finally {
      await store.close();
    }
  });
}

type Step = Pick<Revocation, "number" | "headHash">;

/** The state that the store has now stays good, whoever wrote it: nobody loses what is there. */
async function lastStep(store: ObjectStore, { book, sealer, state }: OpenedBook): Promise<Step | undefined> {
  try {
    return (await readRoot(store, sealer, { known: book.list }))?.root;
  } catch (error) {
    // A root that is refused is none to go by: then it is the one that this vault knows.
    if (!isRefusal(error)) throw error;
    const last = state?.last;
    return last === undefined || last === null
      ? undefined
      : { number: last.number, headHash: Uint8Array.from(Buffer.from(last.headHash, "hex")) };
  }
}

async function revoke(book: DeviceBook, word: string, step: Step | undefined): Promise<Device> {
  const { number, headHash } = step ?? { number: 0, headHash: new Uint8Array(32) };
  const change = (list: DeviceList): DeviceList => {
    const device = pickDevice(list, word);
    if (toHex(device.id) === toHex(book.identity.id)) {
      throw new TcfsError("TCFS_USAGE", "this is the device that you are on: revoke it from another one");
    }
    if (device.revoked !== null) {
      throw new TcfsError("TCFS_USAGE", `${describeDevice(device)} was revoked at ${device.revoked.at} already`);
    }
    return withDevice(list, { ...device, revoked: { at: preciseIsoTime(systemClock.now()), number, headHash } });
  };
  const device = pickDevice(book.list, word);
  await book.change(change);
  return device;
}

function tellRevoked(device: Device): void {
  process.stdout.write(`${describeDevice(device)} is revoked: what it writes to the store from now on is refused.
It still has what it had, and whoever can open its copy has the vault key: see docs/SECURITY.md §5, devices.
`);
}
