/**
 * Several programs at once, each with files of its own, share and drop the same content, while commits, collections,
 * snapshots, the cleaning of versions and the moving of small chunks go on beside them. Nobody loses a byte to another; and
 * where the power goes in the middle, each has a state that it went through since its last fsync.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import fc from "fast-check";
import { expect, test } from "vitest";
import { isTcfsError } from "../../src/errors.ts";
import { DEFAULT_VERSION_POLICY } from "../../src/format/version-codec.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../src/ids.ts";
import { Random } from "./fixtures/random.ts";
import { TestVault } from "./fixtures/test-vault.ts";
import { TreeModel } from "./fixtures/tree-model.ts";
import { Driver, caller, pattern } from "./fixtures/versions-driver.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const CLIENTS = 4;
const STEPS = 25;
const SESSIONS = 3;
/** Few, so that the same bytes come again and again, and are nobody's in between. */
const CONTENTS = 6;
const NAMES = ["a", "b", "c"] as const;
const LENGTHS = [1, 5000, 40 * KIB, 300 * KIB, 1100 * KIB, 5 * MIB];
const OFFSETS = [0, 1, 100 * KIB, 256 * KIB, 700 * KIB];
/** The disk calls of a session are more. */
const MOST_CALLS = 250;

/** Names and contents; a content is replaced, never changed. */
type Files = ReadonlyMap<string, Buffer>;

/** One program in a directory of its own. */
class Client {
  readonly #driver: Driver;
  readonly #random: Random;
  readonly #directory: InodeNumber;
  /** What its files held after each change since the last fsync, which is the first; the last change may be under way. */
  #states: Files[];

  constructor(driver: Driver, directory: InodeNumber, seed: number, files: Files) {
    this.#driver = driver;
    this.#directory = directory;
    this.#random = new Random(seed);
    this.#states = [files];
  }

  get files(): Files {
    return this.#states.at(-1) ?? new Map();
  }

  async run(): Promise<void> {
    for (let step = 0; step < STEPS; step++) {
      await this.#step();
      if (this.#random.below(3) === 0) await nextTurn();
    }
  }

  async #step(): Promise<void> {
    const random = this.#random;
    const [name, other] = [random.pick(NAMES), random.pick(NAMES)];
    switch (random.below(9)) {
      case 0:
      case 1:
        await this.#truncate(name, 0);
        await this.#write(name, 0, pattern(random.pick(LENGTHS), random.below(CONTENTS)));
        return this.#driver.close(name, this.#directory);
      case 2:
      case 3:
        return this.#write(name, random.pick(OFFSETS), pattern(random.pick(LENGTHS), random.below(CONTENTS)));
      case 4:
        return this.#truncate(name, random.pick(LENGTHS));
      case 5:
        return this.#unlink(name);
      case 6:
        return this.#rename(name, other);
      case 7:
        return this.#copy(name, other);
      default:
        if (random.below(2) === 0) return this.#fsync();
        if (this.files.has(name))
          expect(await this.#holds(name, this.files), `${name} is as it was written`).toBe(true);
    }
  }

  #change(change: (files: Map<string, Buffer>) => void): void {
    const files = new Map(this.files);
    change(files);
    this.#states.push(files);
  }

