/** Restoring paths of a real volume in this process, against a plain description of the trees. */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { copyLoan } from "../../src/borrowed-bytes.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../src/ids.ts";
import type { FileSystemOperations } from "../../src/fs/operations.ts";
import { checkCounts } from "./fixtures/counts.ts";
import { Random } from "./fixtures/random.ts";
import { TestVault } from "./fixtures/test-vault.ts";

const caller = { uid: 0, gid: 0, pid: 1, onInterrupt: (): void => undefined };
const FLAGS = { noReplace: false, exchange: false, whiteout: false };
const XATTR = { create: false, replace: false, clearSetGid: false };
const DIRECTORY_BITS = 0o040000;
const TYPE_BITS = 0o170000;

/** What is at a path: all that a restore is to bring back, and which paths are one inode. */
interface Described {
  readonly mode: number;
  readonly owner: string;
  readonly text: string;
  readonly note: string;
  /** Seconds; of a directory too. */
  readonly modified: number;
  readonly ino: InodeNumber;
  readonly linkCount: number;
}

type Tree = ReadonlyMap<string, Described>;

/** @param withText - Else files have none. */
async function describeTree(operations: FileSystemOperations, withText = true): Promise<Tree> {
  const tree = new Map<string, Described>();
  const visit = async (ino: InodeNumber, path: string): Promise<void> => {
    const found: { name: string; ino: InodeNumber }[] = [];
    await operations.readDirectory(ino, 0n, false, (entry) => {
      if (entry.name !== "." && entry.name !== "..") found.push(entry);
      return true;
    });
    for (const entry of found) {
      const below = path === "" ? entry.name : `${path}/${entry.name}`;
      const attributes = await operations.getAttributes(entry.ino);
      const isDirectory = (attributes.mode & TYPE_BITS) === DIRECTORY_BITS;
      const note = await operations.getXattr(entry.ino, "user.note" as Name);
      tree.set(below, {
        mode: attributes.mode,
        owner: `${attributes.uid}:${attributes.gid}`,
        text: isDirectory ? "/" : withText ? await textOf(operations, entry.ino) : "",
        note: Buffer.from(note ?? []).toString(),
        modified: attributes.modifyTime.seconds,
        ino: attributes.ino,
        linkCount: attributes.linkCount,
      });
      if (isDirectory) await visit(entry.ino, below);
    }
  };
  await visit(ROOT_INODE, "");
  return tree;
}

