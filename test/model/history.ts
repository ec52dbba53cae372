/**
 * One history on one subject, in lock step with the model: every answer is compared, and the whole tree at each check.
 * After SIGKILL the tree must equal the model's after some prefix of the operations, not older than the last sync.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { O_RDONLY } from "../posix/constants.ts";
import { errnoOf, type Driver } from "../posix/driver.ts";
import { sleep } from "../support/run.ts";
import { Hands } from "./hands.ts";
import { Model, type Node, type TreeDescription } from "./model.ts";
import type { Operation, SnapshotAction, SnapshotOperation, TreePath } from "./operations.ts";
import { Past, type PastHost } from "./past.ts";
import {
  answerOf,
  expectedAnswer,
  perform,
  Snapshots,
  targetOf,
  type Moment,
  type SnapshotCommands,
} from "./snapshots.ts";
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

const PIECE_BYTES = 2 ** 20;
const PAGE_BYTES = 4096;

export class History {
  readonly #subject: Subject;
  readonly #driver: Driver;
  readonly #directory: string;
  readonly #snapshots: Snapshots | undefined;
  readonly #versions: Versions | undefined;
  readonly #past: Past | undefined;
  #model = new Model();
  readonly #hands: Hands;
  /** The model after each operation since the last sync, the oldest first. */
  #states: TreeDescription[] = [];
  #done = 0;

  constructor({ subject, driver, name }: HistoryOptions) {
    this.#subject = subject;
    this.#driver = driver;
    this.#directory = join(subject.mountPoint, name);
    this.#hands = new Hands(driver, this.#directory);
    const { snapshots, versions, mountPoint } = subject;
    this.#snapshots = snapshots && new Snapshots(snapshots, driver, mountPoint, name);
    this.#versions = versions && new Versions({ commands: versions, driver, mountPoint, name });
    if (this.#versions !== undefined && this.#snapshots !== undefined)
      this.#past = new Past(this.#pastHost(name, this.#versions, this.#snapshots));
  }

  #pastHost(name: string, versions: Versions, snapshots: Snapshots): PastHost {
    const model = (): Model => this.#model;
    return {
      driver: this.#driver,
      directory: this.#directory,
      name,
      versions,
      snapshots,
      get model() {
        return model();
      },
      moment: () => this.#moment(),
      change: (operation) => this.#change(operation),
      settled: () => {
        this.#states = [this.#model.describe()];
        versions.note(this.#model);
      },
      sync: () => this.#sync([]),
      crash: async () => {
        await this.#subject.crash();
        await this.#releaseAll();
        await this.#subject.recover();
      },
      releaseAll: () => this.#releaseAll(),
      adopt: (root) => {
        this.#adopt(root);
      },
    };
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
      case "mark":
      case "readVersions":
      case "deleteTree":
      case "restoreTrash":
      case "restoreVersion":
      case "restoreAt":
      case "emptyTrash":
      case "killDuringVersions":
        return this.#inOperation(this.#past?.step(operation));
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
    const paths = action.kind === "undo" ? snapshots.pathsOf(target) : undefined;
    if (paths !== undefined) return this.#past?.undoPaths(target, paths);
    const expected = expectedAnswer(action, target, snapshots);
    const { code, result } = await answerOf(perform(action, target, snapshots.commands));
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
    await snapshots.keep(name, [this.#moment()], false, { live });
    this.#states = [this.#model.describe()];
  }

  /** Held files go on with what they held then; those that were not there are stale. */
  async #restored(name: string, snapshots: Snapshots): Promise<void> {
    const then = snapshots.modelOf(name);
    const nodes = [...this.#hands.held].map(([slot, { ino }]) => [slot, snapshots.nodeOf(name, ino, then)] as const);
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
    if (action.kind === "undo" && snapshots.pathsOf(target) !== undefined) return this.#act(action, snapshots);
    const expected = expectedAnswer(action, target, snapshots);
    const then = this.#moment();
    const answering = answerOf(perform(action, target, snapshots.commands));
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
    return { model: this.#model.copy(), held: new Map([...this.#hands.held].map(([slot, { ino }]) => [slot, ino])) };
  }

  /** Failures say which operation it was. */
  async #inOperation(step: Promise<void> | undefined): Promise<void> {
    await step?.catch((error: unknown) => this.#fail(error instanceof Error ? error.message : String(error)));
  }

  async #change(operation: Operation): Promise<void> {
    const expected = this.#model.apply(operation);
    const answer = await errnoOf(this.#hands.perform(operation));
    if (answer !== expected) this.#fail(`${JSON.stringify(operation)} answered ${answer}, not ${expected}`);
    this.#states.push(this.#model.describe());
    this.#versions?.note(this.#model);
    if (operation.kind === "fsync" && answer === "success") this.#states = this.#states.slice(-1);
  }

  async #check(): Promise<void> {
    const { description } = await readTree(this.#driver, this.#directory);
    const differences = difference(this.#model.describe(), description);
    if (differences.length > 0) this.#fail(`the tree is not the model's:\n${differences.join("\n")}`);
  }

  /** A held file, unlinked or not, through its handle. */
  async #readHeld(slot: number): Promise<void> {
    const node = this.#model.held(slot);
    const fd = this.#hands.held.get(slot)?.fd;
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
    await this.#hands.opened(path, O_RDONLY, (fd) => this.#driver.fsync(fd));
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
    const answer = errnoOf(this.#hands.perform(operation));
    if (this.#subject.crashesInUse) await sleep(delayMs);
    else {
      await answer;
      await this.#hands.closeAll();
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
    this.#adopt(root);
  }

  #adopt(root: Node): void {
    this.#model = new Model(root);
    this.#versions?.note(this.#model);
    this.#states = [this.#model.describe()];
  }

  #fail(what: string): never {
    throw new Error(`operation ${this.#done}: ${what}`);
  }

  async #releaseAll(): Promise<void> {
    await this.#hands.closeAll();
    this.#model.releaseAll();
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
