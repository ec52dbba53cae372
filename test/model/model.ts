/** A filesystem tree in memory, as simple as it can be: what the operations of the model test must come to. */
import { createHash } from "node:crypto";
import { bytesOf, SLOTS, type AllocateMode, type Operation, type TreePath } from "./operations.ts";

export interface Node {
  readonly type: "directory" | "file" | "symlink";
  mode: number;
  uid: number;
  gid: number;
  /** Known only after it was set by hand. */
  modifyTime: string | undefined;
  readonly xattrs: Map<string, string>;
  readonly children: Map<string, Node>;
  readonly target: string;
  /** Never changed in place. */
  content: Buffer;
  contentHash: string | undefined;
}

/** What one path of a tree is; times only where both sides know them. */
export interface Described {
  readonly text: string;
  readonly modifyTime: string | undefined;
}

/** Path → description; equal trees have equal descriptions. */
export type TreeDescription = ReadonlyMap<string, Described>;

/** An errno's name. */
class Refusal extends Error {}

const KEEP_SIZE = 1;
const PUNCH = 2;
const ZERO = 16;
const NOREPLACE = 1;
const EXCHANGE = 2;

export function newNode(type: Node["type"], mode: number, target = ""): Node {
  return {
    type,
    mode,
    uid: 0,
    gid: 0,
    modifyTime: undefined,
    xattrs: new Map(),
    children: new Map(),
    target,
    content: Buffer.alloc(0),
    contentHash: undefined,
  };
}

/** The order of fields is shared with the description of real trees (tree.ts). */
export function describeNode(node: Node, linkCount: number, firstPath: string): string {
  const xattrs = [...node.xattrs].sort().map(([name, value]) => `${name}=${Buffer.from(value).toString("hex")}`);
  const fields: (string | number)[] = [node.type, node.mode.toString(8), `${node.uid}:${node.gid}`, linkCount];
  if (node.type === "file") fields.push(node.content.length, contentHash(node), `is ${firstPath}`);
  if (node.type === "symlink") fields.push(node.target, `is ${firstPath}`);
  return [...fields, ...xattrs].join(" ");
}

export class Model {
  readonly root: Node;
  readonly #held: (Node | "stale" | undefined)[] = Array.from({ length: SLOTS });

  constructor(root = newNode("directory", 0o755)) {
    this.root = root;
  }

  /** A tree and held files of its own, the same in everything. */
  copy(): Model {
    const copies = new Map<Node, Node>();
    const copyOf = (node: Node): Node => {
      let copy = copies.get(node);
      if (copy === undefined) {
        copy = { ...node, xattrs: new Map(node.xattrs), children: new Map() };
        copies.set(node, copy);
        for (const [name, child] of node.children) copy.children.set(name, copyOf(child));
      }
      return copy;
    };
    const model = new Model(copyOf(this.root));
    this.#held.forEach((node, slot) => (model.#held[slot] = typeof node === "object" ? copyOf(node) : node));
    return model;
  }

  /** Go on with another tree, as a restore does. @param node - One of it, or of those that its copy held. */
  holdAgain(slot: number, node: Node | undefined): void {
    this.#held[slot] = node ?? "stale";
  }

  /** @returns What is at a path as {@link describe} names it. */
  at(path: string): Node | undefined {
    let node: Node | undefined = this.root;
    for (const name of path.split("/").slice(1)) node = node?.children.get(name);
    return node;
  }

  /** Do it. @returns "success" or the errno that a filesystem must answer. */
  apply(operation: Operation): string {
    try {
      this.#apply(operation);
      return "success";
    } catch (error) {
      if (error instanceof Refusal) return error.message;
      throw error;
    }
  }

  held(slot: number): Node | "stale" | undefined {
    return this.#held[slot];
  }

  releaseAll(): void {
    this.#held.fill(undefined);
  }

  describe(): TreeDescription {
    const paths = new Map<Node, string[]>();
    const visit = (node: Node, path: string): void => {
      const known = paths.get(node);
      if (known === undefined) paths.set(node, [path]);
      else known.push(path);
      for (const [name, child] of [...node.children].sort(byName)) visit(child, `${path}/${name}`);
    };
    visit(this.root, "");
    const described = new Map<string, Described>();
    for (const [node, names] of paths) {
      const linkCount = node.type === "directory" ? 2 + subdirectories(node) : names.length;
      const text = describeNode(node, linkCount, names[0] ?? "");
      for (const name of names) described.set(name, { text, modifyTime: node.modifyTime });
    }
    return described;
  }

