/** The header's life: made, unlocked and authenticated, its slots added, replaced and removed (FORMAT.md §8). Does no I/O. */
import { createHmac, timingSafeEqual } from "node:crypto";
import { toHex } from "../bytes.ts";
import type { ChunkingParameters } from "../crypto/engine.ts";
import { FIRST_KEY_EPOCH } from "../crypto/epoch-keys.ts";
import { SecretKey } from "../crypto/secret-key.ts";
import { KEY_BYTES, deriveSubkeys, wipeSubkeys } from "../crypto/subkeys.ts";
import { TcfsError } from "../errors.ts";
import type { Clock } from "../platform/clock.ts";
import { preciseIsoTime } from "../platform/iso-time.ts";
import type { RandomSource } from "../platform/random.ts";
import { KEY_EPOCHS_FEATURE, READ_ONLY_COMPATIBLE_FEATURES, macInput } from "./header.ts";
import type { VaultHeader } from "./header.ts";
import { encapsulate, hybridMaterial } from "./hybrid.ts";
import { type KdfCost, costlier } from "./kdf.ts";
import { type Renewal, nextKeyring } from "./key-epochs.ts";
import { HYBRID_SEED_BYTES } from "./key-file.ts";
import { formatRecoveryWords } from "./recovery-words.ts";
import { MAX_SLOTS, SLOT_KIND_NAMES, checkKdfBounds, needsNoHardware } from "./slot-format.ts";
import type { KeySlot, SlotKind, SlotKindName } from "./slot-format.ts";
import { openSlot, sealSlot, secretMaterial } from "./slots.ts";
import type { Secret } from "./slots.ts";

/** What a new slot takes from the machine. */
export interface SlotOptions {
  readonly random: RandomSource;
  readonly clock: Clock;
}

export interface KeyringOptions extends SlotOptions {
  /** Cost of the new passphrase slot: see calibrateKdfCost. */
  readonly kdf: KdfCost;
}

export interface NewVault {
  readonly header: VaultHeader;
  /** The caller wipes it. */
  readonly key: SecretKey;
  /** 24 words, shown once and kept nowhere. */
  readonly recoveryWords: string;
}

/**
 * A header for a new vault: fresh ids, a fresh vault key, a passphrase slot and a recovery slot.
 * @param passphrase - Raw bytes as typed; lent until settled.
 * @throws TcfsError `TCFS_USAGE` if the passphrase is empty.
 */
export async function createHeader(
  passphrase: Uint8Array,
  chunking: ChunkingParameters,
  options: KeyringOptions,
): Promise<NewVault> {
  const { random } = options;
  const keyBytes = random.bytes(KEY_BYTES);
  const key = new SecretKey(keyBytes);
  keyBytes.fill(0);
  const vaultId = random.bytes(16);
  const createdAt = preciseIsoTime(options.clock.now());
  const entropy = random.bytes(32);
  const slots = [
    await withPassphrase(passphrase, options.kdf, (slot) => newSlot(vaultId, key, slot, options)),
    await newSlot(vaultId, key, { kind: { kind: "recovery-words" }, material: entropy }, options),
  ];
  const recoveryWords = formatRecoveryWords(entropy);
  entropy.fill(0);
  const header = authenticate(key, {
    incompatibleFeatures: [],
    readOnlyCompatibleFeatures: READ_ONLY_COMPATIBLE_FEATURES,
    vaultId,
    deviceId: random.bytes(16),
    createdAt,
    keyEpoch: FIRST_KEY_EPOCH,
    revision: 1,
    chunking,
    keyring: undefined,
    slots,
  });
  return { header, key, recoveryWords };
}

export interface OpenedHeader {
  /** The caller wipes it. */
  readonly key: SecretKey;
  /** The slot that took the secret. */
  readonly slot: KeySlot;
}

const TPM_MISMATCH =
  "the vault's header was tampered with: what the TPM unsealed does not open the key slot that it was sealed for";

