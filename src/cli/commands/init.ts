/** `tcfs init`: a new vault. The header is written last, so that what has one is whole. */
import { chmod, rm } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { toHex } from "../../bytes.ts";
import { DEFAULT_CHUNKING } from "../../crypto/engine.ts";
import { printable } from "../printable.ts";
import { TcfsError } from "../../errors.ts";
import { RELATIVE_ACCESS_TIMES } from "../../fs/access-times.ts";
import { hasHeader, hasHeaderCopy, noVault, writeNewHeader } from "../../keys/header-file.ts";
import { calibrateKdfCost } from "../../keys/kdf.ts";
import { addSlot, createHeader } from "../../keys/keyring.ts";
import type { NewSlot, NewVault } from "../../keys/keyring.ts";
import { writeSecretFile } from "../../keys/secret-file.ts";
import { systemClock } from "../../platform/clock.ts";
import type { Disk } from "../../platform/disk.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import { systemRandom } from "../../platform/random.ts";
import { noteCacheSize, parseCacheSize } from "../cache-size.ts";
import { openDeviceBook, withSealer } from "../../vault/device-setup.ts";
import { OpenVault } from "../../vault/open-vault.ts";
import { newPassphrase } from "../access/secrets.ts";
import type { Settings } from "../settings.ts";
import { SILENT_LOGGER } from "../../vault/silent-logger.ts";
import { newTpmSlot } from "../access/tpm-slots.ts";
import { secretSource, vaultDirectory } from "../access/vault-access.ts";
import type { VaultArguments } from "../access/vault-access.ts";
import { formatWordTable } from "../word-table.ts";

export interface InitArguments extends VaultArguments {
  readonly json?: boolean | undefined;
  readonly tpm?: boolean | undefined;
  readonly pin?: boolean | undefined;
  readonly pcrs?: string | undefined;
  /** URL of a store that it is uploaded to. */
  readonly store?: string | undefined;
  readonly cacheSize?: string | undefined;
}

export async function runInit(parameters: InitArguments, settings: Settings): Promise<void> {
  const { store: url, cacheSize } = parameters;
  if (url === undefined) {
    if (cacheSize !== undefined) throw new TcfsError("TCFS_USAGE", "--cache-size goes with --store");
    (await createVault(parameters, settings)).key.wipe();
    return;
  }
  const cacheBytes = cacheSize === undefined ? undefined : parseCacheSize(cacheSize);
  const { keepCredentials, openNamedStore, requireEmptyStore, setStore } = await import("../access/store-setup.ts");
  const store = await openNamedStore(url, settings, secretSource(parameters), { create: true });
  try {
    await requireEmptyStore(store); // before there is a vault
    const { header, key } = await createVault(parameters, settings);
    try {
      const directory = await vaultDirectory(parameters, settings);
      await setStore(store, { directory, header, key, url });
      await keepCredentials(directory, secretSource(parameters));
      await noteCacheSize(directory, cacheBytes);
    } finally {
      key.wipe();
    }
  } finally {
    await store.close();
  }
}

/**
 * Make a vault and tell its owner about it.
 * @returns The vault, unlocked.
 * @throws TcfsError `TCFS_VAULT_EXISTS`; `TCFS_USAGE` if the directory holds something else, or no passphrase is to be had.
 */
export async function createVault(parameters: InitArguments, settings: Settings): Promise<NewVault> {
  const directory = await vaultDirectory(parameters, settings);
  const disk = new NodeDisk();
  await refuseOccupied(disk, directory);
  const tpm = await tpmSlot(parameters, settings);
  const passphrase = await newPassphrase(parameters.passphraseFile, settings, "--passphrase-file FILE", parameters);
  let made: NewVault;
  try {
    const kdf = await calibrateKdfCost(systemClock);
    made = await createHeader(passphrase, DEFAULT_CHUNKING, { random: systemRandom, clock: systemClock, kdf });
  } finally {
    passphrase.fill(0);
  }
  if (tpm !== undefined) {
    const machine = { random: systemRandom, clock: systemClock };
    const header = await addSlot(made.header, made.key, tpm, machine).finally(() => {
      tpm.material.fill(0);
    });
    made = { ...made, header };
  }
  await makeDurable(disk, directory, made, parameters.recoveryFile);
  report(directory, made, parameters);
  return made;
}

/** First of all: a machine without a TPM is found out before there is a vault. */
async function tpmSlot(parameters: InitArguments, settings: Settings): Promise<NewSlot | undefined> {
  const { pin, pinFile, pcrs } = parameters;
  if (parameters.tpm === true)
    return newTpmSlot({ pcrs, hasPin: pin === true, pinFile }, secretSource(parameters), settings);
  if (pin === true || (pinFile ?? pcrs) !== undefined)
    throw new TcfsError("TCFS_USAGE", "--pin, --pin-file and --pcrs go with --tpm");
  return undefined;
}

/** @throws TcfsError `TCFS_VAULT_EXISTS`; `TCFS_USAGE`, `TCFS_NO_VAULT` if a vault cannot be made in the directory. */
export async function refuseOccupied(disk: Disk, directory: string): Promise<void> {
  if (await hasHeader(disk, directory))
    throw new TcfsError("TCFS_VAULT_EXISTS", `there is a vault in ${directory} already`);
  if (await hasHeaderCopy(disk, directory)) throw await noVault(disk, directory);
  if ((await disk.list(directory)).length > 0) {
    throw new TcfsError(
      "TCFS_USAGE",
      `${directory} is not empty and holds no vault (an init or attach that was cut short may have left it; attach goes on there): choose another directory`,
    );
  }
}

/** Recovery words first: a vault without them must not come to be. Then data, and the header last. */
async function makeDurable(disk: Disk, directory: string, made: NewVault, recoveryFile?: string): Promise<void> {
  const { header, key, recoveryWords } = made;
  if (recoveryFile !== undefined) await writeSecretFile(resolve(recoveryFile), `${recoveryWords}\n`);
  try {
    await disk.makeDirectories(directory);
    await chmod(directory, 0o700).catch(() => undefined); // one that was there; some filesystems have no modes
    const vault = await OpenVault.open({
      directory,
      header,
      key,
      isReadOnly: false,
      isNew: true,
      accessTimes: RELATIVE_ACCESS_TIMES,
      snapshotsShown: "none",
      versionsShown: "none",
      logger: SILENT_LOGGER,
    });
    await vault.close();
    await withSealer(header, key, (sealer) => openDeviceBook({ disk, directory, sealer }, header.deviceId));
    await writeNewHeader(disk, directory, header);
    await disk.syncDirectory(dirname(directory));
  } catch (error) {
    if (recoveryFile !== undefined) await rm(recoveryFile, { force: true });
    throw error;
  }
}

function report(directory: string, made: NewVault, { json, recoveryFile }: InitArguments): void {
  const { header, recoveryWords } = made;
  if (json === true) {
    const words = recoveryFile === undefined ? recoveryWords : null;
    const file = recoveryFile === undefined ? null : resolve(recoveryFile);
    const result = { vault: directory, vaultId: toHex(header.vaultId), recoveryWords: words, recoveryFile: file };
    process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
    return;
  }
  process.stdout.write(`A new vault is in ${printable(directory)}.\n`);
  if (recoveryFile !== undefined) {
    process.stdout.write(
      `Its 24 recovery words are in ${printable(resolve(recoveryFile))}: keep them somewhere else.\n`,
    );
    return;
  }
  process.stdout.write(`
These 24 words open the vault if the passphrase is lost. They are shown once: write them down.

${formatWordTable(recoveryWords)}

`);
}
