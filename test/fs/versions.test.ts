/** Versions and trash on a real volume without a kernel. */
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { DEFAULT_VERSION_POLICY, type VersionRecord } from "../../src/format/version-codec.ts";
import { thinOut } from "../../src/fs/versions/thinning.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../src/ids.ts";
import { SimulatedClock } from "../support/simulated-clock.ts";
import { TestVault } from "./fixtures/test-vault.ts";
import { Driver, caller, pattern } from "./fixtures/versions-driver.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

describe("a version", () => {
  test("is kept of each content that was closed, whether it was stored before or not", async () => {
    const driver = await Driver.open();
    await driver.save("notes", "one");
    await driver.save("notes", "two");
    await driver.operations.syncAll();
    await driver.save("notes", "three");
    expect(await driver.texts("notes")).toEqual(["one", "two"]);
    expect(String(await driver.read("notes"))).toBe("three");
    await driver.reopen("reopen");
    expect(await driver.texts("notes")).toEqual(["one", "two"]);
  });

  test("is not made by writing on, nor of what is empty", async () => {
    const driver = await Driver.open();
    await driver.ino("log");
    await driver.close("log");
    for (let i = 0; i < 5; i++) await driver.write("log", i, Buffer.from("x"));
    expect(await driver.texts("log")).toEqual([]);
    await driver.close("log");
    await driver.write("log", 5, Buffer.from("y"));
    expect(await driver.texts("log")).toEqual(["xxxxx"]);
  });

  test("of a long file shares its pages, and stays as it was while others come and go", async () => {
    const driver = await Driver.open();
    const first = pattern(9 * MIB + 17, 1);
    await driver.save("disk", first);
    const second = Buffer.from(first);
    pattern(5000, 2).copy(second, 3 * MIB - 100);
    await driver.write("disk", 3 * MIB - 100, pattern(5000, 2));
    await driver.close("disk");
    await driver.truncate("disk", 6 * MIB);
    const third = Buffer.concat([second.subarray(0, 6 * MIB), Buffer.alloc(2 * MIB), Buffer.from("end")]);
    await driver.write("disk", 8 * MIB, Buffer.from("end"));
    await driver.close("disk");
    await driver.write("disk", 7 * MIB, Buffer.from("in the hole"));
    await driver.operations.syncAll();
    const contents = await driver.versions("disk");
    expect(contents.map((content, i) => content.equals([first, second, third][i] as Buffer))).toEqual([
      true,
      true,
      true,
    ]);
    await driver.unlink("disk");
    await driver.operations.syncAll();
    await driver.vault.volume.collect(new AbortController().signal);
    await driver.reopen("crash");
    const after = await driver.versions("disk");
    expect(after.length).toBe(4);
    expect(after.slice(0, 3).map((content, i) => content.equals(contents[i] as Buffer))).toEqual([true, true, true]);
    expect(after[3]?.subarray(7 * MIB, 7 * MIB + 11).toString()).toBe("in the hole");
  });

  test("comes from a file that was replaced by a rename, or deleted and made again", async () => {
    const driver = await Driver.open();
    await driver.save("text", "first");
    await driver.save("text.new", "second");
    await driver.rename("text.new", "text");
    await driver.save("text", "third");
    await driver.unlink("text");
    await driver.save("text", "fourth");
    expect(await driver.texts("text")).toEqual(["first", "second", "third"]);
    expect(await driver.vault.volume.versions.list("text")).toMatchObject([
      { kind: "replaced", bytes: 5 },
      { kind: "changed", bytes: 6 },
      { kind: "deleted", bytes: 5 },
    ]);
  });

  test("comes back in place with mode and xattrs, and what was there becomes a version", async () => {
    const driver = await Driver.open();
    await driver.save("script", "old");
    const ino = await driver.ino("script");
    await driver.operations.setAttributes(ino, { mode: 0o100755 }, caller);
    const flags = { create: false, replace: false, clearSetGid: false };
    await driver.operations.setXattr(ino, "user.color" as Name, Buffer.from("red"), flags, caller);
    await driver.save("script", "new");
    await driver.operations.setAttributes(ino, { mode: 0o100600 }, caller);
    const [version] = await driver.vault.volume.versions.list("script");
    await driver.vault.volume.versions.restore("script", version?.time ?? "", undefined);
    expect(String(await driver.read("script"))).toBe("old");
    const restored = await driver.ino("script");
    expect((await driver.operations.getAttributes(restored)).mode).toBe(0o100755);
    expect(await driver.operations.getXattr(restored, "user.color" as Name)).toEqual(
      new Uint8Array(Buffer.from("red")),
    );
    expect(await driver.texts("script")).toEqual(["old", "new"]);
    await expect(driver.vault.volume.versions.restore("script", "1999", undefined)).rejects.toMatchObject({
      code: "TCFS_NO_ENTRY",
    });
  });

  test.for([
    ["nothing else is kept", { isOff: true }],
    ["it was never closed", {}],
  ] as const)("comes back over a file that becomes a version, though %s", async ([, off]) => {
    const driver = await Driver.open();
    await driver.save("letter", "old");
    await driver.save("letter", "gone");
    const { versions } = driver.vault.volume;
    const [version] = await versions.list("letter");
    await driver.unlink("letter");
    await versions.setPolicy({ ...DEFAULT_VERSION_POLICY, minimumAgeSeconds: 0, ...off });
    await driver.write("letter", 0, Buffer.from("not yet closed"));
    await versions.restore("letter", version?.time ?? "", undefined);
    expect(String(await driver.read("letter"))).toBe("old");
    expect(await driver.texts("letter")).toContain("not yet closed");
  });

  test("stays through a restore of a snapshot, of a long file too", async () => {
    const driver = await Driver.open();
    const long = pattern(6 * MIB, 3);
    await driver.save("notes", "one");
    await driver.save("long", long);
    await driver.vault.volume.snapshots.take("s", "");
    await driver.save("notes", "two");
    await driver.save("notes", "three");
    await driver.write("long", MIB, Buffer.from("changed"));
    await driver.close("long");
    await driver.write("long", 2 * MIB, Buffer.from("changed again"));
    const before = await driver.versions("long");
    expect(before.length).toBe(2);
    await driver.vault.volume.snapshots.restore("s");
    expect(await driver.texts("notes")).toEqual(["one", "two"]);
    expect(String(await driver.read("notes"))).toBe("one");
    const after = await driver.versions("long");
    expect(after.map((content, i) => content.equals(before[i] as Buffer))).toEqual([true, true]);
    expect((await driver.read("long")).equals(long)).toBe(true);
  });
});

