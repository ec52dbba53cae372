/**
 * Secrets sealed in a TPM 2.0 (FORMAT.md §8.7): 32 random bytes that it gives back only while its PCRs are as they were, and,
 * with a PIN, to who knows that. Nothing stays in the TPM but the storage key that systemd uses as well.
 */
import { hkdfSync } from "node:crypto";
import { TcfsError, isTcfsError } from "../../errors.ts";
import type { RandomSource } from "../../platform/random.ts";
import { deriveKek, FLOOR_KDF_COST } from "../kdf.ts";
import { normalizePassphrase } from "../normalize.ts";
import type { TpmPin, TpmSealing, TpmSlotKind } from "../slot-format.ts";
import { PCR_BANK_BYTES, changedPcrs, formatPcrSelection } from "./pcr-selection.ts";
import type { PcrSelection } from "./pcr-selection.ts";
import { pinTries } from "./dictionary-attack.ts";
import { TpmTools } from "./tpm-tools.ts";
import type { TpmOptions } from "./tpm-tools.ts";

/** TCG's handle for the storage root key; systemd's template for it, on the curve that every TPM 2.0 has. */
const STORAGE_KEY = "0x81000001";
const STORAGE_KEY_TYPE = ["-G", "ecc256:aes128cfb"];
const STORAGE_KEY_ATTRIBUTES = "restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda";

/** No `userwithauth`: only the policy opens it. Its wrong use is no guess, so it does not count as one. */
const SEALED_ATTRIBUTES = "fixedtpm|fixedparent|noda";
/** No `noda`: a wrong PIN counts, and too many lock the TPM for a while. */
const PIN_ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign";

const SECRET_BYTES = 32;
const SALT_BYTES = 16;
const MIN_PIN_BYTES = 4;

export interface TpmRequest {
  readonly selection: PcrSelection;
  /** As typed; lent. */
  readonly pin: Uint8Array | undefined;
}

export interface TpmSecret {
  readonly kind: TpmSlotKind;
  /** What the slot's KEK is derived from; the caller wipes it. */
  readonly material: Uint8Array;
}

/**
 * Seal a fresh secret to the TPM's present state.
 * @throws TcfsError `TCFS_NO_TPM`, `TCFS_TPM`; `TCFS_USAGE` if the PIN is too short or the TPM lacks the bank.
 */
export function sealInTpm(options: TpmOptions, request: TpmRequest, random: RandomSource): Promise<TpmSecret> {
  return TpmTools.use(options, (tpm) => seal(tpm, request, random));
}

/**
 * Ask the TPM for a slot's secret.
 * @param pin - As typed; lent. For the kind with a PIN.
 * @returns The material of the slot; the caller wipes it.
 * @throws TcfsError `TCFS_TPM_CHANGED`, `TCFS_TPM_FOREIGN`, `TCFS_TPM_LOCKED`, `TCFS_WRONG_KEY` (the PIN), `TCFS_NO_TPM`,
 *   `TCFS_TPM`: each says what to do.
 */
export function unsealFromTpm(options: TpmOptions, slot: TpmSlotKind, pin?: Uint8Array): Promise<Uint8Array> {
  return TpmTools.use(options, async (tpm) => {
    await checkTpm(tpm, slot.tpm);
    return unseal(tpm, slot, pin);
  });
}

/** What can be told of a TPM slot without opening it. @throws TcfsError as {@link unsealFromTpm} before it needs a PIN. */
export function checkTpmSlot(options: TpmOptions, slot: TpmSlotKind): Promise<void> {
  return TpmTools.use(options, (tpm) => checkTpm(tpm, slot.tpm));
}

/**
 * Seal a fresh secret in the place of a slot's, to the present state of the PCRs that it names, with its PIN if it has one.
 * @throws TcfsError `TCFS_TPM_FOREIGN` if the slot is another TPM's; `TCFS_WRONG_KEY` if the PIN is not the slot's.
 */
export function resealInTpm(
  options: TpmOptions,
  slot: TpmSlotKind,
  pin: Uint8Array | undefined,
  random: RandomSource,
): Promise<TpmSecret> {
  return TpmTools.use(options, async (tpm) => {
    await checkStorageKey(tpm, slot.tpm);
    if (slot.kind === "tpm2-pin") {
      const keys = await derivePin(requirePin(pin), slot.pin);
      await tpm.openSession("check.session", "trial");
      await presentPin(tpm, slot.pin, keys.auth, "check.session").finally(() => wipe(keys));
      await tpm.closeSession("check.session");
    }
    return seal(tpm, { selection: slot.tpm, pin: slot.kind === "tpm2-pin" ? pin : undefined }, random);
  });
}

