/** Typed requests → the filesystem's operations → encoded replies; one answer each. */
import { TcfsError } from "../errors.ts";
import { type BorrowedBytes, lend } from "../borrowed-bytes.ts";
import { untilInterrupted } from "../fs/interrupt.ts";
import type { Attributes, DirectoryEntry, FileSystemOperations } from "../fs/operations.ts";
import { type MaybePromise, andThen } from "../maybe-promise.ts";
import type { InodeNumber } from "../ids.ts";
import { CachedReads } from "./cached-reads.ts";
import type { Call } from "./call.ts";
import type { Request, RequestKind } from "./decode.ts";
import {
  DirectoryPacker,
  ReplyBuffer,
  encodeAttributesReply,
  encodeEntry,
  encodeOpen,
  encodeStatistics,
  encodeStatx,
} from "./encode.ts";
import type { CacheTimeouts } from "./encode.ts";
import type { Synchronous } from "./mount.ts";
import { ENODATA, ENOSYS, ENOTTY, EOPNOTSUPP, EROFS } from "./errno.ts";
import { OPEN_KEEP_CACHE } from "./protocol.ts";
import type { Encode, Replies } from "./replies.ts";

export interface DispatchOptions {
  readonly timeouts: CacheTimeouts;
  readonly readOnly: boolean;
  /** Which changes are answered only when they are on the disk. Asked at each change: a remount may alter it. */
  readonly synchronous: () => Synchronous;
  /** Whether files are read from us anew after each open, not from what the kernel kept. Asked at each open. */
  readonly readsAnew: () => boolean;
  /** Whether the system has SELinux: a file without a label says there is none, instead of that there are none here. */
  readonly hasLabels: boolean;
  /** Milliseconds on a clock that never goes backwards. */
  readonly monotonicMs: () => number;
  /** Have the kernel drop its pages of a range. */
  readonly invalidateData: (ino: InodeNumber, offset: bigint, lengthBytes: number) => Promise<void>;
}

/** Changes of names: what dirsync is about. */
const NAMING: ReadonlySet<RequestKind> = new Set<RequestKind>([
  "makeNode",
  "makeDirectory",
  "makeSymlink",
  "create",
  "link",
  "unlink",
  "removeDirectory",
  "rename",
]);

/** `ls -l` asks for it file by file, unless it hears that the filesystem has none: a round trip for each. */
const LABEL = "security.selinux";

/** A reply may hold less than the kernel has room for; more than this wins nothing. */
const DIRECTORY_REPLY_BYTES = 64 * 1024;
const MAX_SPARE_DIRECTORY_BUFFERS = 16;
const NO_PAYLOAD: Encode<unknown> = () => 0;

const CHANGING: ReadonlySet<RequestKind> = new Set<RequestKind>([
  "setAttributes",
  "makeNode",
  "makeDirectory",
  "makeSymlink",
  "makeTemporaryFile",
  "create",
  "link",
  "unlink",
  "removeDirectory",
  "rename",
  "write",
  "setXattr",
  "removeXattr",
  "allocate",
  "copyRange",
]);

/** Requests that ask for an answer; the session itself sees to the others. */
export type Question = Exclude<Request, { kind: "init" | "forget" | "interrupt" }>;

export class Dispatcher {
  readonly #operations: FileSystemOperations;
  readonly #replies: Replies;
  readonly #options: DispatchOptions;
  readonly #timeouts: CacheTimeouts;
  readonly #cachedReads: CachedReads;
  readonly #syncedReplies: Pick<Replies, "answer">;
  readonly #spareBuffers: ReplyBuffer[] = [];
  readonly #encodeEntry: Encode<Attributes | undefined>;
  readonly #encodeAttributes: Encode<Attributes>;
  readonly #encodeStatx: Encode<Attributes>;
  readonly #encodeCreated: Encode<Attributes>;