const WRONG_SECRET: Readonly<Record<SlotKindName, string>> = {
  passphrase: "the passphrase is wrong",
  "recovery-words": "these are not this vault's recovery words",
  "key-file": "this is not a key file of this vault",
  hybrid: "the passphrase is wrong, or this is not the key file that goes with it",
  tpm2: TPM_MISMATCH,
  "tpm2-pin": TPM_MISMATCH,
};

/**
 * Open the header with a secret, and only then believe it.
 * @param secret - Lent until settled.
 * @throws TcfsError `TCFS_WRONG_KEY` if no slot takes the secret; `TCFS_BAD_HEADER` if the header was tampered with.
 */
export async function unlockHeader(header: VaultHeader, secret: Secret): Promise<OpenedHeader> {
  const material = secretMaterial(secret);
  try {
    for (const slot of header.slots) {
      if (!mayOpen(slot, secret)) continue;
      const key = await openSlot(slot, material, header.vaultId);
      if (key === undefined) continue;
      verifyHeader(header, key);
      return { key, slot };
    }
  } finally {
    material.fill(0);
  }
  // A TPM gives back what was sealed in it or nothing: if that does not open the slot, the slot is not what was made then.
  const isFromTpm = secret.kind === "tpm2" || secret.kind === "tpm2-pin";
  throw new TcfsError(isFromTpm ? "TCFS_BAD_HEADER" : "TCFS_WRONG_KEY", WRONG_SECRET[secret.kind]);
}

function mayOpen(slot: KeySlot, secret: Secret): boolean {
  if (slot.kind !== secret.kind) return false;
  return !("slotId" in secret) || toHex(secret.slotId) === toHex(slot.id);
}

/**
 * Check that the header is the one that was written under this key.
 * @throws TcfsError `TCFS_BAD_HEADER` otherwise; the key is wiped then.
 */
export function verifyHeader(header: VaultHeader, key: SecretKey): void {
  if (timingSafeEqual(headerMac(header, key), header.mac)) return;
  key.wipe();
  throw new TcfsError(
    "TCFS_BAD_HEADER",
    "the vault's header was tampered with: it does not verify under the vault key",
  );
}

/** What a new slot is made from. */
export interface NewSlot {
  readonly kind: SlotKind;
  /** As secretMaterial gives it. Lent until settled. */
  readonly material: Uint8Array;
}

/**
 * The header with one more slot.
 * @param key - From {@link unlockHeader} of this header.
 * @throws TcfsError `TCFS_USAGE` if there are as many as a header takes.
 */
export async function addSlot(
  header: VaultHeader,
  key: SecretKey,
  slot: NewSlot,
  options: SlotOptions,
): Promise<VaultHeader> {
  if (header.slots.length >= MAX_SLOTS)
    throw new TcfsError("TCFS_USAGE", `the vault has ${MAX_SLOTS} key slots, and no room for more: remove one first`);
  return withSlots(header, key, [...header.slots, await newSlot(header.vaultId, key, slot, options)]);
}

/** The header with another slot in the place of the one called `id`; the old secret opens it no longer. */
export async function replaceSlot(
  header: VaultHeader,
  key: SecretKey,
  id: Uint8Array,
  slot: NewSlot,
  options: SlotOptions,
): Promise<VaultHeader> {
  const fresh = await newSlot(header.vaultId, key, slot, options);
  const slots = header.slots.map((old) => (toHex(old.id) === toHex(id) ? fresh : old));
  return withSlots(header, key, slots);
}

/**
 * The header without a slot.
 * @throws TcfsError `TCFS_LAST_SLOT` if without it nothing but a TPM would open the vault.
 */
export function removeSlot(header: VaultHeader, key: SecretKey, id: Uint8Array): VaultHeader {
  const slots = header.slots.filter((slot) => toHex(slot.id) !== toHex(id));
  requireSlotWithoutHardware(slots);
  return withSlots(header, key, slots);
}

function requireSlotWithoutHardware(slots: readonly KeySlot[]): void {
  if (slots.some(needsNoHardware)) return;
  const message = "this is the last key slot that needs no hardware: without it a broken machine would take the vault";
  throw new TcfsError("TCFS_LAST_SLOT", `${message}. Add another first, with tcfs key add`);
}

