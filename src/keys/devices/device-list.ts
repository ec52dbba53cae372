/** The devices that may write to a vault's store (FORMAT.md §11.6): text ⇄ checked values, and which list may follow which. Pure. */
import { z } from "zod";
import { toHex } from "../../bytes.ts";
import { PUBLIC_KEY_BYTES } from "../../crypto/signing-key.ts";
import { TcfsError } from "../../errors.ts";
import { hexField, timeField } from "../fields.ts";
import { pcrFields } from "../tpm/pcr-fields.ts";
import { PCR_BANK_BYTES, PCR_COUNT } from "../tpm/pcr-selection.ts";
import type { PcrSelection } from "../tpm/pcr-selection.ts";

export const DEVICE_ID_BYTES = 16;
const MAX_DEVICES = 64;
const MAX_NAME_CHARACTERS = 64;

/** Up to which step a revoked device's signatures hold: the one that the store's root named then. */
export interface Revocation {
  readonly at: string;
  readonly number: number;
  /** SHA-256 of that step's manifest. */
  readonly headHash: Uint8Array;
}

/** What the device's TPM proved (FORMAT.md §11.7), to a tcfs that had the vault key. */
export interface TpmProof extends PcrSelection {
  /** SubjectPublicKeyInfo of the TPM's endorsement key, DER. */
  readonly endorsementKey: Uint8Array;
  /** TPM2B_PUBLIC of its attestation key. */
  readonly public: Uint8Array;
  /** Whose certificate vouches for the endorsement key; null if none was checked. */
  readonly certificate: { readonly sha256: Uint8Array; readonly issuer: string } | null;
  /** At the enrolment, in the order of `pcrs`. */
  readonly pcrDigests: readonly Uint8Array[];
  /** The last time. */
  readonly attestedAt: string;
}

export interface Device {
  readonly id: Uint8Array;
  readonly name: string;
  readonly publicKey: Uint8Array;
  readonly enrolledAt: string;
  /** Null: no TPM vouches for it. */
  readonly tpm: TpmProof | null;
  readonly revoked: Revocation | null;
}

export interface DeviceList {
  /** Raised with every change; 0 stands for a list that was never written. */
  readonly revision: number;
  readonly devices: readonly Device[];
}

export const NO_DEVICES: DeviceList = { revision: 0, devices: [] };

const nameField = z
  .string()
  .min(1)
  .refine((name) => Array.from(name).length <= MAX_NAME_CHARACTERS && !/\p{Cc}/u.test(name), "is no name");

const tpmSchema = z
  .strictObject({
    endorsementKey: hexField(64, 1024),
    public: hexField(1, 1024),
    certificate: z.strictObject({ sha256: hexField(32), issuer: z.string().max(256) }).nullable(),
    ...pcrFields,
    pcrDigests: z.array(hexField(32, 64)).max(PCR_COUNT),
    attestedAt: timeField,
  })
  .refine(({ pcrBank, pcrs, pcrDigests }) => {
    const isAscending = pcrs.every((pcr, at) => at === 0 || pcr > (pcrs[at - 1] ?? 0));
    const areWhole = pcrDigests.every(({ length }) => length === PCR_BANK_BYTES[pcrBank]);
    return isAscending && areWhole && pcrDigests.length === pcrs.length;
  }, "is no proof of PCRs");

const deviceSchema = z.strictObject({
  id: hexField(DEVICE_ID_BYTES),
  name: nameField,
  publicKey: hexField(PUBLIC_KEY_BYTES),
  enrolledAt: timeField,
  tpm: tpmSchema.nullable(),
  revoked: z.strictObject({ at: timeField, number: z.int().min(0), headHash: hexField(32) }).nullable(),
});

const listSchema = z.strictObject({
  revision: z.int().min(1).max(0xffff_ffff),
  devices: z.array(deviceSchema).min(1).max(MAX_DEVICES),
});

/** @param content - Unsealed. @throws TcfsError `TCFS_CORRUPT` */
export function parseDevices(content: Uint8Array): DeviceList {
  try {
    const list = listSchema.parse(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(content)));
    const ids = new Set(list.devices.map(({ id }) => toHex(id)));
    if (ids.size !== list.devices.length) throw new RangeError("a device twice");
    return list;
  } catch (cause) {
    throw new TcfsError("TCFS_CORRUPT", "the list of devices is malformed", { cause });
  }
}

/** @returns UTF-8, fresh. */
export function formatDevices({ revision, devices }: DeviceList): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ revision, devices: devices.map(deviceMembers) }));
}

function deviceMembers({ id, name, publicKey, enrolledAt, tpm, revoked }: Device): object {
  return {
    id: toHex(id),
    name,
    publicKey: toHex(publicKey),
    enrolledAt,
    tpm: tpm && tpmMembers(tpm),
    revoked: revoked && { at: revoked.at, number: revoked.number, headHash: toHex(revoked.headHash) },
  };
}

