/**
 * Versions and trash within a history. What comes back is predicted from what the vault lists; what it holds must be what a
 * file once held. All else must be as the model has it.
 */
import type { Driver } from "../posix/driver.ts";
import { sleep } from "../support/run.ts";
import { contentHash, describeNode, type Model, type Node } from "./model.ts";
import type { Operation, TreePath, VersionAction, VersionOperation } from "./operations.ts";
import { answerOf, type Moment, type Snapshots } from "./snapshots.ts";
import { inTheWay, plannedRestore } from "./trash-plan.ts";
import { difference, readTree, type RealTree } from "./tree.ts";
import { deepestFirst, type Versions } from "./versions.ts";

/** What a history does for it. */
export interface PastHost {
  readonly driver: Driver;
  /** Where the history's tree is, and what it is called in the vault. */
  readonly directory: string;
  readonly name: string;
  readonly versions: Versions;
  readonly snapshots: Snapshots;
  readonly model: Model;
  moment(): Moment;
  change(operation: Operation): Promise<void>;
  /** Everything so far is durable. */
  settled(): void;
  sync(): Promise<void>;
  /** SIGKILL, and a mount; nothing is held any more. */
  crash(): Promise<void>;
  releaseAll(): Promise<void>;
  /** Go on from a tree that was read. */
  adopt(root: Node): void;
}

interface Mark {
  readonly time: string;
  /** That there were then. */
  readonly paths: readonly string[];
  readonly known: ReadonlySet<string>;
}

/** More than a time that is told to the millisecond leaves open. */
const APART_MS = 3;
const DAEMON_ENDED = "TCFS_DAEMON_ENDED";

export class Past {
  readonly #host: PastHost;
  readonly #marks: Mark[] = [];

  constructor(host: PastHost) {
    this.#host = host;
  }

  async step(operation: VersionOperation): Promise<void> {
    switch (operation.kind) {
      case "mark":
        return this.#mark();
      case "readVersions":
        return this.#host.versions.check();
      case "deleteTree":
        return this.#deleteTree(operation.path);
      case "killDuringVersions":
        await this.#host.sync();
        return this.#act(operation.action, operation.delayMs);
      default:
        return this.#act(operation, undefined);
    }
  }

