/**
 * Objects in an S3 bucket: SeaweedFS first, and any other. Bodies are whole buffers and carry no trailing checksums, which
 * SeaweedFS once stored inside of objects; requests are repeated by the SDK, with jitter and a bound, bodies here. Nothing
 * that the SDK says of a failure but its name and status is passed on: its texts quote requests.
 */
import type { GetObjectCommandOutput, PutObjectCommandInput, S3Client } from "@aws-sdk/client-s3";
import { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { TcfsError, type TcfsErrorCode, isTcfsError } from "../errors.ts";
import {
  type ByteRange,
  type GetOptions,
  type ObjectPart,
  type ObjectStore,
  type ObjectVersion,
  StoreNotReady,
  type StoredObject,
  partBytesOf,
  requireLength,
  requireObjectName,
  settleConflict,
} from "./object-store.ts";
import type { PlaceOverrides, S3Place } from "./store-url.ts";

/** Not by a static import: the daemon is bundled into one file, which would load the SDK for every vault. */
const sdk = await import("@aws-sdk/client-s3");

export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
  /** What these are for, where that is kept with them: stands in for what the store's URL says. */
  readonly place?: PlaceOverrides | undefined;
}

/** Tries of one request, by the SDK: 5xx, throttling, connections that break. */
const REQUEST_TRIES = 4;
/** Tries of a body that ends early: the SDK does not repeat these. */
const BODY_TRIES = 3;
const BODY_PAUSE_MS = 200;
const CONNECTION_TIMEOUT_MS = 10_000;
/** Silence on a connection; a pack of 16 MiB over a slow line takes longer in all. */
const SILENCE_TIMEOUT_MS = 30_000;
const MAX_SOCKETS = 16;

export class S3Store implements ObjectStore {
  readonly place: string;
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #prefix: string;

