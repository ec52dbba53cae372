/** Files of so many pages that cutting them means listing first: the world may change before the list is there. */
import { describe, expect, it } from "vitest";
import { type InodeNumber, type Name, ROOT_INODE } from "../../src/ids.ts";
import { TestVault } from "./fixtures/test-vault.ts";

const MIB = 1024n * 1024n;
const GIB = 1024n * MIB;
const SMALL_CACHE = { cacheBytes: 1024 };
const FALLOC_PUNCH_KEEPING_SIZE = 3;
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