  /** @param killAfterMs - Undefined: not at all. */
  async #act(action: VersionAction, killAfterMs: number | undefined): Promise<void> {
    switch (action.kind) {
      case "restoreTrash":
        return this.#restoreTrash(action.pick, action.above, killAfterMs);
      case "restoreVersion":
        return this.#restoreVersion(action, killAfterMs);
      case "restoreAt":
        return this.#restoreAt(action, killAfterMs);
      case "emptyTrash":
        return this.#emptyTrash(killAfterMs);
    }
  }

  async #mark(): Promise<void> {
    await sleep(APART_MS);
    let now = new Date();
    while (now.getMilliseconds() === 0) now = new Date(); // a whole second would be all of it
    const { model, versions } = this.#host;
    const paths = [...model.describe().keys()].filter((path) => path !== "");
    this.#marks.push({ time: now.toISOString(), paths, known: versions.known() });
    await sleep(APART_MS);
  }

  /** Everything at a path, the deepest first: what lost its last name is in the trash then. */
  async #deleteTree(path: TreePath): Promise<void> {
    const { name, versions } = this.#host;
    const top = this.#host.model.at(`/${path.join("/")}`);
    if (top === undefined) return;
    const all = top.type === "directory" ? deepestFirst(top, path.join("/")) : [];
    const lost: { path: string; node: Node }[] = [];
    for (const { path: each, node } of [...all, { path: path.join("/"), node: top }]) {
      await this.#host.change({ kind: node.type === "directory" ? "rmdir" : "unlink", path: each.split("/") });
      if (![...this.#host.model.namedFiles()].includes(node)) lost.push({ path: `${name}/${each}`, node });
    }
    const listed = await versions.commands.listTrash();
    this.#host.settled();
    for (const { path: each, node } of lost) {
      const found = listed.findLast((entry) => entry.path === each);
      const [type, bytes] = [{ directory: "d", file: "f", symlink: "l" }[node.type], node.content.length];
      if (found?.type !== type || found.bytes !== bytes)
        throw new Error(`${each} (${type}, ${bytes} bytes) was deleted; in the trash is ${JSON.stringify(found)}`);
    }
  }

  async #restoreTrash(pick: number, above: number, killAfterMs: number | undefined): Promise<void> {
    const { model, name, versions } = this.#host;
    const listed = await versions.commands.listTrash();
    this.#host.settled();
    const ours = listed.filter(({ path }) => path.startsWith(`${name}/`));
    const names = chosen(ours, pick)?.path.split("/") ?? [];
    if (names.length === 0) return;
    const wanted = names.slice(0, Math.max(2, names.length - above)).join("/");
    const plan = plannedRestore(ours, wanted, (path) => model.at(path.slice(name.length))?.type);
    if (plan === undefined) return; // two that nobody can tell apart by what is listed
    const answer = await this.#asked(versions.commands.restoreTrash(wanted), killAfterMs);
    const created = plan.created.map((path) => path.slice(name.length));
    if (answer.code === DAEMON_ENDED) return this.#take(created, undefined);
    if (answer.code !== plan.code) throw new Error(`trash ${wanted} answered ${answer.code}, not ${plan.code}`);
    const skipped = answer.result ?? [];
    if (skipped.join() !== plan.skipped.join())
      throw new Error(`trash ${wanted} left out ${skipped.join()}, not ${plan.skipped.join()}`);
    await this.#take(created, plan.code);
    const left = new Set((await versions.commands.listTrash()).map(({ path, deletedAt }) => `${path} ${deletedAt}`));
    const still = plan.restored.filter(({ path, deletedAt }) => left.has(`${path} ${deletedAt}`));
    if (still.length > 0)
      throw new Error(`${still.map(({ path }) => path).join()} came back and is still in the trash`);
  }

  async #restoreVersion(
    { place, pick }: { place: number; pick: number },
    killAfterMs: number | undefined,
  ): Promise<void> {
    const { model, name, versions } = this.#host;
    const trash = await versions.commands.listTrash();
    const deleted = trash.filter((entry) => entry.type !== "d" && entry.path.startsWith(`${name}/`));
    const all = [...model.describe().keys(), ...deleted.map((entry) => entry.path.slice(name.length))];
    const path = chosen(
      all.filter((each) => model.at(each)?.type !== "directory"),
      place,
    )
      ?.split("/")
      .slice(1);
    if (path === undefined) return;
    const full = [name, ...path].join("/");
    const { code, result: listed = [] } = await answerOf(versions.commands.list(full));
    this.#host.settled();
    const isThere = model.at(`/${path.join("/")}`) !== undefined;
    if (code !== "success" && (code !== "TCFS_NO_ENTRY" || isThere))
      throw new Error(`versions ${full} answered ${code}`);
    const version = chosen(listed, pick);
    if (version === undefined) return;
    const typeOf = (each: string): Node["type"] | undefined => model.at(each.slice(name.length))?.type;
    const blocked = inTheWay(full, typeOf);
    const expected = blocked ?? (typeOf(full) === "directory" ? "TCFS_EXISTS" : "success");
    const created = path.map((_, index) => `/${path.slice(0, index + 1).join("/")}`);
    const missing = created.filter((each, index) => index === path.length - 1 || model.at(each) === undefined);
    const answer = await this.#asked(versions.commands.restore(full, version.time), killAfterMs);
    if (answer.code === DAEMON_ENDED) return this.#take(missing, undefined);
    if (answer.code !== expected)
      throw new Error(`version ${version.time} of ${full}: ${answer.code}, not ${expected}`);
    await this.#take(expected === "success" ? missing : [], expected);
    const node = model.at(`/${path.join("/")}`);
    const bytes = node?.type === "symlink" ? node.target.length : node?.content.length;
    if (expected === "success" && bytes !== version.bytes)
      throw new Error(`version ${version.time} of ${full} has ${bytes} bytes, not ${version.bytes}`);
  }

  async #emptyTrash(killAfterMs: number | undefined): Promise<void> {
    const { commands } = this.#host.versions;
    const answer = await this.#asked(commands.emptyTrash(), killAfterMs);
    if (answer.code === DAEMON_ENDED) return this.#take([], undefined);
    if (answer.code !== "success") throw new Error(`emptying the trash answered ${answer.code}`);
    await this.#take([], "success");
    const left = await commands.listTrash();
    if (left.length > 0) throw new Error(`${left.length} are left in the trash that was emptied`);
  }

  async #restoreAt(
    { mark: pick, place }: { mark: number; place: number },
    killAfterMs: number | undefined,
  ): Promise<void> {
    const { driver, directory, name, snapshots, versions } = this.#host;
    const mark = chosen(this.#marks, pick);
    const path = mark && chosen(mark.paths, place)?.split("/").slice(1);
    if (mark === undefined || path === undefined) return;
    await this.#host.releaseAll();
    const moment = this.#host.moment();
    const before = await readTree(driver, directory);
    const wanted = [name, ...path].join("/");
    const answer = await this.#asked(versions.commands.restoreAt(mark.time, wanted), killAfterMs);
    const { code, result } = answer;
    if (!["success", DAEMON_ENDED, "TCFS_NO_ENTRY", "TCFS_NOT_DIRECTORY"].includes(code))
      throw new Error(`${wanted} at ${mark.time} answered ${code}`);
    const found = await this.#freshSafety();
    if (code !== DAEMON_ENDED && found !== result?.safety) throw new Error(`safety snapshot ${found} of ${wanted}`);
    const after = await readTree(driver, directory);
    if (found === undefined) {
      requireSame(`${wanted} at ${mark.time} answered ${code}, and`, moment.model, after);
    } else {
      const paths = result?.paths.map((each) => each.slice(name.length)) ?? topmostMissing(before, path);
      await snapshots.keep(found, [moment], true, { paths });
      requireOutside(paths, before, after);
      requireOfThen(paths, before, after, mark);
    }
    this.#host.adopt(after.root);
  }

  /** Paths go back to what a safety snapshot has; if nothing else has changed, the whole tree does. */
  async undoPaths(safety: string, paths: readonly string[]): Promise<void> {
    const { driver, directory, name, snapshots } = this.#host;
    await this.#host.releaseAll();
    const moment = this.#host.moment();
    const before = await readTree(driver, directory);
    const { code, result } = await answerOf(snapshots.commands.undo());
    if (code !== "success" && code !== "TCFS_NOT_DIRECTORY")
      throw new Error(`undo of ${paths.join()} answered ${code}`);
    const after = await readTree(driver, directory);
    if (result?.safety === undefined) requireSame(`undo of ${paths.join()} answered ${code}, and`, moment.model, after);
    else {
      const undone = result.paths?.map((each) => each.slice(name.length)) ?? [];
      await snapshots.keep(result.safety, [moment], true, { paths: undone });
      const then = snapshots.realOf(safety);
      requireOutside(undone, before, after);
      requireEqual(
        `undo of ${undone.join()}`,
        coresOf(then, (path) => isWithin(path, undone)),
        coresOf(after, (path) => isWithin(path, undone)),
      );
      const isElsewhereAsThen = isEqual(coresOf(then, isOutside(undone)), coresOf(before, isOutside(undone)));
      if (isElsewhereAsThen) requireEqual(`undo of ${undone.join()}`, textsOf(then), textsOf(after));
    }
    this.#host.adopt(after.root);
  }

  async #asked<T>(
    command: Promise<T>,
    killAfterMs: number | undefined,
  ): Promise<{ readonly code: string; readonly result?: T }> {
    const answering = answerOf(command);
    if (killAfterMs === undefined) return answering;
    await sleep(killAfterMs);
    await this.#host.crash();
    return answering;
  }

  async #freshSafety(): Promise<string | undefined> {
    const { snapshots } = this.#host;
    return (await snapshots.commands.list()).find((name) => !snapshots.has(name));
  }

  /**
   * The model takes over what came back, directories before what is in them.
   * @param code - Undefined: a kill came between, so each of them may be there or not.
   */
  async #take(created: readonly string[], code: string | undefined): Promise<void> {
    const { driver, directory, model, versions } = this.#host;
    const real = await readTree(driver, directory);
    const isUnchanged = code === undefined && difference(model.describe(), real.description).length === 0;
    for (const path of isUnchanged ? [] : created) {
      const found = real.nodes.get(real.inodes.get(path) ?? 0n)?.node;
      const [parent, name] = [model.at(path.slice(0, path.lastIndexOf("/"))), path.slice(path.lastIndexOf("/") + 1)];
      if (found === undefined || parent === undefined) {
        if (code === undefined) continue;
        throw new Error(`${path} did not come back`);
      }
      if (found.type !== "directory" && !versions.isKnown(found))
        throw new Error(`${path} came back as what there never was: ${describeNode(found, 0, path)}`);
      parent.children.set(name, { ...found, children: new Map() });
      parent.modifyTime = undefined;
    }
    requireSame("what came back, and all else:", model, real);
    this.#host.settled();
  }
}

