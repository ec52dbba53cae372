/** Files of so many pages that cutting them means listing first: the world may change before the list is there. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { TcfsError } from "../../src/errors.ts";
import type { Caller } from "../../src/fs/operations.ts";
import { SpaceGuard } from "../../src/fs/space-guard.ts";
import { type InodeNumber, type Name, ROOT_INODE } from "../../src/ids.ts";
import { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { TestVault } from "./fixtures/test-vault.ts";

const MIB = 1024n * 1024n;
const GIB = 1024n * MIB;
const SMALL_CACHE = { cacheBytes: 1024 };
const FALLOC_PUNCH_KEEPING_SIZE = 3;
const FALLOC_ZERO_RANGE = 0x10;
const caller = { uid: 0, gid: 0, pid: 1, onInterrupt: (): void => undefined };
const large = "large" as Name;
const others = ["a", "b", "c", "d"] as Name[];

async function make(vault: TestVault, name: Name): Promise<InodeNumber> {
  const request = { mode: 0o100644, umask: 0, deviceNumber: 0 };
  return (await vault.volume.operations.makeNode(ROOT_INODE, name, request, caller)).ino;
}

/** A committed file of 8 GiB with a byte at its start and one near its end, beside some others. */
async function setUp(vault: TestVault): Promise<InodeNumber> {
  const ino = await make(vault, large);
  for (const name of others) await make(vault, name);
  const options = { clearSetId: false, sync: false };
  for (const offset of [0n, 7n * GIB])
    await vault.volume.operations.write(ino, offset, Buffer.from("x"), options, caller);
  await vault.volume.operations.setAttributes(ino, { lengthBytes: 8n * GIB }, caller);
  await vault.volume.operations.syncAll();
  return ino;
}

/** What other programs look at meanwhile pushes the large file's inode out of the cache. */
function lookAtOthers(vault: TestVault): void {
  for (const name of others) void vault.volume.operations.lookup(ROOT_INODE, name);
}

describe("a large file whose inode leaves the cache meanwhile", () => {
  it("is truncated, now and after a crash", async () => {
    await using vault = await TestVault.create(SMALL_CACHE);
    const ino = await setUp(vault);
    const truncated = vault.volume.operations.setAttributes(ino, { lengthBytes: MIB }, caller);
    lookAtOthers(vault);
    expect((await truncated).lengthBytes).toBe(MIB);
    await vault.volume.operations.syncAll();
    await vault.crash();
    expect(await vault.volume.operations.getAttributes(ino)).toMatchObject({ lengthBytes: MIB, allocatedBytes: 1n });
  });

  it("has a hole punched, and its allocated bytes are right", async () => {
    await using vault = await TestVault.create(SMALL_CACHE);
    const ino = await setUp(vault);
    const punched = vault.volume.operations.allocate(ino, FALLOC_PUNCH_KEEPING_SIZE, MIB, 7n * GIB, caller);
    lookAtOthers(vault);
    await punched;
    await vault.volume.operations.syncAll();
    await vault.crash();
    expect(await vault.volume.operations.getAttributes(ino)).toMatchObject({
      lengthBytes: 8n * GIB,
      allocatedBytes: 1n,
    });
  });
});

/** A caller to whom the kernel sends an interrupt when the test says so. */
function interruptible(): { readonly caller: Caller; readonly interrupt: () => void } {
  let action = (): void => undefined;
  const onInterrupt = (wanted: () => void): void => {
    action = wanted;
  };
  return { caller: { ...caller, onInterrupt }, interrupt: () => action() };
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("a large allocation", () => {
  const lengthBytes = 3n * GIB + 5n;

  /** So much room, whatever the machine has. */
  function makeRoom(): void {
    const space = { totalBytes: 2 ** 40, availableBytes: 2 ** 39, freeBytes: 2 ** 39 };
    vi.spyOn(SpaceGuard.prototype, "space", "get").mockReturnValue(space);
  }

  afterEach(() => {
    vi.restoreAllMocks();
  });

  it.each([
    ["allocated", 0],
    ["zeroed", FALLOC_ZERO_RANGE],
  ])("is %s in steps, between which others are answered, and is whole after a crash", async (_what, mode) => {
    await using vault = await TestVault.create();
    makeRoom();
    const { operations } = vault.volume;
    const ino = await make(vault, large);
    const seen: bigint[] = [];
    let isDone = false;
    const allocated = Promise.resolve(operations.allocate(ino, mode, 1n, lengthBytes, caller)).then(() => {
      isDone = true;
    });
    while (!isDone) {
      seen.push((await operations.getAttributes(ino)).allocatedBytes);
      await nextTurn();
    }
    await allocated;
    const between = new Set(seen.filter((bytes) => bytes > 0n && bytes < lengthBytes));
    expect(between.size).toBeGreaterThan(4);
    await operations.syncAll();
    await vault.crash();
    const expected = { lengthBytes: lengthBytes + 1n, allocatedBytes: lengthBytes };
    expect(await vault.volume.operations.getAttributes(ino)).toMatchObject(expected);
  });

  it("ends between two steps when its caller is interrupted; what there is is right", async () => {
    await using vault = await TestVault.create();
    makeRoom();
    const ino = await make(vault, large);
    const { caller: killed, interrupt } = interruptible();
    const allocated = Promise.resolve(vault.volume.operations.allocate(ino, 0, 0n, 64n * GIB, killed));
    await nextTurn();
    await nextTurn();
    interrupt();
    await expect(allocated).rejects.toMatchObject({ code: "TCFS_INTERRUPTED" });
    const { allocatedBytes, lengthBytes: present } = await vault.volume.operations.getAttributes(ino);
    expect(allocatedBytes).toBeLessThan(8n * GIB);
    expect(allocatedBytes).toBe(present);
    expect(vault.metadata.volume.allocatedBytes).toBe(Number(allocatedBytes));
  });

  it("can be cut off and punched, in steps too", async () => {
    await using vault = await TestVault.create();
    makeRoom();
    const { operations } = vault.volume;
    const ino = await make(vault, large);
    await operations.allocate(ino, 0, 0n, lengthBytes, caller);
    await operations.allocate(ino, FALLOC_PUNCH_KEEPING_SIZE, 4097n, 1n * GIB, caller);
    expect((await operations.getAttributes(ino)).allocatedBytes).toBe(lengthBytes - GIB);
    await operations.setAttributes(ino, { lengthBytes: 4096n }, caller);
    await operations.syncAll();
    await vault.crash();
    expect(await vault.volume.operations.getAttributes(ino)).toMatchObject({ allocatedBytes: 4096n });
    expect(await vault.metadata.extentPages(ino, 0, 20_000)).toEqual([0]);
  });
});

describe("a large file whose list of pages is damaged", () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it("can be removed, and what others write is committed", async () => {
    await using vault = await TestVault.create();
    const ino = await setUp(vault);
    await vault.reopen();
    const listed = vi
      .spyOn(LevelMetadataStore.prototype, "extentPages")
      .mockRejectedValue(new TcfsError("TCFS_CORRUPT", "made to be damaged"));
    await vault.volume.operations.unlink(ROOT_INODE, large, caller);
    await make(vault, "good" as Name);
    await vault.volume.operations.syncAll();
    expect(listed).toHaveBeenCalled();
    vi.restoreAllMocks();
    await vault.crash();
    expect(await vault.volume.operations.lookup(ROOT_INODE, "good" as Name)).toBeDefined();
    expect(await vault.metadata.extentPages(ino, 0, 100_000)).toEqual([]);
  });
});
