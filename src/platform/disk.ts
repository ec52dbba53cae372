/**
 * The disk as tcfs uses it: so little that a power-cut disk can stand in for it.
 * All paths are absolute. Nothing but `sync`, `syncDirectory` and a {@link DurableFile} makes anything durable.
 */

export interface DiskSpace {
  readonly totalBytes: number;
  readonly freeBytes: number;
  /** What an unprivileged process may still use. */
  readonly availableBytes: number;
}

export interface DiskFile {
  /** The operating system's descriptor, where there is one: lets the native engine read in place. */
  readonly fd: number | undefined;
  /** Fill `into` from `offset`; resolves to the bytes read, fewer only at the end of the file. */
  readInto(into: Uint8Array, offset: number): Promise<number>;
  /** Write all of `pieces` one after another from `offset`. Lent until settled. */
  write(pieces: readonly Uint8Array[], offset: number): Promise<void>;
  /** Flush data, and the metadata needed to read it, to the device (fdatasync). */
  sync(): Promise<void>;
  length(): Promise<number>;
  truncate(lengthBytes: number): Promise<void>;
  close(): Promise<void>;
}

/** A file whose writes are on the device when they end (O_DSYNC). */
export interface DurableFile extends Pick<DiskFile, "readInto" | "write" | "length" | "close"> {
  /** As `write`, on the calling thread: where the device takes less time than a hop to the thread pool. */
  writeSync(bytes: Uint8Array, offset: number): void;
}

export interface Disk {
  /** Create a new file, 0600; fails with `TCFS_EXISTS` if there is one. */
  create(path: string): Promise<DiskFile>;
  /** Open an existing file for reading, never through a symlink; `TCFS_NO_ENTRY` if there is none. */
  open(path: string): Promise<DiskFile>;
  /** Open an existing file for reading and writing; `TCFS_NO_ENTRY` if there is none. */
  openToWrite(path: string): Promise<DiskFile>;
  /** Open an existing file for durable writes; `TCFS_NO_ENTRY` if there is none. */
  openDurable(path: string): Promise<DurableFile>;
  /** Whole file, or undefined when there is none. */
  readFile(path: string): Promise<Uint8Array | undefined>;
  /** Replace a file atomically and durably: temporary file, sync, rename, directory sync. Mode 0600. */
  replaceFile(path: string, content: Uint8Array): Promise<void>;
  /** Names in a directory, without order; empty when there is no such directory, `TCFS_IO` if it is a symlink. */
  list(path: string): Promise<string[]>;
  /**
   * Create a directory 0700, and no parent of it: where that is gone (a drive unplugged, a vault directory deleted) what
   * is written must not come to lie elsewhere. One that is there is well. Durable once the parent is synced.
   */
  makeDirectory(path: string): Promise<void>;
  /** As `makeDirectory`, with its parents: for a vault's own directory alone. */
  makeDirectories(path: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Replaces what is there. Durable once both directories are synced. */
  rename(from: string, to: string): Promise<void>;
  syncDirectory(path: string): Promise<void>;
  space(path: string): Promise<DiskSpace>;
}
