/** Snapshots of a real volume in this process: no kernel, everything else is real. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test, vi } from "vitest";
import { copyLoan } from "../../src/borrowed-bytes.ts";
import type { SnapshotRequest } from "../../src/cli/control/snapshot-protocol.ts";
import { answerSnapshotRequest } from "../../src/cli/control/snapshot-requests.ts";
import { SnapshotSource } from "../../src/cli/snapshot-source.ts";
import { TcfsError } from "../../src/errors.ts";
import { inodeKey } from "../../src/format/record-keys.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../src/ids.ts";
import { SNAPSHOTS_DIRECTORY, SNAPSHOTS_NAME } from "../../src/fs/snapshots/numbers.ts";
import { RecordReader } from "../../src/metadata/record-reader.ts";
import { Shell, caller, makeShell } from "./fixtures/shell.ts";
import { TestVault } from "./fixtures/test-vault.ts";

const FILE = { mode: 0o100644, umask: 0, deviceNumber: 0 };
const DIRECTORY = { mode: 0o040755, umask: 0, deviceNumber: 0 };
const FLAGS = { noReplace: false, exchange: false, whiteout: false };
const name = (text: string): Name => text as Name;

describe("a snapshot", () => {
  test("holds what was acknowledged before it and nothing later, changes in memory included", async () => {
    await using made = await makeShell();
    const { shell, vault } = made;
    await shell.mkdir("d");
    await shell.write("d/a", "one");
    await shell.write("b", "two");
    const taking = vault.volume.snapshots.take("first", "as it was");
    await taking;
    await shell.write("d/a", "later");
    await shell.unlink("b");
    await shell.write("c", "new");
    const then = { d: "/", "d/a": "one", b: "two" };
    expect(await shell.tree(".snapshots/first")).toEqual(then);
    await vault.reopen();
    expect(await shell.tree(".snapshots/first")).toEqual(then);
    expect(await shell.tree("")).toEqual({ d: "/", "d/a": "later", c: "new" });
    expect(await vault.volume.snapshots.list()).toMatchObject([{ name: "first", comment: "as it was", inodeCount: 4 }]);
  });

  test("that is forgotten is gone for its readers before anything that it kept is", async () => {
    await using vault = await TestVault.create();
    const shell = new Shell(vault);
    await shell.write("file", "then");
    await vault.volume.snapshots.take("s", "");
    const { ino } = await shell.at(".snapshots/s/file");
    await shell.write("file", "now");
    const freeze = vault.metadata.freeze.bind(vault.metadata);
    const read = async (): Promise<unknown> => vault.volume.operations.getAttributes(ino);
    const seen: Promise<unknown>[] = [];
    vi.spyOn(vault.metadata, "freeze").mockImplementation(() => {
      seen.push(read().catch((error: unknown) => error));
      return freeze();
    });
    await vault.volume.snapshots.forget(["s"], false);
    expect(await seen[0]).toMatchObject({ code: "TCFS_STALE" });
  });

  test("keeps its data through collections, and gives it back when it is forgotten", async () => {
    await using made = await makeShell();
    const { shell, vault } = made;
    const { signal } = new AbortController();
    const text = "only the snapshot has this ".repeat(20_000);
    await shell.write("big", text);
    await vault.volume.snapshots.take("s", "");
    await shell.unlink("big");
    await vault.volume.collect(signal);
    expect(await shell.read(".snapshots/s/big")).toBe(text);
    const [figures] = await vault.volume.snapshots.list();
    expect(figures?.exclusiveBytesEstimate).toBe(text.length);
    await vault.volume.snapshots.forget(["s"], false);
    await vault.volume.snapshots.cleared();
    const report = await vault.volume.collect(signal);
    expect(report.liveChunks).toBe(0);
    expect(vault.chunks.statistics().uniqueBytes).toBe(0);
  });

  test("says what only it holds, and what several hold together, as room that comes back", async () => {
    await using made = await makeShell();
    const { shell, vault } = made;
    const { snapshots } = vault.volume;
    const textOf = (count: number): string => `${count} `.repeat(50_000);
    await shell.write("in one and two", textOf(1));
    await snapshots.take("one", "");
    await shell.write("in two", textOf(2));
    await snapshots.take("two", "");
    await shell.unlink("in one and two");
    await shell.unlink("in two");
    await shell.write("in three", textOf(3));
    await snapshots.take("three", "");
    await shell.unlink("in three");
    await vault.volume.syncAll();
    const held = async (...names: string[]): Promise<number> =>
      (await snapshots.forget(names, true)).togetherBytesEstimate;
    const [length, { length: all }] = [textOf(1).length, await snapshots.list()];
    expect(await held("one")).toBe(0);
    expect(await held("two")).toBe(length);
    expect(await held("one", "two")).toBe(2 * length);
    expect(await held("one", "three")).toBe(length);
    expect(await held("three", "one", "two")).toBe(3 * length);
    expect(await held("one", "one")).toBe(0);
    expect((await snapshots.list()).length).toBe(all);
  });

  test("can be found but is not listed, and nothing in it can be changed", async () => {
    await using made = await makeShell();
    const { shell, vault } = made;
    const { operations, snapshots } = vault.volume;
    await shell.write("f", "text");
    await snapshots.take("s", "");
    expect(await shell.list("")).toEqual(["f"]);
    expect(await shell.list(".snapshots")).toEqual(["s"]);
    const file = await shell.at(".snapshots/s/f");
    const root = await shell.at(".snapshots/s");
    const readOnly: unknown = expect.objectContaining({ code: "TCFS_READ_ONLY" });
    expect(() => operations.write(file.ino, 0n, Buffer.from("x"), { clearSetId: false, sync: false }, caller)).toThrow(
      readOnly,
    );
    expect(() => operations.unlink(root.ino, name("f"), caller)).toThrow(readOnly);
    expect(() => operations.makeNode(root.ino, name("g"), FILE, caller)).toThrow(readOnly);
    expect(() =>
      operations.rename({ parent: ROOT_INODE, name: name("f") }, { parent: root.ino, name: name("g") }, FLAGS, caller),
    ).toThrow(readOnly);
    expect(() => operations.link(file.ino, ROOT_INODE, name("g"), caller)).toThrow(
      expect.objectContaining({ code: "TCFS_CROSS_DEVICE" }),
    );
    expect(() => operations.makeDirectory(ROOT_INODE, SNAPSHOTS_NAME, DIRECTORY, caller)).toThrow(
      expect.objectContaining({ code: "TCFS_EXISTS" }),
    );
    expect(() => operations.removeDirectory(ROOT_INODE, SNAPSHOTS_NAME, caller)).toThrow(
      expect.objectContaining({ code: "TCFS_NOT_PERMITTED" }),
    );
    expect((await operations.lookup(root.ino, name("..")))?.ino).toBe(SNAPSHOTS_DIRECTORY);
    expect((await operations.lookup(SNAPSHOTS_DIRECTORY, name("..")))?.ino).toBe(ROOT_INODE);
  });

  test("has the same inode numbers after a reopening, others than the live ones, and is stale once forgotten", async () => {
    await using made = await makeShell();
    const { shell, vault } = made;
    await shell.write("f", "text");
    await vault.volume.snapshots.take("s", "");
    await vault.volume.snapshots.take("t", "");
    const numbers = async (): Promise<number[]> =>
      Promise.all(["f", ".snapshots/s/f", ".snapshots/t/f"].map(async (path) => (await shell.at(path)).ino));
    const before = await numbers();
    expect(new Set(before).size).toBe(3);
    await vault.reopen();
    expect(await numbers()).toEqual(before);
    await vault.volume.snapshots.forget(["s"], false);
    expect(() => vault.volume.operations.getAttributes(before[1] as InodeNumber)).toThrow(
      expect.objectContaining({ code: "TCFS_STALE" }),
    );
    expect(await shell.read(".snapshots/t/f")).toBe("text");
  });

  test("is not taken under a name that is taken or cannot be, and a near name is told of an unknown one", async () => {
    await using made = await makeShell();
    const { snapshots } = made.vault.volume;
    await snapshots.take("monday", "");
    await expect(snapshots.take("monday", "")).rejects.toMatchObject({ code: "TCFS_SNAPSHOT_EXISTS" });
    await expect(snapshots.take("a/b", "")).rejects.toMatchObject({ code: "TCFS_USAGE" });
    await expect(snapshots.forget(["mondya"], false)).rejects.toThrow("did you mean “monday”?");
    await expect(snapshots.diff("zzzzzz", undefined)).rejects.toThrow("tcfs snapshots lists them");
    await snapshots.take("tuesday", "");
  });
});

describe("a difference", () => {
  test("tells what was added, removed, renamed and changed, by path", async () => {
    await using made = await makeShell();
    const { shell, vault } = made;
    const { operations, snapshots } = vault.volume;
    for (const directory of ["d", "d/e", "gone"]) await shell.mkdir(directory);
    for (const file of ["d/e/deep", "d/old", "gone/f", "same", "mode"]) await shell.write(file, file);
    await snapshots.take("a", "");
    await shell.write("d/e/deep", "longer than before");
    await shell.rename("d/old", "new");
    await shell.unlink("gone/f");
    const gone = await shell.place("gone");
    await operations.removeDirectory(gone.parent, gone.name, caller);
    await shell.write("d/added", "12345");
    await operations.setAttributes((await shell.at("mode")).ino, { mode: 0o600 }, caller);
    await shell.rename("d", "moved");
    const expected = [
      { kind: "removed", path: "gone", type: "d" },
      { kind: "removed", path: "gone/f", type: "f", bytesBefore: 6 },
      { kind: "changed", path: "mode", type: "f", bytesBefore: 4, bytesAfter: 4, fields: ["mode"] },
      { kind: "renamed", path: "moved", from: "d", type: "d" },
      { kind: "added", path: "moved/added", type: "f", bytesAfter: 5 },
      { kind: "changed", path: "moved/e/deep", type: "f", bytesBefore: 8, bytesAfter: 18, fields: ["content"] },
      { kind: "renamed", path: "new", from: "d/old", type: "f", bytesBefore: 5, bytesAfter: 5 },
    ];
    expect(await snapshots.diff("a", undefined)).toEqual(expected);
    await snapshots.take("b", "");
    await shell.write("same", "not any more");
    expect(await snapshots.diff("a", "b")).toEqual(expected);
    expect((await snapshots.diff("b", "a")).map(({ kind, path }) => `${kind} ${path}`)).toEqual([
      "renamed d",
      "changed d/e/deep",
      "renamed d/old",
      "added gone",
      "added gone/f",
      "changed mode",
      "removed moved/added",
    ]);
    expect(await snapshots.diff("b", undefined)).toMatchObject([
      { kind: "changed", path: "same", fields: ["content"] },
    ]);
    expect(await snapshots.diff("b", "b")).toEqual([]);
  });
});

describe("a restore", () => {
  test("brings the state back, keeps the one before, and can be undone and redone", async () => {
    await using made = await makeShell();
    const { shell, vault } = made;
    await shell.mkdir("d");
    await shell.write("d/a", "one");
    await shell.write("b", "two");
    await vault.volume.snapshots.take("s", "");
    const then = await shell.tree("");
    await shell.write("d/a", "changed");
    await shell.unlink("b");
    await shell.mkdir("x");
    await shell.write("x/y", "new");
    const later = await shell.tree("");
    const { safety } = await vault.volume.snapshots.restore("s");
    expect(await shell.tree("")).toEqual(then);
    expect(await shell.tree(`.snapshots/${safety}`)).toEqual(later);
    expect(vault.volume.statistics()).toMatchObject({ inodeCount: 4, allocatedBytes: 6 });
    await vault.reopen();
    expect(await shell.tree("")).toEqual(then);
    await vault.volume.snapshots.undo();
    expect(await shell.tree("")).toEqual(later);
    await vault.volume.snapshots.undo();
    expect(await shell.tree("")).toEqual(then);
    await shell.write("new", "goes on");
    await vault.reopen();
    expect(await shell.read("new")).toBe("goes on");
    expect(vault.failures).toEqual([]);
  });

  test("of which the safety snapshot is forgotten leaves an earlier one to undo, and that is told", async () => {
    await using made = await makeShell();
    const { shell, vault } = made;
    const { snapshots } = vault.volume;
    await shell.write("f", "then");
    await snapshots.take("s", "");
    await shell.write("f", "first");
    const { safety: first } = await snapshots.restore("s");
    await shell.write("f", "second");
    const { safety: second } = await snapshots.restore("s");
    expect((await snapshots.forget(["s"], true)).nextUndo).toBeUndefined();
    expect((await snapshots.forget([first], true)).nextUndo).toBeUndefined();
    expect((await snapshots.forget([first, second], true)).nextUndo).toBeNull();
    expect((await snapshots.forget([second], false)).nextUndo).toMatchObject({ name: first });
    expect(await snapshots.undo()).toMatchObject({ restored: first });
    expect(await shell.read("f")).toBe("first");
  });

  test("makes stale what was open and did not exist then, and gives open files that did their content again", async () => {
    await using made = await makeShell();
    const { shell, vault } = made;
    const { operations } = vault.volume;
    await shell.write("stays", "then");
    await vault.volume.snapshots.take("s", "");
    await shell.write("stays", "now");
    await shell.write("goes", "now");
    const [stays, goes] = [await shell.at("stays"), await shell.at("goes")];
    await operations.lookup(ROOT_INODE, name("stays"));
    await operations.lookup(ROOT_INODE, name("goes"));
    const told: string[] = [];
    vault.volume.kernel = {
      forgetAttributes: () => Promise.resolve(),
      forgetInode: async (ino) => void told.push(`inode ${ino}`),
      forgetEntry: async (parent, text) => void told.push(`entry ${parent} ${text}`),
    };
    await vault.volume.snapshots.restore("s");
    expect(told).toEqual(
      expect.arrayContaining([`inode ${stays.ino}`, `inode ${goes.ino}`, "inode 1", "entry 1 goes"]),
    );
    expect(() => operations.getAttributes(goes.ino)).toThrow(expect.objectContaining({ code: "TCFS_STALE" }));
    expect(Buffer.from(copyLoan(await operations.read(stays.ino, 0n, 10, caller))).toString()).toBe("then");
    operations.forget(goes.ino, 1);
    operations.forget(stays.ino, 1);
  });

  test("that meets a damaged record changes nothing, and the volume goes on", async () => {
    await using made = await makeShell();
    const { shell, vault } = made;
    const { snapshots } = vault.volume;
    for (const file of ["a", "b", "c"]) await shell.write(file, "then");
    await snapshots.take("s", "");
    for (const file of ["a", "b", "c"]) await shell.write(file, "now");
    await vault.volume.operations.syncAll();
    const damaged = Buffer.from(inodeKey("inode", (await shell.at("b")).ino));
    const plain = Reflect.get(RecordReader.prototype, "plain");
    const spy = vi.spyOn(RecordReader.prototype, "plain").mockImplementation(function (this: RecordReader, ...args) {
      if (damaged.equals(args[0])) throw new TcfsError("TCFS_CORRUPT", "made to be damaged");
      return plain.apply(this, args);
    });
    await expect(snapshots.restore("s")).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    spy.mockRestore();
    expect(await snapshots.list()).toHaveLength(1);
    await shell.write("c", "later");
    await vault.reopen();
    expect(await shell.tree("")).toMatchObject({ a: "now", b: "now", c: "later" });
    await vault.volume.snapshots.restore("s");
    expect(await shell.read("b")).toBe("then");
  });

  test("clears an unlinked file that was open when the snapshot was taken", async () => {
    await using made = await makeShell();
    const { shell, vault } = made;
    const { operations, snapshots } = vault.volume;
    await shell.write("f", "text");
    const file = await operations.lookup(ROOT_INODE, name("f"));
    await shell.unlink("f");
    await snapshots.take("s", "");
    operations.forget(file?.ino as InodeNumber, 1);
    await shell.write("g", "other");
    await snapshots.restore("s");
    expect(vault.volume.statistics()).toMatchObject({ inodeCount: 1, allocatedBytes: 0 });
    expect(await vault.metadata.listOrphans()).toEqual([]);
    expect(await shell.tree("")).toEqual({});
  });

  test("holds requests back until it is done, and lets those under way end first", async () => {
    await using made = await makeShell();
    const { shell, vault } = made;
    const { operations, snapshots } = vault.volume;
    await shell.write("f", "then");
    await snapshots.take("s", "");
    await shell.write("f", "now and longer");
    const restoring = snapshots.restore("s");
    const [, after] = await Promise.all([
      restoring,
      (async () => {
        await new Promise((resolve) => setImmediate(resolve));
        const { ino } = await operations.getAttributes(2 as InodeNumber);
        await operations.write(ino, 4n, Buffer.from("!"), { clearSetId: false, sync: false }, caller);
        return shell.read("f");
      })(),
    ]);
    expect(["then!", "now !nd longer"]).toContain(after);
    expect(await shell.read(".snapshots/s/f")).toBe("then");
  });
});

test("a restore that a power cut interrupted waits for room on a full disk, and is then finished", async () => {
  await using vault = await TestVault.create({ canFail: true, stepRecords: 4 });
  const shell = new Shell(vault);
  const names = Array.from({ length: 30 }, (_, index) => `file ${index}`);
  for (const path of names) await shell.write(path, "then");
  await vault.volume.snapshots.take("then", "");
  for (const path of names) await shell.write(path, "later");
  await vault.volume.syncAll();
  const writes = (): number => vault.disk.events.filter((event) => event === "writeDurable").length;
  const before = writes();
  const restoring = vault.volume.snapshots.restore("then").catch(() => undefined);
  while (writes() < before + 3) await nextTurn(); // the snapshot of the state before, and the first of many batches
  const isFull = vault.losePower((disk) => disk.fail("writeDurable", "TCFS_STORE_FULL", Infinity));
  await expect(isFull).rejects.toMatchObject({ code: "TCFS_STORE_FULL", message: /free some there and mount again/u });
  await restoring;
  vault.disk.heal();
  await vault.reopen();
  for (const path of names) expect(await shell.read(path)).toBe("then");
});

test("a reader of a snapshot does not go on with another that got its name meanwhile", async () => {
  await using vault = await TestVault.create();
  const { snapshots } = vault.volume;
  await snapshots.take("name", "");
  const ask = (request: SnapshotRequest): Promise<never> => answerSnapshotRequest(snapshots, request) as Promise<never>;
  const source = new SnapshotSource({ name: "name" }, ask);
  await source.find("");
  await snapshots.forget(["name"], false);
  await snapshots.take("name", "");
  await expect(source.list(ROOT_INODE).next()).rejects.toMatchObject({ code: "TCFS_NO_SNAPSHOT" });
});

test("versions of a file that a restore took away come back with it, though they were cleaned in between", async () => {
  await using vault = await TestVault.create();
  const { snapshots, versions } = vault.volume;
  await snapshots.take("then", "");
  const shell = new Shell(vault);
  for (const text of ["one", "two", "three"]) {
    await shell.write("made later", text);
    await vault.volume.operations.flush((await shell.at("made later")).ino);
  }
  await snapshots.restore("then");
  await versions.setPolicy(versions.policy); // cleans
  await snapshots.undo();
  expect((await versions.list("made later")).map(({ bytes }) => bytes)).toEqual([3, 3]);
});
