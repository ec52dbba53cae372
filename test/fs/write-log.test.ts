/** Logged writes: an fsync stores nothing, a crash finds everything, and what is lost is told. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { TcfsError } from "../../src/errors.ts";
import { MAX_LOG_BYTES, MAX_LOGGED_DELETIONS } from "../../src/fs/limits.ts";
import { type InodeNumber, type Name, ROOT_INODE } from "../../src/ids.ts";
import { EXTENT_PAGE_BYTES, type LoggedWrites } from "../../src/format/records.ts";
import { Journal } from "../../src/metadata/journal.ts";
import { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { caller, contentOf, fsync, make, write } from "./fixtures/files.ts";
import { TestVault, clockWithoutTimers } from "./fixtures/test-vault.ts";

const first = "first" as Name;
const second = "second" as Name;
const third = "third" as Name;

async function storedChunks(vault: TestVault): Promise<number> {
  let count = 0;
  for await (const _ of vault.metadata.chunks()) count++;
  return count;
}

/** What opening a vault finds of the log from now on. */
function alterLog(alter: (writes: readonly LoggedWrites[]) => LoggedWrites[]): void {
  const prototype = LevelMetadataStore.prototype as unknown as { loggedWrites: () => Promise<LoggedWrites[]> };
  const original = prototype.loggedWrites;
  vi.spyOn(prototype, "loggedWrites").mockImplementation(async function (this: unknown) {
    return alter(await original.call(this as LevelMetadataStore));
  });
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("an fsync of little data", () => {
  it("stores nothing, and a crash right after it loses nothing", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    const ino = await make(vault, first, "one");
    await fsync(vault);
    await write(vault, ino, 1, "NE and more");
    await make(vault, second, "two");
    await fsync(vault);
    expect(await storedChunks(vault)).toBe(0);
    expect((await vault.metadata.loggedWrites()).map((writes) => writes.ino)).toHaveLength(3);
    expect(vault.volume.statistics().heldBytes).toBe(0);
    const { allocatedBytes } = vault.volume.statistics();
    await vault.crash();
    expect(await contentOf(vault, first)).toBe("oNE and more");
    expect(await contentOf(vault, second)).toBe("two");
    expect(vault.volume.statistics().allocatedBytes).toBe(allocatedBytes);
    expect(await vault.metadata.loggedWrites()).toEqual([]); // opening has stored them
    expect(await storedChunks(vault)).toBe(2);
  });

  it("with nothing new to log commits nothing", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    await make(vault, first, "one");
    await fsync(vault);
    const { commit } = vault.metadata.volume;
    await fsync(vault);
    expect(vault.metadata.volume.commit).toBe(commit);
  });

  it("logs what other files got too: what is durable is a prefix", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    await make(vault, first, "one");
    const ino = await make(vault, second, "two");
    await vault.volume.operations.sync(ino, caller);
    await vault.crash();
    expect(await contentOf(vault, first)).toBe("one");
  });

  it("is stored by the next commit, which leaves no log", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    const ino = await make(vault, first, "one");
    await fsync(vault);
    expect(vault.metadata.getInode(ino)?.loggedCommit).toBe(vault.metadata.volume.commit);
    await vault.volume.syncAll();
    expect(vault.metadata.getInode(ino)?.loggedCommit).toBe(0);
    expect(await vault.metadata.loggedWrites()).toEqual([]);
    expect(await storedChunks(vault)).toBe(1);
    await vault.crash();
    expect(await contentOf(vault, first)).toBe("one");
  });

  it("is in a snapshot taken after it, with no log", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    const ino = await make(vault, first, "one");
    await fsync(vault);
    await vault.volume.snapshots.take("kept", "");
    await write(vault, ino, 0, "ONE");
    await fsync(vault);
    await vault.crash();
    const tree = vault.volume.snapshotOperations("kept");
    const loan = await tree.read(ino, 0n, 10, caller);
    expect(Buffer.concat(loan.pieces).toString()).toBe("one");
    loan.release();
    expect(await contentOf(vault, first)).toBe("ONE");
    await vault.volume.snapshots.restore("kept");
    expect(await vault.metadata.loggedWrites()).toEqual([]);
    await vault.crash();
    expect(await contentOf(vault, first)).toBe("one");
  });

  it("is stored by itself once the log has grown", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    const ino = await make(vault, first, "");
    const piece = "x".repeat(100_000);
    for (let at = 0; at <= MAX_LOG_BYTES; at += piece.length) {
      await write(vault, ino, at, piece);
      await fsync(vault);
    }
    await fsync(vault); // waits for what is under way
    expect((await vault.metadata.loggedWrites()).length).toBeLessThan(2);
  });
});

describe("what cannot be logged", () => {
  const changes: Record<string, (vault: TestVault, ino: InodeNumber) => unknown> = {
    "a cut": (vault, ino) => vault.volume.operations.setAttributes(ino, { lengthBytes: 2n }, caller),
    "a hole": (vault, ino) => vault.volume.operations.allocate(ino, 3, 0n, 2n, caller),
    "allocated room": (vault, ino) => vault.volume.operations.allocate(ino, 0, 0n, 4096n, caller),
    "much data": (vault, ino) => write(vault, ino, 0, "y".repeat(200_000)),
  };
  it.each(Object.entries(changes))("%s has everything stored by the next fsync", async (_what, change) => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    const ino = await make(vault, first, "one");
    await fsync(vault);
    await change(vault, ino);
    const expected = await contentOf(vault, first);
    await fsync(vault);
    expect(await vault.metadata.loggedWrites()).toEqual([]);
    await vault.crash();
    expect(await contentOf(vault, first)).toBe(expected);
  });
});

