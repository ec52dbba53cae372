/** Sends replies: header and payload in one message, exactly one for each call. Counts on the channel being synchronous. */
import type { BorrowedBytes } from "../borrowed-bytes.ts";
import { isTcfsError } from "../errors.ts";
import { type MaybePromise, isPromise } from "../maybe-promise.ts";
import type { Channel } from "./binding.ts";
import type { Call } from "./call.ts";
import { ReplyBuffer } from "./encode.ts";
import { EIO, ENODEV, ENOENT, ENOTCONN, errnoName, toErrno } from "./errno.ts";
import { OUT_HEADER_BYTES } from "./protocol.ts";
import type { RequestHeader } from "./request-buffer.ts";

/** Where the shell's log comes in. Fields carry operation, ino and errno; never a name or data. */
export interface FuseLogger {
  warn(message: string, fields: Readonly<Record<string, unknown>>): void;
  error(message: string, fields: Readonly<Record<string, unknown>>): void;
}

/** What the channel writes at once (native/fuse/module.c). */
const MAX_PIECES = 1000;

/** Puts a value into the reply at `offset`; returns the bytes used. May throw instead of answering. */
export type Encode<T> = (reply: ReplyBuffer, offset: number, value: T) => number;

export class Replies {
  readonly #channel: Pick<Channel, "write">;
  readonly #logger: FuseLogger;
  readonly #buffer: ReplyBuffer;
  /** Calls that are being worked on, by `unique`, for interrupts. */
  readonly #pending = new Map<number, Call>();

  constructor(channel: Pick<Channel, "reply" | "write">, logger: FuseLogger) {
    this.#channel = channel;
    this.#logger = logger;
    this.#buffer = new ReplyBuffer(channel.reply);
  }

  /** Requests received and not yet answered. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  /** Answer with `result`, now or when it settles. Calls nothing twice, throws nothing. */
  answer<T>(call: Call, result: MaybePromise<T>, encode: Encode<T>): void {
    if (!isPromise(result)) {
      this.#encode(call, result, encode);
      return;
    }
    this.#later(call, result, (value) => {
      this.#encode(call, value, encode);
    });
  }

  /** As {@link answer}, with a payload that lies elsewhere already, and is given back once it is sent. */
  answerBytes<T>(call: Call, result: MaybePromise<T>, bytesOf: (value: T) => BorrowedBytes): void {
    if (!isPromise(result)) {
      this.#bytes(call, result, bytesOf);
      return;
    }
    this.#later(call, result, (value) => {
      this.#bytes(call, value, bytesOf);
    });
  }

  /** Answer with the errno of `error`. What is damaged is logged; what is no TcfsError is a bug, logged with its stack. */
  fail(call: Call, error: unknown): void {
    const errno = toErrno(error);
    const { opcode, ino } = call.header;
    if (isTcfsError(error, "TCFS_CORRUPT") || isTcfsError(error, "TCFS_IO")) {
      this.#logger.error("a request failed", { opcode, ino, code: error.code, message: error.message });
    }
    if (errno === undefined) {
      this.#logger.error("a request failed for no foreseen reason", { opcode, ino, stack: stackOf(error) });
    }
    this.answerErrno(call.header, errno ?? EIO);
  }

  answerErrno(header: RequestHeader, errno: number): void {
    this.#send(header, 0, errno, undefined);
  }

  /** The kernel gave up waiting for a call: tell whoever works on it. It is answered all the same. */
  interrupt(uniqueLow: number, uniqueHigh: number): void {
    const call = this.#pending.get(uniqueLow + uniqueHigh * 2 ** 32);
    if (call?.header.uniqueLow !== uniqueLow) return;
    try {
      call.interrupt();
    } catch (error) {
      this.#logger.error("an interrupt failed", { opcode: call.header.opcode, stack: stackOf(error) });
    }
  }

  #later<T>(call: Call, result: Promise<T>, finish: (value: T) => void): void {
    const key = call.header.uniqueLow + call.header.uniqueHigh * 2 ** 32;
    this.#pending.set(key, call);
    result.then(
      (value) => {
        this.#pending.delete(key);
        finish(value);
      },
      (error: unknown) => {
        this.#pending.delete(key);
        this.fail(call, error);
      },
    );
  }

  #encode<T>(call: Call, value: T, encode: Encode<T>): void {
    let lengthBytes;
    try {
      lengthBytes = encode(this.#buffer, OUT_HEADER_BYTES, value);
    } catch (error) {
      this.fail(call, error);
      return;
    }
    this.#send(call.header, lengthBytes, 0, undefined);
  }

  #bytes<T>(call: Call, value: T, bytesOf: (value: T) => BorrowedBytes): void {
    let payload;
    try {
      payload = bytesOf(value);
    } catch (error) {
      this.fail(call, error);
      return;
    }
    try {
      const { pieces: all } = payload;
      // A file in very many pieces.
      this.#send(call.header, 0, 0, all.length <= MAX_PIECES ? all : [Buffer.concat(all)]);
    } finally {
      payload.release();
    }
  }

  /** fuse_out_header: len, error, unique. */
  #send(header: RequestHeader, payloadBytes: number, errno: number, pieces: readonly Uint8Array[] | undefined): void {
    const reply = this.#buffer;
    let lengthBytes = OUT_HEADER_BYTES + payloadBytes;
    if (pieces !== undefined) for (const piece of pieces) lengthBytes += piece.length;
    reply.u32(0, lengthBytes);
    reply.u32(4, -errno);
    reply.u32(8, header.uniqueLow);
    reply.u32(12, header.uniqueHigh);
    const result = -this.#channel.write(OUT_HEADER_BYTES + payloadBytes, pieces);
    // Nobody waits any more: the mount was aborted or is gone.
    if (result === 0 || result === ENOENT || result === ENODEV || result === ENOTCONN) return;
    const { opcode, ino } = header;
    this.#logger.error("the kernel refused a reply", { opcode, ino, lengthBytes, errno: errnoName(result) });
    if (errno === 0) this.answerErrno(header, EIO);
  }
}

export function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
