/** Damage that meets snapshots: it concerns the records that it hit, and never more. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { TcfsError } from "../../src/errors.ts";
import { inodeKey } from "../../src/format/record-keys.ts";
import { type InodeNumber, type Name, ROOT_INODE } from "../../src/ids.ts";
import { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { RecordReader } from "../../src/metadata/record-reader.ts";
import { inode, makeInode, makeTemporaryDirectory, openTestStore } from "../metadata/store-fixture.ts";
import { TestVault } from "./fixtures/test-vault.ts";

const caller = { uid: 0, gid: 0, pid: 1, onInterrupt: (): void => undefined };
const file = "file" as Name;

async function make(vault: TestVault, name: Name): Promise<InodeNumber> {
  const request = { mode: 0o100644, umask: 0, deviceNumber: 0 };
  return (await vault.volume.operations.makeNode(ROOT_INODE, name, request, caller)).ino;
}

async function chmod(vault: TestVault, ino: InodeNumber, mode: number): Promise<void> {
  await vault.volume.operations.setAttributes(ino, { mode }, caller);
  await vault.volume.operations.syncAll();
}

/** From now on records under these keys do not open. */
function damage(...keys: readonly Uint8Array[]): void {
  const plain = Reflect.get(RecordReader.prototype, "plain");
  vi.spyOn(RecordReader.prototype, "plain").mockImplementation(function (this: RecordReader, ...args) {
    if (keys.some((key) => Buffer.compare(key, args[0]) === 0)) throw new TcfsError("TCFS_CORRUPT", "damaged");
    return plain.apply(this, args);
  });
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("a record that is damaged after a snapshot was taken and it had changed", () => {
  it("leaves the snapshot what was kept for it, when it is changed again", async () => {
    await using vault = await TestVault.create();
    const ino = await make(vault, file);
    await chmod(vault, ino, 0o100640);
    await vault.volume.snapshots.take("s", "");
    await chmod(vault, ino, 0o100600);
    await vault.reopen();
    await vault.volume.operations.getAttributes(ino);
    damage(inodeKey("inode", ino));
    await chmod(vault, ino, 0o100644);
    vi.restoreAllMocks();
    const old = vault.volume.snapshotOperations("s");
    expect((await old.lookup(ROOT_INODE, file))?.mode).toBe(0o100640);
    expect((await vault.volume.operations.getAttributes(ino)).mode).toBe(0o100644);
  });
});

describe("a restore", () => {
  it("is not ended by an orphan that cannot be read, and the volume goes on", async () => {
    await using vault = await TestVault.create();
    const { operations, snapshots } = vault.volume;
    const ino = await make(vault, file);
    await operations.unlink(ROOT_INODE, file, caller);
    await snapshots.take("s", "");
    await make(vault, "later" as Name);
    const getInode = Reflect.get(LevelMetadataStore.prototype, "getInode");
    vi.spyOn(LevelMetadataStore.prototype, "getInode").mockImplementation(function (this: LevelMetadataStore, wanted) {
      if (wanted === ino) throw new TcfsError("TCFS_CORRUPT", "damaged");
      return getInode.call(this, wanted);
    });
    expect(await snapshots.restore("s")).toMatchObject({ restored: "s" });
    expect(await operations.lookup(ROOT_INODE, "later" as Name)).toBeUndefined();
    await make(vault, "goes on" as Name);
    await operations.syncAll();
    expect(vault.failures).toEqual([]);
  });

  it("checks what it will find once nothing changes any more", async () => {
    await using vault = await TestVault.create();
    const { operations, snapshots } = vault.volume;
    const ino = await make(vault, file);
    await snapshots.take("s", "");
    await operations.setAttributes(ino, { mode: 0o100600 }, caller); // not committed yet: no note tells of it
    damage(inodeKey("inode", ino));
    await expect(snapshots.restore("s")).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    vi.restoreAllMocks();
    expect(await snapshots.list()).toHaveLength(1);
    await chmod(vault, ino, 0o100640);
    expect(vault.failures).toEqual([]);
  });
});

describe("a rollback that was interrupted and then meets damage", () => {
  it("is finished all the same: what has no old value any more is unreadable, all else as it was", async () => {
    const directory = await makeTemporaryDirectory();
    const options = { stepRecords: 2, cacheBytes: 0 };
    const store = await openTestStore(directory, options);
    const commit = async (): Promise<void> => store.freeze().commit();
    const putAll = (linkCount: number): void => {
      for (let ino = 2; ino <= 9; ino++) store.putInode(makeInode(ino, { linkCount }));
    };
    store.volume.nextInode = inode(10);
    putAll(1);
    store.snapshots.request({ name: "then", comment: "", isSafety: false });
    await commit();
    putAll(2);
    await commit();
    store.snapshots.request({ name: "safety", comment: "", isSafety: true });
    await commit();
    let barriers = 0;
    const crash = async (): Promise<void> => {
      if (++barriers > 2) throw new TcfsError("TCFS_IO", "the power is gone");
      await commit();
    };
    const then = store.snapshots.find("then");
    if (then === undefined) throw new RangeError("the snapshot is not there");
    await expect(store.snapshots.rollBack(then, crash, () => undefined)).rejects.toThrow("the power is gone");
    await store.close();

    const again = await openTestStore(directory, options);
    expect(again.snapshots.interruptedRollback).toBeDefined();
    const target = again.snapshots.find("then");
    if (target === undefined) throw new RangeError("the snapshot is not there");
    const damaged = inodeKey("inode", inode(7));
    const storedPlain = Reflect.get(RecordReader.prototype, "storedPlain");
    vi.spyOn(RecordReader.prototype, "storedPlain").mockImplementation(function (this: RecordReader, ...args) {
      const [key] = args[0];
      const isHistory = key[0] === "H".charCodeAt(0) && Buffer.from(key).includes(Buffer.from(damaged));
      if (isHistory) throw new TcfsError("TCFS_CORRUPT", "damaged");
      return storedPlain.apply(this, args);
    });
    await again.snapshots.rollBack(
      target,
      async () => again.freeze().commit(),
      () => undefined,
    );
    vi.restoreAllMocks();
    expect(again.snapshots.interruptedRollback).toBeUndefined();
    for (const ino of [2, 3, 4, 5, 6, 8, 9]) expect(again.getInode(inode(ino))?.linkCount).toBe(1);
    expect(() => again.getInode(inode(7))).toThrow(expect.objectContaining({ code: "TCFS_CORRUPT" }));
    again.putInode(makeInode(7, { linkCount: 3 }));
    await again.freeze().commit();
    expect(again.getInode(inode(7))?.linkCount).toBe(3);
  });
});