  async #make(name: string): Promise<Buffer> {
    if (!this.files.has(name)) {
      this.#change((files) => files.set(name, Buffer.alloc(0)));
      await this.#driver.ino(name, this.#directory);
    }
    return this.files.get(name) ?? Buffer.alloc(0);
  }

  async #write(name: string, offset: number, data: Buffer): Promise<void> {
    await this.#make(name);
    for (let at = 0; at < data.length; at += MIB) {
      const piece = data.subarray(at, at + MIB);
      const content = TreeModel.grown(this.files.get(name) ?? Buffer.alloc(0), offset + at + piece.length);
      piece.copy(content, offset + at);
      this.#change((files) => files.set(name, content));
      await this.#driver.write(name, offset + at, piece, this.#directory);
    }
  }

  async #truncate(name: string, lengthBytes: number): Promise<void> {
    const content = TreeModel.resized(await this.#make(name), lengthBytes);
    this.#change((files) => files.set(name, content));
    await this.#driver.truncate(name, lengthBytes, this.#directory);
  }

  async #unlink(name: string): Promise<void> {
    if (!this.files.has(name)) return;
    this.#change((files) => files.delete(name));
    await this.#driver.unlink(name, this.#directory);
  }

  async #rename(from: string, to: string): Promise<void> {
    const content = this.files.get(from);
    if (content === undefined || from === to) return;
    this.#change((files) => {
      files.set(to, content);
      files.delete(from);
    });
    await this.#driver.rename(from, to, this.#directory, this.#directory);
  }

  async #copy(from: string, to: string): Promise<void> {
    const content = this.files.get(from) ?? Buffer.alloc(0);
    if (from === to || content.length === 0) return;
    const target = TreeModel.grown(await this.#make(to), content.length);
    content.copy(target);
    this.#change((files) => files.set(to, target));
    const source = { ino: await this.#driver.ino(from, this.#directory), offset: 0n };
    const place = { ino: await this.#driver.ino(to, this.#directory), offset: 0n };
    const copied = await this.#driver.operations.copyRange(source, place, BigInt(content.length), caller);
    expect(copied).toBe(BigInt(content.length));
  }

  async #fsync(): Promise<void> {
    const since = this.#states.length - 1;
    await this.#driver.operations.sync(ROOT_INODE, caller);
    this.#states = this.#states.slice(since);
  }

  async #holds(name: string, files: Files): Promise<boolean> {
    return (await this.#driver.read(name, this.#directory)).equals(files.get(name) ?? Buffer.alloc(0));
  }

  /** @param driver - Of the volume as it was mounted again. @returns The newest state that it can be in. */
  async found(driver: Driver, isAnyState: boolean): Promise<Files | undefined> {
    const there = new Map<string, Buffer>();
    for (const name of NAMES) {
      const found = await driver.operations.lookup(this.#directory, name as string as Name);
      if (found !== undefined) driver.operations.forget(found.ino, 1);
      if (found !== undefined) there.set(name, await driver.read(name, this.#directory));
    }
    const states = isAnyState ? this.#states : this.#states.slice(-1);
    return states.findLast((files) => isSame(files, there));
  }
}

function isSame(left: Files, right: Files): boolean {
  return left.size === right.size && [...left].every(([name, content]) => right.get(name)?.equals(content) === true);
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
    else if (work === 4) await volume.snapshots.take(`s${random.below(2 ** 31)}`, "");
    else {
      const names = (await volume.snapshots.list()).map(({ name }) => name);
      if (names.length > 1) await volume.snapshots.forget(names.slice(0, 1), false);
    }
    await nextTurn();
  }
}

/** Once the power is gone everything fails. */
async function untilCut(isCut: boolean, work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!isCut || !isTcfsError(error)) throw error;
  }
}

/** @param cutShare - When the power goes, as a share of {@link MOST_CALLS}; never, if not given. */
async function runSessions(seed: number, cutShare: number | undefined): Promise<void> {
  const isCut = cutShare !== undefined;
  await using vault = await TestVault.create({ canFail: isCut });
  await vault.volume.versions.setPolicy({ ...DEFAULT_VERSION_POLICY, minimumAgeSeconds: 0, maxVersions: 2 });
  const random = new Random(seed);
  const maker = new Driver(vault);
  const directories: InodeNumber[] = [];
  for (let index = 0; index < CLIENTS; index++) directories.push(await maker.directory(`d${index}`));
  await vault.volume.syncAll();
  const known: Files[] = directories.map(() => new Map<string, Buffer>());
  for (let session = 0; session < SESSIONS; session++) {
    const clients = directories.map(
      (directory, index) => new Client(new Driver(vault), directory, random.below(2 ** 31), known[index] ?? new Map()),
    );
    let [callCount, isDone] = [0, false];
    const cutAt = isCut ? Math.floor(MOST_CALLS * cutShare) : Infinity;
    vault.disk.onCall = () => {
      if (callCount++ === cutAt) vault.disk.cutPower();
    };
    const keeping = untilCut(
      isCut,
      housekeep(vault, random, () => isDone),
    );
    await Promise.all(clients.map((client) => untilCut(isCut, client.run()))).finally(() => (isDone = true));
    await keeping;
    vault.disk.onCall = () => undefined;
    await (isCut ? vault.losePower() : vault.reopen());
    for (const [index, client] of clients.entries()) {
      const found = await client.found(new Driver(vault), isCut);
      if (found === undefined) expect.fail(`d${index} is in no state that it can be in`);
      known[index] = found;
    }
    expect((await vault.volume.check(new AbortController().signal)).damages).toEqual([]);
    expect(vault.failures).toEqual([]);
  }
}

// TCFS_CLIENTS_SEED, printed by a failure, replays; TCFS_CLIENTS_RUNS looks for more.
const { TCFS_CLIENTS_SEED: seedText, TCFS_CLIENTS_RUNS: runs } = process.env;
const parameters = {
  numRuns: Number(runs ?? 3),
  ...(seedText === undefined ? {} : { seed: Number(seedText) }),
  endOnFailure: true,
};

test("whatever several programs write at once is what they read, now and after the next mount", async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(), (seed) => runSessions(seed, undefined)),
    parameters,
  );
}, 3_600_000);

test("whenever the power goes, each of several programs has a state that it went through since its last fsync", async () => {
  const share = fc.double({ min: 0, max: 1, noNaN: true });
  await fc.assert(
    fc.asyncProperty(fc.nat(), share, (seed, cutShare) => runSessions(seed, cutShare)),
    parameters,
  );
}, 3_600_000);