/**
 * The slot whose id begins with `prefix`.
 * @throws TcfsError `TCFS_USAGE` if there is none, or more than one.
 */
export function findSlot(header: VaultHeader, prefix: string): KeySlot {
  const found = header.slots.filter(({ id }) => prefix !== "" && toHex(id).startsWith(prefix.toLowerCase()));
  const [slot] = found;
  if (slot !== undefined && found.length === 1) return slot;
  const what = found.length > 1 ? "more than one key slot's id begins" : "no key slot's id begins";
  throw new TcfsError("TCFS_USAGE", `${what} with “${prefix}”: tcfs key list shows them`);
}

/**
 * The header with another passphrase: in the place of the passphrase that unlocked it; of the only one there is, if
 * something else did; and besides what there is, if there was none.
 * @param unlocked - The slot that opened the header, and the key it gave.
 * @throws TcfsError `TCFS_USAGE` if the passphrase is empty, or it is not clear which one to replace.
 */
export async function changePassphrase(
  header: VaultHeader,
  { key, slot }: OpenedHeader,
  passphrase: Uint8Array,
  options: KeyringOptions,
): Promise<VaultHeader> {
  const passphrases = header.slots.filter(({ kind }) => kind === "passphrase");
  const [only] = passphrases;
  const replaced = slot.kind === "passphrase" ? slot : only;
  if (slot.kind !== "passphrase" && passphrases.length > 1) {
    const message = `the vault has ${passphrases.length} passphrases, and ${SLOT_KIND_NAMES[slot.kind]} do not say which to replace`;
    throw new TcfsError("TCFS_USAGE", `${message}: use tcfs key add and tcfs key remove`);
  }
  // A busy or smaller machine must not make the passphrase cheaper to guess than it was.
  const kdf = replaced?.kind === "passphrase" ? costlier(replaced.kdf, options.kdf) : options.kdf;
  return withPassphrase(passphrase, kdf, (fresh) =>
    replaced === undefined
      ? addSlot(header, key, fresh, options)
      : replaceSlot(header, key, replaced.id, fresh, options),
  );
}

/** The header with one more passphrase. @throws as {@link addSlot}; `TCFS_USAGE` if it is empty. */
export function addPassphrase(
  header: VaultHeader,
  key: SecretKey,
  passphrase: Uint8Array,
  options: KeyringOptions,
): Promise<VaultHeader> {
  return withPassphrase(passphrase, options.kdf, (fresh) => addSlot(header, key, fresh, options));
}

/**
 * The header with a slot that takes a passphrase and a key file together.
 * @param secret - The new key file's bytes, and the passphrase after them. Lent until settled.
 * @throws as {@link addSlot}; `TCFS_USAGE` if the passphrase is empty.
 */
export async function addHybrid(
  header: VaultHeader,
  key: SecretKey,
  secret: Uint8Array,
  options: KeyringOptions,
): Promise<VaultHeader> {
  const material = hybridMaterial(secret);
  try {
    const seed = material.subarray(0, HYBRID_SEED_BYTES);
    if (seed.length === material.length) throw new TcfsError("TCFS_USAGE", "the passphrase is empty");
    const kem = await encapsulate(seed, options.random);
    return await addSlot(header, key, { kind: { kind: "hybrid", kdf: options.kdf, kem }, material }, options);
  } finally {
    material.fill(0);
  }
}

/**
 * The header of a vault that is about to be written by this version: it names every feature that may then be in it.
 * @param key - From {@link unlockHeader} of this header.
 * @returns `header` itself where it names them already.
 */
export function nameFeatures(header: VaultHeader, key: SecretKey): VaultHeader {
  const missing = READ_ONLY_COMPATIBLE_FEATURES.filter((name) => !header.readOnlyCompatibleFeatures.includes(name));
  if (missing.length === 0) return header;
  const readOnlyCompatibleFeatures = [...header.readOnlyCompatibleFeatures, ...missing];
  return authenticate(key, { ...header, revision: header.revision + 1, readOnlyCompatibleFeatures });
}

/** A header of the next key epoch, and its key. */
export interface RotatedHeader {
  readonly header: VaultHeader;
  /** The caller wipes it. */
  readonly key: SecretKey;
}