  /** All but directories, those that are held open without a name too. */
  files(): Set<Node> {
    const files = this.namedFiles();
    for (const node of this.#held) if (typeof node === "object") files.add(node);
    return files;
  }

  namedFiles(): Set<Node> {
    const files = new Set<Node>();
    const visit = (node: Node): void => {
      if (node.type !== "directory") files.add(node);
      for (const child of node.children.values()) visit(child);
    };
    visit(this.root);
    return files;
  }

  #apply(operation: Operation): void {
    switch (operation.kind) {
      case "mkdir":
        return this.#make(operation.path, newNode("directory", operation.mode));
      case "create":
        return this.#make(operation.path, newNode("file", operation.mode));
      case "symlink":
        return this.#make(operation.path, newNode("symlink", 0o777, operation.target));
      case "rmdir":
        return this.#rmdir(operation.path);
      case "unlink":
        return this.#unlink(operation.path);
      case "link":
        return this.#link(operation.path, operation.to);
      case "rename":
        return this.#rename(operation.path, operation.to, operation.flags);
      case "write":
        return write(this.#writable(operation.path), operation.offset, bytesOf(operation));
      case "truncate":
        return resize(this.#writable(operation.path), operation.lengthBytes);
      case "allocate":
        return allocate(this.#writable(operation.path), operation.mode, operation.offset, operation.lengthBytes);
      case "copy":
        return this.#copy(operation);
      case "fsync":
        this.#follow(operation.path);
        return;
      default:
        this.#applyToNode(operation);
    }
  }

  #applyToNode(operation: Operation): void {
    switch (operation.kind) {
      case "chmod":
        this.#follow(operation.path).mode = operation.mode;
        return;
      case "chown":
        Object.assign(this.#follow(operation.path), { uid: operation.uid, gid: operation.gid });
        return;
      case "utimens":
        this.#follow(operation.path).modifyTime = `${operation.seconds}:${operation.nanoseconds}`;
        return;
      case "setxattr": {
        const { xattrs } = this.#follow(operation.path);
        if (operation.flags === 1 && xattrs.has(operation.name)) throw new Refusal("EEXIST");
        if (operation.flags === 2 && !xattrs.has(operation.name)) throw new Refusal("ENODATA");
        xattrs.set(operation.name, operation.value);
        return;
      }
      case "removexattr":
        if (!this.#follow(operation.path).xattrs.delete(operation.name)) throw new Refusal("ENODATA");
        return;
      case "hold":
        this.#held[operation.slot] = undefined;
        this.#held[operation.slot] = this.#writable(operation.path);
        return;
      case "writeHeld":
        return write(this.#heldNode(operation.slot), operation.offset, bytesOf(operation));
      case "truncateHeld":
        return resize(this.#heldNode(operation.slot), operation.lengthBytes);
      case "release":
        this.#held[operation.slot] = undefined;
        return;
      default:
    }
  }

  #heldNode(slot: number): Node {
    const node = this.#held[slot];
    if (node === undefined) throw new Refusal("EBADF");
    if (node === "stale") throw new Refusal("ESTALE");
    return node;
  }

  #directory(path: TreePath): Node {
    let node = this.root;
    for (const name of path) {
      const child = node.children.get(name);
      // Symlinks lead nowhere, by construction.
      if (child === undefined || child.type === "symlink") throw new Refusal("ENOENT");
      if (child.type === "file") throw new Refusal("ENOTDIR");
      node = child;
    }
    return node;
  }

  #parent(path: TreePath): Node {
    return this.#directory(path.slice(0, -1));
  }

  #find(path: TreePath): Node {
    const node = this.#parent(path).children.get(lastOf(path));
    if (node === undefined) throw new Refusal("ENOENT");
    return node;
  }

  #follow(path: TreePath): Node {
    const node = this.#find(path);
    if (node.type === "symlink") throw new Refusal("ENOENT");
    return node;
  }

  #writable(path: TreePath): Node {
    const node = this.#follow(path);
    if (node.type === "directory") throw new Refusal("EISDIR");
    return node;
  }

