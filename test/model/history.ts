/**
 * One history on one subject, in lock step with the model: every answer is compared, and the whole tree at each check.
 * After SIGKILL the tree must equal the model's after some prefix of the operations, not older than the last sync.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_WRONLY, S_IFDIR, S_IFMT } from "../posix/constants.ts";
import { CallError, errnoOf, type Driver } from "../posix/driver.ts";
import { sleep } from "../support/run.ts";
import { Model, type TreeDescription } from "./model.ts";
import { bytesOf, type Operation, type SnapshotAction, type SnapshotOperation, type TreePath } from "./operations.ts";
import { answerOf, Snapshots, type Moment, type SnapshotCommands } from "./snapshots.ts";
import { difference, readTree } from "./tree.ts";
import { Versions, type VersionCommands } from "./versions.ts";

export interface Subject extends AsyncDisposable {
  readonly mountPoint: string;
  remount(): Promise<void>;
  /** SIGKILL to what serves the mount, without mounting again; a subject that cannot crash unmounts. */
  crash(): Promise<void>;
  /** Whether it can crash while files are open. */
  readonly crashesInUse: boolean;
  /** Mount, if it is not mounted: after `crash`, or after a mount that failed. */
  recover(): Promise<void>;
  /** Undefined: it has none. */
  readonly snapshots: SnapshotCommands | undefined;
  /** Likewise. */
  readonly versions: VersionCommands | undefined;
}

export interface HistoryOptions {
  readonly subject: Subject;
  readonly driver: Driver;
  /** Of the directory at the mount's root that the history has for itself; made by `run`. */
  readonly name: string;
}

interface Held {
  readonly fd: number;
  readonly ino: bigint;
}

const PIECE_BYTES = 2 ** 20;
const PAGE_BYTES = 4096;

export class History {
  readonly #subject: Subject;
  readonly #driver: Driver;
  readonly #directory: string;
  readonly #snapshots: Snapshots | undefined;
  readonly #versions: Versions | undefined;
  #model = new Model();
  readonly #held = new Map<number, Held>();
  /** The model after each operation since the last sync, the oldest first. */
  #states: TreeDescription[] = [];
  #done = 0;

  constructor({ subject, driver, name }: HistoryOptions) {
    this.#subject = subject;
    this.#driver = driver;
    this.#directory = join(subject.mountPoint, name);
    const { snapshots, versions, mountPoint } = subject;
    this.#snapshots = snapshots && new Snapshots(snapshots, driver, mountPoint, name);
    this.#versions = versions && new Versions({ commands: versions, driver, mountPoint, name });
  }

  /** @throws Error at the first disagreement. */
  async run(operations: readonly Operation[]): Promise<void> {
    await this.#subject.recover();
    await mkdir(this.#directory);
    await this.#sync([]);
    await this.#forgetAll();
    await this.#subject.versions?.keepYoung();
    try {
      for (const operation of operations) {
        await this.#step(operation);
        this.#done++;
      }
      await this.#check();
      await this.#inOperation(this.#snapshots?.checkAll());
      await this.#releaseAll();
      await this.#inOperation(this.#versions?.check());
      await this.#inOperation(this.#versions?.checkTrash(this.#model.copy()));
    } finally {
      await this.#releaseAll();
    }
  }

  /** What an earlier history left. */
  async #forgetAll(): Promise<void> {
    const commands = this.#snapshots?.commands;
    const names = (await commands?.list()) ?? [];
    if (names.length > 0) await commands?.forget(names);
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
        await this.#inOperation(this.#snapshots?.requireNames(this.#snapshots.names));
        return this.#check();
      case "kill":
        return this.#crash();
      case "killDuring":
        return this.#crashDuring(operation.operation, operation.delayMs);
      case "takeSnapshot":
      case "forgetSnapshot":
      case "restore":
      case "undo":
      case "takeDuring":
      case "readSnapshot":
      case "diff":
      case "killDuringSnapshot":
        if (this.#snapshots === undefined) throw new RangeError("the subject has no snapshots");
        return this.#inOperation(this.#stepOnSnapshots(operation, this.#snapshots));
      default:
        return this.#change(operation);
    }
  }