describe("the trash", () => {
  test("gives back a removed tree as it was, with modes, links' targets and empty files", async () => {
    const driver = await Driver.open();
    const a = await driver.directory("a");
    await driver.operations.setAttributes(a, { mode: 0o040700 }, caller);
    const b = await driver.directory("b", a);
    await driver.directory("empty", b);
    await driver.save("file", "content", b);
    await driver.ino("nothing", b);
    await driver.close("nothing", b);
    await driver.operations.makeSymlink(b, "link" as Name, Buffer.from("file"), caller);
    for (const name of ["file", "nothing", "link"]) await driver.unlink(name, b);
    await driver.removeDirectory("empty", b);
    await driver.removeDirectory("b", a);
    await driver.removeDirectory("a");
    await driver.reopen("crash");
    const { versions } = driver.vault.volume;
    expect((await versions.listTrash()).map(({ path, type, bytes }) => `${type} ${path} ${bytes}`)).toEqual([
      "d a 0",
      "d a/b 0",
      "d a/b/empty 0",
      "f a/b/file 7",
      "l a/b/link 0",
      "f a/b/nothing 0",
    ]);
    expect(await versions.restoreTrash("a", undefined)).toEqual({ files: 3, directories: 3, skipped: [] });
    const restored = await driver.operations.lookup(ROOT_INODE, "a" as Name);
    expect(restored).toMatchObject({ mode: 0o040700 });
    const below = (await driver.find("b", restored?.ino)) as InodeNumber;
    expect(String(await driver.read("file", below))).toBe("content");
    expect(Buffer.from(await driver.operations.readSymlink((await driver.find("link", below)) as InodeNumber))).toEqual(
      Buffer.from("file"),
    );
    expect(await driver.find("nothing", below)).toBeDefined();
    expect(await driver.find("empty", below)).toBeDefined();
    expect(await versions.listTrash()).toEqual([]);
    await expect(versions.restoreTrash("a", undefined)).rejects.toMatchObject({ code: "TCFS_NO_ENTRY" });
  });

  test("that does not have a path tells which it may have been, as does a file without versions", async () => {
    const driver = await Driver.open();
    const letters = await driver.directory("letters");
    await driver.save("monday", "text", letters);
    await driver.unlink("monday", letters);
    await driver.save("tuesday", "text", letters);
    const { versions } = driver.vault.volume;
    const refused = (path: string): Promise<unknown> => versions.restoreTrash(path, undefined);
    await expect(refused("letters/mondya")).rejects.toThrow("did you mean “letters/monday”?");
    await expect(refused("lettres")).rejects.toThrow("did you mean “letters”?");
    await expect(refused("letters/x")).rejects.toThrow("tcfs trash lists what there is");
    await expect(versions.list("letters/tusday")).rejects.toThrow("did you mean “letters/tuesday”?");
    await expect(versions.list("letters/mondy")).rejects.toThrow("did you mean “letters/monday”?");
    expect(await versions.list("letters/tuesday")).toEqual([]);
  });

  test("and versions list no directory for a file that is there, with versions or without", async () => {
    const driver = await Driver.open();
    const many = await driver.directory("many");
    await driver.save("new", "text", many);
    await driver.save("twice", "first", many);
    await driver.save("twice", "second", many);
    const { versions } = driver.vault.volume;
    const listing = vi.spyOn(driver.vault.metadata, "listDirectory");
    expect(await versions.list("many/new")).toEqual([]);
    expect(await versions.list("many/twice")).toHaveLength(1);
    expect(listing).not.toHaveBeenCalled();
    await expect(versions.list("many/now")).rejects.toThrow("did you mean “many/new”?");
    expect(listing).toHaveBeenCalledWith(many);
  });

  test("leaves a directory that was made anew as it is, and puts what is missing into it", async () => {
    const driver = await Driver.open();
    const long = { seconds: 1_000_000, nanoseconds: 0 };
    const made = await driver.directory("d");
    await driver.directory("below", made);
    await driver.save("file", "old", made);
    await driver.unlink("file", made);
    await driver.removeDirectory("below", made);
    await driver.operations.setAttributes(made, { modifyTime: long }, caller);
    await driver.removeDirectory("d");
    const anew = await driver.directory("d");
    await driver.directory("below", anew);
    await driver.save("new", "new", anew);
    const before = (await driver.operations.getAttributes(anew)).modifyTime;
    const { versions } = driver.vault.volume;
    expect(await versions.restoreTrash("d", undefined)).toEqual({ files: 1, directories: 0, skipped: [] });
    expect(String(await driver.read("file", anew))).toBe("old");
    const { modifyTime } = await driver.operations.getAttributes(anew);
    expect(modifyTime.seconds).toBeGreaterThanOrEqual(before.seconds);
    expect(await versions.listTrash()).toEqual([]);
  });

  test("gives one file back into directories made as they were, elsewhere, and never over another", async () => {
    const driver = await Driver.open();
    const a = await driver.directory("a");
    await driver.operations.setAttributes(a, { mode: 0o040711 }, caller);
    await driver.save("file", "old", a);
    await driver.unlink("file", a);
    await driver.removeDirectory("a");
    const { versions } = driver.vault.volume;
    await versions.restoreTrash("a/file", "b/copy");
    const b = (await driver.find("b")) as InodeNumber;
    expect(String(await driver.read("copy", b))).toBe("old");
    await driver.unlink("copy", b);
    await driver.save("copy", "new", b);
    const refused = versions.restoreTrash("b/copy", undefined);
    await expect(refused).rejects.toMatchObject({ code: "TCFS_EXISTS" });
    await expect(refused).rejects.toThrow("there is another “b/copy” by now: --to says where this one goes instead");
    expect(String(await driver.read("copy", b))).toBe("new");
    expect((await versions.listTrash()).map(({ path }) => path)).toEqual(["a", "b/copy"]);
    await driver.save("other", "x");
    await driver.unlink("other");
    await versions.restoreTrash("a", undefined);
    expect(await driver.operations.lookup(ROOT_INODE, "a" as Name)).toMatchObject({ mode: 0o040711 });
  });

  test("does not keep what was never closed, or is young, or below a directory that says off", async () => {
    const driver = await Driver.open(3600);
    await driver.save("young", "1");
    await driver.unlink("young");
    expect(await driver.vault.volume.versions.listTrash()).toEqual([]);
    await driver.vault.volume.versions.setPolicy({ ...DEFAULT_VERSION_POLICY, minimumAgeSeconds: 0 });
    await driver.write("unclosed", 0, Buffer.from("2"));
    await driver.unlink("unclosed");
    const off = await driver.directory("off");
    const flags = { create: false, replace: false, clearSetGid: false };
    const set = (ino: InodeNumber, value: string) =>
      driver.operations.setXattr(ino, "user.tcfs.versions" as Name, Buffer.from(value), flags, caller);
    await set(off, "off");
    const below = await driver.directory("below", off);
    const on = await driver.directory("on", off);
    await set(on, "on");
    for (const directory of [below, on]) {
      await driver.save("file", "first", directory);
      await driver.save("file", "second", directory);
      await driver.unlink("file", directory);
    }
    expect((await driver.vault.volume.versions.listTrash()).map(({ path }) => path)).toEqual(["off/on/file"]);
    expect(await driver.vault.volume.versions.list("off/on/file")).toMatchObject([{ bytes: 5 }, { bytes: 6 }]);
    const shown = (ino: InodeNumber) => driver.operations.getXattr(ino, "user.tcfs.versions" as Name);
    expect(await shown(below)).toEqual(new Uint8Array(Buffer.from("off")));
    expect(await shown(await driver.directory("beside"))).toBeUndefined();
    await expect((async () => set(off, "maybe"))()).rejects.toMatchObject({ code: "TCFS_INVALID" });
    await driver.vault.volume.versions.setPolicy({ ...DEFAULT_VERSION_POLICY, minimumAgeSeconds: 0, isOff: true });
    await driver.save("later", "first");
    await driver.save("later", "second");
    expect(await driver.vault.volume.versions.list("later")).toEqual([]);
  });

  test("is bounded in number and bytes, oldest first, and emptied on request; then the room is free", async () => {
    const driver = await Driver.open();
    const { versions } = driver.vault.volume;
    for (const name of ["1", "2", "3", "4"]) {
      await driver.save(name, pattern(MIB, Number(name)));
      await driver.save(name, pattern(MIB, Number(name) + 10));
      await driver.unlink(name);
    }
    const policy = { ...DEFAULT_VERSION_POLICY, minimumAgeSeconds: 0 };
    await versions.setPolicy({ ...policy, trashCount: 3 });
    expect((await versions.listTrash()).map(({ path }) => path)).toEqual(["2", "3", "4"]);
    await versions.setPolicy({ ...policy, trashBytes: 2 * MIB });
    expect((await versions.listTrash()).map(({ path }) => path)).toEqual(["3", "4"]);
    expect(await versions.emptyTrash(3600)).toEqual({ files: 0, bytes: 0 });
    expect(await versions.emptyTrash(0)).toEqual({ files: 2, bytes: 2 * MIB });
    expect(await versions.listTrash()).toEqual([]);
    await versions.setPolicy(policy); // looks through all: versions of what is gone for good go too
    const report = await driver.vault.volume.collect(new AbortController().signal);
    expect(report.liveChunks).toBe(0);
    const left: unknown[] = [];
    for await (const records of driver.vault.metadata.versions.all()) left.push(...records);
    expect(left).toEqual([]);
  });
});

