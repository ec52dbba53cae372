/** Files of random bytes, written until the disk is full; what was synced of them is known. */
import { randomBytes } from "node:crypto";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { hashOf } from "./known-files.ts";

export class SyncedFiles {
  readonly #root: () => string;
  /** Path → SHA-256 of what a successful fsync has acknowledged. */
  readonly hashes = new Map<string, string>();
  /** SHA-256 of what files held after a write that failed: a version of them may hold it. */
  readonly halfWritten = new Set<string>();

  /** @param root - Asked each time: the mount may not be there yet. */
  constructor(root: () => string) {
    this.#root = root;
  }

  /** Write and fsync one file. @returns The errno's name if that failed. */
  async tryToWrite(name: string, lengthBytes: number): Promise<string | undefined> {
    const content = randomBytes(lengthBytes);
    try {
      const file = await open(join(this.#root(), name), "w");
      try {
        await file.writeFile(content);
        await file.sync();
        this.hashes.set(name, hashOf(content));
      } finally {
        await file.close();
      }
      return undefined;
    } catch (error) {
      await this.#noteLeft(name);
      return (error as NodeJS.ErrnoException).code ?? String(error);
    }
  }

  async #noteLeft(name: string): Promise<void> {
    const file = await open(join(this.#root(), name)).catch(() => undefined); // it was not made
    if (file === undefined) return;
    try {
      this.halfWritten.add(hashOf(await file.readFile()));
    } finally {
      await file.close().catch(() => undefined); // tells of that failure once more
    }
  }

  /** @returns The errno's name of the first failure; undefined if so many files had room. */
  async fillUp(prefix: string, count: number, lengthBytes: number): Promise<string | undefined> {
    for (let i = 0; i < count; i++) {
      const failure = await this.tryToWrite(`${prefix}${i}`, lengthBytes);
      if (failure !== undefined) return failure;
    }
    return undefined;
  }

  async expectRight(): Promise<void> {
    for (const [name, hash] of this.hashes) {
      expect(hashOf(await readFile(join(this.#root(), name))), name).toBe(hash);
    }
  }
}
