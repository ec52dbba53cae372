/**
 * Versions and trash beside the model: every version that is there, by whatever name, holds what a file of the history held
 * at some time; and a tree that is deleted comes out of the trash as it was.
 */
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { PathRestoreReport } from "../../src/fs/snapshots/path-restore.ts";
import type { TrashFigures } from "../../src/fs/versions/trash.ts";
import type { VersionFigures } from "../../src/fs/versions/version-manager.ts";
import type { Driver } from "../posix/driver.ts";
import { contentHash, describeNode, hashOfContent, type Model, type Node } from "./model.ts";
import { difference, readTree } from "./tree.ts";

/** The commands on versions of a mounted vault. Paths are from the vault's root. */
export interface VersionCommands {
  /** From now on files are kept that are deleted as soon as they were made. */
  keepYoung(): Promise<void>;
  /** Give up all that is in the trash. */
  emptyTrash(): Promise<void>;
  listTrash(): Promise<readonly TrashFigures[]>;
  /** @returns Paths that were left out. */
  restoreTrash(path: string): Promise<readonly string[]>;
  list(path: string): Promise<readonly VersionFigures[]>;
  restore(path: string, time: string): Promise<void>;
  restoreAt(time: string, path: string): Promise<PathRestoreReport>;
}

export interface VersionsOptions {
  readonly commands: VersionCommands;
  readonly driver: Driver;
  readonly mountPoint: string;
  /** Of the history's directory. */
  readonly name: string;
}

export class Versions {
  readonly #options: VersionsOptions;
  /** Hashes of all contents that there ever were. */
  readonly #known = new Set<string>();
  /** Files and symlinks that there ever were, without their names. */
  readonly #knownNodes = new Set<string>();

  constructor(options: VersionsOptions) {
    this.#options = options;
  }

  get commands(): VersionCommands {
    return this.#options.commands;
  }

  note(model: Model): void {
    for (const node of model.files()) {
      this.#known.add(contentHash(node));
      this.#knownNodes.add(describeNode(node, 0, ""));
    }
  }

  /** Contents so far. */
  known(): ReadonlySet<string> {
    return new Set(this.#known);
  }

  /** Whether there was ever such a file or symlink. */
  isKnown(node: Node): boolean {
    return this.#knownNodes.has(describeNode(node, 0, ""));
  }

  /** @throws Error for a version of what never was. */
  async check(): Promise<void> {
    const { mountPoint, name } = this.#options;
    const top = join(mountPoint, ".versions", name);
    const found = await readdir(top, { recursive: true, withFileTypes: true });
    for (const entry of found) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      if (!this.#known.has(hashOfContent(await readFile(path))))
        throw new Error(`${path} holds what no file ever held`);
    }
  }

  /** Everything is deleted and brought back. @param model - What is there; nothing is held open. Changed. */
  async checkTrash(model: Model): Promise<void> {
    const { commands, driver, mountPoint, name } = this.#options;
    const directory = join(mountPoint, name);
    await commands.emptyTrash();
    const names = deepestFirst(model.root);
    for (const { path, node } of names) {
      if (node.type === "directory") await driver.rmdir(join(directory, path));
      else await driver.unlink(join(directory, path));
    }
    keepLastNames(names);
    for (const top of model.root.children.keys()) {
      const skipped = await commands.restoreTrash(`${name}/${top}`);
      if (skipped.length > 0) throw new Error(`the trash left out ${skipped.join(", ")}`);
    }
    const { description } = await readTree(driver, directory);
    const differences = difference(model.describe(), description);
    if (differences.length > 0) throw new Error(`from the trash came another tree:\n${differences.join("\n")}`);
  }
}

export interface Place {
  readonly path: string;
  readonly node: Node;
  readonly parent: Node;
}

export function deepestFirst(parent: Node, above = ""): Place[] {
  return [...parent.children].flatMap(([name, node]) => {
    const path = above === "" ? name : `${above}/${name}`;
    return [...deepestFirst(node, path), { path, node, parent }];
  });
}

/** A file with several names is in the trash by the last one that it lost; directories changed while they were emptied. */
function keepLastNames(places: readonly Place[]): void {
  const last = new Map(places.map((place) => [place.node, place]));
  for (const place of places) {
    if (last.get(place.node) !== place) place.parent.children.delete(place.path.split("/").at(-1) ?? "");
    place.parent.modifyTime = undefined;
    if (place.node.type === "directory") place.node.modifyTime = undefined;
  }
}
