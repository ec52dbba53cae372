/**
 * `device` and `devices` in the vault directory (FORMAT.md §11.6): who this copy of the vault is, and which devices there
 * are. A directory that has neither yet gets both.
 */
import { join } from "node:path";
import { type ObjectSealer, epochOfObject } from "../../crypto/object-seal.ts";
import { SEED_BYTES, SigningKey } from "../../crypto/signing-key.ts";
import { ByteReader } from "../../bytes.ts";
import { TcfsError, isTcfsError } from "../../errors.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Disk } from "../../platform/disk.ts";
import { lockDirectory } from "../../platform/file-lock.ts";
import { preciseIsoTime } from "../../platform/iso-time.ts";
import type { RandomSource } from "../../platform/random.ts";
import { hasHeader, readHeader } from "../header-file.ts";
import { rotatedMeanwhile } from "../key-epochs.ts";
import {
  DEVICE_ID_BYTES,
  NO_DEVICES,
  findDevice,
  formatDevices,
  mergeDevices,
  parseDevices,
  withDevice,
} from "./device-list.ts";
import type { Device, DeviceList } from "./device-list.ts";

const OWN_NAME = "device";
const LIST_NAME = "devices";
/** Changing the list takes milliseconds; whoever holds the lock for longer hangs on its disk. */
const LOCK_SECONDS = 30;

/** This copy of the vault, among those that write to the store. */
export interface DeviceIdentity {
  readonly id: Uint8Array;
  readonly key: SigningKey;
}

/** TPM2B_PRIVATE has at most this much (FORMAT.md §11.6). */
const MAX_BLOB_BYTES = 1024;
/** A TPM remembers the vault's newest state (FORMAT.md §8.11). */
const ANCHORED = 1;

export interface DeviceBookOptions {
  readonly disk: Disk;
  /** The vault's. */
  readonly directory: string;
  readonly sealer: ObjectSealer;
}

/** What a copy that has no identity yet gets. */
export interface NewIdentity {
  readonly random: RandomSource;
  readonly clock: Clock;
  readonly name: string;
  /** To be taken if no device has it. */
  readonly id: Uint8Array;
}

export class DeviceBook {
  readonly identity: DeviceIdentity;
  readonly #options: DeviceBookOptions;
  #list: DeviceList;

  private constructor(options: DeviceBookOptions, identity: DeviceIdentity, list: DeviceList) {
    this.#options = options;
    this.identity = identity;
    this.#list = list;
  }

  /**
   * For who may write to the vault directory. The identity is on the disk before the list names it, so that a crash in
   * between costs nothing: the next opening goes on.
   * @throws TcfsError `TCFS_CORRUPT` if one of the files is damaged, what the disk throws.
   */
  static async open(options: DeviceBookOptions, fresh: NewIdentity): Promise<DeviceBook> {
    return (await DeviceBook.#find(options)) ?? (await inTurn(options, () => DeviceBook.#make(options, fresh)));
  }

  /** @returns Undefined where the directory has no identity yet, or the list does not name it. */
  static async #find(options: DeviceBookOptions): Promise<DeviceBook | undefined> {
    const list = await readDevices(options);
    const found = await readIdentity(options);
    return found && findDevice(list, found.id) && new DeviceBook(options, takeIdentity(found), list);
  }