describe("a file that is gone", () => {
  it("takes its log with it at the next fsync, and nothing has to be stored for that", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    const ino = await make(vault, first, "one");
    await fsync(vault);
    await vault.volume.operations.unlink(ROOT_INODE, first, caller);
    vault.volume.operations.forget(ino, 1);
    await fsync(vault);
    expect(await vault.metadata.loggedWrites()).toEqual([]);
    expect(await storedChunks(vault)).toBe(0);
    await vault.crash();
    expect(await contentOf(vault, first)).toBe("missing");
    expect(vault.volume.statistics().allocatedBytes).toBe(0);
  });

  it("and was stored goes with what the next fsync logs, its extents and its log too", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    await make(vault, second, "two");
    const ino = await make(vault, first, "x".repeat(300_000));
    await vault.volume.syncAll();
    const stored = await storedChunks(vault);
    await write(vault, ino, 1, "logged");
    await fsync(vault);
    await vault.volume.operations.unlink(ROOT_INODE, first, caller);
    vault.volume.operations.forget(ino, 1);
    const other = await make(vault, third, "three");
    await fsync(vault);
    expect((await vault.metadata.loggedWrites()).map((writes) => writes.ino)).toEqual([other]);
    expect(await storedChunks(vault)).toBe(stored);
    expect(await vault.metadata.extentPages(ino, 0, 9)).toEqual([]);
    await vault.crash();
    expect(await vault.metadata.extentPages(ino, 0, 9)).toEqual([]);
    expect(await contentOf(vault, first)).toBe("missing");
    expect(await contentOf(vault, second)).toBe("two");
    expect(await contentOf(vault, third)).toBe("three");
    expect(vault.volume.statistics().allocatedBytes).toBe(8);
  });

  it("and had many pages has everything stored by the next fsync", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    const ino = await make(vault, first, "one");
    await write(vault, ino, MAX_LOGGED_DELETIONS * EXTENT_PAGE_BYTES, "far");
    await vault.volume.syncAll();
    await vault.volume.operations.unlink(ROOT_INODE, first, caller);
    vault.volume.operations.forget(ino, 1);
    await make(vault, second, "two");
    await fsync(vault);
    expect(await vault.metadata.loggedWrites()).toEqual([]);
    expect(await vault.metadata.extentPages(ino, 0, 999)).toEqual([]);
    await vault.crash();
    expect(await contentOf(vault, second)).toBe("two");
  });

  it("is gone with its pages, though the disk had no room for the fsync at first", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    const ino = await make(vault, first, "one");
    await vault.volume.syncAll();
    await vault.volume.operations.unlink(ROOT_INODE, first, caller);
    vault.volume.operations.forget(ino, 1);
    await make(vault, second, "two");
    const full = vi.spyOn(Journal.prototype, "append").mockImplementation(() => {
      throw new TcfsError("TCFS_STORE_FULL", "made to be full");
    });
    await expect(fsync(vault)).rejects.toMatchObject({ code: "TCFS_STORE_FULL" });
    full.mockRestore();
    await fsync(vault);
    expect(await vault.metadata.extentPages(ino, 0, 9)).toEqual([]);
    await vault.crash();
    expect(await vault.metadata.extentPages(ino, 0, 9)).toEqual([]);
    expect(await contentOf(vault, second)).toBe("two");
  });
});

describe("a log that is damaged", () => {
  it("makes the file answer EIO, not older bytes; all else is there, and the file can be removed", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    const ino = await make(vault, first, "one");
    await vault.volume.syncAll();
    await write(vault, ino, 0, "ONE");
    const other = await make(vault, second, "two");
    await fsync(vault);
    alterLog((writes) => writes.map((write) => (write.ino === ino ? { ...write, content: undefined } : write)));
    await vault.crash();
    await expect(contentOf(vault, first)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    await expect(write(vault, ino, 0, "new")).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    await write(vault, other, 3, "!");
    await fsync(vault);
    await vault.crash();
    await expect(contentOf(vault, first)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    expect(await contentOf(vault, second)).toBe("two!");
    vi.restoreAllMocks();
    alterLog(() => []);
    await vault.crash();
    await expect(contentOf(vault, first)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    await vault.volume.operations.unlink(ROOT_INODE, first, caller);
    await vault.reopen();
    expect(await contentOf(vault, first)).toBe("missing");
  });

  it("is left alone where its inode was replaced by another state", async () => {
    await using vault = await TestVault.create({ clock: clockWithoutTimers });
    const ino = await make(vault, first, "one");
    await vault.volume.snapshots.take("kept", "");
    await write(vault, ino, 0, "ONE");
    await fsync(vault);
    alterLog((writes) => writes.map((write) => ({ ...write, content: undefined })));
    await vault.crash();
    await vault.volume.snapshots.restore("kept");
    expect(await contentOf(vault, first)).toBe("one");
    await vault.crash();
    expect(await contentOf(vault, first)).toBe("one");
  });
});
