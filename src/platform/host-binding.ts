/**
 * What Node lacks of the host (native/host): the only importer of its binary. Each call answers 0 or -errno, unless it says
 * otherwise.
 */
import { createRequire } from "node:module";

/** Names are latin1-decoded bytes, one step below a directory's descriptor, never followed. */
export interface HostBinding {
  /** Of the file that `fd`, perhaps an O_PATH one, refers to. */
  setXattr(fd: number, name: string, value: Uint8Array): number;
  /** As {@link setXattr}. */
  setTimes(
    fd: number,
    accessSeconds: number,
    accessNanoseconds: number,
    modifySeconds: number,
    modifyNanoseconds: number,
  ): number;
  /** mknodat(2); the device in the kernel's new_encode_dev form. */
  makeNode(directory: number, name: string, mode: number, device: number): number;
  /** Another name for the very file that `fd` refers to. */
  link(fd: number, directory: number, name: string): number;
  /** `-EEXIST` if there is a `to`; `-EINVAL` where the filesystem cannot promise that. */
  renameNew(directory: number, from: string, to: string): number;
  /** syncfs(2) */
  syncFileSystem(fd: number): number;
  /**
   * Give pages that malloc holds free back to the system, if it holds more than so many bytes; takes some milliseconds.
   * @returns Bytes that it held; 0 where the C library does not tell, and nothing is done.
   */
  trimMemory(freeBytes: number): number;
  /** No core dumps, also of programs that are started; no debugger of another process but root's. */
  harden(): number;
  /**
   * Zeros on pages of their own, out of swap as far as RLIMIT_MEMLOCK allows, out of core dumps and forks; wiped when collected.
   * @returns Undefined where there is no such memory.
   */
  lockedBytes(lengthBytes: number): ArrayBuffer | undefined;
}

export const host = createRequire(import.meta.url)("../../native/build/Release/tcfs_host.node") as HostBinding;
