/** A real directory, described as the model describes itself, and read back into a model. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { S_IFDIR, S_IFLNK, S_IFMT } from "../posix/constants.ts";
import type { Driver, FileStatus } from "../posix/driver.ts";
import { describeNode, newNode, type Described, type Node, type TreeDescription } from "./model.ts";

export interface RealTree {
  readonly root: Node;
  readonly description: TreeDescription;
}

/** Read everything below `directory`. */
export async function readTree(driver: Driver, directory: string): Promise<RealTree> {
  const nodes = new Map<bigint, { node: Node; status: FileStatus; firstPath: string }>();
  const description = new Map<string, Described>();
  const visit = async (path: string): Promise<Node> => {
    const status = await driver.lstat(join(directory, path));
    const known = nodes.get(status.ino);
    const { node, firstPath } = known ?? {
      node: await readNode(driver, join(directory, path), status),
      firstPath: path,
    };
    if (known === undefined) nodes.set(status.ino, { node, status, firstPath });
    const { seconds, nanoseconds } = status.modifyTime;
    const text = describeNode(node, status.linkCount, firstPath);
    description.set(path, { text, modifyTime: `${seconds}:${nanoseconds}` });
    if (node.type === "directory") {
      for (const name of await driver.list(join(directory, path))) {
        node.children.set(name, await visit(`${path}/${name}`));
      }
    }
    return node;
  };
  return { root: await visit(""), description };
}

/** @returns Where the two differ, in words; empty if nowhere. */
export function difference(expected: TreeDescription, found: TreeDescription): string[] {
  const differences: string[] = [];
  for (const path of new Set([...expected.keys(), ...found.keys()])) {
    const [a, b] = [expected.get(path), found.get(path)];
    if (a?.text !== b?.text)
      differences.push(`${path}\n  expected ${a?.text ?? "nothing"}\n  found    ${b?.text ?? "nothing"}`);
    else if (a?.modifyTime !== undefined && a.modifyTime !== b?.modifyTime) {
      differences.push(`${path}\n  expected mtime ${a.modifyTime}\n  found          ${b?.modifyTime}`);
    }
  }
  return differences;
}

async function readNode(driver: Driver, path: string, status: FileStatus): Promise<Node> {
  const type =
    (status.mode & S_IFMT) === S_IFDIR ? "directory" : (status.mode & S_IFMT) === S_IFLNK ? "symlink" : "file";
  const node = newNode(type, status.mode & 0o7777, type === "symlink" ? await driver.readlink(path) : "");
  node.uid = status.uid;
  node.gid = status.gid;
  if (type === "symlink") return node;
  for (const name of await driver.listXattrs(path)) {
    node.xattrs.set(name, (await driver.getXattr(path, name)).toString());
  }
  if (type === "file") {
    node.content = await readFile(path);
    if (BigInt(node.content.length) !== status.lengthBytes) {
      throw new Error(`${path}: ${node.content.length} bytes read, but its length is ${status.lengthBytes}`);
    }
  }
  return node;
}
