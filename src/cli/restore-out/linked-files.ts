/** Files with several names: written once, and linked to where another name comes. */
import { fstatSync } from "node:fs";
import type { BigIntStats } from "node:fs";
import { isDirectoryMode } from "../../fs/mode.ts";
import type { SnapshotEntry } from "../../fs/snapshots/snapshot-reader.ts";
import type { TreePath } from "../../fs/snapshots/tree-path.ts";
import type { Name } from "../../ids.ts";
import type { HostDirectory } from "./host-directory.ts";
import { errnoOf, withDescriptor } from "./host-directory.ts";

interface Written {
  readonly path: TreePath;
  readonly dev: bigint;
  readonly ino: bigint;
}

export class LinkedFiles {
  readonly #target: HostDirectory;
  /** By number in the snapshot. */
  readonly #written = new Map<number, Written>();

  constructor(target: HostDirectory) {
    this.#target = target;
  }

  /** It stands outside now, under this path. */
  note(entry: SnapshotEntry, path: TreePath, { dev, ino }: BigIntStats): void {
    if (entry.linkCount < 2 || isDirectoryMode(entry.mode) || this.#written.has(entry.ino)) return;
    this.#written.set(entry.ino, { path, dev, ino });
  }

  /** @returns Whether there is a name for it already, which got another one. It is the very file that was written, or none. */
  link(entry: SnapshotEntry, parent: HostDirectory, name: Name): boolean {
    const written = this.#written.get(entry.ino);
    if (written === undefined) return false;
    try {
      return this.#withFile(written, (fd) => parent.link(fd, name));
    } catch (error) {
      // No rights to it any more, or a filesystem without links: it is copied.
      if (["EPERM", "EACCES", "EMLINK", "ENOENT", "EXDEV", "ENOTSUP", "EOPNOTSUPP"].includes(errnoOf(error) ?? ""))
        return false;
      throw error;
    }
  }

  /** Step by step from the target: no link on the way is followed. */
  #withFile({ path, dev, ino }: Written, action: (fd: number) => void): boolean {
    const opened: HostDirectory[] = [];
    try {
      let directory = this.#target;
      for (const name of path.slice(0, -1)) {
        directory = directory.openDirectory(name);
        opened.push(directory);
      }
      return withDescriptor(directory.openPath(path.at(-1) ?? ("" as Name)), (fd) => {
        const status = fstatSync(fd, { bigint: true });
        if (status.dev !== dev || status.ino !== ino) return false;
        action(fd);
        return true;
      });
    } finally {
      for (const directory of opened) directory[Symbol.dispose]();
    }
  }
}
