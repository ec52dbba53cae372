/** The header's life: made, unlocked and authenticated, given another passphrase (FORMAT.md §8). Does no I/O. */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { ChunkingParameters } from "../crypto/engine.ts";
import { SecretKey } from "../crypto/secret-key.ts";
import { KEY_BYTES, deriveSubkeys, wipeSubkeys } from "../crypto/subkeys.ts";
import { TcfsError } from "../errors.ts";
import type { Clock } from "../platform/clock.ts";
import type { RandomSource } from "../platform/random.ts";
import { READ_ONLY_COMPATIBLE_FEATURES, macInput } from "./header.ts";
import type { VaultHeader } from "./header.ts";
import type { KdfCost } from "./kdf.ts";
import { formatRecoveryWords } from "./recovery-words.ts";
import { openSlot, sealSlot, secretMaterial } from "./slots.ts";
import type { Secret } from "./slots.ts";

export interface KeyringOptions {
  readonly random: RandomSource;
  readonly clock: Clock;
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
  const createdAt = isoTime(options.clock);
  const entropy = random.bytes(32);
  const context = { vaultId, random, createdAt };
  const slots = [
    await sealPassphrase(key, passphrase, options, vaultId),
    await sealSlot(key, { kind: "recovery-words" }, entropy, context),
  ];
  const recoveryWords = formatRecoveryWords(entropy);
  entropy.fill(0);
  const header = authenticate(key, {
    incompatibleFeatures: [],
    readOnlyCompatibleFeatures: READ_ONLY_COMPATIBLE_FEATURES,
    vaultId,
    deviceId: random.bytes(16),
    createdAt,
    keyEpoch: 1,
    revision: 1,
    chunking,
    slots,
  });
  return { header, key, recoveryWords };
}

/**
 * Open the header with a secret, and only then believe it.
 * @param secret - Lent until settled.
 * @returns The vault key; the caller wipes it.
 * @throws TcfsError `TCFS_WRONG_KEY` if no slot takes the secret; `TCFS_BAD_HEADER` if the header was tampered with.
 */
export async function unlockHeader(header: VaultHeader, secret: Secret): Promise<SecretKey> {
  const material = secretMaterial(secret);
  try {
    for (const slot of header.slots) {
      if (slot.kind !== secret.kind) continue;
      const key = await openSlot(slot, material, header.vaultId);
      if (key === undefined) continue;
      verifyHeader(header, key);
      return key;
    }
  } finally {
    material.fill(0);
  }
  const what = secret.kind === "passphrase" ? "the passphrase is wrong" : "these are not this vault's recovery words";
  throw new TcfsError("TCFS_WRONG_KEY", what);
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

/**
 * The header with one new passphrase slot in the place of all earlier ones; recovery words stay.
 * @param key - From {@link unlockHeader} of this header.
 * @throws TcfsError `TCFS_USAGE` if the passphrase is empty.
 */
export async function changePassphrase(
  header: VaultHeader,
  key: SecretKey,
  passphrase: Uint8Array,
  options: KeyringOptions,
): Promise<VaultHeader> {
  const fresh = await sealPassphrase(key, passphrase, options, header.vaultId);
  const slots = [fresh, ...header.slots.filter((slot) => slot.kind !== "passphrase")];
  return authenticate(key, { ...header, revision: header.revision + 1, slots });
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

async function sealPassphrase(
  key: SecretKey,
  passphrase: Uint8Array,
  options: KeyringOptions,
  vaultId: Uint8Array,
): Promise<VaultHeader["slots"][number]> {
  if (passphrase.length === 0) throw new TcfsError("TCFS_USAGE", "the passphrase is empty");
  const material = secretMaterial({ kind: "passphrase", bytes: passphrase });
  try {
    const context = { vaultId, random: options.random, createdAt: isoTime(options.clock) };
    return await sealSlot(key, { kind: "passphrase", kdf: options.kdf }, material, context);
  } finally {
    material.fill(0);
  }
}

function authenticate(key: SecretKey, body: Omit<VaultHeader, "mac">): VaultHeader {
  return { ...body, mac: headerMac(body, key) };
}

function headerMac(header: Omit<VaultHeader, "mac">, key: SecretKey): Uint8Array {
  const subkeys = deriveSubkeys(key.expose(), header.vaultId);
  const mac = createHmac("sha256", subkeys.header).update(macInput(header)).digest();
  wipeSubkeys(subkeys);
  return Uint8Array.from(mac);
}

function isoTime(clock: Clock): string {
  const { seconds, nanoseconds } = clock.now();
  return new Date(seconds * 1000 + Math.floor(nanoseconds / 1e6)).toISOString();
}
