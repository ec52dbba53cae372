/** Logged writes where something else fails: damaged records, a full disk, a database that is opened again. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { TcfsError } from "../../src/errors.ts";
import { type InodeNumber, type Name, ROOT_INODE } from "../../src/ids.ts";
import type { LoggedWrites } from "../../src/format/records.ts";
import { RECORD_KIND } from "../../src/format/record-keys.ts";
import { JournaledDatabase } from "../../src/metadata/journaled-database.ts";
import { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { caller, contentOf, damage, fsync, make as makeOpen, write } from "./fixtures/files.ts";
import { TestVault, clockWithoutTimers } from "./fixtures/test-vault.ts";

const KIB = 1024;
const first = "first" as Name;
const second = "second" as Name;

/** A file that nobody has open. */
async function make(vault: TestVault, name: Name, content: string): Promise<InodeNumber> {
  const ino = await makeOpen(vault, name, content);
  vault.volume.operations.forget(ino, 1);
  return ino;
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("a record that is damaged below logged writes", () => {
  it.each(["getExtentPage", "getInode"] as const)("(%s) costs its file alone, and none of its log", async (method) => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    const ino = await make(vault, first, "one");
    await make(vault, second, "two");
    await vault.volume.syncAll();
    await write(vault, ino, 1, "NE");
    await fsync(vault);
    damage(method, ino);
    await vault.crash();
    await expect(contentOf(vault, first)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    expect(await contentOf(vault, second)).toBe("two");
    await make(vault, "third" as Name, "three");
    await fsync(vault);
    await vault.volume.syncAll();
    expect(vault.failures).toEqual([]);
    vi.restoreAllMocks(); // as after the damaged table was replaced by a good copy of it
    await vault.crash();
    expect(await contentOf(vault, first)).toBe("oNE");
  });

  it("stops no commit that is to store them", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    const ino = await make(vault, first, "one");
    await fsync(vault);
    damage("getInode", ino);
    await make(vault, second, "two");
    await vault.volume.syncAll();
    vi.restoreAllMocks();
    expect(vault.failures).toEqual([]);
    await vault.crash();
    expect(await contentOf(vault, second)).toBe("two");
  });
});

/** What opening a vault finds of the log from now on. */
function alterLog(alter: (writes: readonly LoggedWrites[]) => readonly LoggedWrites[]): void {
  const prototype = LevelMetadataStore.prototype as unknown as { loggedWrites: () => Promise<LoggedWrites[]> };
  const original = prototype.loggedWrites;
  vi.spyOn(prototype, "loggedWrites").mockImplementation(async function (this: unknown) {
    return [...alter(await original.call(this as LevelMetadataStore))];
  });
}

describe("a record of logged writes", () => {
  it.each([0, 1, 2])("that is missing (the %d.) is told: older bytes are not shown", async (lost) => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    const ino = await make(vault, first, "....");
    await vault.volume.syncAll();
    for (const [at, byte] of ["1", "2", "3"].entries()) {
      await write(vault, ino, at, byte);
      await fsync(vault);
    }
    alterLog((writes) => writes.filter((_, index) => index !== lost));
    await vault.crash();
    await expect(contentOf(vault, first)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    await vault.volume.syncAll();
    vi.restoreAllMocks();
    await vault.crash();
    expect(await contentOf(vault, first)).toBe("123.");
  });

  it("that was deleted and is found again is not laid over newer bytes", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    const ino = await make(vault, first, "old");
    await fsync(vault);
    const deleted = await vault.metadata.loggedWrites();
    await write(vault, ino, 0, "new");
    await vault.volume.syncAll();
    await write(vault, ino, 2, "W!");
    await fsync(vault);
    expect(deleted).toHaveLength(1);
    alterLog((writes) => [...deleted, ...writes]);
    await vault.crash();
    expect(await contentOf(vault, first)).toBe("neW!");
  });

  it("that cannot be listed costs the files that need it, and keeps nobody from mounting", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    await make(vault, first, "one");
    await vault.volume.syncAll();
    await make(vault, second, "two");
    await fsync(vault);
    const { walk } = JournaledDatabase.prototype; // eslint-disable-line @typescript-eslint/unbound-method -- called with its object
    vi.spyOn(JournaledDatabase.prototype, "walk").mockImplementation(function (this: JournaledDatabase, range) {
      if (range.first[0] === RECORD_KIND.loggedWrites) throw new TcfsError("TCFS_CORRUPT", "made to be damaged");
      return walk.call(this, range);
    });
    await vault.crash();
    expect(await contentOf(vault, first)).toBe("one");
    await expect(contentOf(vault, second)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    vi.restoreAllMocks();
    await vault.crash();
    expect(await contentOf(vault, second)).toBe("two");
  });

  it("that cannot be read does not matter once its file was emptied", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    const ino = await make(vault, first, "one");
    await vault.volume.syncAll();
    await write(vault, ino, 1, "NE");
    await fsync(vault);
    alterLog((writes) => writes.map((record) => ({ ...record, content: undefined })));
    await vault.crash();
    await expect(contentOf(vault, first)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    await vault.volume.operations.setAttributes(ino, { lengthBytes: 0n }, caller);
    await write(vault, ino, 0, "again");
    await fsync(vault);
    vi.restoreAllMocks();
    await vault.crash();
    expect(await contentOf(vault, first)).toBe("again");
    expect(vault.volume.statistics().allocatedBytes).toBe(5);
    expect(await vault.metadata.loggedWrites()).toEqual([]);
  });
});

describe("a disk without room", () => {
  it("keeps nobody from mounting: what is to be stored stays in memory and in the log", async () => {
    await using vault = await TestVault.create({ canFail: true, clock: clockWithoutTimers });
    const ino = await make(vault, first, "");
    for (let at = 0; at < 6; at++) {
      await write(vault, ino, at * 40 * KIB, String(at).repeat(40 * KIB));
      await fsync(vault);
    }
    const content = await contentOf(vault, first);
    vault.disk.fail("create", "TCFS_STORE_FULL", 1);
    await vault.crash();
    expect(await contentOf(vault, first)).toBe(content);
    await vault.crash();
    expect(await contentOf(vault, first)).toBe(content);
  });
});

describe("what is told of bytes that only memory holds", () => {
  it("leaves out those of a file that is gone", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    await make(vault, first, "one");
    await fsync(vault);
    await make(vault, second, "twenty");
    await vault.volume.operations.unlink(ROOT_INODE, second, caller);
    expect(vault.volume.statistics().heldBytes).toBe(0);
  });
});
