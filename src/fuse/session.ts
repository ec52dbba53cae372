/**
 * One mounted filesystem: takes requests from the kernel, has them answered, ends with the unmount. Single-threaded;
 * the thread that serves must never touch its own mount.
 */
import type { FileSystemOperations } from "../fs/operations.ts";
import { TcfsError } from "../errors.ts";
import type { InodeNumber, Name } from "../ids.ts";
import { binding } from "./binding.ts";
import type { Channel } from "./binding.ts";
import { Call } from "./call.ts";
import { decodeRequest } from "./decode.ts";
import type { InitRequest, Request } from "./decode.ts";
import { Dispatcher } from "./dispatch.ts";
import { ReplyBuffer, encodeInit } from "./encode.ts";
import type { CacheTimeouts } from "./encode.ts";
import { ECONNABORTED, ENODEV, ENOENT, EPROTO, errnoName } from "./errno.ts";
import { negotiate } from "./negotiate.ts";
import type { Agreement } from "./negotiate.ts";
import {
  NOTIFY,
  OPCODE,
  OUT_HEADER_BYTES,
  PROTOCOL_MAJOR,
  REPLY_BUFFER_BYTES,
  REQUEST_BUFFER_BYTES,
} from "./protocol.ts";
import { Replies, stackOf } from "./replies.ts";
import type { FuseLogger } from "./replies.ts";
import { RequestBuffer } from "./request-buffer.ts";
import type { RequestHeader } from "./request-buffer.ts";

export interface FuseSessionOptions {
  /** Refuse what changes anything with EROFS, besides the mount flag. */
  readonly readOnly: boolean;
  /** How long the kernel trusts a dentry, or that there is none. Long: nobody else changes the tree. */
  readonly entryTimeoutSeconds: number;
  readonly attributeTimeoutSeconds: number;
  /** How long to look for the next request before sleeping; 0 spares the processor. */
  readonly spinMicroseconds: number;
}

export class FuseSession implements AsyncDisposable {
  /** Resolves once nothing is served any more: after the unmount, an abort, or {@link close}. */
  readonly end: Promise<void>;
  readonly #operations: FileSystemOperations;
  readonly #logger: FuseLogger;
  readonly #options: FuseSessionOptions;
  readonly #resolveEnd: () => void;
  #serving: { channel: Channel; requests: RequestBuffer; replies: Replies; dispatcher: Dispatcher } | undefined;
  #agreement: Agreement | undefined;

  constructor({
    operations,
    logger,
    options,
  }: {
    readonly operations: FileSystemOperations;
    readonly logger: FuseLogger;
    readonly options: FuseSessionOptions;
  }) {
    this.#operations = operations;
    this.#logger = logger;
    this.#options = options;
    let resolveEnd = (): void => undefined;
    this.end = new Promise((resolve) => {
      resolveEnd = resolve;
    });
    this.#resolveEnd = resolveEnd;
  }

