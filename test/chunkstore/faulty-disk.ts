/**
 * A disk around another one that fails when told to, notes in which order it was asked for what, and knows what of the
 * files that it made is on the device.
 */
import { dirname } from "node:path";
import { TcfsError, type TcfsErrorCode } from "../../src/errors.ts";
import type { Disk, DiskFile, DiskSpace, DurableFile } from "../../src/platform/disk.ts";

export type DiskAction =
  | "create"
  | "open"
  | "openDurable"
  | "read"
  | "write"
  | "writeDurable"
  | "sync"
  | "syncDirectory"
  | "remove"
  | "rename";

const ACTIONS: readonly DiskAction[] = [
  "create",
  "open",
  "openDurable",
  "read",
  "write",
  "writeDurable",
  "sync",
  "syncDirectory",
  "remove",
  "rename",
];

/** A file that was made, as far as it is on the device. */
interface MadeFile {
  flushedBytes: number;
  isNamed: boolean;
}

export class FaultyDisk implements Disk {
  readonly #disk: Disk;
  readonly events: DiskAction[] = [];
  /** How often each action still fails, and how. */
  readonly #faults = new Map<DiskAction, { code: TcfsErrorCode; count: number }>();
  readonly #made = new Map<string, MadeFile>();
  /** What {@link space} says instead of the truth. */
  availableBytes: number | undefined;
  /** How much of its bytes a durable write that fails leaves behind: 0…1. */
  leftShare = 0.5;
  /** Called first in every call but `close`; what it throws the call fails with. */
  onCall: (call: string) => void = () => undefined;
  /** Called before each action but `writeDurable`; may wait. */
  before: (action: DiskAction) => Promise<void> | void = () => undefined;

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  fail(action: DiskAction, code: TcfsErrorCode, count = 1): void {
    this.#faults.set(action, { code, count });
  }

  heal(): void {
    this.#faults.clear();
  }

  /**
   * From now on nothing works any more.
   * @returns How long each file is that was made here, once there is power again; undefined: it is not there.
   */
  cutPower(): ReadonlyMap<string, number | undefined> {
    for (const action of ACTIONS) this.fail(action, "TCFS_IO", Infinity);
    this.leftShare = 0; // what is asked for after this moment leaves nothing behind
    return new Map([...this.#made].map(([path, made]) => [path, made.isNamed ? made.flushedBytes : undefined]));
  }

  async note(action: DiskAction): Promise<void> {
    this.events.push(action);
    this.onCall(action);
    await this.before(action);
    this.#failIfTold(action);
  }

  /** As {@link note}, for what must not wait. */
  noteNow(action: DiskAction): void {
    this.events.push(action);
    this.onCall(action);
    this.#failIfTold(action);
  }

  #failIfTold(action: DiskAction): void {
    const fault = this.#faults.get(action);
    if (fault === undefined || fault.count === 0) return;
    fault.count -= 1;
    throw new TcfsError(fault.code, `made to fail: ${action}`);
  }

  async create(path: string): Promise<DiskFile> {
    await this.note("create");
    const file = await this.#disk.create(path);
    const made = { flushedBytes: 0, isNamed: false };
    this.#made.set(path, made);
    return new FaultyFile(this, file, made);
  }

  async open(path: string): Promise<DiskFile> {
    await this.note("open");
    return new FaultyFile(this, await this.#disk.open(path));
  }

  async openToWrite(path: string): Promise<DiskFile> {
    await this.note("open");
    return new FaultyFile(this, await this.#disk.openToWrite(path));
  }

  async openDurable(path: string): Promise<DurableFile> {
    await this.note("openDurable");
    return faultyDurable(this, await this.#disk.openDurable(path));
  }

  async readFile(path: string): Promise<Uint8Array | undefined> {
    this.onCall("readFile");
    return this.#disk.readFile(path);
  }

  async replaceFile(path: string, content: Uint8Array): Promise<void> {
    this.onCall("replaceFile");
    return this.#disk.replaceFile(path, content);
  }

  async list(path: string): Promise<string[]> {
    this.onCall("list");
    return this.#disk.list(path);
  }

  async makeDirectory(path: string): Promise<void> {
    this.onCall("makeDirectory");
    return this.#disk.makeDirectory(path);
  }

  async makeDirectories(path: string): Promise<void> {
    this.onCall("makeDirectories");
    return this.#disk.makeDirectories(path);
  }

  async remove(path: string): Promise<void> {
    await this.note("remove");
    this.#made.delete(path);
    await this.#disk.remove(path);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.note("rename");
    await this.#disk.rename(from, to);
  }

  async syncDirectory(path: string): Promise<void> {
    await this.note("syncDirectory");
    await this.#disk.syncDirectory(path);
    for (const [name, made] of this.#made) if (dirname(name) === path) made.isNamed = true;
  }

  async space(path: string): Promise<DiskSpace> {
    this.onCall("space");
    const space = await this.#disk.space(path);
    return { ...space, availableBytes: this.availableBytes ?? space.availableBytes };
  }
}

class FaultyFile implements DiskFile {
  /** None, so that reads go through `readInto` and can be made to fail. */
  readonly fd = undefined;
  readonly #disk: FaultyDisk;
  readonly #file: DiskFile;
  readonly #made: MadeFile | undefined;
  #endBytes = 0;

  constructor(disk: FaultyDisk, file: DiskFile, made?: MadeFile) {
    this.#disk = disk;
    this.#file = file;
    this.#made = made;
  }

  async readInto(into: Uint8Array, offset: number): Promise<number> {
    await this.#disk.note("read");
    return this.#file.readInto(into, offset);
  }

  /** A failing write leaves half of its bytes behind, as real ones do. */
  async write(pieces: readonly Uint8Array[], offset: number): Promise<void> {
    try {
      await this.#disk.note("write");
    } catch (error) {
      const [first] = pieces;
      if (first !== undefined) await this.#file.write([first.subarray(0, first.length / 2)], offset);
      throw error;
    }
    const lengthBytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
    await this.#file.write(pieces, offset);
    this.#endBytes = Math.max(this.#endBytes, offset + lengthBytes);
  }

  async sync(): Promise<void> {
    await this.#disk.note("sync");
    const flushedBytes = this.#endBytes;
    await this.#file.sync();
    if (this.#made !== undefined) this.#made.flushedBytes = flushedBytes;
  }

  async length(): Promise<number> {
    this.#disk.onCall("length");
    return this.#file.length();
  }

  async truncate(lengthBytes: number): Promise<void> {
    this.#disk.onCall("truncate");
    await this.#file.truncate(lengthBytes);
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** A failing write leaves a share of its bytes behind. */
function faultyDurable(disk: FaultyDisk, file: DurableFile): DurableFile {
  const leave = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, Math.floor(bytes.length * disk.leftShare));
  return {
    readInto: file.readInto.bind(file),
    length: file.length.bind(file),
    close: file.close.bind(file),
    write: async (pieces, offset) => {
      try {
        disk.noteNow("writeDurable");
      } catch (error) {
        await file.write([leave(Buffer.concat(pieces))], offset);
        throw error;
      }
      await file.write(pieces, offset);
    },
    writeSync: (bytes, offset) => {
      try {
        disk.noteNow("writeDurable");
      } catch (error) {
        file.writeSync(leave(bytes), offset);
        throw error;
      }
      file.writeSync(bytes, offset);
    },
  };
}
