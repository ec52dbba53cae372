/**
 * `vault.json`: the header's text ⇄ a checked value (FORMAT.md §8). Pure; knows no key.
 * Everything in it may come from an attacker: it is bounded, strict and canonical, and refused by name.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { toHex } from "../bytes.ts";
import { FORMAT_VERSION } from "../crypto/aad.ts";
import type { ChunkingParameters } from "../crypto/engine.ts";
import { MAX_CHUNK_BYTES } from "../crypto/engine.ts";
import { FIRST_KEY_EPOCH } from "../crypto/epoch-keys.ts";
import { TcfsError } from "../errors.ts";
import { hexField, timeField } from "./fields.ts";
import { type Keyring, keyringMembers, keyringSchema } from "./key-epochs.ts";
import { MAX_SLOTS, checkKdfBounds, slotMembers, slotProbeSchema, slotSchema, unknownInSlot } from "./slot-format.ts";
import type { KeySlot } from "./slot-format.ts";

/** Nothing longer is parsed. */
export const MAX_HEADER_BYTES = 64 * 1024;

const FORMAT_NAME = "tcfs vault";
/** Closed lists: a reader that does not know a feature refuses to open, or to write. */
/** What a vault has after its first rotation, and no other (FORMAT.md §8.8). */
export const KEY_EPOCHS_FEATURE = "key-epochs";
const KNOWN_INCOMPATIBLE: readonly string[] = [KEY_EPOCHS_FEATURE];
/** A vault that this version writes has all of them. */
export const READ_ONLY_COMPATIBLE_FEATURES: readonly string[] = [
  "snapshots",
  "snapshot-policy",
  "versions",
  "lost-packs",
];
const MIN_CHUNK_BYTES = 4096;

/** The header's content, authenticated only once `mac` has been checked. */
export interface VaultHeader {
  readonly incompatibleFeatures: readonly string[];
  readonly readOnlyCompatibleFeatures: readonly string[];
  readonly vaultId: Uint8Array;
  readonly deviceId: Uint8Array;
  readonly createdAt: string;
  readonly keyEpoch: number;
  /** Raised by one whenever the header is written. */
  readonly revision: number;
  readonly chunking: ChunkingParameters;
  /** With a key epoch above the first, and not else. */
  readonly keyring: Keyring | undefined;
  readonly slots: readonly KeySlot[];
  readonly mac: Uint8Array;
}

const counter = z.int().min(1).max(0xffff_ffff);
const chunkLength = z.int().min(MIN_CHUNK_BYTES).max(MAX_CHUNK_BYTES);
const features = z.array(z.string().max(64)).max(32);

const headerSchema = z.strictObject({
  format: z.literal(FORMAT_NAME),
  formatVersion: z.literal(FORMAT_VERSION),
  incompatibleFeatures: features,
  readOnlyCompatibleFeatures: features,
  vaultId: hexField(16),
  deviceId: hexField(16),
  createdAt: timeField,
  keyEpoch: counter,
  revision: counter,
  chunking: z.strictObject({ minBytes: chunkLength, averageBytes: chunkLength, maxBytes: chunkLength }),
  keyring: keyringSchema.optional(),
  slots: z.array(slotSchema).min(1).max(MAX_SLOTS),
  mac: hexField(32),
  checksum: hexField(32),
});

/** What is looked at before the schema, so that a newer format is refused by its name and not by its shape. */
const probeSchema = z.looseObject({
  format: z.literal(FORMAT_NAME),
  formatVersion: z.int(),
});
const featureProbeSchema = z.looseObject({
  incompatibleFeatures: features,
  slots: z.array(slotProbeSchema).max(MAX_SLOTS),
});

/**
 * Parse and check a header as far as that goes without a key.
 * @throws TcfsError `TCFS_BAD_HEADER` if damaged or malformed; `TCFS_UNKNOWN_FORMAT` naming the version, feature,
 *   slot kind or KDF that is not known; `TCFS_KDF_BOUNDS`.
 */
export function parseHeader(content: Uint8Array): VaultHeader {
  const json = parseJson(content);
  refuseUnknownFormat(json);
  const { format: _format, formatVersion: _version, checksum: _checksum, ...members } = check(headerSchema, json);
  const header: VaultHeader = { ...members, keyring: members.keyring };
  checkKdfBounds(header.slots);
  checkChunking(header.chunking);
  checkKeyring(header);
  // One text per header: no duplicate keys, no second spelling, nothing that another parser would read otherwise.
  if (!Buffer.from(formatHeader(header)).equals(content)) throw badHeader("its text or checksum is not right");
  return header;
}

