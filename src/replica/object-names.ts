/** Names of a store's objects (FORMAT.md §11.1). */
import { createHash } from "node:crypto";
import { toHex } from "../bytes.ts";
import { KEPT_HASH_BYTES, type KeptRoot, type ManifestKind } from "../format/replica-codec.ts";
import type { PackId } from "../ids.ts";

export const HEADER_NAME = "header";
export const ROOT_NAME = "root";
export const DEVICES_NAME = "devices";
export const KEPT_ROOTS = "roots/";

/** Upper bounds of what is read. */
export const MAX_HEADER_OBJECT_BYTES = 64 * 1024;
export const MAX_ROOT_BYTES = 4096;
export const MAX_DEVICES_BYTES = 512 * 1024;
export const MAX_MANIFEST_BYTES = 16 * 1024 * 1024;
/** A pack has about 16 MiB; one job may have gone into it when it was all but full. */
export const MAX_PACK_OBJECT_BYTES = 64 * 1024 * 1024;

export function packObject(pack: PackId): string {
  return packObjectNamed(toHex(pack));
}

/** @param name - The pack's, in hexadecimal. */
export function packObjectNamed(name: string): string {
  return `packs/${name.slice(0, 2)}/${name}`;
}

/** @returns The pack in an object's name; undefined where it is none. */
export function packOfName(name: string): PackId | undefined {
  const [, prefix, digits] = /^packs\/([0-9a-f]{2})\/([0-9a-f]{32})$/u.exec(name) ?? [];
  if (prefix === undefined || digits?.startsWith(prefix) !== true) return undefined;
  return new Uint8Array(Buffer.from(digits, "hex")) as PackId;
}

/** @param hash - SHA-256 of the object. */
export function manifestObject(kind: ManifestKind, number: number, hash: Uint8Array): string {
  return `${kind}s/${number}-${toHex(hash.subarray(0, 8))}`;
}

/**
 * Where a root is kept that was replaced on purpose though it was not ours.
 * @param hash - SHA-256 of the object, hexadecimal, or what its name has of it.
 */
export function keptRootObject(number: number, hash: string): string {
  return `${KEPT_ROOTS}${number}-${keptHash(hash)}`;
}

/** @param hash - As {@link keptRootObject} takes it. @returns What a kept root's name has of it. */
export function keptHash(hash: string): string {
  return hash.slice(0, 2 * KEPT_HASH_BYTES);
}

/** @returns What the name of a kept root says; undefined where it is none. */
export function keptRootOf(name: string): KeptRoot | undefined {
  const [, number, hash] = /^roots\/(\d{1,15})-([0-9a-f]{16})$/u.exec(name) ?? [];
  return number === undefined || hash === undefined ? undefined : { number: Number(number), hash };
}

export function isKeptRoot(name: string): boolean {
  return keptRootOf(name) !== undefined;
}

export function isManifest(name: string): boolean {
  return /^(?:commits|checkpoints)\/[1-9]\d{0,14}-[0-9a-f]{16}$/u.test(name);
}

export function sha256(content: Uint8Array): Uint8Array {
  return createHash("sha256").update(content).digest();
}
