/** The vault at a time: random histories against a plain copy of the tree at every moment, and what is asked of single files. */
import { describe, expect, onTestFinished, test } from "vitest";
import { DEFAULT_VERSION_POLICY } from "../../src/format/version-codec.ts";
import type { SnapshotEntry } from "../../src/fs/snapshots/snapshot-reader.ts";
import { isDirectoryMode } from "../../src/fs/mode.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../src/ids.ts";
import { SimulatedClock } from "../support/simulated-clock.ts";
import { Random } from "./fixtures/random.ts";
import { TestVault } from "./fixtures/test-vault.ts";
import { Driver, caller, pattern } from "./fixtures/versions-driver.ts";

const MINUTE_MS = 60_000;
const FLAGS = { noReplace: false, exchange: false, whiteout: false };

/** Contents by path; directories end with a slash and have none. */
type Tree = ReadonlyMap<string, string>;

class World {
  readonly clock: SimulatedClock;
  readonly driver: Driver;

  private constructor(clock: SimulatedClock, driver: Driver) {
    this.clock = clock;
    this.driver = driver;
  }

  static async open(): Promise<World> {
    const clock = new SimulatedClock("2026-11-22T08:00:00Z");
    const vault = await TestVault.create({ clock });
    onTestFinished(() => vault[Symbol.asyncDispose]());
    const allSeconds = 10 * 365 * 24 * 3600;
    await vault.volume.versions.setPolicy({ ...DEFAULT_VERSION_POLICY, allSeconds, minimumAgeSeconds: 0 });
    return new World(clock, new Driver(vault));
  }

  get snapshots() {
    return this.driver.vault.volume.snapshots;
  }

  /** A minute later. @returns When it is over. */
  async step(action: () => Promise<unknown>): Promise<string> {
    this.clock.jump(MINUTE_MS);
    await action();
    return new Date(this.clock.wallMs).toISOString();
  }

  /** As it is now. */
  async tree(ino: InodeNumber, path: string, tree = new Map<string, string>()): Promise<Tree> {
    const names: { readonly name: Name; readonly ino: InodeNumber }[] = [];
    await this.driver.operations.readDirectory(ino, 0n, false, ({ name, ino: child }) => {
      if (name !== "." && name !== "..") names.push({ name, ino: child });
      return true;
    });
    for (const { name, ino: child } of names) {
      const isDirectory = isDirectoryMode((await this.driver.operations.getAttributes(child)).mode);
      if (isDirectory) await this.tree(child, `${path}${name}/`, tree.set(`${path}${name}/`, ""));
      else tree.set(`${path}${name}`, (await this.driver.read(name, ino)).toString("latin1"));
    }
    return tree;
  }

  /** As it was then, as a command reads it from outside. */
  async treeAt(at: string): Promise<Tree> {
    const reader = this.snapshots.reader({ at });
    const tree = new Map<string, string>();
    const visit = async (ino: number, path: string): Promise<void> => {
      const { entries } = await reader.list(ino as InodeNumber, "0");
      for (const entry of entries) {
        const below = `${path}${entry.name}`;
        if (isDirectoryMode(entry.mode)) await visit(entry.ino, (tree.set(`${below}/`, ""), `${below}/`));
        else tree.set(below, await contentOf(reader, entry));
      }
    };
    await reader.find("");
    await visit(ROOT_INODE, "");
    return tree;
  }
}

async function contentOf(reader: ReturnType<World["snapshots"]["reader"]>, entry: SnapshotEntry): Promise<string> {
  const content = Buffer.alloc(Number(entry.lengthBytes));
  for (let offset = 0; offset < content.length;) {
    const found = await reader.read(entry.ino as InodeNumber, BigInt(offset), 1 << 20, entry.origin?.token);
    const data = Buffer.from(found.data ?? "", "base64");
    data.copy(content, offset);
    offset = found.data === undefined ? Number(found.offset) : offset + data.length;
  }
  return content.toString("latin1");
}

function sorted(tree: Tree): [string, string][] {
  return [...tree].sort(([left], [right]) => (left < right ? -1 : 1));
}

/** Only what is at or below a path. */
function within(tree: Tree, path: string): Tree {
  return new Map([...tree].filter(([key]) => key === `${path}/` || key === path || key.startsWith(`${path}/`)));
}

class Hand {
  readonly #world: World;
  readonly #random: Random;

  constructor(world: World, random: Random) {
    this.#world = world;
    this.#random = random;
  }

