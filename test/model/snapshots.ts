/**
 * What every snapshot must be: a copy of the model's tree and, from the first reading on, every field of the real one.
 * Later readings, whatever happened in between, must find the same.
 */
import { join } from "node:path";
import { isTcfsError } from "../../src/errors.ts";
import type { TreeChange } from "../../src/fs/snapshots/diff.ts";
import type { Driver } from "../posix/driver.ts";
import { diffFaults } from "./diff-check.ts";
import type { Model, Node, TreeDescription } from "./model.ts";
import type { SnapshotAction } from "./operations.ts";
import { difference, readTree, type RealNode, type RealTree } from "./tree.ts";

/** The commands on the snapshots of a mounted vault. Each throws what the daemon answers. */
export interface SnapshotCommands {
  /** Names, oldest first. */
  list(): Promise<readonly string[]>;
  take(name: string): Promise<void>;
  forget(names: readonly string[]): Promise<void>;
  /** @returns The name of the snapshot of the state before. */
  restore(name: string): Promise<string>;
  undo(): Promise<Undone>;
  diff(from: string, to: string | undefined): Promise<readonly TreeChange[]>;
}

export interface Undone {
  /** Undefined where nothing differed. */
  readonly safety?: string;
  /** Undefined: everything. */
  readonly paths?: readonly string[];
}

/** A state of the model, and the inode of each file that it holds open. */
export interface Moment {
  readonly model: Model;
  readonly held: ReadonlyMap<number, bigint>;
}

interface Copy extends Moment {
  readonly description: TreeDescription;
  readonly real: RealTree;
  readonly isSafety: boolean;
  /** Those that it is to bring back, if not everything; as the model writes them. */
  readonly paths: readonly string[] | undefined;
}

/** The inode's number within a snapshot, in its number in the mount (FORMAT.md §7.12). */
const WITHIN_SNAPSHOT = 2n ** 40n;
const NO_SUCH_NAME = "nowhere";

export class Snapshots {
  readonly commands: SnapshotCommands;
  readonly #driver: Driver;
  readonly #mountPoint: string;
  /** Of the history's directory. */
  readonly #name: string;
  readonly #copies = new Map<string, Copy>();

  constructor(commands: SnapshotCommands, driver: Driver, mountPoint: string, name: string) {
    this.commands = commands;
    this.#driver = driver;
    this.#mountPoint = mountPoint;
    this.#name = name;
  }