async function textOf(operations: FileSystemOperations, ino: InodeNumber): Promise<string> {
  const bytes = copyLoan(await operations.read(ino, 0n, 1 << 20, caller));
  return `${bytes.length} bytes, ${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Of one path and what is below it; with which of these paths are one file, and without numbers. */
function part(tree: Tree, path: string): unknown[] {
  const within = [...tree].filter(([key]) => key === path || key.startsWith(`${path}/`)).sort(byPath);
  return within.map(([key, { ino, linkCount: _, ...rest }]) => [
    key,
    rest,
    within.find(([, other]) => other.ino === ino)?.[0],
  ]);
}

/** All that is not at or below the path, numbers included; not the times of directories that hold it. */
function outside(tree: Tree, path: string): unknown[] {
  const rest = [...tree].filter(([key]) => key !== path && !key.startsWith(`${path}/`)).sort(byPath);
  return rest.map(([key, { linkCount: _, modified, ...described }]) => [
    key,
    described,
    path.startsWith(`${key}/`) ? 0 : modified,
  ]);
}

/** Which paths are one inode, over the whole tree. */
function links(tree: Tree): unknown[] {
  const all = [...tree].sort(byPath);
  return all.map(([key, { ino, linkCount }]) => [key, linkCount, all.find(([, other]) => other.ino === ino)?.[0]]);
}

function byPath([left]: [string, unknown], [right]: [string, unknown]): number {
  return left < right ? -1 : 1;
}

/** Random changes to a small tree, so that names, inodes and places meet again and again. */
class Hand {
  readonly #random: Random;
  readonly #vault: TestVault;
  #clock = 1_000_000;

  constructor(random: Random, vault: TestVault) {
    this.#random = random;
    this.#vault = vault;
  }

  get #operations(): FileSystemOperations {
    return this.#vault.volume.operations;
  }

  async work(count: number): Promise<void> {
    for (let step = 0; step < count; step++) {
      const tree = await describeTree(this.#operations, false);
      await this.#step(tree).catch((error: unknown) => {
        if (!(error instanceof Error) || !("code" in error)) throw error; // an impossible change is refused
      });
    }
  }

  async #step(tree: Tree): Promise<void> {
    const operations = this.#operations;
    const paths = [...tree.keys()];
    const isDirectory = (path: string): boolean => tree.get(path)?.text === "/";
    const directories = ["", ...paths.filter(isDirectory)];
    const files = paths.filter((path) => !isDirectory(path));
    const inoOf = (path: string): InodeNumber => tree.get(path)?.ino ?? ROOT_INODE;
    const place = (): { parent: InodeNumber; name: Name } => {
      const parent = inoOf(this.#random.pick(directories));
      return { parent, name: this.#random.pick(["a", "b", "c", "d"]) as Name };
    };
    const splitPlace = (path: string): { parent: InodeNumber; name: Name } => {
      const at = path.lastIndexOf("/");
      return { parent: inoOf(path.slice(0, Math.max(at, 0))), name: path.slice(at + 1) as Name };
    };
    const some = this.#random.pick(paths.length === 0 ? [""] : paths);
    const file = this.#random.pick(files.length === 0 ? [""] : files);
    const at = place();
    switch (this.#random.below(9)) {
      case 0: {
        const request = { mode: 0o040755, umask: 0, deviceNumber: 0 };
        operations.forget((await operations.makeDirectory(at.parent, at.name, request, caller)).ino, 1);
        return;
      }
      case 1:
      case 2: {
        const request = { mode: 0o100644, umask: 0, deviceNumber: 0 };
        const made = await operations.makeNode(at.parent, at.name, request, caller);
        await this.#write(made.ino);
        operations.forget(made.ino, 1);
        return;
      }
      case 3:
        if (file !== "") await this.#write(inoOf(file));
        return;
      case 4:
        if (file !== "") operations.forget((await operations.link(inoOf(file), at.parent, at.name, caller)).ino, 1);
        return;
      case 5:
        if (some !== "") await operations.rename(splitPlace(some), at, FLAGS, caller);
        return;
      case 6: {
        if (some === "") return;
        const gone = splitPlace(some);
        if (isDirectory(some)) await operations.removeDirectory(gone.parent, gone.name, caller);
        else await operations.unlink(gone.parent, gone.name, caller);
        return;
      }
      case 7: {
        if (some === "") return;
        const [mode, uid] = [this.#random.pick([0o600, 0o755]), this.#random.below(3)];
        await operations.setAttributes(inoOf(some), { mode, uid, modifyTime: this.#tick() }, caller);
        return;
      }
      default: {
        const value = Buffer.from(String(this.#random.below(100)));
        if (some !== "") await operations.setXattr(inoOf(some), "user.note" as Name, value, XATTR, caller);
      }
    }
  }

  #tick(): { seconds: number; nanoseconds: number } {
    return { seconds: this.#clock++, nanoseconds: 0 };
  }

  async #write(ino: InodeNumber): Promise<void> {
    const operations = this.#operations;
    const lengthBytes = this.#random.pick([0, 10, 5000, 300_000]);
    await operations.setAttributes(ino, { lengthBytes: BigInt(this.#random.below(300_000)) }, caller);
    const data = Buffer.alloc(lengthBytes, String(this.#random.below(1000)));
    const offset = BigInt(this.#random.pick([0, 0, 4096, 270_000]));
    await operations.write(ino, offset, data, { clearSetId: false, sync: false }, caller);
    await operations.setAttributes(ino, { modifyTime: this.#tick() }, caller);
  }
}

async function checkSeed(seed: number): Promise<void> {
  const random = new Random(seed);
  await using vault = await TestVault.create();
  const hand = new Hand(random, vault);
  await hand.work(40);
  await vault.volume.snapshots.take("then", "");
  const then = await describeTree(vault.volume.operations);
  if (then.size === 0) return;
  await hand.work(random.pick([3, 15, 40]));
  if (random.below(3) === 0) await vault.volume.snapshots.take("between", "");
  await hand.work(random.pick([0, 10]));
  const later = await describeTree(vault.volume.operations);
  const path = random.pick([...then.keys()]);
  const inWay = path.split("/").some((_, index, parts) => {
    const found = later.get(parts.slice(0, index + 1).join("/"));
    return index < parts.length - 1 && found !== undefined && found.text !== "/";
  });
  const restoring = vault.volume.snapshots.restorePaths({ name: "then" }, [path], false);
  if (inWay) {
    await expect(restoring).rejects.toMatchObject({ code: "TCFS_NOT_DIRECTORY" });
    expect(await describeTree(vault.volume.operations)).toEqual(later);
    return;
  }
  const report = await restoring;
  const isCrash = random.below(2) === 0;
  const check = async (): Promise<void> => {
    const now = await describeTree(vault.volume.operations);
    expect(part(now, path)).toEqual(part(then, path));
    expect(outside(now, report.paths[0] ?? "")).toEqual(outside(later, report.paths[0] ?? ""));
    await checkCounts(vault.metadata);
  };
  await check();
  await (isCrash ? vault.crash() : vault.reopen());
  await check();
  if (report.safety !== undefined) {
    await vault.volume.snapshots.undo();
    const undone = await describeTree(vault.volume.operations);
    expect(links(undone)).toEqual(links(later));
    expect(part(undone, report.paths[0] ?? "")).toEqual(part(later, report.paths[0] ?? ""));
    await checkCounts(vault.metadata);
    await vault.volume.snapshots.undo();
    await check();
  }
  const again = await vault.volume.snapshots.restorePaths({ name: "then" }, [path], false);
  expect(again).toMatchObject({ addedCount: 0, removedCount: 0, changedCount: 0 });
  expect(vault.failures).toEqual([]);
}

describe("a restore of paths", () => {
  const first = Number(process.env["TCFS_RESTORE_SEED"] ?? 1);
  const count = Number(process.env["TCFS_RESTORE_SEEDS"] ?? 30);
  for (let seed = first; seed < first + count; seed++) {
    test(`brings a tree back and leaves all else alone, through a crash and an undo (seed ${seed})`, async () => {
      await checkSeed(seed);
    });
  }
});