function chosen<T>(from: readonly T[], pick: number): T | undefined {
  return from[pick % Math.max(1, from.length)];
}

/** The paths of a restore that nobody answered: what was missing above is made, too. */
function topmostMissing(before: RealTree, path: TreePath): string[] {
  const all = path.map((_, index) => `/${path.slice(0, index + 1).join("/")}`);
  return [all.find((each) => !before.inodes.has(each)) ?? all.at(-1) ?? ""];
}

function requireSame(what: string, model: Model, real: RealTree): void {
  const differences = difference(model.describe(), real.description);
  if (differences.length > 0) throw new Error(`${what} the tree is not the model's:\n${differences.join("\n")}`);
}

/** Files that came back hold what some file held at the time, or what one of the present does. */
function requireOfThen(paths: readonly string[], before: RealTree, after: RealTree, { time, known }: Mark): void {
  const present = new Set([...before.nodes.values()].map(({ node }) => contentHash(node)));
  for (const [path, ino] of after.inodes) {
    const node = after.nodes.get(ino)?.node;
    if (node?.type !== "file" || !isWithin(path, paths)) continue;
    const hash = contentHash(node);
    if (!known.has(hash) && !present.has(hash)) throw new Error(`${path} at ${time} holds what came later`);
  }
}

/** A restore of paths changes nothing else; hard links and the times of the directories above aside. */
function requireOutside(paths: readonly string[], before: RealTree, after: RealTree): void {
  requireEqual("outside of the restored paths", coresOf(before, isOutside(paths)), coresOf(after, isOutside(paths)));
}