/** The header's one text, checksum included, UTF-8. */
export function formatHeader(header: VaultHeader): Uint8Array {
  const body = { ...headerBody(header), mac: toHex(header.mac) };
  const checksum = createHash("sha256").update(JSON.stringify(body)).digest("hex");
  return Buffer.from(`${JSON.stringify({ ...body, checksum }, null, 2)}\n`);
}

/** The bytes that the MAC is over: everything but MAC and checksum, without white space (FORMAT.md §8.5). */
export function macInput(header: Omit<VaultHeader, "mac">): Uint8Array {
  return Buffer.from(JSON.stringify(headerBody(header)));
}

/** @throws TcfsError `TCFS_UNKNOWN_FORMAT` if the vault may be read but not written by this version. */
export function assertWritable(header: VaultHeader): void {
  const unknown = header.readOnlyCompatibleFeatures.find((name) => !READ_ONLY_COMPATIBLE_FEATURES.includes(name));
  if (unknown !== undefined) {
    throw new TcfsError(
      "TCFS_UNKNOWN_FORMAT",
      `the vault uses the feature “${unknown}”, which this version of tcfs can only read: mount it with --read-only`,
    );
  }
}

function headerBody(header: Omit<VaultHeader, "mac">): object {
  const { minBytes, averageBytes, maxBytes } = header.chunking;
  return {
    format: FORMAT_NAME,
    formatVersion: FORMAT_VERSION,
    incompatibleFeatures: header.incompatibleFeatures,
    readOnlyCompatibleFeatures: header.readOnlyCompatibleFeatures,
    vaultId: toHex(header.vaultId),
    deviceId: toHex(header.deviceId),
    createdAt: header.createdAt,
    keyEpoch: header.keyEpoch,
    revision: header.revision,
    chunking: { minBytes, averageBytes, maxBytes },
    ...(header.keyring === undefined ? {} : { keyring: keyringMembers(header.keyring) }),
    slots: header.slots.map(slotMembers),
  };
}

function parseJson(content: Uint8Array): unknown {
  if (content.length > MAX_HEADER_BYTES) throw badHeader(`it is longer than ${MAX_HEADER_BYTES} bytes`);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(content));
  } catch (cause) {
    throw badHeader("it is not JSON", cause);
  }
}

function refuseUnknownFormat(json: unknown): void {
  const { formatVersion } = check(probeSchema, json);
  if (formatVersion !== FORMAT_VERSION) throw unknownFormat(`format version ${formatVersion}`);
  const { incompatibleFeatures, slots } = check(featureProbeSchema, json);
  const feature = incompatibleFeatures.find((name) => !KNOWN_INCOMPATIBLE.includes(name));
  if (feature !== undefined) throw unknownFormat(`the feature “${feature}”`);
  for (const slot of slots) {
    const unknown = unknownInSlot(slot);
    if (unknown !== undefined) throw unknownFormat(unknown);
  }
}

/** What the chunker needs (FORMAT.md §4.1). */
function checkChunking({ minBytes, averageBytes, maxBytes }: ChunkingParameters): void {
  if (!(minBytes < averageBytes && averageBytes < maxBytes)) throw badHeader("chunking lengths are out of order");
  if (!Number.isInteger(Math.log2(averageBytes))) throw badHeader("chunking.averageBytes is no power of two");
}

/** A reader that does not know of key epochs must be told by the feature; the epochs must follow one another. */
function checkKeyring({ incompatibleFeatures, keyEpoch, keyring }: VaultHeader): void {
  const isRotated = keyEpoch > FIRST_KEY_EPOCH;
  if (isRotated !== (keyring !== undefined) || isRotated !== incompatibleFeatures.includes(KEY_EPOCHS_FEATURE)) {
    throw badHeader("its key epoch, keyring and features do not go together");
  }
  if (keyring?.older.some((older) => older.keyEpoch >= keyEpoch) === true)
    throw badHeader("an older epoch is not older");
}

function check<T>(schema: z.ZodType<T>, json: unknown): T {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw badHeader(`${issue?.path.join(".") ?? ""}: ${issue?.message ?? "malformed"}`);
}

function badHeader(why: string, cause?: unknown): TcfsError {
  return new TcfsError("TCFS_BAD_HEADER", `the vault's header is damaged or was tampered with: ${why}`, { cause });
}

function unknownFormat(what: string): TcfsError {
  return new TcfsError("TCFS_UNKNOWN_FORMAT", `the vault uses ${what}, which this version of tcfs does not know`);
}