async function seal(tpm: TpmTools, { selection, pin }: TpmRequest, random: RandomSource): Promise<TpmSecret> {
  const parentName = await ensureStorageKey(tpm);
  const pcrDigests = await readPcrs(tpm, selection);
  await tpm.openSession("carrier.session", "hmac", STORAGE_KEY);
  await tpm.openSession("policy.session", "trial");
  const pcrWords = ["-l", formatPcrSelection(selection), "-f", "pcrs", "-L", "policy"];
  await tpm.run("policypcr", ["-Q", "-S", "policy.session", ...pcrWords]);
  const made = pin === undefined ? undefined : await makePin(tpm, pin, random);
  const secret = random.bytes(SECRET_BYTES);
  try {
    if (made !== undefined) await presentPin(tpm, made.pin, made.keys.auth, "policy.session");
    await tpm.closeSession("policy.session");
    const files = ["-u", "sealed.pub", "-r", "sealed.priv"];
    const words = ["-Q", "-C", STORAGE_KEY, "-P", "session:carrier.session", "-a", SEALED_ATTRIBUTES, "-L", "policy"];
    await tpm.run("create", [...words, "-i", "-", ...files], secret);
    const { pcrBank, pcrs } = selection;
    const blobs = { public: await tpm.read("sealed.pub"), private: await tpm.read("sealed.priv") };
    const sealing: TpmSealing = { pcrBank, pcrs, pcrDigests, parentName, ...blobs };
    if (made === undefined) return { kind: { kind: "tpm2", tpm: sealing }, material: secret.slice() };
    const kind = { kind: "tpm2-pin", tpm: sealing, pin: made.pin } as const;
    return { kind, material: join(secret, made.keys.share) };
  } finally {
    secret.fill(0);
    if (made !== undefined) wipe(made.keys);
  }
}

async function unseal(tpm: TpmTools, slot: TpmSlotKind, pin: Uint8Array | undefined): Promise<Uint8Array> {
  const keys = slot.kind === "tpm2" ? undefined : await derivePin(requirePin(pin), slot.pin);
  try {
    await tpm.openSession("policy.session", "policy", STORAGE_KEY);
    await tpm.run("policypcr", ["-Q", "-S", "policy.session", "-l", formatPcrSelection(slot.tpm)]);
    if (slot.kind === "tpm2-pin" && keys !== undefined) await presentPin(tpm, slot.pin, keys.auth, "policy.session");
    await tpm.write("sealed.pub", slot.tpm.public);
    await tpm.write("sealed.priv", slot.tpm.private);
    await load(tpm, "sealed");
    const secret = await tpm.runAndFlush("unseal", ["-Q", "-c", "sealed.ctx", "-p", "session:policy.session"]);
    try {
      return keys === undefined ? secret.slice() : join(secret, keys.share);
    } finally {
      secret.fill(0);
    }
  } finally {
    if (keys !== undefined) wipe(keys);
  }
}

/** The storage key and the PCRs, before anything that could fail less clearly, and before anybody is asked for a PIN. */
async function checkTpm(tpm: TpmTools, sealing: TpmSealing): Promise<void> {
  await checkStorageKey(tpm, sealing);
  const changed = changedPcrs(sealing, sealing.pcrDigests, await readPcrs(tpm, sealing));
  if (changed === undefined) return;
  const what = "firmware, secure boot or what is started has changed since it was sealed";
  const advice = "if that was you, unlock another way and run tcfs key reseal";
  throw new TcfsError("TCFS_TPM_CHANGED", `PCR ${changed} is not what it was: ${what}; ${advice}`);
}

async function checkStorageKey(tpm: TpmTools, sealing: TpmSealing): Promise<void> {
  const name = await storageKeyName(tpm);
  if (name !== undefined && Buffer.from(name).equals(sealing.parentName)) return;
  const why = name === undefined ? "it was cleared" : "it was cleared, or it is another machine's";
  const advice = "use another slot, then tcfs key add --tpm and tcfs key remove";
  throw new TcfsError("TCFS_TPM_FOREIGN", `this TPM is not the one that the slot was made with: ${why}; ${advice}`);
}

/** @returns Its name: a hash of what it is, which no other TPM's key has. Undefined if there is none. */
async function storageKeyName(tpm: TpmTools): Promise<Uint8Array | undefined> {
  try {
    await tpm.run("readpublic", ["-Q", "-c", STORAGE_KEY, "-n", "parent.name"]);
    return await tpm.read("parent.name");
  } catch (error) {
    if (isTcfsError(error, "TCFS_TPM_FOREIGN")) return undefined;
    throw error;
  }
}

async function ensureStorageKey(tpm: TpmTools): Promise<Uint8Array> {
  const name = await storageKeyName(tpm);
  if (name !== undefined) return name;
  const words = ["-Q", "-C", "o", ...STORAGE_KEY_TYPE, "-a", STORAGE_KEY_ATTRIBUTES, "-c", "parent.ctx"];
  await tpm.runAndFlush("createprimary", words);
  await tpm.runAndFlush("evictcontrol", ["-Q", "-C", "o", "-c", "parent.ctx", STORAGE_KEY]);
  const made = await storageKeyName(tpm);
  if (made === undefined) throw new TcfsError("TCFS_TPM", "the TPM does not keep a storage key");
  return made;
}

