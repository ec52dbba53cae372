/** A real directory, described as the model describes itself, and read back into a model. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { O_RDONLY, SEEK_DATA, SEEK_HOLE, S_IFDIR, S_IFLNK, S_IFMT } from "../posix/constants.ts";
import { CallError, type Driver, type FileStatus } from "../posix/driver.ts";
import { describeNode, newNode, type Described, type Node, type TreeDescription } from "./model.ts";

/** One inode of a real tree. */
export interface RealNode {
  readonly node: Node;
  /** From before anything of it was read. */
  readonly status: FileStatus;
  /** Where its data begins and ends, of a regular file: `offset-end` … */
  readonly dataRanges: string;
  readonly firstPath: string;
}

export interface RealTree {
  readonly root: Node;
  readonly description: TreeDescription;
  /** By inode number. */
  readonly nodes: ReadonlyMap<bigint, RealNode>;
  /** Path → inode number. */
  readonly inodes: ReadonlyMap<string, bigint>;
}

/** Read everything below `directory`. */
export async function readTree(driver: Driver, directory: string): Promise<RealTree> {
  const nodes = new Map<bigint, RealNode>();
  const inodes = new Map<string, bigint>();
  const description = new Map<string, Described>();
  const visit = async (path: string): Promise<Node> => {
    const status = await driver.lstat(join(directory, path));
    const known = nodes.get(status.ino);
    const real = known ?? { ...(await readNode(driver, join(directory, path), status)), status, firstPath: path };
    const { node, firstPath } = real;
    if (known === undefined) nodes.set(status.ino, real);
    inodes.set(path, status.ino);
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
  return { root: await visit(""), description, nodes, inodes };
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

async function readNode(
  driver: Driver,
  path: string,
  status: FileStatus,
): Promise<Pick<RealNode, "node" | "dataRanges">> {
  const type =
    (status.mode & S_IFMT) === S_IFDIR ? "directory" : (status.mode & S_IFMT) === S_IFLNK ? "symlink" : "file";
  const node = newNode(type, status.mode & 0o7777, type === "symlink" ? await driver.readlink(path) : "");
  node.uid = status.uid;
  node.gid = status.gid;
  if (type === "symlink") return { node, dataRanges: "" };
  for (const name of await driver.listXattrs(path)) {
    node.xattrs.set(name, (await driver.getXattr(path, name)).toString());
  }
  if (type !== "file") return { node, dataRanges: "" };
  const fd = await driver.open(path, O_RDONLY);
  try {
    const dataRanges = await readDataRanges(driver, fd);
    node.content = await readFile(path);
    if (BigInt(node.content.length) !== status.lengthBytes) {
      throw new Error(`${path}: ${node.content.length} bytes read, but its length is ${status.lengthBytes}`);
    }
    return { node, dataRanges };
  } finally {
    await driver.close(fd);
  }
}

async function readDataRanges(driver: Driver, fd: number): Promise<string> {
  const ranges: string[] = [];
  for (let at = 0n; ;) {
    const start = await driver.lseek(fd, at, SEEK_DATA).catch((error: unknown) => {
      if (error instanceof CallError && error.errno === "ENXIO") return undefined;
      throw error;
    });
    if (start === undefined) return ranges.join(" ");
    at = await driver.lseek(fd, start, SEEK_HOLE);
    ranges.push(`${start}-${at}`);
  }
}