function tpmMembers(tpm: TpmProof): object {
  const { endorsementKey, certificate, pcrBank, pcrs, pcrDigests, attestedAt } = tpm;
  return {
    endorsementKey: toHex(endorsementKey),
    public: toHex(tpm.public),
    certificate: certificate && { sha256: toHex(certificate.sha256), issuer: certificate.issuer },
    pcrBank,
    pcrs,
    pcrDigests: pcrDigests.map(toHex),
    attestedAt,
  };
}

/** @throws TcfsError `TCFS_USAGE` */
export function checkDeviceName(name: string): string {
  if (nameField.safeParse(name).success) return name;
  throw new TcfsError("TCFS_USAGE", `a device's name has 1 to ${MAX_NAME_CHARACTERS} characters, on one line`);
}

/** @returns A name that is one, made of what the machine calls itself. */
export function deviceNameOf(machine: string): string {
  const name = machine.replaceAll(/\p{Cc}/gu, "").slice(0, MAX_NAME_CHARACTERS);
  return nameField.safeParse(name).success ? name : "unnamed";
}

export function findDevice({ devices }: DeviceList, id: Uint8Array): Device | undefined {
  return devices.find((device) => isSame(device.id, id));
}

/** The device whose id begins with `prefix`, or that is called so. @throws TcfsError `TCFS_USAGE` if it is not one. */
export function pickDevice({ devices }: DeviceList, word: string): Device {
  const named = devices.filter(({ name }) => name === word);
  const found = named.length > 0 ? named : devices.filter(({ id }) => toHex(id).startsWith(word.toLowerCase()));
  const [device] = found;
  if (device !== undefined && found.length === 1 && word !== "") return device;
  const what = found.length > 1 ? "more than one device is called or begins" : "no device is called, or begins with,";
  throw new TcfsError("TCFS_USAGE", `${what} “${word}”: tcfs device list shows them`);
}

/** For a sentence. */
export function describeDevice({ id, name }: Device): string {
  return `${name} (${toHex(id).slice(0, 8)})`;
}

/** @param id - Of this copy of the vault. @throws TcfsError `TCFS_DEVICE_REVOKED` */
export function requireNotRevoked(list: DeviceList, id: Uint8Array): void {
  const own = findDevice(list, id);
  const revoked = own?.revoked ?? null;
  if (own === undefined || revoked === null) return;
  const message = `this device, ${describeDevice(own)}, was revoked at ${revoked.at}`;
  throw new TcfsError(
    "TCFS_DEVICE_REVOKED",
    `${message}: nothing is uploaded any more; what is in this vault stays in it`,
  );
}

/** The list with one more, or with another in the place of the one of its id. @throws TcfsError `TCFS_USAGE` if it is full. */
export function withDevice(list: DeviceList, device: Device): DeviceList {
  const others = list.devices.filter(({ id }) => !isSame(id, device.id));
  if (others.length >= MAX_DEVICES) {
    throw new TcfsError("TCFS_USAGE", `the vault has ${MAX_DEVICES} devices, and no room for more`);
  }
  const isNew = others.length === list.devices.length;
  const devices = isNew
    ? [...list.devices, device]
    : list.devices.map((old) => (isSame(old.id, device.id) ? device : old));
  return { revision: list.revision + 1, devices };
}

/**
 * What two lists say together: all devices, all revocations. Where neither says all of it, it is a new list.
 * @returns `ours` or `theirs` itself where that is it; `theirs` where they are equal.
 * @throws TcfsError `TCFS_REMOTE_DIVERGED` if they contradict each other.
 */
export function mergeDevices(ours: DeviceList, theirs: DeviceList): DeviceList {
  const [newer, older] = ours.revision > theirs.revision ? [ours, theirs] : [theirs, ours];
  const devices = newer.devices.map((device) => {
    const other = findDevice(older, device.id);
    if (other === undefined) return device;
    if (!isSame(other.publicKey, device.publicKey)) {
      const what = `two lists of devices, the store's and this vault's, show different keys of ${describeDevice(device)}`;
      throw new TcfsError("TCFS_REMOTE_DIVERGED", what);
    }
    return { ...device, revoked: device.revoked ?? other.revoked };
  });
  const missing = older.devices.filter(({ id }) => findDevice(newer, id) === undefined);
  const merged = { revision: newer.revision, devices: [...devices, ...missing] };
  const saysAll = isSame(formatDevices(merged), formatDevices(newer));
  const isLater = newer.revision > older.revision || isSame(formatDevices(newer), formatDevices(older));
  if (saysAll && isLater) return newer;
  return { ...merged, revision: newer.revision + 1 };
}

function isSame(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0;
}