  /** @param requestTries - Stands in for {@link REQUEST_TRIES}. */
  constructor({ bucket, prefix, endpoint, region }: S3Place, credentials: S3Credentials, requestTries = REQUEST_TRIES) {
    this.#bucket = bucket;
    this.#prefix = prefix === "" ? "" : `${prefix}/`;
    this.place = `s3://${bucket}/${prefix}`;
    this.#client = new sdk.S3Client({
      region,
      ...(endpoint === undefined ? {} : { endpoint }),
      forcePathStyle: endpoint !== undefined,
      credentials: {
        accessKeyId: credentials.accessKeyId,
        secretAccessKey: credentials.secretAccessKey,
        ...(credentials.sessionToken === undefined ? {} : { sessionToken: credentials.sessionToken }),
      },
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
      maxAttempts: requestTries,
      retryMode: "standard",
      requestHandler: {
        connectionTimeout: CONNECTION_TIMEOUT_MS,
        socketTimeout: SILENCE_TIMEOUT_MS,
        httpAgent: { maxSockets: MAX_SOCKETS },
        httpsAgent: { maxSockets: MAX_SOCKETS },
      },
    });
  }

  async get(name: string, { maxBytes, signal }: GetOptions): Promise<StoredObject | undefined> {
    return this.#read(name, signal, undefined, (lengthBytes) => {
      requireLength(name, lengthBytes, maxBytes);
    });
  }

  async getRange(name: string, range: ByteRange, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    if (range.lengthBytes === 0) return new Uint8Array(0);
    const read = await this.#read(name, signal, range, (lengthBytes) => {
      if (lengthBytes !== range.lengthBytes) throw new TcfsError("TCFS_CORRUPT", `object ${name} ends early`);
    });
    return read?.content;
  }

  async getPart(name: string, range: ByteRange, signal?: AbortSignal): Promise<ObjectPart | undefined> {
    let objectBytes = 0;
    try {
      const read = await this.#read(name, signal, range, (partBytes, contentRange) => {
        // A server that knows no ranges gives all of an object.
        const part = contentRange === undefined ? { offset: 0, objectBytes: partBytes } : partOf(name, contentRange);
        objectBytes = part.objectBytes;
        if (part.offset !== range.offset || partBytes !== partBytesOf(name, range, objectBytes)) {
          throw new TcfsError("TCFS_CORRUPT", `what came of object ${name} is not the part that was asked for`);
        }
      });
      return read && { content: read.content, objectBytes };
    } catch (error) {
      if (error instanceof NotThatLong && range.offset === 0) return { content: new Uint8Array(0), objectBytes: 0 };
      throw error;
    }
  }

  head(name: string, signal?: AbortSignal): Promise<number | undefined> {
    return this.#asking(name, signal, async (target, options) => {
      const { ContentLength } = await this.#client.send(new sdk.HeadObjectCommand(target), options);
      if (ContentLength === undefined) throw unavailable(`HEAD of ${name} told no length`);
      return ContentLength;
    });
  }

  put(name: string, content: Uint8Array, signal?: AbortSignal): Promise<ObjectVersion> {
    return this.#put(name, content, {}, signal);
  }

  putIfAbsent(name: string, content: Uint8Array, signal?: AbortSignal): Promise<ObjectVersion> {
    return this.#put(name, content, { IfNoneMatch: "*" }, signal);
  }

  putIfMatch(name: string, content: Uint8Array, version: ObjectVersion, signal?: AbortSignal): Promise<ObjectVersion> {
    return this.#put(name, content, { IfMatch: version }, signal);
  }

  async delete(name: string, signal?: AbortSignal): Promise<void> {
    await this.#asking(name, signal, async (target, options) => {
      await this.#client.send(new sdk.DeleteObjectCommand(target), options);
    });
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncGenerator<string> {
    let token: string | undefined;
    do {
      const page = await this.#telling(`listing ${prefix}`, signal, (options) =>
        this.#client.send(
          new sdk.ListObjectsV2Command({
            Bucket: this.#bucket,
            Prefix: this.#prefix + prefix,
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
          options,
        ),
      );
      for (const { Key } of page.Contents ?? []) {
        if (Key?.startsWith(this.#prefix) === true && !Key.endsWith("/")) yield Key.slice(this.#prefix.length);
      }
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  close(): Promise<void> {
    this.#client.destroy();
    return Promise.resolve();
  }

  async #put(
    name: string,
    content: Uint8Array,
    condition: Pick<PutObjectCommandInput, "IfMatch" | "IfNoneMatch">,
    signal: AbortSignal | undefined,
  ): Promise<ObjectVersion> {
    const body = Buffer.from(content.buffer, content.byteOffset, content.length);
    try {
      const { ETag } = await this.#telling(`PUT of ${name}`, signal, (options) =>
        this.#client.send(
          new sdk.PutObjectCommand({ ...this.#target(name), ...condition, Body: body, ContentLength: body.length }),
          options,
        ),
      );
      if (ETag === undefined) throw unavailable(`PUT of ${name} told no version`);
      return ETag as ObjectVersion;
    } catch (error) {
      // Also after the SDK's own second try of a put whose first answer was lost.
      if (!isTcfsError(error, "TCFS_REMOTE_CONFLICT")) throw error;
      return settleConflict(name, content, (options) => this.get(name, { ...options, signal }));
    }
  }

  async #read(
    name: string,
    signal: AbortSignal | undefined,
    range: ByteRange | undefined,
    check: CheckAnswer,
  ): Promise<StoredObject | undefined> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#asking(name, signal, async (target, options) => {
          const bounds = range && `bytes=${range.offset}-${range.offset + range.lengthBytes - 1}`;
          const answer = await this.#client.send(
            new sdk.GetObjectCommand({ ...target, ...(bounds === undefined ? {} : { Range: bounds }) }),
            options,
          );
          return await this.#body(name, answer, check);
        });
      } catch (error) {
        if (!(error instanceof CutBody) || attempt === BODY_TRIES) throw error;
        await sleep(BODY_PAUSE_MS * attempt * (0.5 + Math.random()));
      }
    }
  }

  async #body(name: string, answer: GetObjectCommandOutput, check: CheckAnswer): Promise<StoredObject> {
    const { ContentLength, ContentRange, ETag, Body } = answer;
    if (ContentLength === undefined || ETag === undefined || !(Body instanceof Readable)) {
      throw unavailable(`GET of ${name} told no length or version`);
    }
    try {
      check(ContentLength, ContentRange);
    } catch (error) {
      Body.destroy();
      throw error;
    }
    const content = new Uint8Array(ContentLength);
    let filledBytes: number;
    try {
      filledBytes = await fill(content, Body);
    } catch (error) {
      if (isAbort(error)) throw error;
      throw new CutBody(`GET of ${name} broke off`);
    }
    if (filledBytes !== ContentLength)
      throw new CutBody(`GET of ${name} gave ${filledBytes} of ${ContentLength} bytes`);
    return { content, version: ETag as ObjectVersion };
  }

  #target(name: string): { readonly Bucket: string; readonly Key: string } {
    requireObjectName(name);
    return { Bucket: this.#bucket, Key: this.#prefix + name };
  }

  /** @returns Undefined where there is no such object. */
  async #asking<T>(
    name: string,
    signal: AbortSignal | undefined,
    work: (target: { readonly Bucket: string; readonly Key: string }, options: RequestOptions) => Promise<T>,
  ): Promise<T | undefined> {
    const target = this.#target(name);
    try {
      return await this.#telling(`object ${name}`, signal, (options) => work(target, options));
    } catch (error) {
      if (error instanceof NoSuchObject) return undefined;
      throw error;
    }
  }

  async #telling<T>(
    what: string,
    signal: AbortSignal | undefined,
    work: (o: RequestOptions) => Promise<T>,
  ): Promise<T> {
    try {
      return await work(signal === undefined ? {} : { abortSignal: signal });
    } catch (error) {
      if (error instanceof TcfsError || error instanceof RangeError) throw error;
      throw translate(what, this.place, error);
    }
  }
}

interface RequestOptions {
  readonly abortSignal?: AbortSignal;
}