describe("the directory .versions", () => {
  const names = async (driver: Driver, ino: InodeNumber): Promise<string[]> => {
    const found: string[] = [];
    await driver.operations.readDirectory(ino, 0n, true, ({ name }) => found.push(name) > 0);
    return found.filter((name) => !name.startsWith(".")).sort();
  };
  const open = async (driver: Driver, ...path: string[]): Promise<InodeNumber> => {
    let ino = ROOT_INODE;
    for (const name of [".versions", ...path]) {
      const found = await driver.operations.lookup(ino, name as Name);
      if (found === undefined) throw new Error(`no ${name}`);
      ino = found.ino;
    }
    return ino;
  };

  test("shows the tree, removed directories too, with the versions of its files, which read as they were", async () => {
    const driver = await Driver.open();
    const a = await driver.directory("a");
    await driver.directory("plain");
    const long = pattern(5 * MIB, 1);
    await driver.save("long", long, a);
    await driver.write("long", MIB, Buffer.from("changed"), a);
    await driver.close("long", a);
    await driver.save("notes", "one", a);
    await driver.save("notes", "two", a);
    await driver.save("user@host", "here", a);
    await driver.unlink("user@host", a);
    const times = (await driver.vault.volume.versions.list("a/notes")).map(({ time }) => time);
    const [longTime] = (await driver.vault.volume.versions.list("a/long")).map(({ time }) => time);
    const [userTime] = (await driver.vault.volume.versions.list("a/user@host")).map(({ time }) => time);
    const shown = [`long@${longTime ?? ""}`, `notes@${times[0] ?? ""}`, `user@host@${userTime ?? ""}`];
    expect(await names(driver, await open(driver))).toEqual(["a", "plain"]);
    expect(await names(driver, await open(driver, "a"))).toEqual(shown);
    expect(String(await driver.read(shown[1] as string, await open(driver, "a")))).toBe("one");
    expect((await driver.read(shown[0] as string, await open(driver, "a"))).equals(long)).toBe(true);
    await driver.unlink("notes", a);
    await driver.unlink("long", a);
    await driver.removeDirectory("a");
    expect(await names(driver, await open(driver))).toEqual(["a", "plain"]);
    expect((await names(driver, await open(driver, "a"))).length).toBe(5);
    expect(String(await driver.read(shown[1] as string, await open(driver, "a")))).toBe("one");
    await driver.reopen("crash");
    expect((await driver.read(shown[0] as string, await open(driver, "a"))).equals(long)).toBe(true);
  });

  test("cannot be changed, is not listed, and what is not there is not found", async () => {
    const driver = await Driver.open();
    await driver.save("notes", "one");
    await driver.save("notes", "two");
    const root = await open(driver);
    const [name = ""] = await names(driver, root);
    const file = await open(driver, name);
    const write = async (): Promise<unknown> =>
      driver.operations.write(file, 0n, Buffer.from("x"), { clearSetId: false, sync: false }, caller);
    await expect(write()).rejects.toMatchObject({ code: "TCFS_READ_ONLY" });
    const make = async (): Promise<unknown> => driver.directory("x", root);
    await expect(make()).rejects.toMatchObject({ code: "TCFS_READ_ONLY" });
    await expect(driver.directory(".versions")).rejects.toMatchObject({ code: "TCFS_EXISTS" });
    for (const missing of ["notes", "notes@", "notes@1999", "@", "nothing@2026"]) {
      await expect(open(driver, missing)).rejects.toMatchObject({ code: "TCFS_NO_ENTRY" });
    }
    const found: string[] = [];
    await driver.operations.readDirectory(ROOT_INODE, 0n, true, (entry) => found.push(entry.name) > 0);
    expect(found).not.toContain(".versions");
    expect((await driver.operations.lookup(root, ".." as Name))?.ino).toBe(ROOT_INODE);
    await driver.vault.volume.snapshots.take("s", "");
    const snapshots = await driver.operations.lookup(ROOT_INODE, ".snapshots" as Name);
    const snapshot = await driver.operations.lookup(snapshots?.ino as InodeNumber, "s" as Name);
    expect(await driver.operations.lookup(snapshot?.ino as InodeNumber, ".versions" as Name)).toBeUndefined();
  });
});