  get names(): string[] {
    return [...this.#copies.keys()];
  }

  has(name: string): boolean {
    return this.#copies.has(name);
  }

  /** @returns A name that there is, if there is any. */
  chosen(pick: number): string {
    return this.names[pick % Math.max(1, this.#copies.size)] ?? NO_SUCH_NAME;
  }

  /** Of the last restore. */
  get lastSafety(): string | undefined {
    return [...this.#copies].findLast(([, { isSafety }]) => isSafety)?.[0];
  }

  /** What an undo brings back, if not everything. */
  pathsOf(name: string): readonly string[] | undefined {
    return this.#copies.get(name)?.paths;
  }

  /** The names of the inodes in a snapshot are those that they had live. */
  realOf(name: string): RealTree {
    return this.#copy(name).real;
  }

  /** A copy, which holds what it held then. */
  modelOf(name: string): Model {
    return this.#copy(name).model.copy();
  }

  /** @param model - From {@link modelOf}. @returns What an inode is there: in the tree, or only held. */
  nodeOf(name: string, ino: bigint, model: Model): Node | undefined {
    const { real, held } = this.#copy(name);
    const firstPath = real.nodes.get(ino)?.firstPath;
    if (firstPath !== undefined) return model.at(firstPath);
    const slot = [...held].find(([, heldIno]) => heldIno === ino)?.[0];
    const node = slot === undefined ? undefined : model.held(slot);
    return node === "stale" ? undefined : node;
  }

  /**
   * Read a new snapshot and keep its copy. @param candidates - It must be one of these.
   * @param live - The live tree, if nothing changed it since: all its fields must be the same.
   */
  async keep(
    name: string,
    candidates: readonly Moment[],
    isSafety: boolean,
    { live, paths }: { readonly live?: RealTree; readonly paths?: readonly string[] | undefined } = {},
  ): Promise<void> {
    const real = await this.#read(name);
    const faults = candidates.map(({ model }) => difference(model.describe(), real.description));
    const moment = candidates[faults.findIndex((found) => found.length === 0)];
    if (moment === undefined) throw new Error(`snapshot ${name} is not the model's tree:\n${faults[0]?.join("\n")}`);
    if (live !== undefined) requireSame(`snapshot ${name} beside the live tree`, live, real);
    this.#copies.set(name, { ...moment, description: moment.model.describe(), real, isSafety, paths });
  }

  forget(name: string): void {
    this.#copies.delete(name);
  }

  /** Read a snapshot again. */
  async check(name: string): Promise<void> {
    const copy = this.#copies.get(name);
    if (copy === undefined) return;
    const real = await this.#read(name);
    const differences = difference(copy.description, real.description);
    if (differences.length > 0) throw new Error(`snapshot ${name} is not what it was:\n${differences.join("\n")}`);
    requireSame(`snapshot ${name}, read again,`, copy.real, real);
  }

  async checkAll(): Promise<void> {
    await this.requireNames(this.names);
    for (const name of this.names) await this.check(name);
  }

  async requireNames(names: readonly string[]): Promise<void> {
    const found = await this.commands.list();
    if (found.join() !== names.join()) throw new Error(`the snapshots are ${found.join()}, not ${names.join()}`);
  }

  /** @param to - Undefined: the present, which is `live`. */
  async checkDiff(from: string, to: string | undefined, live: RealTree | undefined): Promise<void> {
    const before = this.#copies.get(from)?.real;
    const after = to === undefined ? live : this.#copies.get(to)?.real;
    const answer = await answerOf(this.commands.diff(from, to));
    const expected = before === undefined || after === undefined ? "TCFS_NO_SNAPSHOT" : "success";
    if (answer.code !== expected) throw new Error(`diff ${from} ${to} answered ${answer.code}, not ${expected}`);
    if (before === undefined || after === undefined) return;
    const faults = diffFaults(answer.result ?? [], before, after, this.#name);
    if (faults.length > 0) throw new Error(`diff ${from} ${to} is wrong:\n${faults.join("\n")}`);
  }

  #copy(name: string): Copy {
    const copy = this.#copies.get(name);
    if (copy === undefined) throw new RangeError(`no copy of snapshot ${name}`);
    return copy;
  }

  /** With inode numbers as they were when live. */
  async #read(name: string): Promise<RealTree> {
    const tree = await readTree(this.#driver, join(this.#mountPoint, ".snapshots", name, this.#name));
    const nodes = new Map([...tree.nodes].map(([ino, node]) => [ino % WITHIN_SNAPSHOT, node]));
    const inodes = new Map([...tree.inodes].map(([path, ino]) => [path, ino % WITHIN_SNAPSHOT]));
    return { ...tree, nodes, inodes };
  }
}

/** Which snapshot an action is about. */
export function targetOf(action: SnapshotAction, snapshots: Snapshots): string {
  if (action.kind === "takeSnapshot") return action.name;
  return action.kind === "undo" ? (snapshots.lastSafety ?? "") : snapshots.chosen(action.pick);
}

export function expectedAnswer(action: SnapshotAction, target: string, snapshots: Snapshots): string {
  if (action.kind === "takeSnapshot") return snapshots.has(target) ? "TCFS_SNAPSHOT_EXISTS" : "success";
  return snapshots.has(target) ? "success" : "TCFS_NO_SNAPSHOT";
}

/** @returns Of a restore the name of the snapshot of the state before. */
export async function perform(
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
      return (await commands.undo()).safety;
  }
}

/** The code of a command's failure, or "success" with what it answered. */
export async function answerOf<T>(command: Promise<T>): Promise<{ readonly code: string; readonly result?: T }> {
  try {
    return { code: "success", result: await command };
  } catch (error) {
    if (isTcfsError(error)) return { code: error.code };
    throw error;
  }
}

/** Every field of every inode. @throws Error telling where they differ. */
function requireSame(what: string, expected: RealTree, found: RealTree): void {
  for (const [path, ino] of expected.inodes) {
    const [left, right] = [expected.nodes.get(ino), found.nodes.get(found.inodes.get(path) ?? 0n)];
    const [leftText, rightText] = [fieldsOf(ino, left), fieldsOf(found.inodes.get(path), right)];
    if (leftText !== rightText) throw new Error(`${what}: ${path}\n  expected ${leftText}\n  found    ${rightText}`);
  }
  if (found.inodes.size !== expected.inodes.size) throw new Error(`${what}: more paths than there were`);
}

function fieldsOf(ino: bigint | undefined, real: RealNode | undefined): string {
  if (real === undefined) return "nothing";
  const { status } = real;
  const times = [status.accessTime, status.modifyTime, status.changeTime, status.birthTime];
  return [
    `ino ${ino} mode ${status.mode.toString(8)} links ${status.linkCount} owner ${status.uid}:${status.gid}`,
    `bytes ${status.lengthBytes} blocks ${status.blockCount} device ${status.deviceMajor}:${status.deviceMinor}`,
    `times ${times.map((time) => (time === undefined ? "none" : `${time.seconds}:${time.nanoseconds}`)).join(" ")}`,
    `data ${real.dataRanges}`,
  ].join(" ");
}
