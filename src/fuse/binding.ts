/** The native half of the FUSE transport (native/fuse): the only importer of its binary. Bytes and errno, no policy. */
import { createRequire } from "node:module";

/** One open FUSE connection. Buffers are shared with native code and live as long as the channel. */
export interface Channel {
  /** The request that `onRequest` announces lies here; overwritten by the next one. */
  readonly request: Uint8Array;
  /** Where a reply, its header included, is put together. */
  readonly reply: Uint8Array;
  /**
   * Write the first `lengthBytes` of `reply` and then `pieces` as one message, at once.
   * @returns 0 or -errno; `-ENOENT` when the kernel no longer waits for this reply.
   */
  write(lengthBytes: number, pieces?: readonly Uint8Array[]): number;
  /** Send a whole notification from the thread pool: the kernel may wait in it for pages that only we can serve. */
  notify(message: Uint8Array): Promise<number>;
  /** Close the descriptor; the kernel then aborts what is still mounted. Idempotent. */
  stop(): void;
}

export interface FuseBinding {
  /** @returns A descriptor of /dev/fuse, or -errno. */
  openDevice(): number;
  closeDescriptor(fd: number): number;
  /** mount(2); strings are latin1-decoded bytes. @returns 0 or -errno. */
  mount(source: string, target: string, type: string, flags: number, data: string): number;
  /** umount2(2), in the thread pool. @returns 0 or -errno. */
  unmount(target: string, flags: number): Promise<number>;
  /** @returns Two connected descriptors, not inherited by children; or -errno. */
  socketPair(): readonly [number, number] | number;
  /** @returns The descriptor waiting in the socket, or -errno; does not wait. */
  receiveDescriptor(socket: number): number;
  /**
   * Serve `fd` on this thread's event loop; owns it from then on.
   * @param onRequest - Called with the length of each request; must not throw.
   * @param onEnd - Called once with the errno that ended reading: `ENODEV` after an unmount.
   * @returns undefined if `fd` cannot be polled.
   */
  openChannel(
    fd: number,
    requestBytes: number,
    replyBytes: number,
    spinMicroseconds: number,
    onRequest: (lengthBytes: number) => void,
    onEnd: (errno: number) => void,
  ): Channel | undefined;
}

export const binding = createRequire(import.meta.url)("../../native/build/Release/tcfs_fuse.node") as FuseBinding;