test("a clock that leaps ahead empties nothing, unless it still says so an hour later", async () => {
  const clock = new SimulatedClock("2026-11-22T08:00:00Z");
  const vault = await TestVault.create({ clock });
  onTestFinished(() => vault[Symbol.asyncDispose]());
  const driver = new Driver(vault);
  const policy = { ...DEFAULT_VERSION_POLICY, minimumAgeSeconds: 0 };
  const look = (): Promise<void> => driver.vault.volume.versions.setPolicy(policy);
  const leapMs = 3 * 365 * 24 * 3_600_000;
  const keptAfterLeap = async (lookAfterMs: readonly number[]): Promise<number> => {
    clock.jump(leapMs);
    for (const ms of lookAfterMs) {
      await clock.pass(ms, () => Promise.resolve());
      await look();
    }
    clock.jump(-leapMs);
    return (await driver.vault.volume.versions.list("notes")).length; // shows none that is too old, still there or not
  };
  await look();
  await driver.save("notes", "one");
  await driver.save("notes", "two");
  await driver.operations.syncAll();
  expect(await keptAfterLeap([0, 1_800_000])).toBe(1);
  await look();
  expect(await keptAfterLeap([0, 1_800_000])).toBe(1);
  expect(await keptAfterLeap([0, 3_600_000])).toBe(0);
});

