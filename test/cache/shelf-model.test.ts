/**
 * Random histories of writing, uploading, reading, giving up, pinning, damage, crashes and collections: contents are always
 * what was committed, the limit is held, and what the store lacks never goes.
 */
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { isTcfsError } from "../../src/errors.ts";
import type { StoredChunk } from "../../src/chunkstore/chunk-store.ts";
import { expectSameBytes, noise } from "../crypto/fixtures.ts";
import { seeded } from "../remote/faulty-store.ts";
import { type CachedVault, UNASKED_BYTES, openCachedVault } from "./fixtures.ts";

const SEEDS = process.env["TCFS_SHELF_SEEDS"]?.split(",").map(Number) ?? [20_261_122, 5];
const STEPS = 120;
const MAX_BYTES = UNASKED_BYTES + 5_000_000;

interface KnownFile {
  readonly chunks: readonly StoredChunk[];
  readonly content: Uint8Array;
}

class Model {
  readonly files = new Map<number, KnownFile>();
  readonly #cached: CachedVault;
  readonly #random: () => number;
  #pinned: ReadonlySet<string> = new Set();
  /** What may be taken at most: a lowered limit counts once what is unsent has gone. */
  #limitBytes = MAX_BYTES;

  constructor(cached: CachedVault, random: () => number) {
    this.#cached = cached;
    this.#random = random;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  async step(): Promise<void> {
    const { vault } = this.#cached;
    const choice = this.#random();
    if (choice < 0.35) await this.#write();
    else if (choice < 0.5) await this.#cached.upload();
    else if (choice < 0.75) await this.#read();
    else if (choice < 0.8) await this.#cached.shelf().clear();
    else if (choice < 0.84) await this.#pin();
    else if (choice < 0.88) await this.#damage();
    else if (choice < 0.92) await this.#restart(this.#random() < 0.5);
    else if (choice < 0.95) await this.#loseLocalCopies();
    else {
      const limit = this.#random() < 0.5 ? MAX_BYTES : UNASKED_BYTES + 2_000_000;
      await this.#cached.shelf().setMaxBytes(limit);
      this.#limitBytes = limit;
      await vault.collect();
    }
  }

  async #write(): Promise<void> {
    const { vault, shelf } = this.#cached;
    const ino = 1 + this.#below(12);
    if (this.#random() < 0.15) {
      await vault.commit(new Map([[ino, []]]));
      this.files.delete(ino);
      return;
    }
    const content = noise(String(this.#random()), 1 + this.#below(900_000));
    try {
      const chunks = await vault.put(content);
      await vault.commit(new Map([[ino, chunks.map(({ id }) => id)]]));
      this.files.set(ino, { chunks, content });
    } catch (error) {
      if (!isTcfsError(error, "TCFS_STORE_FULL")) throw error;
      expect(shelf().freeBytes).toBeLessThan(content.length + 2_000_000);
    }
  }

  /** With the store failing now and then; whatever fails succeeds once it does not. */
  async #read(): Promise<void> {
    const known = [...this.files.values()][this.#below(Math.max(1, this.files.size))];
    if (known === undefined) return;
    const { vault, store, upload } = this.#cached;
    let content: Uint8Array;
    try {
      content = await vault.get(known.chunks);
    } catch (error) {
      expect(error).toMatchObject({ code: expect.stringMatching(/^TCFS_(?:IO|CORRUPT)$/u) as unknown });
      store.isFaulty = false;
      await upload(); // after a crash only a root tells that the store has what was damaged here
      content = await vault.get(known.chunks);
      store.isFaulty = true;
    }
    expectSameBytes(content, known.content);
  }

  async #pin(): Promise<void> {
    const names = (await this.#cached.vault.packFiles()).map((path) => path.slice(-32));
    this.#pinned = new Set(names.filter(() => this.#random() < 0.2).slice(0, 2));
    this.#cached.shelf().pinned = () => Promise.resolve(this.#pinned);
    await this.#cached.shelf().clear();
    const left = (await this.#cached.vault.packFiles()).map((path) => path.slice(-32));
    for (const name of this.#pinned) expect(left).toContain(name);
  }

  /** A bit flips in something that the store has as well. */
  async #damage(): Promise<void> {
    await this.#cached.upload();
    const blocks = join(this.#cached.vault.path, "blocks");
    const files = [
      ...(await this.#cached.vault.packFiles()),
      ...(await readdir(blocks)).map((name) => join(blocks, name)),
    ];
    const path = files[this.#below(files.length)];
    if (path === undefined) return;
    const content = await readFile(path).catch(() => new Uint8Array(0)); // it has just moved
    if (content.length < 300) return;
    const at = 256 + this.#below(content.length - 256); // the header of an open pack was read already
    content[at] = (content[at] ?? 0) ^ 1;
    await writeFile(path, content, { flag: "r+" }).catch(() => undefined);
  }

  async #restart(isCrash: boolean): Promise<void> {
    const { vault, shelf } = this.#cached;
    if (isCrash) await vault.crash();
    else {
      const before = shelf();
      await vault.store.close();
      await before.close();
      await vault.reopen();
    }
    await shelf().setMaxBytes(this.#limitBytes);
    shelf().pinned = () => Promise.resolve(this.#pinned);
  }

  /** Somebody deletes all that the store has. */
  async #loseLocalCopies(): Promise<void> {
    const { vault, upload } = this.#cached;
    await upload();
    await this.#restart(false);
    for (const path of await vault.packFiles()) await rm(path);
  }

  async check(): Promise<void> {
    const { shelf, diskBytes } = this.#cached;
    const { usedBytes, unsentBytes, maxBytes } = shelf().figures();
    expect(usedBytes).toBeLessThanOrEqual(Math.max(maxBytes, MAX_BYTES));
    expect(await diskBytes()).toBeLessThanOrEqual(MAX_BYTES);
    expect(unsentBytes).toBeLessThanOrEqual(usedBytes);
  }

  async everything(): Promise<void> {
    this.#cached.store.isFaulty = false;
    for (const known of this.files.values()) expectSameBytes(await this.#cached.vault.get(known.chunks), known.content);
  }
}

test.for(SEEDS)("holds the limit and loses nothing, seed %i", async (seed) => {
  const chances = { failing: 0.01, throttled: 0.005, slow: 0.1, cut: 0.03, flipped: 0.03 };
  await using cached = await openCachedVault({ maxBytes: MAX_BYTES, faults: { seed, chances } });
  const model = new Model(cached, seeded(seed));
  for (let step = 0; step < STEPS; step++) {
    await model.step();
    await model.check();
  }
  await cached.upload();
  await cached.shelf().clear();
  await model.everything();
});
