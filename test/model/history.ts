/**
 * One history on one subject, in lock step with the model: every answer is compared, and the whole tree at each check.
 * After SIGKILL the tree must equal the model's after some prefix of the operations, not older than the last sync.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_WRONLY } from "../posix/constants.ts";
import { CallError, errnoOf, type Driver } from "../posix/driver.ts";
import { sleep } from "../support/run.ts";
import { Model, type TreeDescription } from "./model.ts";
import { bytesOf, type Operation, type TreePath } from "./operations.ts";
import { difference, readTree } from "./tree.ts";

export interface Subject extends AsyncDisposable {
  readonly mountPoint: string;
  remount(): Promise<void>;
  /** SIGKILL to what serves the mount, without mounting again; a subject that cannot crash unmounts. */
  crash(): Promise<void>;
  /** Mount, if it is not mounted: after `crash`, or after a mount that failed. */
  recover(): Promise<void>;
}

const PIECE_BYTES = 2 ** 20;

export class History {
  readonly #subject: Subject;
  readonly #driver: Driver;
  readonly #directory: string;
  #model = new Model();
  readonly #held = new Map<number, number>();
  /** The model after each operation since the last sync, the oldest first. */
  #states: TreeDescription[] = [];
  #done = 0;

  /** @param directory - On the subject; made by `run`. */
  constructor(subject: Subject, driver: Driver, directory: string) {
    this.#subject = subject;
    this.#driver = driver;
    this.#directory = directory;
  }

  /** @throws Error at the first disagreement. */
  async run(operations: readonly Operation[]): Promise<void> {
    await this.#subject.recover();
    await mkdir(this.#directory);
    await this.#sync([]);
    try {
      for (const operation of operations) {
        await this.#step(operation);
        this.#done++;
      }
      await this.#check();
    } finally {
      await this.#releaseAll();
    }
  }

  async #step(operation: Operation): Promise<void> {
    switch (operation.kind) {
      case "check":
        return this.#check();
      case "readHeld":
        return this.#readHeld(operation.slot);
      case "remount":
        await this.#releaseAll();
        await this.#subject.remount();
        this.#states = [this.#model.describe()];
        return this.#check();
      case "kill":
        return this.#crash();
      case "killDuring":
        return this.#crashDuring(operation.operation, operation.delayMs);
      default:
        return this.#change(operation);
    }
  }

  async #change(operation: Operation): Promise<void> {
    const expected = this.#model.apply(operation);
    const answer = await errnoOf(this.#perform(operation));
    if (answer !== expected) this.#fail(`${JSON.stringify(operation)} answered ${answer}, not ${expected}`);
    this.#states.push(this.#model.describe());
    if (operation.kind === "fsync" && answer === "success") this.#states = this.#states.slice(-1);
  }

  async #perform(operation: Operation): Promise<void> {
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
        return this.#opened(operation.path, O_WRONLY, (fd) => driver.pwrite(fd, bytesOf(operation), operation.offset));
      case "truncate":
        await driver.truncate(this.#at(operation.path), operation.lengthBytes);
        return;
      case "allocate":
        return this.#opened(operation.path, O_RDWR, (fd) =>
          driver.fallocate(fd, operation.mode, operation.offset, operation.lengthBytes),
        );
      case "copy":
        return this.#opened(operation.path, O_RDONLY, (from) =>
          this.#opened(operation.to, O_WRONLY, (to) => this.#copy(operation, from, to)),
        );
      case "fsync":
        return this.#opened(operation.path, O_RDONLY, (fd) => driver.fsync(fd));
      case "hold":
        await this.#release(operation.slot);
        this.#held.set(operation.slot, await driver.open(this.#at(operation.path), O_RDWR));
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
    const sourceBytes = Number((await this.#driver.fstat(from)).lengthBytes);
    const lengthBytes = Math.min(operation.lengthBytes, sourceBytes - operation.offset);
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

  async #check(): Promise<void> {
    const { description } = await readTree(this.#driver, this.#directory);
    const differences = difference(this.#model.describe(), description);
    if (differences.length > 0) this.#fail(`the tree is not the model's:\n${differences.join("\n")}`);
  }

  /** A held file, unlinked or not, through its handle. */
  async #readHeld(slot: number): Promise<void> {
    const node = this.#model.held(slot);
    const fd = this.#held.get(slot);
    if (node === undefined || fd === undefined) return;
    const { lengthBytes } = await this.#driver.fstat(fd);
    const pieces: Buffer[] = [];
    for (let at = 0; at < Number(lengthBytes); at += PIECE_BYTES)
      pieces.push(await this.#driver.pread(fd, PIECE_BYTES, at));
    if (!Buffer.concat(pieces).equals(node.content)) this.#fail(`held file ${slot} does not have the model's content`);
  }

  /** fsync of anything keeps everything acknowledged before it. */
  async #sync(path: TreePath): Promise<void> {
    await this.#opened(path, O_RDONLY, (fd) => this.#driver.fsync(fd));
    this.#states = [this.#model.describe()];
  }

  async #crash(): Promise<void> {
    await this.#subject.crash();
    await this.#releaseAll();
    await this.#subject.recover();
    await this.#findPrefix();
  }

  /** The operation in flight may have happened or not. */
  async #crashDuring(operation: Operation, delayMs: number): Promise<void> {
    const answer = errnoOf(this.#perform(operation));
    await sleep(delayMs);
    await this.#subject.crash();
    await answer;
    this.#model.apply(operation);
    this.#states.push(this.#model.describe());
    await this.#releaseAll();
    await this.#subject.recover();
    await this.#findPrefix();
  }

  async #findPrefix(): Promise<void> {
    const { root, description } = await readTree(this.#driver, this.#directory);
    const index = this.#states.findLastIndex((state) => difference(state, description).length === 0);
    if (index < 0) {
      const nearest = this.#states
        .map((state) => difference(state, description))
        .sort((a, b) => a.length - b.length)[0];
      const count = this.#states.length;
      this.#fail(`after SIGKILL the tree is none of the last ${count} states; nearest:\n${nearest?.join("\n")}`);
    }
    this.#model = new Model(root);
    this.#states = [this.#model.describe()];
  }

  #fail(what: string): never {
    throw new Error(`operation ${this.#done}: ${what}`);
  }

  #at(path: TreePath): string {
    return join(this.#directory, ...path);
  }

  #heldFd(slot: number): number {
    const fd = this.#held.get(slot);
    if (fd === undefined) throw new CallError("held", "EBADF");
    return fd;
  }

  async #opened(path: TreePath, flags: number, use: (fd: number) => Promise<unknown>): Promise<void> {
    const fd = await this.#driver.open(this.#at(path), flags);
    try {
      await use(fd);
    } finally {
      await this.#driver.close(fd).catch(() => undefined); // a killed daemon answers ENOTCONN
    }
  }

  async #release(slot: number): Promise<void> {
    const fd = this.#held.get(slot);
    this.#held.delete(slot);
    if (fd !== undefined) await this.#driver.close(fd).catch(() => undefined);
  }

  async #releaseAll(): Promise<void> {
    for (const slot of [...this.#held.keys()]) await this.#release(slot);
    this.#model.releaseAll();
  }
}
