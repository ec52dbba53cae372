/**
 * Objects by name, as the store has them: a directory, or S3. What is stored is sealed already; this room never sees a
 * key of the vault. Nothing may be derived from a listing, and nothing is believed but what was asked for by name.
 */
import { TcfsError, isTcfsError } from "../errors.ts";

/** Which content an object has, as the store tells contents apart; only good for {@link ObjectStore.putIfMatch}. */
export type ObjectVersion = string & { readonly __brand: "ObjectVersion" };

export interface StoredObject {
  /** Fresh, the caller's; exactly as long as the store says that the object is. */
  readonly content: Uint8Array;
  readonly version: ObjectVersion;
}

export interface GetOptions {
  /** A longer object is `TCFS_CORRUPT`, and is not read. */
  readonly maxBytes: number;
  readonly signal?: AbortSignal | undefined;
}

export interface ByteRange {
  readonly offset: number;
  readonly lengthBytes: number;
}

export interface ObjectPart {
  /** Fresh, the caller's. */
  readonly content: Uint8Array;
  /** Of the whole object. */
  readonly objectBytes: number;
}

/**
 * Every call throws TcfsError: `TCFS_REMOTE_DENIED`, `TCFS_REMOTE_UNAVAILABLE` (out of reach, failing, too slow),
 * `TCFS_REMOTE_THROTTLED`, `TCFS_REMOTE_FULL`, `TCFS_REMOTE_MISSING` (the bucket or directory itself is not there),
 * `TCFS_CANCELLED` by its signal. After any of these a put may have been carried out all the same: doing it again is safe.
 * Names: see {@link requireObjectName}. Content is lent until settled.
 */
export interface ObjectStore {
  /** For people and logs: where it is, without secrets. */
  readonly place: string;
  /** @returns Undefined where there is no such object. @throws `TCFS_CORRUPT` if it is too long or was cut each time. */
  get(name: string, options: GetOptions): Promise<StoredObject | undefined>;
  /** @returns Exactly the range. @throws `TCFS_CORRUPT` if the object ends before it. */
  getRange(name: string, range: ByteRange, signal?: AbortSignal): Promise<Uint8Array | undefined>;
  /**
   * What a HEAD and a GET would tell, in one request.
   * @param range - Of at least one byte.
   * @returns As much of the range as there is. @throws `TCFS_CORRUPT` if the object ends before it, but for an empty one.
   */
  getPart(name: string, range: ByteRange, signal?: AbortSignal): Promise<ObjectPart | undefined>;
  /** @returns The object's length. */
  head(name: string, signal?: AbortSignal): Promise<number | undefined>;
  /** Whatever is there. For objects whose content is known to be damaged or old. */
  put(name: string, content: Uint8Array, signal?: AbortSignal): Promise<ObjectVersion>;
  /** An equal object that is there already is success: it may be ours, and its answer have been lost. @throws `TCFS_REMOTE_CONFLICT` */
  putIfAbsent(name: string, content: Uint8Array, signal?: AbortSignal): Promise<ObjectVersion>;
  /** Replace exactly `version`. Equal content counts as done, as above. @throws `TCFS_REMOTE_CONFLICT` */
  putIfMatch(name: string, content: Uint8Array, version: ObjectVersion, signal?: AbortSignal): Promise<ObjectVersion>;
  /** Gone afterwards, whether or not it was there. */
  delete(name: string, signal?: AbortSignal): Promise<void>;
  /** Names below a prefix that ends in `/`, in no order: a hint, which may lack some and have others that are gone. */
  list(prefix: string, signal?: AbortSignal): AsyncIterable<string>;
  close(): Promise<void>;
}

/** It is known where the store is, but it lets nobody connect, or fails: as one does that is just being started. */
export class StoreNotReady extends TcfsError {
  constructor(message: string) {
    super("TCFS_REMOTE_UNAVAILABLE", message);
  }
}

const NAME = /^[a-z0-9][a-z0-9-]*(?:\/[a-z0-9][a-z0-9-]*)*$/u;
const MAX_NAME_CHARACTERS = 200;

/** @throws RangeError unless `name` is lower-case letters, digits and hyphens, in parts joined by `/`. */
export function requireObjectName(name: string): void {
  if (name.length > MAX_NAME_CHARACTERS || !NAME.test(name)) throw new RangeError("this is no name of an object");
}

/** @returns How much of a range an object of this length has. @throws TcfsError `TCFS_CORRUPT` as {@link ObjectStore.getPart} */
export function partBytesOf(name: string, { offset, lengthBytes }: ByteRange, objectBytes: number): number {
  if (offset > 0 && offset >= objectBytes) throw new TcfsError("TCFS_CORRUPT", `object ${name} ends before that`);
  return Math.min(lengthBytes, objectBytes - offset);
}

/** @throws TcfsError `TCFS_CORRUPT` if an object is longer than its reader allows. */
export function requireLength(name: string, lengthBytes: number, maxBytes: number): void {
  if (lengthBytes > maxBytes) {
    throw new TcfsError("TCFS_CORRUPT", `object ${name} has ${lengthBytes} bytes, more than ${maxBytes}`);
  }
}

/**
 * What a put that met something else comes to: done, if that is the same content. A longer one is not read: whoever runs
 * the store may answer with anything.
 * @param read - Gets what is there.
 * @throws TcfsError `TCFS_REMOTE_CONFLICT`, what `read` throws
 */
export async function settleConflict(
  name: string,
  content: Uint8Array,
  read: (options: GetOptions) => Promise<StoredObject | undefined>,
): Promise<ObjectVersion> {
  const present = await read({ maxBytes: content.length }).catch((error: unknown) => {
    if (isTcfsError(error, "TCFS_CORRUPT")) return undefined;
    throw error;
  });
  if (present !== undefined && Buffer.compare(present.content, content) === 0) return present.version;
  throw new TcfsError("TCFS_REMOTE_CONFLICT", `object ${name} is not as it was expected to be`);
}