  /** In turn: of two that find no identity one makes it, and the other takes that. */
  static async #make(options: DeviceBookOptions, fresh: NewIdentity): Promise<DeviceBook> {
    const list = await readDevices(options);
    const found = await readIdentity(options);
    const made = found ?? makeIdentity(fresh, list);
    if (found === undefined) await writeIdentity(options, made);
    const identity = takeIdentity(made);
    const { id, key } = identity;
    const book = new DeviceBook(options, identity, list);
    if (findDevice(list, id) !== undefined) return book;
    const enrolledAt = preciseIsoTime(fresh.clock.now());
    await book.#write(
      withDevice(list, { id, name: fresh.name, publicKey: key.publicKey, enrolledAt, tpm: null, revoked: null }),
    );
    return book;
  }

  /** As of the last opening, change or {@link reread}. */
  get list(): DeviceList {
    return this.#list;
  }

  /** A command may have changed it. Where the file is gone, as with its drive, what was known holds. */
  async reread(): Promise<DeviceList> {
    this.#list = mergeDevices(this.#list, await readDevices(this.#options));
    return this.#list;
  }

  /**
   * Make the list what `make` makes of it, while no other process changes it. Durable when it resolves.
   * @throws TcfsError what `make` throws; `TCFS_BUSY`
   */
  async change(make: (known: DeviceList) => DeviceList): Promise<DeviceList> {
    return await inTurn(this.#options, async () => {
      const before = await this.reread();
      const after = make(before);
      if (after !== before) await this.#write(after);
      return after;
    });
  }

  /** In turn. */
  async #write(list: DeviceList): Promise<void> {
    await writeDevices(this.#options, list);
    this.#list = list;
  }

  /** @returns TPM2B_PRIVATE of this device's attestation key, where it has one. */
  async attestationBlob(): Promise<Uint8Array | undefined> {
    const own = await readIdentity(this.#options);
    own?.seed.fill(0);
    return own?.blob.length === 0 ? undefined : own?.blob;
  }

  /** Keep the private half of a new attestation key, or whether a TPM remembers the vault. Durable when it resolves. */
  async keep(change: Partial<Pick<Seeded, "blob" | "isAnchored">>): Promise<void> {
    await inTurn(this.#options, async () => {
      const own = await readIdentity(this.#options);
      if (own === undefined) throw new TcfsError("TCFS_CORRUPT", `${OWN_NAME} in the vault directory has gone`);
      await writeIdentity(this.#options, { ...own, ...change });
      own.seed.fill(0);
    });
  }

  /** Take over what the store's list says. @returns Devices that were not known here, this one left out. */
  async learn(theirs: DeviceList): Promise<readonly Device[]> {
    const before = this.#list;
    if (mergeDevices(theirs, before) === before) return []; // of two equal ones it is the second
    const after = await this.change((ours) => mergeDevices(ours, theirs));
    return after.devices.filter(({ id }) => findDevice(before, id) === undefined);
  }
}

/**
 * Run `action` while no other process changes the files, or the header.
 * @throws TcfsError `TCFS_BUSY` if the sealer's key is not the vault's any more: what it seals would not open.
 */
async function inTurn<T>(options: DeviceBookOptions, action: () => Promise<T>): Promise<T> {
  const { disk, directory, sealer } = options;
  await using _lock = await lockDirectory(directory, "is changing the vault's list of devices", LOCK_SECONDS);
  const isVault = await hasHeader(disk, directory); // not yet, while one is made
  if (isVault && (await readHeader(disk, directory)).keyEpoch !== sealer.keyEpoch) throw rotatedMeanwhile();
  return await action();
}

/** @returns {@link NO_DEVICES} where there is no list. @throws TcfsError `TCFS_CORRUPT` */
export async function readDevices({ disk, directory, sealer }: DeviceBookOptions): Promise<DeviceList> {
  const content = await disk.readFile(join(directory, LIST_NAME));
  if (content === undefined) return NO_DEVICES;
  return parseDevices(unsealOwn(sealer, "devices", LIST_NAME, content));
}

/** For a directory that goes on by itself though another copy may be the same device: the next opening makes it a new one. */
export async function forgetIdentity({
  disk,
  directory,
}: Pick<DeviceBookOptions, "disk" | "directory">): Promise<void> {
  await disk.remove(join(directory, OWN_NAME));
  await disk.syncDirectory(directory);
}

/** @returns Whether the vault says that a TPM remembers its newest state. @throws TcfsError `TCFS_CORRUPT` */
export async function readIsAnchored(options: DeviceBookOptions): Promise<boolean> {
  const own = await readIdentity(options);
  own?.seed.fill(0);
  return own?.isAnchored ?? false;
}

/** For a vault directory that an attach makes. */
export async function writeDevices({ disk, directory, sealer }: DeviceBookOptions, list: DeviceList): Promise<void> {
  await disk.replaceFile(join(directory, LIST_NAME), sealer.seal("devices", 0, formatDevices(list)));
}

/** What `device` and `devices` of a directory hold, sealed under the newest key epoch (FORMAT.md §8.8). */
export async function renewDeviceSeals(options: DeviceBookOptions): Promise<void> {
  const { disk, directory, sealer } = options;
  const names = { device: OWN_NAME, devices: LIST_NAME } as const;
  await inTurn(options, async () => {
    for (const kind of ["device", "devices"] as const) {
      const name = names[kind];
      const content = await disk.readFile(join(directory, name));
      if (content === undefined || epochOfObject(content) === sealer.keyEpoch) continue;
      const plain = unsealOwn(sealer, kind, name, content);
      await disk.replaceFile(join(directory, name), sealer.seal(kind, 0, plain));
      plain.fill(0);
    }
  });
}

interface Seeded {
  readonly id: Uint8Array;
  readonly seed: Uint8Array;
  /** Of its attestation key; empty where it has none. */
  readonly blob: Uint8Array;
  readonly isAnchored: boolean;
}

async function writeIdentity({ disk, directory, sealer }: DeviceBookOptions, own: Seeded): Promise<void> {
  const lengthBytes = Uint8Array.of(own.blob.length & 0xff, own.blob.length >> 8);
  const content = Buffer.concat([
    own.id,
    own.seed,
    lengthBytes,
    own.blob,
    Uint8Array.of(own.isAnchored ? ANCHORED : 0),
  ]);
  await disk.replaceFile(join(directory, OWN_NAME), sealer.seal("device", 0, content));
  content.fill(0);
}

async function readIdentity({ disk, directory, sealer }: DeviceBookOptions): Promise<Seeded | undefined> {
  const content = await disk.readFile(join(directory, OWN_NAME));
  if (content === undefined) return undefined;
  const plain = unsealOwn(sealer, "device", OWN_NAME, content);
  const reader = new ByteReader(plain, "the device's key");
  const [id, seed] = [reader.bytes(DEVICE_ID_BYTES), reader.bytes(SEED_BYTES)];
  const lengthBytes = reader.u16();
  if (lengthBytes > MAX_BLOB_BYTES) throw reader.fail("an attestation key too long to be one");
  const own = { id, seed, blob: reader.bytes(lengthBytes), isAnchored: readFlags(reader) };
  reader.end();
  plain.fill(0);
  return own;
}

/** @param own - Its seed is wiped. */
function takeIdentity({ id, seed }: Seeded): DeviceIdentity {
  const key = new SigningKey(seed);
  seed.fill(0);
  return { id, key };
}

function makeIdentity({ random, id }: NewIdentity, list: DeviceList): Seeded {
  const isTaken = findDevice(list, id) !== undefined;
  return {
    id: isTaken ? random.bytes(DEVICE_ID_BYTES) : id,
    seed: random.bytes(SEED_BYTES),
    blob: new Uint8Array(0),
    isAnchored: false,
  };
}

function readFlags(reader: ByteReader): boolean {
  const flags = reader.u8();
  if (flags > ANCHORED) throw reader.fail("an unknown flag");
  return flags === ANCHORED;
}

function unsealOwn(sealer: ObjectSealer, kind: "device" | "devices", name: string, content: Uint8Array): Uint8Array {
  try {
    return sealer.unseal(kind, 0, content);
  } catch (cause) {
    if (isTcfsError(cause, "TCFS_UNKNOWN_FORMAT")) {
      const message = `${name} in the vault directory is of another key epoch: the key was rotated meanwhile; try again`;
      throw new TcfsError("TCFS_UNKNOWN_FORMAT", message, { cause });
    }
    if (!isTcfsError(cause, "TCFS_CORRUPT")) throw cause;
    const advice = "remove it, and tcfs makes another";
    throw new TcfsError("TCFS_CORRUPT", `${name} in the vault directory is damaged or another vault's: ${advice}`, {
      cause,
    });
  }
}
