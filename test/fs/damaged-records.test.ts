/** Records that do not verify: EIO for what they concern; everything else is written, committed and kept. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { type InodeNumber, type Name, ROOT_INODE } from "../../src/ids.ts";
import { caller, contentOf, damage, make as makeFile, write } from "./fixtures/files.ts";
import { TestVault } from "./fixtures/test-vault.ts";

const KIB = 1024;
const bad = "bad" as Name;
const good = "good" as Name;

async function make(vault: TestVault, name: Name, lengthBytes: number): Promise<InodeNumber> {
  return makeFile(vault, name, Buffer.alloc(lengthBytes, name));
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("a file whose extents are damaged", () => {
  it("can be removed, and what others write is committed", async () => {
    await using vault = await TestVault.create();
    const ino = await make(vault, bad, 300 * KIB);
    await vault.reopen();
    damage("getExtentPage", ino);
    await vault.volume.operations.unlink(ROOT_INODE, bad, caller);
    await make(vault, good, 5);
    await vault.volume.operations.syncAll();
    await vault.crash();
    expect(await contentOf(vault, good)).toBe("goodg");
    expect(await contentOf(vault, bad)).toBe("missing");
  });

  it("can be emptied and written anew", async () => {
    await using vault = await TestVault.create();
    const ino = await make(vault, bad, 300 * KIB);
    await vault.reopen();
    damage("getExtentPage", ino);
    await vault.volume.operations.setAttributes(ino, { lengthBytes: 0n }, caller);
    await vault.volume.operations.syncAll();
    vi.restoreAllMocks();
    await vault.crash();
    expect(await contentOf(vault, bad)).toBe("");
  });

  it("takes no appended bytes where they would hide the damage, and what others write is committed", async () => {
    await using vault = await TestVault.create();
    const ino = await make(vault, bad, 300 * KIB);
    await vault.reopen();
    damage("getExtentPage", ino);
    await expect(write(vault, ino, 300 * KIB, Buffer.from("more"))).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    await make(vault, good, 5);
    await vault.volume.operations.syncAll();
    await vault.crash();
    expect(await contentOf(vault, good)).toBe("goodg");
  });
});

describe("a file of which one page is damaged", () => {
  it("can be read in sequence up to there", async () => {
    await using vault = await TestVault.create();
    const ino = await make(vault, bad, 1024 * KIB);
    await vault.reopen();
    damage("getExtentPage", ino, 2);
    const { operations } = vault.volume;
    for (let offset = 0; offset < 512 * KIB; offset += 128 * KIB) {
      const loan = await operations.read(ino, BigInt(offset), 128 * KIB, caller);
      expect(Buffer.concat(loan.pieces)).toHaveLength(128 * KIB);
      loan.release();
    }
    expect(() => operations.read(ino, 512n * 1024n, 128 * KIB, caller)).toThrow(/made to be damaged/);
  });

  it("still has its allocated bytes after a truncate that failed", async () => {
    await using vault = await TestVault.create();
    const ino = await make(vault, bad, 1024 * KIB);
    await vault.reopen();
    damage("getExtentPage", ino, 2);
    const { operations } = vault.volume;
    for (let i = 0; i < 3; i++) expect(() => operations.setAttributes(ino, { lengthBytes: 1n }, caller)).toThrow();
    expect(await operations.getAttributes(ino)).toMatchObject({ allocatedBytes: 1024n * 1024n });
  });

  it("has no bytes past its end after a write that failed midway", async () => {
    await using vault = await TestVault.create();
    const ino = await make(vault, bad, 100);
    await vault.reopen();
    damage("getExtentPage", ino, 1);
    await expect(write(vault, ino, 50, Buffer.alloc(512 * KIB, "w"))).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    vi.restoreAllMocks();
    await vault.volume.operations.syncAll();
    await vault.crash();
    const { lengthBytes, allocatedBytes } = await vault.volume.operations.getAttributes(ino);
    expect(allocatedBytes, "what is allocated lies before the end").toBeLessThanOrEqual(lengthBytes);
    const grown = await vault.volume.operations.setAttributes(ino, { lengthBytes: 512n * 1024n }, caller);
    const loan = await vault.volume.operations.read(ino, 0n, 512 * KIB, caller);
    const content = Buffer.concat(loan.pieces);
    loan.release();
    expect(grown.lengthBytes).toBe(512n * 1024n);
    expect(content.subarray(Number(lengthBytes)).every((byte) => byte === 0)).toBe(true);
  });
});

describe("a damaged orphan", () => {
  it("keeps neither the last changes from the disk nor the volume from opening", async () => {
    await using vault = await TestVault.create();
    const ino = await make(vault, bad, 10); // the reference that makeNode gave is never dropped
    await vault.volume.operations.unlink(ROOT_INODE, bad, caller);
    await vault.volume.operations.syncAll();
    damage("getInode", ino);
    await make(vault, good, 5);
    await vault.reopen();
    expect(await contentOf(vault, good)).toBe("goodg");
  });
});