/** @returns Path and all that it is but the number of its names, of paths that are chosen. */
function coresOf(tree: RealTree, isChosen: (path: string) => boolean): string[] {
  const chosen = [...tree.inodes].filter(([path]) => isChosen(path));
  return chosen.map(([path, ino]) => {
    const node = tree.nodes.get(ino)?.node;
    return `${path}: ${node === undefined ? "nothing" : describeNode(node, 0, "")}`;
  });
}

function textsOf(tree: RealTree): string[] {
  return [...tree.description].map(([path, { text }]) => `${path}: ${text}`);
}

function requireEqual(what: string, expected: readonly string[], found: readonly string[]): void {
  if (isEqual(expected, found)) return;
  const lines = [
    ...expected.filter((line) => !found.includes(line)).map((line) => `  expected ${line}`),
    ...found.filter((line) => !expected.includes(line)).map((line) => `  found    ${line}`),
  ];
  throw new Error(`${what}:\n${lines.join("\n")}`);
}

function isEqual(left: readonly string[], right: readonly string[]): boolean {
  return [...left].sort().join("\n") === [...right].sort().join("\n");
}

function isWithin(path: string, tops: readonly string[]): boolean {
  return tops.some((top) => path === top || path.startsWith(`${top}/`));
}

function isOutside(tops: readonly string[]): (path: string) => boolean {
  return (path) => !isWithin(path, tops);
}
