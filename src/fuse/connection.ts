/** Requests of one FUSE connection, each answered once: INIT and the kernel's notices here, the rest by the dispatcher. */
import { copyOf } from "../bytes.ts";
import type { FileSystemOperations } from "../fs/operations.ts";
import type { Channel } from "./binding.ts";
import { Call } from "./call.ts";
import { decodeRequest } from "./decode.ts";
import type { InitRequest, Request } from "./decode.ts";
import { Dispatcher } from "./dispatch.ts";
import type { DispatchOptions, Question } from "./dispatch.ts";
import { encodeInit } from "./encode.ts";
import { EPROTO } from "./errno.ts";
import { negotiate } from "./negotiate.ts";
import type { Agreement } from "./negotiate.ts";
import { OPCODE, PROTOCOL_MAJOR } from "./protocol.ts";
import { Replies, stackOf } from "./replies.ts";
import type { FuseLogger } from "./replies.ts";
import { RequestBuffer } from "./request-buffer.ts";
import type { RequestHeader } from "./request-buffer.ts";

export class Connection {
  readonly #operations: FileSystemOperations;
  readonly #logger: FuseLogger;
  readonly #requests: RequestBuffer;
  readonly #replies: Replies;
  readonly #dispatcher: Dispatcher;
  #agreement: Agreement | undefined;

  constructor(
    channel: Pick<Channel, "request" | "reply" | "write">,
    operations: FileSystemOperations,
    logger: FuseLogger,
    options: DispatchOptions,
  ) {
    this.#operations = operations;
    this.#logger = logger;
    this.#requests = new RequestBuffer(channel.request);
    this.#replies = new Replies(channel, logger);
    this.#dispatcher = new Dispatcher(operations, this.#replies, options);
  }

  /** What the kernel and we agreed on; undefined before its first request. */
  get agreement(): Agreement | undefined {
    return this.#agreement;
  }

  /** Requests that wait for an operation's promise. */
  get pendingCount(): number {
    return this.#replies.pendingCount;
  }

  /** One request, which lies in the request buffer. Never throws. */
  receive(lengthBytes: number): void {
    const replies = this.#replies;
    const requests = this.#requests;
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
    switch (request.kind) {
      case "init":
        this.#initialize(request, header, call);
        return;
      case "forget":
        for (const { ino, count } of request.forgets) this.#operations.forget(ino, count);
        return;
      case "interrupt":
        this.#replies.interrupt(request.uniqueLow, request.uniqueHigh);
        return;
      default:
        if (this.#operations.unready === undefined) this.#dispatcher.dispatch(request, call);
        else void this.#dispatchLater(lasting(request), call);
    }
  }

  async #dispatchLater(request: Question, call: Call): Promise<void> {
    while (this.#operations.unready !== undefined) await this.#operations.unready;
    try {
      this.#dispatcher.dispatch(request, call);
    } catch (error) {
      this.#replies.fail(call, error);
    }
  }

  #initialize(request: InitRequest, header: RequestHeader, call: Call): void {
    const replies = this.#replies;
    const agreement = negotiate(request);
    if (agreement === undefined) {
      const { major, minor } = request;
      this.#logger.error("the kernel's FUSE protocol is too old", { major, minor });
      replies.answerErrno(header, EPROTO);
    } else if (agreement === "again") {
      replies.answer(call, PROTOCOL_MAJOR, (reply, offset, major) => {
        reply.fill(offset, 64);
        reply.u32(offset, major);
        return 64;
      });
    } else {
      this.#agreement = agreement;
      replies.answer(call, agreement, encodeInit);
    }
  }
}

/** The request with no view of the buffer that the next one comes into. */
function lasting(request: Question): Question {
  return request.kind === "write" ? { ...request, data: copyOf(request.data) } : request;
}

function isUnanswered(opcode: number): boolean {
  return opcode === OPCODE.FORGET || opcode === OPCODE.BATCH_FORGET || opcode === OPCODE.INTERRUPT;
}