  constructor(operations: FileSystemOperations, replies: Replies, options: DispatchOptions) {
    const { timeouts } = options;
    this.#operations = operations;
    this.#replies = replies;
    this.#options = options;
    this.#timeouts = timeouts;
    const onceStored = async <T>(result: MaybePromise<T>): Promise<T> => {
      const value = await result;
      await operations.syncAll();
      return value;
    };
    this.#syncedReplies = {
      answer: (call, result, encode) => {
        replies.answer(call, onceStored(result), encode);
      },
    };
    this.#cachedReads = new CachedReads(options.monotonicMs);
    this.#encodeEntry = (reply, offset, attributes) => encodeEntry(reply, offset, attributes, timeouts);
    this.#encodeAttributes = (reply, offset, attributes) => encodeAttributesReply(reply, offset, attributes, timeouts);
    this.#encodeStatx = (reply, offset, attributes) => encodeStatx(reply, offset, attributes, timeouts);
    this.#encodeCreated = (reply, offset, attributes) => {
      const entryBytes = encodeEntry(reply, offset, attributes, timeouts);
      return entryBytes + encodeOpen(reply, offset + entryBytes, OPEN_KEEP_CACHE);
    };
  }

  /**
   * Answer `request`, now or later.
   * @throws Whatever an operation throws at once: the caller answers with it. Then nothing was answered yet.
   */
  dispatch(request: Question, call: Call): void {
    if (this.#options.readOnly && CHANGING.has(request.kind)) {
      this.#replies.answerErrno(call.header, EROFS);
      return;
    }
    switch (request.kind) {
      case "lookup":
      case "getAttributes":
      case "getStatx":
      case "setAttributes":
      case "readSymlink":
      case "statistics":
      case "readDirectory":
        this.#inspect(request, call);
        return;
      case "read":
      case "write":
      case "flush":
      case "sync":
      case "syncAll":
      case "allocate":
      case "seek":
      case "copyRange":
        this.#data(request, call);
        return;
      case "getXattr":
      case "setXattr":
      case "listXattrs":
      case "removeXattr":
        this.#xattr(request, call);
        return;
      case "release":
      case "destroy":
        this.#replies.answerErrno(call.header, 0);
        return;
      case "open":
        this.#open(call);
        return;
      case "ioctl":
        this.#replies.answerErrno(call.header, ENOTTY);
        return;
      case "unknown":
        this.#replies.answerErrno(call.header, ENOSYS);
        return;
      default:
        this.#name(request, call);
    }
  }

  /** Where the answer to a request of this kind goes: after a commit, if the mount asks for that. */
  #repliesTo(kind: RequestKind): Pick<Replies, "answer"> {
    const synchronous = this.#options.synchronous();
    if (synchronous === "nothing" || !(synchronous === "names" ? NAMING : CHANGING).has(kind)) return this.#replies;
    return this.#syncedReplies;
  }

  /** Of files and directories. After ENOSYS the kernel opens by itself, keeps its caches, and asks no more. */
  #open(call: Call): void {
    if (this.#options.readsAnew()) this.#replies.answer(call, 0, encodeOpen);
    else this.#replies.answerErrno(call.header, ENOSYS);
  }

  #inspect(request: QuestionOf<InspectKind>, call: Call): void {
    const { ino } = call.header;
    const operations = this.#operations;
    const replies = this.#repliesTo(request.kind);
    switch (request.kind) {
      case "lookup":
        replies.answer(call, operations.lookup(ino, request.name), this.#encodeEntry);
        return;
      case "getAttributes":
        replies.answer(call, operations.getAttributes(ino), this.#encodeAttributes);
        return;
      case "getStatx":
        replies.answer(call, operations.getAttributes(ino), this.#encodeStatx);
        return;
      case "setAttributes":
        replies.answer(call, operations.setAttributes(ino, request.changes, call), this.#encodeAttributes);
        return;
      case "readSymlink":
        this.#replies.answerBytes(call, operations.readSymlink(ino), (target) => lend([target]));
        return;
      case "statistics":
        replies.answer(call, operations.statistics(), encodeStatistics);
        return;
      case "readDirectory":
        this.#readDirectory(request, call);
    }
  }

  /** Everything that makes, moves or removes a dentry. */
  #name(request: QuestionOf<NameKind>, call: Call): void {
    const { ino } = call.header;
    const operations = this.#operations;
    const replies = this.#repliesTo(request.kind);
    switch (request.kind) {
      case "create":
        replies.answer(call, operations.makeNode(ino, request.name, request.node, call), this.#encodeCreated);
        return;
      case "makeTemporaryFile":
        replies.answer(call, operations.makeTemporaryFile(ino, request.node, call), this.#encodeCreated);
        return;
      case "makeNode":
        replies.answer(call, operations.makeNode(ino, request.name, request.node, call), this.#encodeEntry);
        return;
      case "makeDirectory":
        replies.answer(call, operations.makeDirectory(ino, request.name, request.node, call), this.#encodeEntry);
        return;
      case "makeSymlink":
        replies.answer(call, operations.makeSymlink(ino, request.name, request.target, call), this.#encodeEntry);
        return;
      case "link":
        replies.answer(call, operations.link(request.ino, ino, request.name, call), this.#encodeEntry);
        return;
      case "unlink":
        replies.answer(call, operations.unlink(ino, request.name, call), NO_PAYLOAD);
        return;
      case "removeDirectory":
        replies.answer(call, operations.removeDirectory(ino, request.name, call), NO_PAYLOAD);
        return;
      case "rename": {
        const to = { parent: request.newParent, name: request.newName };
        replies.answer(
          call,
          operations.rename({ parent: ino, name: request.name }, to, request.flags, call),
          NO_PAYLOAD,
        );
      }
    }
  }

  #data(request: QuestionOf<DataKind>, call: Call): void {
    const { ino } = call.header;
    const operations = this.#operations;
    const replies = this.#repliesTo(request.kind);
    switch (request.kind) {
      case "read": {
        if (!request.isDirect) this.#cachedReads.note(ino);
        // It may wait for a store that is away.
        const read = operations.read(ino, request.offset, request.lengthBytes, call, request);
        const giveBack = (loan: BorrowedBytes): void => {
          loan.release();
        };
        this.#replies.answerBytes(call, untilInterrupted(read, call, giveBack), asTheyAre);
        return;
      }
      case "write":
        replies.answer(
          call,
          request.isDirect ? this.#writeDirect(request, call) : this.#write(request, call),
          encodeCount,
        );
        return;
      case "flush":
        replies.answer(call, operations.flush(ino), NO_PAYLOAD);
        return;
      case "sync":
        replies.answer(call, operations.sync(ino, call), NO_PAYLOAD);
        return;
      case "syncAll":
        replies.answer(call, operations.syncAll(), NO_PAYLOAD);
        return;
      case "allocate":
        replies.answer(
          call,
          operations.allocate(ino, request.mode, request.offset, request.lengthBytes, call),
          NO_PAYLOAD,
        );
        return;
      case "seek":
        replies.answer(call, operations.seek(ino, request.offset, request.whence), encodeWide);
        return;
      case "copyRange": {
        const from = { ino, offset: request.offset };
        const to = { ino: request.toIno, offset: request.toOffset };
        const copied = operations.copyRange(from, to, request.lengthBytes, call);
        // fuse_write_out has 32 bits and padding, fuse_copy_file_range_out 64: the same bytes where both can hold it.
        replies.answer(call, copied, encodeWide);
      }
    }
  }

  #write(request: QuestionOf<"write">, call: Call): MaybePromise<number> {
    return this.#operations.write(call.header.ino, request.offset, request.data, request, call);
  }

  /** Answered once the kernel has no older pages of the range. */
  #writeDirect(request: QuestionOf<"write">, call: Call): MaybePromise<number> {
    const { ino } = call.header;
    const { monotonicMs, invalidateData } = this.#options;
    const cameMs = monotonicMs();
    const written = this.#write(request, call);
    const finish = (count: number): MaybePromise<number> => {
      if (!this.#cachedReads.mayHold(ino, cameMs)) return count;
      return invalidateData(ino, request.offset, count).then(() => count);
    };
    return andThen(written, finish);
  }

  #xattr(request: QuestionOf<XattrKind>, call: Call): void {
    const { ino } = call.header;
    const operations = this.#operations;
    switch (request.kind) {
      case "getXattr":
        this.#getXattr(request, call);
        return;
      case "setXattr":
        this.#repliesTo(request.kind).answer(
          call,
          operations.setXattr(ino, request.name, request.value, request.flags, call),
          NO_PAYLOAD,
        );
        return;
      case "listXattrs":
        this.#sized(call, operations.listXattrs(ino, call), request.lengthBytes, (names) =>
          Buffer.from(names.map((name) => `${name}\0`).join(""), "latin1"),
        );
        return;
      case "removeXattr":
        this.#repliesTo(request.kind).answer(call, operations.removeXattr(ino, request.name, call), NO_PAYLOAD);
    }
  }

  /** A miss is answered without an exception: the kernel asks for capabilities of every file that is written. */
  #getXattr(request: QuestionOf<"getXattr">, call: Call): void {
    const result = this.#operations.getXattr(call.header.ino, request.name);
    const isPointless = request.name === LABEL && !this.#options.hasLabels;
    if (result === undefined) {
      this.#replies.answerErrno(call.header, isPointless ? EOPNOTSUPP : ENODATA);
      return;
    }
    this.#sized(call, result, request.lengthBytes, (value) => {
      if (value === undefined) {
        throw new TcfsError(isPointless ? "TCFS_UNSUPPORTED" : "TCFS_NO_DATA", "no such extended attribute");
      }
      return value;
    });
  }

  /** fuse_getxattr_out (size, padding) if only the length is asked for, else the bytes, which must fit. */
  #sized<T>(call: Call, result: MaybePromise<T>, limitBytes: number, bytesOf: (value: T) => Uint8Array): void {
    if (limitBytes === 0) {
      this.#replies.answer(call, result, (reply, offset, value) => encodeCount(reply, offset, bytesOf(value).length));
      return;
    }
    this.#replies.answerBytes(call, result, (value) => {
      const bytes = bytesOf(value);
      if (bytes.length > limitBytes) throw new TcfsError("TCFS_RANGE", "the caller's buffer is too small");
      return lend([bytes]);
    });
  }

  /** Entries are packed as they come, which may be across waits: so each request has its own buffer. */
  #readDirectory(request: QuestionOf<"readDirectory">, call: Call): void {
    const buffer = this.#spareBuffers.pop() ?? new ReplyBuffer(new Uint8Array(DIRECTORY_REPLY_BYTES));
    const { withAttributes: isPlus } = request;
    const packer = new DirectoryPacker(buffer, request.lengthBytes, this.#timeouts);
    const take = (entry: DirectoryEntry, attributes: Attributes | undefined): boolean =>
      packer.take(entry, attributes, isPlus);
    const done = this.#operations.readDirectory(call.header.ino, request.cookie, isPlus, take, request);
    this.#replies.answerBytes(call, done, () => ({
      pieces: [buffer.bytes.subarray(0, packer.usedBytes)],
      release: () => {
        if (this.#spareBuffers.length < MAX_SPARE_DIRECTORY_BUFFERS) this.#spareBuffers.push(buffer);
      },
    }));
  }
}

type QuestionOf<K extends RequestKind> = Extract<Question, { kind: K }>;
type InspectKind =
  "lookup" | "getAttributes" | "getStatx" | "setAttributes" | "readSymlink" | "statistics" | "readDirectory";
type DataKind = "read" | "write" | "flush" | "sync" | "syncAll" | "allocate" | "seek" | "copyRange";
type XattrKind = "getXattr" | "setXattr" | "listXattrs" | "removeXattr";
type NameKind =
  | "create"
  | "makeNode"
  | "makeDirectory"
  | "makeSymlink"
  | "makeTemporaryFile"
  | "link"
  | "unlink"
  | "removeDirectory"
  | "rename";

function asTheyAre(bytes: BorrowedBytes): BorrowedBytes {
  return bytes;
}

/** fuse_write_out and fuse_getxattr_out: size, padding. */
function encodeCount(reply: ReplyBuffer, offset: number, count: number): number {
  reply.i53(offset, count);
  return 8;
}

/** fuse_lseek_out and fuse_copy_file_range_out: 64 bits. */
function encodeWide(reply: ReplyBuffer, offset: number, value: bigint): number {
  reply.u64(offset, value);
  return 8;
}
