/**
 * Several programs at once, each with files of its own, share and drop the same content, while commits, collections,
 * snapshots, the cleaning of versions and the moving of small chunks go on beside them. Nobody loses a byte to another.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import fc from "fast-check";
import { expect, test } from "vitest";
import { DEFAULT_VERSION_POLICY } from "../../src/format/version-codec.ts";
import { ROOT_INODE, type InodeNumber } from "../../src/ids.ts";
import { Random } from "./fixtures/random.ts";
import { TestVault } from "./fixtures/test-vault.ts";
import { TreeModel } from "./fixtures/tree-model.ts";
import { Driver, caller, pattern } from "./fixtures/versions-driver.ts";

const KIB = 1024;
const CLIENTS = 4;
const STEPS = 25;
/** Few, so that the same bytes come again and again, and are nobody's in between. */
const CONTENTS = 6;
const LENGTHS = [1, 5000, 40 * KIB, 300 * KIB, 1100 * KIB, 5 * 1024 * KIB];
const OFFSETS = [0, 1, 100 * KIB, 256 * KIB, 700 * KIB];

/** One program in a directory of its own, with what its files hold. */
class Client {
  readonly #driver: Driver;
  readonly #random: Random;
  readonly #directory: InodeNumber;
  readonly files = new Map<string, Buffer>();

  constructor(driver: Driver, directory: InodeNumber, seed: number) {
    this.#driver = driver;
    this.#directory = directory;
    this.#random = new Random(seed);
  }

  async run(): Promise<void> {
    for (let step = 0; step < STEPS; step++) {
      await this.#step();
      if (this.#random.below(3) === 0) await nextTurn();
    }
  }

  async #step(): Promise<void> {
    const random = this.#random;
    const name = random.pick(["a", "b", "c"]);
    const other = random.pick(["a", "b", "c"]);
    const content = this.files.get(name) ?? Buffer.alloc(0);
    switch (random.below(9)) {
      case 0:
      case 1: {
        const saved = pattern(random.pick(LENGTHS), random.below(CONTENTS));
        this.files.set(name, saved);
        return this.#driver.save(name, saved, this.#directory);
      }
      case 2:
      case 3: {
        const [offset, data] = [random.pick(OFFSETS), pattern(random.pick(LENGTHS), random.below(CONTENTS))];
        const changed = TreeModel.grown(content, offset + data.length);
        data.copy(changed, offset);
        this.files.set(name, changed);
        return this.#driver.write(name, offset, data, this.#directory);
      }
      case 4: {
        const lengthBytes = random.pick(LENGTHS);
        this.files.set(name, TreeModel.resized(content, lengthBytes));
        return this.#driver.truncate(name, lengthBytes, this.#directory);
      }
      case 5:
        if (!this.files.delete(name)) return;
        return this.#driver.unlink(name, this.#directory);
      case 6: {
        if (name === other || !this.files.has(name)) return;
        this.files.set(other, content);
        this.files.delete(name);
        return this.#driver.rename(name, other, this.#directory, this.#directory);
      }
      case 7: {
        if (name === other || content.length === 0) return;
        const target = TreeModel.grown(this.files.get(other) ?? Buffer.alloc(0), content.length);
        content.copy(target);
        this.files.set(other, target);
        const from = { ino: await this.#driver.ino(name, this.#directory), offset: 0n };
        const to = { ino: await this.#driver.ino(other, this.#directory), offset: 0n };
        expect(await this.#driver.operations.copyRange(from, to, BigInt(content.length), caller)).toBe(
          BigInt(content.length),
        );
        return;
      }
      default:
        if (random.below(2) === 0) await this.#driver.operations.sync(ROOT_INODE, caller);
        return this.checkOne(name);
    }
  }

  async checkOne(name: string): Promise<void> {
    const content = this.files.get(name);
    if (content === undefined) return;
    expect((await this.#driver.read(name, this.#directory)).equals(content), `${name} is as it was written`).toBe(true);
  }

  async check(): Promise<void> {
    for (const name of this.files.keys()) await this.checkOne(name);
  }
}

/** What goes on beside them, until they are done. */
async function housekeep(vault: TestVault, random: Random, isDone: () => boolean): Promise<void> {
  const { volume, chunks } = vault;
  const never = new AbortController().signal;
  while (!isDone()) {
    const work = random.below(6);
    if (work <= 1) await volume.collect(never);
    else if (work === 2) await volume.syncAll();
    else if (work === 3) await chunks.migrateInline();
    else if (work === 4) await volume.snapshots.take(`s${volume.statistics().inodeCount}-${random.below(2 ** 31)}`, "");
    else {
      const names = (await volume.snapshots.list()).map(({ name }) => name);
      if (names.length > 1) await volume.snapshots.forget(names.slice(0, 1), false);
    }
    await nextTurn();
  }
}

// TCFS_CLIENTS_SEED and TCFS_CLIENTS_RUNS look for more.
const { TCFS_CLIENTS_SEED: seedText, TCFS_CLIENTS_RUNS: runs } = process.env;

test("whatever several programs write at once is what they read, now and after the next mount", async () => {
  const histories = fc.asyncProperty(fc.nat(), async (seed) => {
    await using vault = await TestVault.create();
    await vault.volume.versions.setPolicy({ ...DEFAULT_VERSION_POLICY, minimumAgeSeconds: 0, maxVersions: 2 });
    const random = new Random(seed);
    const models: Map<string, Buffer>[] = Array.from({ length: CLIENTS }, () => new Map<string, Buffer>());
    const maker = new Driver(vault);
    const directories: InodeNumber[] = [];
    for (let index = 0; index < CLIENTS; index++) directories.push(await maker.directory(`d${index}`));
    for (let session = 0; session < 3; session++) {
      const clients = models.map((files, index) => {
        const client = new Client(new Driver(vault), directories[index] as InodeNumber, random.below(2 ** 31));
        for (const [name, content] of files) client.files.set(name, content);
        return client;
      });
      let isDone = false;
      const keeping = housekeep(vault, random, () => isDone);
      await Promise.all(clients.map((client) => client.run())).finally(() => (isDone = true));
      await keeping;
      for (const client of clients) await client.check();
      await vault.reopen();
      const again = clients.map((client, index) => {
        const reader = new Client(new Driver(vault), directories[index] as InodeNumber, 0);
        for (const [name, content] of client.files) reader.files.set(name, content);
        models[index] = reader.files;
        return reader;
      });
      for (const reader of again) await reader.check();
      expect((await vault.volume.check(new AbortController().signal)).damages).toEqual([]);
    }
    expect(vault.failures).toEqual([]);
  });
  await fc.assert(histories, {
    numRuns: Number(runs ?? 3),
    ...(seedText === undefined ? {} : { seed: Number(seedText) }),
    endOnFailure: true,
  });
}, 3_600_000);