/** Looks at what an answer announces, before its body is read. @throws TcfsError */
type CheckAnswer = (lengthBytes: number, contentRange: string | undefined) => void;

/** Each piece is copied once, to its place. @returns How many bytes came; those beyond the end are dropped. */
async function fill(into: Uint8Array, body: Readable): Promise<number> {
  let filledBytes = 0;
  body.on("data", (piece: Uint8Array) => {
    if (filledBytes + piece.length <= into.length) into.set(piece, filledBytes);
    filledBytes += piece.length;
  });
  await finished(body);
  return filledBytes;
}

/** @returns Where a part begins, and how long the object is that it is of: `bytes 0-9/100`. */
function partOf(name: string, contentRange: string): { readonly offset: number; readonly objectBytes: number } {
  const [, first, total] = /^bytes (\d{1,15})-\d+\/(\d{1,15})$/u.exec(contentRange) ?? [];
  if (first === undefined || total === undefined) throw unavailable(`GET of ${name} told no length of the whole`);
  return { offset: Number(first), objectBytes: Number(total) };
}

/** A body that is not as long as announced: damage, or a connection that broke; the same either way. */
class CutBody extends TcfsError {
  constructor(message: string) {
    super("TCFS_CORRUPT", message);
  }
}

/** The object ends before the range begins. */
class NotThatLong extends TcfsError {
  constructor(message: string) {
    super("TCFS_CORRUPT", message);
  }
}

class NoSuchObject extends TcfsError {
  constructor(message: string) {
    super("TCFS_NO_ENTRY", message);
  }
}

const STATUS_CODES: Readonly<Record<number, TcfsErrorCode>> = {
  401: "TCFS_REMOTE_DENIED",
  403: "TCFS_REMOTE_DENIED",
  409: "TCFS_REMOTE_CONFLICT",
  412: "TCFS_REMOTE_CONFLICT",
  413: "TCFS_REMOTE_FULL",
  429: "TCFS_REMOTE_THROTTLED",
  507: "TCFS_REMOTE_FULL",
};

/** Before the status: names that mean more. */
const NAME_CODES: Readonly<Record<string, TcfsErrorCode>> = {
  NoSuchBucket: "TCFS_REMOTE_MISSING",
  ExpiredToken: "TCFS_REMOTE_DENIED",
  InvalidToken: "TCFS_REMOTE_DENIED",
  TokenRefreshRequired: "TCFS_REMOTE_DENIED",
  RequestTimeTooSkewed: "TCFS_REMOTE_DENIED",
  SlowDown: "TCFS_REMOTE_THROTTLED",
  ThrottlingException: "TCFS_REMOTE_THROTTLED",
  TooManyRequests: "TCFS_REMOTE_THROTTLED",
  QuotaExceeded: "TCFS_REMOTE_FULL",
  InsufficientStorage: "TCFS_REMOTE_FULL",
  XMinioStorageFull: "TCFS_REMOTE_FULL",
};

/** Of connections, while a server is being started or ended. */
const STARTING: ReadonlySet<string> = new Set(["ECONNREFUSED", "ECONNRESET", "EPIPE"]);

/** SeaweedFS answers 500 when no volume takes more; the text alone tells. */
const FULL_TEXT = /no (?:free|writable) volumes?|no space left|not enough (?:space|volumes)|volume .* is full/iu;

/** @returns What the SDK threw, in our words and without its text. */
function translate(what: string, place: string, error: unknown): TcfsError {
  if (isAbort(error)) return new TcfsError("TCFS_CANCELLED", "a request to the store was given up");
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  const status = statusOf(error);
  if (status === 404 && name !== "NoSuchBucket") return new NoSuchObject(`${what} is not there`);
  if (status === 416) return new NotThatLong(`${what} ends before that`);
  const full = status !== undefined && status >= 500 && FULL_TEXT.test(message) ? "TCFS_REMOTE_FULL" : undefined;
  const code = full ?? NAME_CODES[name] ?? (status === undefined ? undefined : STATUS_CODES[status]);
  const networkCode = error instanceof Error && "code" in error ? ` ${String(error.code)}` : "";
  // All that a full SeaweedFS says.
  const hint = status === 500 && full === undefined ? " (the server fails: is it full?)" : "";
  const told = status === undefined ? `${name}${networkCode}` : `${name}, HTTP ${status}${hint}`;
  const text = `${what} in ${place}: ${told}`;
  if (code !== undefined) return new TcfsError(code, text);
  return isStarting(status, networkCode.trim()) ? new StoreNotReady(text) : unavailable(text);
}

function isStarting(status: number | undefined, networkCode: string): boolean {
  return status === undefined ? STARTING.has(networkCode) : status >= 500;
}

function statusOf(error: unknown): number | undefined {
  const { $metadata } = error as { readonly $metadata?: { readonly httpStatusCode?: number } };
  return $metadata?.httpStatusCode;
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}

function unavailable(message: string): TcfsError {
  return new TcfsError("TCFS_REMOTE_UNAVAILABLE", message);
}