/**
 * Begin a key epoch: a fresh vault key, which only these slots wrap; nothing that opened the header before does any more.
 * @param key - From {@link unlockHeader} of this header.
 * @throws TcfsError `TCFS_BUSY` if the epoch before has not ended yet; `TCFS_LAST_SLOT` if all slots need hardware;
 *   `TCFS_USAGE` if there are more than a header takes; `TCFS_KDF_BOUNDS`.
 */
export async function rotateHeader(
  header: VaultHeader,
  key: SecretKey,
  { slots, renewal }: { readonly slots: readonly NewSlot[]; readonly renewal: Renewal },
  options: SlotOptions,
): Promise<RotatedHeader> {
  if (slots.length > MAX_SLOTS) throw new TcfsError("TCFS_USAGE", `a vault has at most ${MAX_SLOTS} key slots`);
  const bytes = options.random.bytes(KEY_BYTES);
  const nextKey = new SecretKey(bytes);
  bytes.fill(0);
  const keyring = nextKeyring(header, key, nextKey, renewal, options.random);
  const sealed: KeySlot[] = [];
  for (const slot of slots) sealed.push(await newSlot(header.vaultId, nextKey, slot, options));
  requireSlotWithoutHardware(sealed);
  const { keyEpoch, incompatibleFeatures: features } = header;
  const incompatibleFeatures = features.includes(KEY_EPOCHS_FEATURE) ? features : [...features, KEY_EPOCHS_FEATURE];
  const body = { ...header, incompatibleFeatures, keyEpoch: keyEpoch + 1, keyring };
  return { header: withSlots(body, nextKey, sealed), key: nextKey };
}

/** As {@link verifyHeader}, with the subkey `header` instead of the vault key. */
export function isAuthentic(header: VaultHeader, macKey: Uint8Array): boolean {
  return timingSafeEqual(macUnder(macKey, header), header.mac);
}

/** The header once nothing is under an older epoch any more: it no longer keeps that epoch's key. */
export function endRotation(header: VaultHeader, macKey: Uint8Array): VaultHeader {
  if (header.keyring === undefined) throw new RangeError("this vault was never rotated");
  const keyring = { ...header.keyring, older: [] };
  const body = { ...header, revision: header.revision + 1, keyring };
  return { ...body, mac: macUnder(macKey, body) };
}

async function withPassphrase<T>(passphrase: Uint8Array, kdf: KdfCost, use: (slot: NewSlot) => Promise<T>): Promise<T> {
  if (passphrase.length === 0) throw new TcfsError("TCFS_USAGE", "the passphrase is empty");
  const material = secretMaterial({ kind: "passphrase", bytes: passphrase });
  try {
    return await use({ kind: { kind: "passphrase", kdf }, material });
  } finally {
    material.fill(0);
  }
}

function newSlot(vaultId: Uint8Array, key: SecretKey, slot: NewSlot, options: SlotOptions): Promise<KeySlot> {
  const context = { vaultId, random: options.random, createdAt: preciseIsoTime(options.clock.now()) };
  return sealSlot(key, slot.kind, slot.material, context);
}

/** @throws TcfsError `TCFS_KDF_BOUNDS` if no reader would open it. */
function withSlots(header: VaultHeader, key: SecretKey, slots: readonly KeySlot[]): VaultHeader {
  checkKdfBounds(slots);
  return authenticate(key, { ...header, revision: header.revision + 1, slots });
}

function authenticate(key: SecretKey, body: Omit<VaultHeader, "mac">): VaultHeader {
  return { ...body, mac: headerMac(body, key) };
}

function headerMac(header: Omit<VaultHeader, "mac">, key: SecretKey): Uint8Array {
  const subkeys = deriveSubkeys(key.expose(), header.vaultId);
  const mac = macUnder(subkeys.header, header);
  wipeSubkeys(subkeys);
  return mac;
}

function macUnder(macKey: Uint8Array, header: Omit<VaultHeader, "mac">): Uint8Array {
  return Uint8Array.from(createHmac("sha256", macKey).update(macInput(header)).digest());
}
