/**
 * One mounted filesystem: takes requests from the kernel, has them answered, ends with the unmount. Single-threaded;
 * the thread that serves must never touch its own mount.
 */
import type { FileSystemOperations } from "../fs/operations.ts";
import { TcfsError } from "../errors.ts";
import type { InodeNumber, Name } from "../ids.ts";
import { systemClock } from "../platform/clock.ts";
import { binding } from "./binding.ts";
import type { Channel } from "./binding.ts";
import { Connection } from "./connection.ts";
import { ReplyBuffer } from "./encode.ts";
import { ECONNABORTED, ENODEV, ENOENT, errnoName } from "./errno.ts";
import type { Synchronous } from "./mount.ts";
import type { Agreement } from "./negotiate.ts";
import { NOTIFY, OUT_HEADER_BYTES, REPLY_BUFFER_BYTES, REQUEST_BUFFER_BYTES } from "./protocol.ts";
import type { FuseLogger } from "./replies.ts";

export type { FuseLogger } from "./replies.ts";

export interface FuseSessionOptions {
  /** Refuse what changes anything with EROFS, besides the mount flag. */
  readonly readOnly: boolean;
  readonly synchronous: Synchronous;
  /** Have every open followed by reads from us, though the kernel kept what they read. A mount that begins without stays so. */
  readonly readsAnew: boolean;
  /** Whether the system has SELinux. */
  readonly hasLabels: boolean;
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
  /** May change while it serves. */
  synchronous: Synchronous;
  /** Likewise, but not from false to true. */
  readsAnew: boolean;
  #lastNotice: Promise<void> = Promise.resolve();
  #serving: { readonly channel: Channel; readonly connection: Connection } | undefined;

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
    this.synchronous = options.synchronous;
    this.readsAnew = options.readsAnew;
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
        this.#serving?.connection.receive(lengthBytes);
      },
      (errno) => {
        this.#finish(errno);
      },
    );
    if (channel === undefined) throw new TcfsError("TCFS_IO", "the FUSE descriptor cannot be polled");
    const connection = new Connection(channel, this.#operations, this.#logger, {
      readOnly: this.#options.readOnly,
      synchronous: () => this.synchronous,
      readsAnew: () => this.readsAnew,
      hasLabels: this.#options.hasLabels,
      monotonicMs: () => systemClock.monotonicMs(),
      invalidateData: (ino, offset, lengthBytes) => this.invalidateData(ino, offset, lengthBytes),
      timeouts: {
        entrySeconds: this.#options.entryTimeoutSeconds,
        attributeSeconds: this.#options.attributeTimeoutSeconds,
      },
    });
    this.#serving = { channel, connection };
  }

  /** What the kernel and we agreed on; undefined before its first request. */
  get agreement(): Agreement | undefined {
    return this.#serving?.connection.agreement;
  }

  /** Requests that wait for an operation's promise. */
  get pendingCount(): number {
    return this.#serving?.connection.pendingCount ?? 0;
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

  /** Have the kernel ask for an inode's attributes again; its data stays cached. */
  invalidateAttributes(ino: InodeNumber): Promise<void> {
    return this.#invalidate(ino, -1); // a negative offset: attributes alone
  }

  /** Have the kernel ask for an inode's attributes and data again, or for a directory's entries. */
  invalidateInode(ino: InodeNumber): Promise<void> {
    return this.#invalidate(ino, 0);
  }

  /** fuse_notify_inval_inode_out: ino, offset, length; 0 means to the end. */
  #invalidate(ino: InodeNumber, offset: number): Promise<void> {
    const message = notification(NOTIFY.INVAL_INODE, 24);
    message.i53(OUT_HEADER_BYTES, ino);
    message.i53(OUT_HEADER_BYTES + 8, offset);
    return this.#notify(message);
  }

  /**
   * Have the kernel drop its pages of a range, and ask for the attributes again. It waits for reads of them that are
   * under way, and they may need the thread pool: so only one thread of it waits at a time.
   */
  invalidateData(ino: InodeNumber, offset: bigint, lengthBytes: number): Promise<void> {
    const message = notification(NOTIFY.INVAL_INODE, 24);
    message.i53(OUT_HEADER_BYTES, ino);
    message.u64(OUT_HEADER_BYTES + 8, offset);
    message.i53(OUT_HEADER_BYTES + 16, lengthBytes);
    const notice = this.#lastNotice.then(() => this.#notify(message));
    this.#lastNotice = notice.catch(() => undefined);
    return notice;
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

  #finish(errno: number): void {
    if (errno !== ENODEV && errno !== ECONNABORTED) {
      this.#logger.error("the FUSE connection broke", { errno: errnoName(errno) });
    }
    void this.close();
  }
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