describe("thinning", () => {
  const HOUR = 3600;
  const at = (seconds: number) => ({ keptAt: { seconds } });

  test("keeps all of the last hour, the last of each hour of a day, then the last of each day, then none", () => {
    const now = 1000 * 24 * HOUR;
    const policy = { ...DEFAULT_VERSION_POLICY, dailySeconds: 10 * 24 * HOUR };
    const versions = [-11 * 24, -3 * 24 + 1, -3 * 24 + 2, -5 + 0.1, -5 + 0.2, -0.5, -0.4, 3].map((h) =>
      at(now + h * HOUR),
    );
    expect(thinOut(versions, policy, now)).toEqual([versions[3], versions[1], versions[0]]);
    expect(thinOut(versions, { ...policy, maxVersions: 2 }, now)).toEqual(
      [3, 1, 0, 5, 4, 2].map((index) => versions[index]),
    );
  });

  test("of a file happens to what is listed at once, also to versions with shared pages", async () => {
    const driver = await Driver.open();
    const contents = [0, 1, 2, 3, 4].map((i) => pattern(5 * MIB, i));
    for (const content of contents) await driver.save("long", content);
    await driver.vault.volume.versions.setPolicy({ ...DEFAULT_VERSION_POLICY, minimumAgeSeconds: 0, maxVersions: 2 });
    const found = await driver.versions("long");
    expect(found.map((content) => contents.findIndex((one) => one.equals(content)))).toEqual([2, 3]);
    await driver.save("long", contents[0] as Buffer);
    expect((await driver.vault.volume.versions.list("long")).length).toBe(2);
  });

  test("clears away in steps that a crash may interrupt anywhere", async () => {
    const driver = await Driver.open();
    const first = pattern(6 * MIB, 1);
    await driver.save("long", first);
    for (let i = 0; i < 4; i++) {
      await driver.write("long", i * MIB, pattern(700 * KIB, i + 2));
      await driver.close("long");
    }
    await driver.operations.syncAll();
    const { versions } = driver.vault.metadata;
    const [, second, third] = await versions.ofFile(await driver.ino("long"));
    versions.drop(second as VersionRecord);
    versions.drop(third as VersionRecord);
    await driver.reopen("crash");
    for (let isDone: boolean | undefined = false; isDone !== true;) {
      isDone = (await driver.vault.metadata.versions.clearing(() => false).next()).done;
      await driver.reopen("crash");
    }
    expect(driver.vault.metadata.versions.chainOf(await driver.ino("long"))?.length).toBe(2);
    const found = await driver.versions("long");
    expect(found.length).toBe(2);
    expect(found[0]?.equals(first)).toBe(true);
  });
});