  async #stepOnSnapshots(operation: SnapshotOperation, snapshots: Snapshots): Promise<void> {
    switch (operation.kind) {
      case "takeDuring":
        return this.#takeDuring(operation.name, operation.operation, snapshots);
      case "readSnapshot":
        return snapshots.check(snapshots.chosen(operation.pick));
      case "diff": {
        const to = snapshots.names[operation.to % (snapshots.names.length + 1)];
        const live = to === undefined ? await readTree(this.#driver, this.#directory) : undefined;
        return snapshots.checkDiff(snapshots.chosen(operation.from), to, live);
      }
      case "killDuringSnapshot":
        return this.#crashDuringSnapshot(operation.action, operation.delayMs, snapshots);
      default:
        return this.#act(operation, snapshots);
    }
  }

  async #act(action: SnapshotAction, snapshots: Snapshots): Promise<void> {
    const target = targetOf(action, snapshots);
    const expected = expectedAnswer(action, target, snapshots);
    const { code, result } = await answerOf(command(action, target, snapshots.commands));
    if (code !== expected) throw new Error(`${JSON.stringify(action)} of ${target} answered ${code}, not ${expected}`);
    if (code !== "success") return;
    if (action.kind === "forgetSnapshot") snapshots.forget(target);
    else if (action.kind === "takeSnapshot") await this.#keep(target, snapshots);
    else {
      await snapshots.keep(result ?? "", [this.#moment()], true);
      await this.#restored(target, snapshots);
    }
    await snapshots.requireNames(snapshots.names);
  }

  /** A new snapshot of the present. */
  async #keep(name: string, snapshots: Snapshots): Promise<void> {
    const live = await readTree(this.#driver, this.#directory);
    await snapshots.keep(name, [this.#moment()], false, live);
    this.#states = [this.#model.describe()];
  }

  /** Held files go on with what they held then; those that were not there are stale. */
  async #restored(name: string, snapshots: Snapshots): Promise<void> {
    const then = snapshots.modelOf(name);
    const nodes = [...this.#held].map(([slot, { ino }]) => [slot, snapshots.nodeOf(name, ino, then)] as const);
    then.releaseAll();
    for (const [slot, node] of nodes) then.holdAgain(slot, node);
    this.#model = then;
    this.#versions?.note(then);
    this.#states = [then.describe()];
    await this.#check();
  }

  /** It has what the operation had come to: of all but writes nothing or the whole. */
  async #takeDuring(name: string, operation: Operation, snapshots: Snapshots): Promise<void> {
    const isThere = snapshots.has(name);
    const candidates = [this.#moment(), ...this.#withParts(operation)];
    const taking = answerOf(snapshots.commands.take(name));
    await this.#change(operation);
    const { code } = await taking;
    if (code !== (isThere ? "TCFS_SNAPSHOT_EXISTS" : "success")) throw new Error(`take ${name} answered ${code}`);
    if (isThere) return;
    await snapshots.keep(name, [this.#moment(), ...candidates], false);
    await snapshots.requireNames(snapshots.names);
  }

  /** The action in flight may have happened or not. */
  async #crashDuringSnapshot(action: SnapshotAction, delayMs: number, snapshots: Snapshots): Promise<void> {
    const target = targetOf(action, snapshots);
    const expected = expectedAnswer(action, target, snapshots);
    const then = this.#moment();
    const answering = answerOf(command(action, target, snapshots.commands));
    await sleep(delayMs);
    await this.#subject.crash();
    const { code } = await answering;
    if (code !== expected && code !== "TCFS_DAEMON_ENDED") throw new Error(`${action.kind} answered ${code}`);
    await this.#releaseAll();
    await this.#subject.recover();
    const names = await snapshots.commands.list();
    const fresh = names.find((name) => !snapshots.has(name));
    if (action.kind === "forgetSnapshot") {
      if (expected === "success" && (code === "success" || !names.includes(target))) snapshots.forget(target);
    } else if (fresh !== undefined) {
      await snapshots.keep(fresh, [then], action.kind !== "takeSnapshot");
      const restored = action.kind === "takeSnapshot" ? undefined : snapshots.modelOf(target).describe();
      const mayBeAsThen = restored === undefined || code !== "success";
      this.#states = [...(mayBeAsThen ? [then.model.describe()] : []), ...(restored === undefined ? [] : [restored])];
    } else if (code === "success") throw new Error(`${action.kind} of ${target} was answered and is gone`);
    await snapshots.requireNames(snapshots.names);
    await this.#findPrefix();
  }

  /** The present with each part of the operation that may be there before the rest. */
  #withParts(operation: Operation): Moment[] {
    return partsOf(operation).map((part) => {
      const moment = this.#moment();
      moment.model.apply(part);
      return moment;
    });
  }

  #moment(): Moment {
    return { model: this.#model.copy(), held: new Map([...this.#held].map(([slot, { ino }]) => [slot, ino])) };
  }

  /** Failures say which operation it was. */
  async #inOperation(step: Promise<void> | undefined): Promise<void> {
    await step?.catch((error: unknown) => this.#fail(error instanceof Error ? error.message : String(error)));
  }

  async #change(operation: Operation): Promise<void> {
    const expected = this.#model.apply(operation);
    const answer = await errnoOf(this.#perform(operation));
    if (answer !== expected) this.#fail(`${JSON.stringify(operation)} answered ${answer}, not ${expected}`);
    this.#states.push(this.#model.describe());
    this.#versions?.note(this.#model);
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

  async #check(): Promise<void> {
    const { description } = await readTree(this.#driver, this.#directory);
    const differences = difference(this.#model.describe(), description);
    if (differences.length > 0) this.#fail(`the tree is not the model's:\n${differences.join("\n")}`);
  }

  /** A held file, unlinked or not, through its handle. */
  async #readHeld(slot: number): Promise<void> {
    const node = this.#model.held(slot);
    const fd = this.#held.get(slot)?.fd;
    if (node === undefined || fd === undefined) return;
    if (node === "stale") {
      const answer = await errnoOf(this.#driver.fstat(fd));
      return answer === "ESTALE" ? undefined : this.#fail(`held file ${slot} answered ${answer}, not ESTALE`);
    }
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
    if (!this.#subject.crashesInUse) await this.#releaseAll();
    await this.#subject.crash();
    await this.#releaseAll();
    await this.#subject.recover();
    await this.#findPrefix();
  }

  /** The operation in flight may have happened or not. */
  async #crashDuring(operation: Operation, delayMs: number): Promise<void> {
    const answer = errnoOf(this.#perform(operation));
    if (this.#subject.crashesInUse) await sleep(delayMs);
    else {
      await answer;
      await this.#closeAll();
    }
    await this.#subject.crash();
    await answer;
    for (const { model } of this.#withParts(operation)) this.#states.push(model.describe());
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
    this.#versions?.note(this.#model);
    this.#states = [this.#model.describe()];
  }

  #fail(what: string): never {
    throw new Error(`operation ${this.#done}: ${what}`);
  }

  #at(path: TreePath): string {
    return join(this.#directory, ...path);
  }

  #heldFd(slot: number): number {
    const held = this.#held.get(slot);
    if (held === undefined) throw new CallError("held", "EBADF");
    return held.fd;
  }

  async #hold(slot: number, fd: number): Promise<void> {
    this.#held.set(slot, { fd, ino: (await this.#driver.fstat(fd)).ino });
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
    const held = this.#held.get(slot);
    this.#held.delete(slot);
    if (held !== undefined) await this.#driver.close(held.fd).catch(() => undefined);
  }

  async #releaseAll(): Promise<void> {
    await this.#closeAll();
    this.#model.releaseAll();
  }

  async #closeAll(): Promise<void> {
    for (const slot of [...this.#held.keys()]) await this.#release(slot);
  }
}

function targetOf(action: SnapshotAction, snapshots: Snapshots): string {
  if (action.kind === "takeSnapshot") return action.name;
  return action.kind === "undo" ? (snapshots.lastSafety ?? "") : snapshots.chosen(action.pick);
}

function expectedAnswer(action: SnapshotAction, target: string, snapshots: Snapshots): string {
  if (action.kind === "takeSnapshot") return snapshots.has(target) ? "TCFS_SNAPSHOT_EXISTS" : "success";
  return snapshots.has(target) ? "success" : "TCFS_NO_SNAPSHOT";
}

/** @returns Of a restore the name of the snapshot of the state before. */
async function command(
  action: SnapshotAction,
  target: string,
  commands: SnapshotCommands,
): Promise<string | undefined> {
  switch (action.kind) {
    case "takeSnapshot":
      await commands.take(target);
      return undefined;
    case "forgetSnapshot":
      await commands.forget([target]);
      return undefined;
    case "restore":
      return commands.restore(target);
    case "undo":
      return commands.undo();
  }
}

/** The kernel ends a request where the next page of the file begins, if it does not have the rest of this one. */
function partsOf(operation: Operation): Operation[] {
  if (operation.kind !== "write" && operation.kind !== "writeHeld") return [];
  const parts: Operation[] = [];
  const first = PAGE_BYTES - (operation.offset % PAGE_BYTES);
  for (let lengthBytes = first; lengthBytes < operation.lengthBytes; lengthBytes += PAGE_BYTES) {
    parts.push({ ...operation, lengthBytes });
  }
  return parts;
}