/** @returns One digest for each PCR, in order; the scratch file `pcrs` has them too. */
async function readPcrs(tpm: TpmTools, selection: PcrSelection): Promise<Uint8Array[]> {
  const lengthBytes = PCR_BANK_BYTES[selection.pcrBank];
  await tpm.run("pcrread", ["-Q", formatPcrSelection(selection), "-o", "pcrs"]);
  const all = await tpm.read("pcrs");
  if (all.length !== lengthBytes * selection.pcrs.length)
    throw new TcfsError("TCFS_USAGE", `the TPM does not have the PCRs ${formatPcrSelection(selection)}`);
  return selection.pcrs.map((_pcr, at) => all.slice(at * lengthBytes, (at + 1) * lengthBytes));
}

async function load(tpm: TpmTools, name: string): Promise<void> {
  const files = ["-u", `${name}.pub`, "-r", `${name}.priv`, "-c", `${name}.ctx`];
  await tpm.runAndFlush("load", ["-Q", "-C", STORAGE_KEY, ...files]);
}

interface PinKeys {
  /** What the TPM asks for. */
  readonly auth: Uint8Array;
  /** What goes into the KEK besides the TPM's secret: a TPM that is broken open does not have it. */
  readonly share: Uint8Array;
}

async function makePin(
  tpm: TpmTools,
  pin: Uint8Array,
  random: RandomSource,
): Promise<{ readonly pin: TpmPin; readonly keys: PinKeys }> {
  const salt = random.bytes(SALT_BYTES);
  const keys = await derivePin(pin, { salt, kdf: FLOOR_KDF_COST });
  const words = ["-Q", "-C", STORAGE_KEY, "-P", "session:carrier.session", "-G", "hmac:sha256", "-a", PIN_ATTRIBUTES];
  await tpm.run("create", [...words, "-p", "file:-", "-u", "pin.pub", "-r", "pin.priv"], hexWord(keys.auth));
  const blobs = { public: await tpm.read("pin.pub"), private: await tpm.read("pin.priv") };
  return { pin: { kdf: FLOOR_KDF_COST, salt, ...blobs }, keys };
}

/**
 * Show the TPM that we know the PIN, in a session whose policy then goes on from there. The tool does it by an HMAC: what
 * is derived from the PIN stays here.
 */
async function presentPin(tpm: TpmTools, pin: TpmPin, auth: Uint8Array, session: string): Promise<void> {
  await tpm.write("pin.pub", pin.public);
  await tpm.write("pin.priv", pin.private);
  await load(tpm, "pin");
  try {
    const words = ["-Q", "-S", session, "-c", "pin.ctx", "-L", "policy", "file:-"];
    await tpm.runAndFlush("policysecret", words, hexWord(auth));
  } catch (error) {
    if (!isTcfsError(error, "TCFS_WRONG_KEY") && !isTcfsError(error, "TCFS_TPM_LOCKED")) throw error;
    throw new TcfsError(error.code, `${error.message}; ${await pinTries(tpm)}`, { cause: error });
  }
}

async function derivePin(pin: Uint8Array, { salt, kdf }: Pick<TpmPin, "salt" | "kdf">): Promise<PinKeys> {
  const normalized = normalizePassphrase(pin);
  const key = await deriveKek(normalized, salt, kdf).finally(() => normalized.fill(0));
  const expand = (label: string): Uint8Array => new Uint8Array(hkdfSync("sha256", key, salt, label, 32));
  const keys = { auth: expand("tcfs v1 tpm2 pin auth"), share: expand("tcfs v1 tpm2 pin share") };
  key.fill(0);
  return keys;
}

function requirePin(pin: Uint8Array | undefined): Uint8Array {
  if (pin === undefined) throw new TcfsError("TCFS_USAGE", "the key slot needs its PIN");
  return pin;
}

/** @throws TcfsError `TCFS_USAGE`: so few possibilities would be tried in a day, whatever the TPM's lockout. */
export function checkNewPin(pin: Uint8Array): void {
  if (pin.length < MIN_PIN_BYTES)
    throw new TcfsError("TCFS_USAGE", `the PIN is too short: it must have at least ${MIN_PIN_BYTES} characters`);
}

/** `hex:…` in bytes, as the tools read an authorization: a secret never becomes a string, and none is taken for another form. */
function hexWord(bytes: Uint8Array): Uint8Array {
  const digits = Buffer.from("0123456789abcdef", "latin1");
  const word = new Uint8Array(4 + bytes.length * 2);
  word.set(Buffer.from("hex:", "latin1"));
  bytes.forEach((byte, at) => {
    word[4 + at * 2] = digits[byte >> 4] ?? 0;
    word[5 + at * 2] = digits[byte & 15] ?? 0;
  });
  return word;
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

function wipe({ auth, share }: PinKeys): void {
  auth.fill(0);
  share.fill(0);
}
