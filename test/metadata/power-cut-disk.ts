/**
 * A disk in memory that can lose power: what a file holds, and what of it is on the device. Only what the journal calls
 * is there.
 */
import { TcfsError } from "../../src/errors.ts";
import type { Disk, DiskFile, DurableFile } from "../../src/platform/disk.ts";

interface StoredFile {
  /** As a reader sees it. */
  cached: Uint8Array;
  /** As a power cut leaves it. */
  durable: Uint8Array;
}

export class PowerCutDisk {
  readonly #files = new Map<string, StoredFile>();
  /** Durable writes since the beginning: their file's path and place. */
  readonly writes: { readonly path: string; readonly offset: number; readonly lengthBytes: number }[] = [];
  /** While set a durable write reaches the cache alone, and fails. */
  areFlushesFailing = false;
  /** Writes on the pool wait for it. */
  gate: Promise<void> = Promise.resolve();

  /** As the code under test knows it. */
  get disk(): Disk {
    return this as unknown as Disk;
  }

  /** A machine that starts after a power cut at this moment. */
  powerCut(): PowerCutDisk {
    const after = new PowerCutDisk();
    for (const [path, { durable }] of this.#files) {
      after.#files.set(path, { cached: durable.slice(), durable: durable.slice() });
    }
    return after;
  }

  /** The bytes of a file, to be damaged in place, on the device too. */
  damage(path: string, change: (bytes: Uint8Array) => void): void {
    const file = this.#get(path);
    change(file.cached);
    file.durable = file.cached.slice();
  }

  put(path: string, bytes: Uint8Array): void {
    this.#files.set(path, { cached: bytes.slice(), durable: bytes.slice() });
  }

  bytesOf(path: string): Uint8Array {
    return this.#get(path).cached.slice();
  }

  async create(path: string): Promise<DiskFile> {
    if (this.#files.has(path)) throw new TcfsError("TCFS_EXISTS", path);
    const stored: StoredFile = { cached: new Uint8Array(0), durable: new Uint8Array(0) };
    this.#files.set(path, stored);
    return {
      write: async ([bytes]: readonly Uint8Array[]) => {
        stored.cached = bytes?.slice() ?? new Uint8Array(0);
      },
      sync: async () => {
        stored.durable = stored.cached.slice();
      },
      close: async () => undefined,
    } as unknown as DiskFile;
  }

  async openDurable(path: string): Promise<DurableFile> {
    const stored = this.#get(path);
    let isOpen = true;
    const write = (bytes: Uint8Array, offset: number): void => {
      if (!isOpen) throw new TcfsError("TCFS_CLOSED", path);
      if (offset + bytes.length > stored.cached.length) throw new RangeError("a journal file grows");
      this.writes.push({ path, offset, lengthBytes: bytes.length });
      stored.cached.set(bytes, offset);
      if (this.areFlushesFailing) throw new TcfsError("TCFS_IO", "made to fail: flush");
      stored.durable.set(bytes, offset);
    };
    return {
      length: async () => stored.cached.length,
      readInto: async (into, offset) => {
        into.set(stored.cached.subarray(offset, offset + into.length));
        return Math.min(into.length, stored.cached.length - offset);
      },
      write: async (pieces, offset) => {
        await this.gate;
        write(Buffer.concat(pieces), offset);
      },
      writeSync: write,
      close: async () => {
        isOpen = false;
      },
    };
  }

  async list(path: string): Promise<string[]> {
    const prefix = `${path}/`;
    return [...this.#files.keys()].filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
  }

  async remove(path: string): Promise<void> {
    this.#files.delete(path);
  }

  async makeDirectory(): Promise<void> {
    // The files know their paths.
  }

  async syncDirectory(): Promise<void> {
    // Names are durable at once: the journal's files exist before the vault does.
  }

  #get(path: string): StoredFile {
    const file = this.#files.get(path);
    if (file === undefined) throw new TcfsError("TCFS_NO_ENTRY", path);
    return file;
  }
}
