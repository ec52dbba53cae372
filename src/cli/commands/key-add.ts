/** `tcfs key add`: one more way to open the vault, beside those there are. */
import { resolve } from "node:path";
import { rm } from "node:fs/promises";
import { TcfsError } from "../../errors.ts";
import type { SecretKey } from "../../crypto/secret-key.ts";
import type { VaultHeader } from "../../keys/header.ts";
import { joinBytes } from "../../keys/hybrid.ts";
import { calibrateKdfCost } from "../../keys/kdf.ts";
import { HYBRID_SEED_BYTES, formatKeyFile } from "../../keys/key-file.ts";
import { addHybrid, addPassphrase, addSlot } from "../../keys/keyring.ts";
import { formatRecoveryWords } from "../../keys/recovery-words.ts";
import { writeSecretFile } from "../../keys/secret-file.ts";
import { systemClock } from "../../platform/clock.ts";
import { systemRandom } from "../../platform/random.ts";
import { describeSlot } from "../access/describe-slot.ts";
import { mayHaveLastSlot, rewriteHeader } from "../../vault/rewrite-header.ts";
import { newPassphrase } from "../access/secrets.ts";
import type { Settings } from "../settings.ts";
import { secretSource, unlockVault, vaultDirectory } from "../access/vault-access.ts";
import type { VaultArguments } from "../access/vault-access.ts";
import { newTpmSlot, tell } from "../access/tpm-slots.ts";
import { formatWordTable } from "../word-table.ts";

export interface KeyAddArguments extends VaultArguments {
  readonly passphrase?: boolean | undefined;
  readonly newPassphraseFile?: string | undefined;
  readonly newKeyFile?: string | undefined;
  readonly hybrid?: boolean | undefined;
  readonly words?: boolean | undefined;
  readonly newRecoveryFile?: string | undefined;
  readonly tpm?: boolean | undefined;
  readonly pin?: boolean | undefined;
  readonly newPinFile?: string | undefined;
  readonly pcrs?: string | undefined;
}

const SECRET_BYTES = 32;
const MACHINE = { random: systemRandom, clock: systemClock };

/** What a way of adding made, before it is in the vault. */
interface Addition {
  readonly header: VaultHeader;
  /** Told once the slot is there. */
  readonly note: string;
  /** A file that was written for it, taken away again if the vault cannot be written. */
  readonly file: string | undefined;
}

type Add = (header: VaultHeader, key: SecretKey) => Promise<Addition>;

export async function runKeyAdd(parameters: KeyAddArguments, settings: Settings): Promise<void> {
  const add = chooseKind(parameters, settings);
  const directory = await vaultDirectory(parameters, settings);
  const { header, key } = await unlockVault(directory, secretSource(parameters), settings);
  try {
    const { header: after, note, file } = await add(header, key);
    try {
      tell(await rewriteHeader(directory, header, after));
    } catch (error) {
      if (file !== undefined && !(await mayHaveLastSlot(directory, after))) await rm(file, { force: true });
      throw error;
    }
    const slot = after.slots.at(-1);
    if (slot !== undefined) process.stdout.write(`The ${describeSlot(slot)} is added.\n${note}`);
  } finally {
    key.wipe();
  }
}

function chooseKind(parameters: KeyAddArguments, settings: Settings): Add {
  const { newPassphraseFile, newKeyFile, newRecoveryFile } = parameters;
  const chosen: Add[] = [];
  if (parameters.hybrid === true) {
    if (newKeyFile === undefined || parameters.passphrase === true)
      throw new TcfsError("TCFS_USAGE", "--hybrid goes with --new-key-file FILE, and asks for the passphrase");
    return alone(parameters, (header, key) => hybridAddition(header, key, resolve(newKeyFile), parameters, settings));
  }
  if (parameters.passphrase === true || newPassphraseFile !== undefined)
    chosen.push((header, key) => passphraseAddition(header, key, parameters, settings));
  if (newKeyFile !== undefined) chosen.push((header, key) => keyFileAddition(header, key, resolve(newKeyFile)));
  if (parameters.words === true || newRecoveryFile !== undefined)
    chosen.push((header, key) => wordsAddition(header, key, newRecoveryFile));
  if (parameters.tpm === true) chosen.push((header, key) => tpmAddition(header, key, parameters, settings));
  else if (parameters.pin === true || (parameters.newPinFile ?? parameters.pcrs) !== undefined)
    throw new TcfsError("TCFS_USAGE", "--pin, --new-pin-file and --pcrs go with --tpm");
  const [add] = chosen;
  if (add !== undefined && chosen.length === 1) return add;
  const kinds =
    "--passphrase, --new-passphrase-file FILE, --new-key-file FILE, --words, --new-recovery-file FILE, --tpm";
  throw new TcfsError("TCFS_USAGE", `say what to add, one thing at a time: ${kinds}`);
}