  /**
   * Serve the connection that a mount made.
   * @param fd - From {@link mountFuse}; owned by the session from here on.
   * @throws {@link TcfsError} `TCFS_IO` if it is no descriptor that can be polled.
   */
  start(fd: number): void {
    if (this.#serving !== undefined) throw new RangeError("a session serves one mount, once");
    const channel = binding.openChannel(
      fd,
      REQUEST_BUFFER_BYTES,
      REPLY_BUFFER_BYTES,
      this.#options.spinMicroseconds,
      (lengthBytes) => {
        this.#receive(lengthBytes);
      },
      (errno) => {
        this.#finish(errno);
      },
    );
    if (channel === undefined) throw new TcfsError("TCFS_IO", "the FUSE descriptor cannot be polled");
    const timeouts: CacheTimeouts = {
      entrySeconds: this.#options.entryTimeoutSeconds,
      attributeSeconds: this.#options.attributeTimeoutSeconds,
    };
    const replies = new Replies(channel, this.#logger);
    this.#serving = {
      channel,
      requests: new RequestBuffer(channel.request),
      replies,
      dispatcher: new Dispatcher(this.#operations, replies, { timeouts, readOnly: this.#options.readOnly }),
    };
  }

  /** What the kernel and we agreed on; undefined before its first request. */
  get agreement(): Agreement | undefined {
    return this.#agreement;
  }

  /** Requests that wait for an operation's promise. */
  get pendingCount(): number {
    return this.#serving?.replies.pendingCount ?? 0;
  }

  /** Let go of the connection; what is still mounted answers ENOTCONN from then on. Idempotent. */
  close(): Promise<void> {
    this.#serving?.channel.stop();
    this.#resolveEnd();
    return this.end;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Have the kernel drop what it caches of an inode: attributes and data. Needed where the tree changes under it. */
  invalidateInode(ino: InodeNumber): Promise<void> {
    const message = notification(NOTIFY.INVAL_INODE, 24);
    message.i53(OUT_HEADER_BYTES, ino);
    // off 0, len 0: everything.
    return this.#notify(message);
  }

  /** Have the kernel drop a dentry. */
  invalidateEntry(parent: InodeNumber, name: Name): Promise<void> {
    const message = notification(NOTIFY.INVAL_ENTRY, 16 + name.length + 1);
    message.i53(OUT_HEADER_BYTES, parent);
    message.u32(OUT_HEADER_BYTES + 8, name.length);
    message.bytes.set(Buffer.from(name, "latin1"), OUT_HEADER_BYTES + 16);
    return this.#notify(message);
  }

  async #notify(message: ReplyBuffer): Promise<void> {
    if (this.#serving === undefined) return;
    const result = -(await this.#serving.channel.notify(message.bytes));
    // ENOENT: the kernel does not have it anyway.
    if (result !== 0 && result !== ENOENT) {
      throw new TcfsError("TCFS_IO", `the kernel refused an invalidation: ${errnoName(result)}`);
    }
  }

  /** One request, which lies in the request buffer. Never throws. */
  #receive(lengthBytes: number): void {
    if (this.#serving === undefined) return;
    const { requests, replies } = this.#serving;
    const header = requests.begin(lengthBytes);
    if (header === undefined) {
      this.#logger.error("the kernel sent something that is no request", { lengthBytes });
      return;
    }
    const call = new Call(header);
    try {
      this.#handle(decodeRequest(requests, header, this.#agreement?.hasLongSetxattr === true), header, call);
    } catch (error) {
      if (!isUnanswered(header.opcode)) replies.fail(call, error);
      else this.#logger.error("a notice of the kernel failed", { opcode: header.opcode, stack: stackOf(error) });
    }
  }

  #handle(request: Request, header: RequestHeader, call: Call): void {
    if (this.#serving === undefined) return;
    switch (request.kind) {
      case "init":
        this.#initialize(request, header, call);
        return;
      case "forget":
        for (const { ino, count } of request.forgets) this.#operations.forget(ino, count);
        return;
      case "interrupt":
        this.#serving.replies.interrupt(request.uniqueLow, request.uniqueHigh);
        return;
      default:
        this.#serving.dispatcher.dispatch(request, call);
    }
  }

  #initialize(request: InitRequest, header: RequestHeader, call: Call): void {
    const replies = this.#serving?.replies;
    const agreement = negotiate(request);
    if (agreement === undefined) {
      const { major, minor } = request;
      this.#logger.error("the kernel's FUSE protocol is too old", { major, minor });
      replies?.answerErrno(header, EPROTO);
    } else if (agreement === "again") {
      replies?.answer(call, PROTOCOL_MAJOR, (reply, offset, major) => {
        reply.fill(offset, 64);
        reply.u32(offset, major);
        return 64;
      });
    } else {
      this.#agreement = agreement;
      replies?.answer(call, agreement, encodeInit);
    }
  }

  #finish(errno: number): void {
    if (errno !== ENODEV && errno !== ECONNABORTED) {
      this.#logger.error("the FUSE connection broke", { errno: errnoName(errno) });
    }
    void this.close();
  }
}

function isUnanswered(opcode: number): boolean {
  return opcode === OPCODE.FORGET || opcode === OPCODE.BATCH_FORGET || opcode === OPCODE.INTERRUPT;
}

/** A fuse_out_header with unique 0 and the notification's code for error, and room for `payloadBytes`. */
function notification(code: number, payloadBytes: number): ReplyBuffer {
  const lengthBytes = OUT_HEADER_BYTES + payloadBytes;
  const paddedBytes = (lengthBytes + 7) & ~7;
  const message = new ReplyBuffer(new Uint8Array(new ArrayBuffer(paddedBytes), 0, lengthBytes));
  message.u32(0, lengthBytes);
  message.u32(4, code);
  return message;
}
