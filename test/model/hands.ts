/** Does the operations of a history on a mount, and holds the files that it holds open. */
import { join } from "node:path";
import { O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_WRONLY, S_IFDIR, S_IFMT } from "../posix/constants.ts";
import { CallError, type Driver } from "../posix/driver.ts";
import { bytesOf, type Operation, type TreePath } from "./operations.ts";

export interface Held {
  readonly fd: number;
  readonly ino: bigint;
}

export class Hands {
  readonly held = new Map<number, Held>();
  readonly #driver: Driver;
  readonly #directory: string;

  constructor(driver: Driver, directory: string) {
    this.#driver = driver;
    this.#directory = directory;
  }

  /** @throws CallError with the errno that the kernel answered. */
  async perform(operation: Operation): Promise<void> {
    const driver = this.#driver;
    switch (operation.kind) {
      case "mkdir":
        await driver.mkdir(this.#at(operation.path), operation.mode);
        return;
      case "rmdir":
        await driver.rmdir(this.#at(operation.path));
        return;
      case "create":
        await driver.close(await driver.open(this.#at(operation.path), O_CREAT | O_EXCL | O_WRONLY, operation.mode));
        return;
      case "unlink":
        await driver.unlink(this.#at(operation.path));
        return;
      case "symlink":
        await driver.symlink(operation.target, this.#at(operation.path));
        return;
      case "link":
        await driver.link(this.#at(operation.path), this.#at(operation.to));
        return;
      case "rename":
        await driver.rename(this.#at(operation.path), this.#at(operation.to), operation.flags);
        return;
      case "chmod":
        await driver.chmod(this.#at(operation.path), operation.mode);
        return;
      case "chown":
        await driver.chown(this.#at(operation.path), operation.uid, operation.gid);
        return;
      case "utimens": {
        const time = { seconds: BigInt(operation.seconds), nanoseconds: operation.nanoseconds };
        await driver.utimens(this.#at(operation.path), "omit", time);
        return;
      }
      case "setxattr":
        await driver.setXattr(this.#at(operation.path), operation.name, operation.value, operation.flags);
        return;
      case "removexattr":
        await driver.removeXattr(this.#at(operation.path), operation.name);
        return;
      default:
        await this.#performOnData(operation);
    }
  }

  async #performOnData(operation: Operation): Promise<void> {
    const driver = this.#driver;
    switch (operation.kind) {
      case "write":
        return this.opened(operation.path, O_WRONLY, (fd) => driver.pwrite(fd, bytesOf(operation), operation.offset));
      case "truncate":
        await driver.truncate(this.#at(operation.path), operation.lengthBytes);
        return;
      case "allocate":
        return this.opened(operation.path, O_RDWR, (fd) =>
          driver.fallocate(fd, operation.mode, operation.offset, operation.lengthBytes),
        );
      case "copy":
        return this.opened(operation.path, O_RDONLY, (from) =>
          this.opened(operation.to, O_WRONLY, (to) => this.#copy(operation, from, to)),
        );
      case "fsync":
        return this.opened(operation.path, O_RDONLY, (fd) => driver.fsync(fd));
      case "hold":
        await this.#release(operation.slot);
        await this.#hold(operation.slot, await driver.open(this.#at(operation.path), O_RDWR));
        return;
      case "writeHeld":
        await driver.pwrite(this.#heldFd(operation.slot), bytesOf(operation), operation.offset);
        return;
      case "truncateHeld":
        await driver.ftruncate(this.#heldFd(operation.slot), operation.lengthBytes);
        return;
      case "release":
        await this.#release(operation.slot);
        return;
      default:
        throw new RangeError(`${operation.kind} is no change`);
    }
  }

  /** What the source holds at the start: a copy onto the file itself makes the source longer. */
  async #copy(operation: Extract<Operation, { kind: "copy" }>, from: number, to: number): Promise<void> {
    const source = await this.#driver.fstat(from);
    const isDirectory = (source.mode & S_IFMT) === S_IFDIR; // refused, however long it calls itself
    const toItsEnd = isDirectory ? Infinity : Number(source.lengthBytes) - operation.offset;
    const lengthBytes = Math.min(operation.lengthBytes, toItsEnd);
    for (let done = 0; done < lengthBytes;) {
      const copied = await this.#driver.copyRange(
        { fd: from, offset: operation.offset + done },
        { fd: to, offset: operation.toOffset + done },
        lengthBytes - done,
      );
      if (copied === 0) return;
      done += copied;
    }
  }

  #at(path: TreePath): string {
    return join(this.#directory, ...path);
  }

  #heldFd(slot: number): number {
    const held = this.held.get(slot);
    if (held === undefined) throw new CallError("held", "EBADF");
    return held.fd;
  }

  async #hold(slot: number, fd: number): Promise<void> {
    this.held.set(slot, { fd, ino: (await this.#driver.fstat(fd)).ino });
  }

  async opened(path: TreePath, flags: number, use: (fd: number) => Promise<unknown>): Promise<void> {
    const fd = await this.#driver.open(this.#at(path), flags);
    try {
      await use(fd);
    } finally {
      await this.#driver.close(fd).catch(() => undefined); // a killed daemon answers ENOTCONN
    }
  }

  async #release(slot: number): Promise<void> {
    const held = this.held.get(slot);
    this.held.delete(slot);
    if (held !== undefined) await this.#driver.close(held.fd).catch(() => undefined);
  }

  async closeAll(): Promise<void> {
    for (const slot of [...this.held.keys()]) await this.#release(slot);
  }
}