  async work(): Promise<void> {
    const { driver } = this.#world;
    const d = await driver.ino("d");
    const sub = (await driver.find("sub", d)) ?? (await driver.directory("sub", d));
    const parent = this.#random.pick([d, d, sub]);
    const name = this.#random.pick(["a", "b", "c"]);
    // On both sides of where the pages of a version stay apart.
    const content = pattern(this.#random.pick([1, 5000, 300_000, 4_500_000]), this.#random.below(200));
    const isThere = (await driver.find(name, parent)) !== undefined;
    switch (this.#random.below(10)) {
      case 0:
      case 1:
        if (isThere) await driver.unlink(name, parent);
        return;
      case 2: {
        await driver.save("new", content, parent);
        const at = (last: string) => ({ parent, name: last as Name });
        await driver.operations.rename(at("new"), at(name), FLAGS, caller);
        return;
      }
      case 3:
        for (const below of ["a", "b", "c"]) {
          if ((await driver.find(below, sub)) !== undefined) await driver.unlink(below, sub);
        }
        await driver.removeDirectory("sub", d);
        return;
      case 4:
        await driver.reopen(this.#random.pick(["reopen", "crash"]));
        return;
      case 5:
        await this.#world.snapshots.take(`at ${this.#world.clock.wallMs}`, "");
        return;
      default:
        await driver.save(name, content, parent);
    }
  }
}

async function checkSeed(seed: number): Promise<void> {
  const random = new Random(seed);
  const world = await World.open();
  await world.step(() => world.driver.directory("d"));
  const hand = new Hand(world, random);
  const moments: { readonly at: string; readonly tree: Tree }[] = [];
  for (let step = 0; step < 24; step++) {
    const at = await world.step(() => hand.work());
    moments.push({ at, tree: await world.tree(ROOT_INODE, "") });
  }
  for (let count = 0; count < 6; count++) {
    const { at, tree } = random.pick(moments);
    expect(sorted(await world.treeAt(at)), `the tree at ${at}`).toEqual(sorted(tree));
  }
  const now = await world.tree(ROOT_INODE, "");
  const { at, tree } = random.pick(moments);
  const path = random.pick(["d", "d/sub", "d/a"]);
  if (within(tree, path).size === 0) return;
  world.clock.jump(MINUTE_MS);
  const report = await world.snapshots.restorePaths({ at }, [path], false);
  expect(sorted(within(await world.tree(ROOT_INODE, ""), path))).toEqual(sorted(within(tree, path)));
  await world.driver.reopen(random.pick(["reopen", "crash"]));
  expect(sorted(within(await world.tree(ROOT_INODE, ""), path))).toEqual(sorted(within(tree, path)));
  if (report.safety === undefined) return;
  await world.snapshots.undo();
  expect(sorted(await world.tree(ROOT_INODE, ""))).toEqual(sorted(now));
}

describe("the vault at a time", () => {
  const first = Number(process.env["TCFS_PAST_SEED"] ?? 1);
  const count = Number(process.env["TCFS_PAST_SEEDS"] ?? 8);
  for (let seed = first; seed < first + count; seed++) {
    test(
      `is as a plain copy from then has it, read and restored in place (seed ${seed})`,
      () => checkSeed(seed),
      60_000,
    );
  }

  test("without any snapshot a file is what it held then", async () => {
    const world = await World.open();
    const { driver, snapshots } = world;
    const then = await world.step(() => driver.save("f", "first"));
    await world.step(() => driver.save("f", "second"));
    await world.step(() => driver.save("f", "third"));
    await snapshots.restorePaths({ at: then }, ["f"], false);
    expect(String(await driver.read("f"))).toBe("first");
    await snapshots.undo();
    expect(String(await driver.read("f"))).toBe("third");
  });

  test("a snapshot of later in the same second counts only for a whole second", async () => {
    const world = await World.open();
    const { clock, driver, snapshots } = world;
    clock.jump(MINUTE_MS + 200);
    await driver.save("f", "first");
    const [then, second] = [clock.wallMs, Math.floor(clock.wallMs / 1000) * 1000];
    clock.jump(200);
    await driver.save("f", "later");
    clock.jump(200);
    await snapshots.take("s", "");
    clock.jump(MINUTE_MS);
    await driver.save("f", "last");
    const at = (ms: number): string => new Date(ms).toISOString();
    expect([...(await world.treeAt(at(then)))]).toEqual([["f", "first"]]);
    expect([...(await world.treeAt(at(second)))]).toEqual([["f", "later"]]); // as it is listed
    expect(() => snapshots.at(at(then))).toThrow("the oldest is “s”");
    expect(snapshots.at(at(second))).toMatchObject({ name: "s" });
    expect(snapshots.at(at(second + 999))).toMatchObject({ name: "s" });
  });

  test("a file asked for by its path comes as it was when it was deleted before; a tree comes without it", async () => {
    const world = await World.open();
    const { driver, snapshots } = world;
    const d = await driver.directory("d");
    await world.step(() => driver.save("f", "precious", d));
    await world.step(() => driver.unlink("f", d));
    const then = await world.step(() => driver.save("other", "still there", d));
    await world.step(() => driver.unlink("other", d));
    expect([...(await world.treeAt(then))]).toEqual([
      ["d/", ""],
      ["d/other", "still there"],
    ]);
    await snapshots.restorePaths({ at: then }, ["d/f"], false);
    expect(String(await driver.read("f", d))).toBe("precious");
  });

  test("what was made later is told, with names that are near", async () => {
    const world = await World.open();
    const { driver, snapshots } = world;
    const then = await world.step(() => driver.save("letter", "first"));
    await world.step(() => driver.save("leter", "first"));
    await expect(snapshots.restorePaths({ at: then }, ["leter"], false)).rejects.toThrow("did you mean “letter”?");
  });

  test("of a file of which nothing from then is kept, alone nothing comes; in a tree it stays as it is", async () => {
    const world = await World.open();
    const { driver, snapshots } = world;
    const d = await driver.directory("d");
    await world.step(() => driver.ino("f", d)); // empty: such contents are not kept
    const then = await world.step(() => driver.save("g", "as it was", d));
    await driver.close("f", d);
    await world.step(() => driver.save("f", "later", d));
    await world.step(() => driver.save("g", "changed", d));
    await expect(snapshots.restorePaths({ at: then }, ["d/f"], false)).rejects.toMatchObject({ code: "TCFS_NO_ENTRY" });
    await snapshots.restorePaths({ at: then }, ["d"], false);
    expect(String(await driver.read("f", d))).toBe("later");
    expect(String(await driver.read("g", d))).toBe("as it was");
  });

  test("a file that was moved since the snapshot is where it was at the time", async () => {
    const world = await World.open();
    const { driver, snapshots } = world;
    await world.step(() => driver.save("before", "one"));
    await world.step(() => driver.save("stays", "two"));
    const first = await world.step(() => snapshots.take("then", ""));
    const second = await world.step(() => driver.rename("before", "between"));
    const third = await world.step(() => driver.rename("between", "after"));
    const names = async (at: string) => [...(await world.treeAt(at)).keys()];
    expect(await names(first)).toEqual(["before", "stays"]);
    expect(await names(third)).toEqual(["after", "stays"]);
    // Nothing tells of the name in between: each of the others would do, and it is there once.
    expect(await names(second)).toHaveLength(2);
  });

  test("says where each file comes from", async () => {
    const world = await World.open();
    const { driver, snapshots } = world;
    await world.step(() => driver.save("rests", "1"));
    await world.step(() => driver.save("grows", "1"));
    await world.step(() => driver.save("goes", "1"));
    await world.step(() => driver.save("lost", "1"));
    await world.step(() => snapshots.take("then", ""));
    await driver.vault.volume.versions.setPolicy({ ...driver.vault.volume.versions.policy, isOff: true });
    await world.step(() => driver.unlink("lost"));
    await driver.vault.volume.versions.setPolicy({ ...driver.vault.volume.versions.policy, isOff: false });
    const then = await world.step(() => driver.save("grows", "2"));
    await world.step(() => driver.save("grows", "3"));
    await world.step(() => driver.unlink("goes"));
    const reader = snapshots.reader({ at: then });
    await reader.find("");
    const { entries } = await reader.list(ROOT_INODE, "0");
    expect(entries.map(({ name, origin }) => `${name}: ${origin?.words ?? ""}`)).toEqual([
      "goes: trash of 2026-11-22T08:03:00.000Z",
      `grows: version of ${then}`,
      "lost: snapshot then",
      "rests: present",
    ]);
  });

  test("bytes of two states are never mixed: what changes while it is read is told", async () => {
    const world = await World.open();
    const { driver, snapshots } = world;
    const then = await world.step(() => driver.save("f", "first"));
    const reader = snapshots.reader({ at: then });
    await reader.find("");
    const [entry] = (await reader.list(ROOT_INODE, "0")).entries;
    await world.step(() => driver.save("f", "second"));
    await expect(contentOf(reader, entry as SnapshotEntry)).rejects.toMatchObject({ code: "TCFS_STALE" });
    const [again] = (await reader.list(ROOT_INODE, "0")).entries;
    expect(await contentOf(reader, again as SnapshotEntry)).toBe("first");
  });
});

test("a file that comes back from a snapshot has nothing of what it held later", async () => {
  const world = await World.open();
  const { driver, snapshots } = world;
  const MIB = 1024 * 1024;
  await world.step(() => driver.write("f", 0, pattern(5 * MIB, 1)));
  await world.step(() => driver.close("f"));
  await world.step(() => snapshots.take("then", ""));
  await world.step(() => driver.write("f", 5 * MIB, pattern(3 * MIB, 2)));
  await driver.close("f");
  await world.step(() => driver.unlink("f"));
  await driver.operations.syncAll();
  await snapshots.restorePaths({ name: "then" }, ["f"], false);
  await driver.truncate("f", 8 * MIB);
  const content = await driver.read("f");
  expect(content.subarray(0, 5 * MIB).equals(pattern(5 * MIB, 1))).toBe(true);
  expect(content.subarray(5 * MIB).every((byte) => byte === 0)).toBe(true);
});