/** @throws TcfsError `TCFS_USAGE` if something else is to be added, too. */
function alone({ words, newRecoveryFile, tpm }: KeyAddArguments, add: Add): Add {
  if (words !== true && newRecoveryFile === undefined && tpm !== true) return add;
  throw new TcfsError("TCFS_USAGE", "say what to add, one thing at a time");
}

async function hybridAddition(
  header: VaultHeader,
  key: SecretKey,
  path: string,
  parameters: KeyAddArguments,
  settings: Settings,
): Promise<Addition> {
  const { newPassphraseFile } = parameters;
  const passphrase = await newPassphrase(newPassphraseFile, settings, "--new-passphrase-file FILE", parameters);
  const seed = systemRandom.bytes(HYBRID_SEED_BYTES);
  const content = formatKeyFile(seed, "hybrid");
  const both = joinBytes(content, passphrase);
  try {
    const kdf = await calibrateKdfCost(systemClock);
    const after = await addHybrid(header, key, both, { ...MACHINE, kdf });
    await writeSecretFile(path, content);
    return { header: after, note: hybridNote(header, path), file: path };
  } finally {
    for (const secret of [passphrase, seed, content, both]) secret.fill(0);
  }
}

/** A vault is as strong as the weakest of its slots. */
function hybridNote({ slots }: VaultHeader, path: string): string {
  const weaker = slots.filter(({ kind }) => kind === "passphrase").map(describeSlot);
  const note = `Its key is in ${path}: the vault opens with that file and the passphrase together (--key-file).\n`;
  if (weaker.length === 0) return note;
  return `${note}It still opens with a passphrase alone, too: ${weaker.join(", ")}. tcfs key remove takes that away.\n`;
}

async function passphraseAddition(
  header: VaultHeader,
  key: SecretKey,
  parameters: KeyAddArguments,
  settings: Settings,
): Promise<Addition> {
  const { newPassphraseFile } = parameters;
  const passphrase = await newPassphrase(newPassphraseFile, settings, "--new-passphrase-file FILE", parameters);
  try {
    const kdf = await calibrateKdfCost(systemClock);
    return { header: await addPassphrase(header, key, passphrase, { ...MACHINE, kdf }), note: "", file: undefined };
  } finally {
    passphrase.fill(0);
  }
}

async function keyFileAddition(header: VaultHeader, key: SecretKey, path: string): Promise<Addition> {
  const material = systemRandom.bytes(SECRET_BYTES);
  const content = formatKeyFile(material);
  try {
    const after = await addSlot(header, key, { kind: { kind: "key-file" }, material }, MACHINE);
    await writeSecretFile(path, content);
    return { header: after, note: `Its key is in ${path}: whoever has that file can open the vault.\n`, file: path };
  } finally {
    material.fill(0);
    content.fill(0);
  }
}

async function tpmAddition(
  header: VaultHeader,
  key: SecretKey,
  parameters: KeyAddArguments,
  settings: Settings,
): Promise<Addition> {
  const { newPinFile: pinFile, pcrs } = parameters;
  const request = { pcrs, hasPin: parameters.pin === true, pinFile };
  const slot = await newTpmSlot(request, secretSource(parameters), settings);
  try {
    return { header: await addSlot(header, key, slot, MACHINE), note: "", file: undefined };
  } finally {
    slot.material.fill(0);
  }
}

async function wordsAddition(header: VaultHeader, key: SecretKey, file: string | undefined): Promise<Addition> {
  const material = systemRandom.bytes(SECRET_BYTES);
  const after = await addSlot(header, key, { kind: { kind: "recovery-words" }, material }, MACHINE);
  const words = formatRecoveryWords(material);
  material.fill(0);
  if (file === undefined) {
    const note = `\nThese 24 words open the vault. They are shown once: write them down.\n\n${formatWordTable(words)}\n`;
    return { header: after, note, file: undefined };
  }
  const path = resolve(file);
  await writeSecretFile(path, `${words}\n`);
  return { header: after, note: `Its 24 words are in ${path}: keep them somewhere else.\n`, file: path };
}