  #make(path: TreePath, node: Node): void {
    const parent = this.#parent(path);
    if (parent.children.has(lastOf(path))) throw new Refusal("EEXIST");
    put(parent, lastOf(path), node);
  }

  #rmdir(path: TreePath): void {
    const node = this.#find(path);
    if (node.type !== "directory") throw new Refusal("ENOTDIR");
    if (node.children.size > 0) throw new Refusal("ENOTEMPTY");
    take(this.#parent(path), lastOf(path));
  }

  #unlink(path: TreePath): void {
    if (this.#find(path).type === "directory") throw new Refusal("EISDIR");
    take(this.#parent(path), lastOf(path));
  }

  #link(path: TreePath, to: TreePath): void {
    const node = this.#find(path);
    const parent = this.#parent(to);
    if (parent.children.has(lastOf(to))) throw new Refusal("EEXIST");
    if (node.type === "directory") throw new Refusal("EPERM");
    put(parent, lastOf(to), node);
  }

  #rename(path: TreePath, to: TreePath, flags: number): void {
    const fromParent = this.#parent(path);
    const toParent = this.#parent(to);
    const node = fromParent.children.get(lastOf(path));
    if (node === undefined) throw new Refusal("ENOENT");
    const replaced = toParent.children.get(lastOf(to));
    if (flags === NOREPLACE && replaced !== undefined) throw new Refusal("EEXIST");
    if (flags === EXCHANGE && replaced === undefined) throw new Refusal("ENOENT");
    if (isWithin(toParent, node)) throw new Refusal("EINVAL");
    if (replaced !== undefined && isWithin(fromParent, replaced)) {
      throw new Refusal(flags === EXCHANGE ? "EINVAL" : "ENOTEMPTY");
    }
    if (replaced === node) return;
    if (replaced !== undefined && flags !== EXCHANGE) {
      if (node.type === "directory" && replaced.type !== "directory") throw new Refusal("ENOTDIR");
      if (node.type !== "directory" && replaced.type === "directory") throw new Refusal("EISDIR");
      if (replaced.children.size > 0) throw new Refusal("ENOTEMPTY");
    }
    take(fromParent, lastOf(path));
    if (flags === EXCHANGE && replaced !== undefined) put(fromParent, lastOf(path), replaced);
    put(toParent, lastOf(to), node);
  }

  #copy(operation: Extract<Operation, { kind: "copy" }>): void {
    const from = this.#follow(operation.path);
    const to = this.#writable(operation.to);
    if (from.type === "directory") throw new Refusal("EISDIR");
    const { offset, toOffset } = operation;
    const lengthBytes = Math.min(operation.lengthBytes, Math.max(0, from.content.length - offset));
    const overlaps = toOffset < offset + lengthBytes && offset < toOffset + lengthBytes;
    if (from === to && overlaps) throw new Refusal("EINVAL");
    if (lengthBytes > 0) write(to, toOffset, from.content.subarray(offset, offset + lengthBytes));
  }
}

function write(node: Node, offset: number, bytes: Uint8Array): void {
  const content = Buffer.alloc(Math.max(node.content.length, offset + bytes.length));
  node.content.copy(content);
  content.set(bytes, offset);
  change(node, content);
}

function resize(node: Node, lengthBytes: number): void {
  const content = Buffer.alloc(lengthBytes);
  node.content.copy(content, 0, 0, lengthBytes);
  change(node, content);
}

function allocate(node: Node, mode: AllocateMode, offset: number, lengthBytes: number): void {
  const end = offset + lengthBytes;
  if ((mode & KEEP_SIZE) === 0 && end > node.content.length) resize(node, end);
  const content = Buffer.from(node.content);
  if ((mode & (PUNCH | ZERO)) !== 0 && offset < content.length) content.fill(0, offset, Math.min(end, content.length));
  change(node, content);
}

function change(node: Node, content: Buffer): void {
  node.content = content;
  node.contentHash = undefined;
  node.modifyTime = undefined;
}

function put(parent: Node, name: string, node: Node): void {
  parent.children.set(name, node);
  parent.modifyTime = undefined;
}

function take(parent: Node, name: string): void {
  parent.children.delete(name);
  parent.modifyTime = undefined;
}

export function contentHash(node: Node): string {
  node.contentHash ??= hashOfContent(node.content);
  return node.contentHash;
}

export function hashOfContent(content: Uint8Array): string {
  return createHash("sha1").update(content).digest("hex");
}

function subdirectories(node: Node): number {
  let count = 0;
  for (const child of node.children.values()) if (child.type === "directory") count++;
  return count;
}

function isWithin(node: Node, ancestor: Node): boolean {
  if (node === ancestor) return true;
  for (const child of ancestor.children.values()) if (isWithin(node, child)) return true;
  return false;
}

function byName([a]: [string, Node], [b]: [string, Node]): number {
  return a < b ? -1 : 1;
}

function lastOf(path: TreePath): string {
  return path.at(-1) ?? "";
}
