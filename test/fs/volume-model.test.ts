/**
 * The volume against a plain model: random operations, closes and crashes. After a crash the tree must be exactly the
 * model's state after some acknowledged operation, not older than the last completed sync.
 */
import { createCipheriv } from "node:crypto";
import { setTimeout } from "node:timers/promises";

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { InodeNumber, Name } from "../../src/ids.ts";
import { ROOT_INODE } from "../../src/ids.ts";
import { TestVault } from "./fixtures/test-vault.ts";
import { type ModelFile, TreeModel } from "./fixtures/tree-model.ts";

const NAMES = ["a", "b", "c", "d"] as Name[];
const KIB = 1024;
/** Offsets gather around the borders of extent pages. */
const OFFSETS = [0, 1, 4095, 100 * KIB, 1024 * KIB - 1, 1024 * KIB, 1024 * KIB + 5000, 2 * 1024 * KIB - 7];
const LENGTHS = [1, 17, 4096, 65_536, 300 * KIB, 1024 * KIB + 3];

const name = fc.constantFrom(...NAMES);
const offset = fc.constantFrom(...OFFSETS);
const lengthBytes = fc.constantFrom(...LENGTHS);
const fewBytes = fc.constantFrom(1, 17, 4096, 30_000);
const seed = fc.nat(255);

const operation = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("write" as const), name, offset, lengthBytes, seed }) },
  // Long enough for full pages to be sealed, and their memory used anew, while the stream goes on.
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("stream" as const), name, offset, seed }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("truncate" as const), name, offset }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("punch" as const), name, offset, lengthBytes }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("zero" as const), name, offset, lengthBytes }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("copy" as const),
      name,
      other: name,
      offset,
      toOffset: offset,
      lengthBytes,
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("unlink" as const), name }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("rename" as const), name, other: name }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("link" as const), name, other: name }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("xattr" as const), name, seed }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("sync" as const) }) },
  // Often enough for the log to hold several writes, of several files, when the next thing happens.
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant("write" as const), name, offset, lengthBytes: fewBytes, seed }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("fsync" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("collect" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reopen" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("crash" as const) }) },
);
/** The disk below has no room for a while. */
const shortage = fc.record({
  kind: fc.constant("full" as const),
  action: fc.constantFrom("write" as const, "create" as const),
  count: fc.integer({ min: 1, max: 4 }),
});
const begunSync = fc.record({ kind: fc.constantFrom("begin" as const, "beginFsync" as const) });
const operationOnFullDisk = fc.oneof(
  { weight: 6, arbitrary: operation },
  { weight: 1, arbitrary: shortage },
  { weight: 2, arbitrary: begunSync },
);
type Operation = typeof operationOnFullDisk extends fc.Arbitrary<infer T> ? T : never;

const caller = { uid: 0, gid: 0, pid: 1, onInterrupt: (): void => undefined };

/** Bytes without any period: content-defined cuts fall anywhere in them. */
function pattern(length: number, seed: number): Buffer {
  const key = Buffer.alloc(16, seed & 0xff);
  const nonce = Buffer.alloc(16, (seed >> 8) & 0xff);
  return createCipheriv("aes-128-ctr", key, nonce).update(Buffer.alloc(length));
}

/** @returns False where it failed for lack of room: nothing is lost, nothing is promised. */
async function hasRoom(work: unknown): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    expect(error).toMatchObject({ code: "TCFS_STORE_FULL" });
    return false;
  }
}

/** One vault and its model, driven in lock step. */
class Run {
  readonly vault: TestVault;
  model = new TreeModel();
  /** Digests of the model after each operation since the last durable point; the first is that point. */
  history: string[] = [this.model.digest()];

  constructor(vault: TestVault) {
    this.vault = vault;
  }

  async apply(operation: Operation): Promise<void> {
    const { operations } = this.vault.volume;
    switch (operation.kind) {
      case "sync":
        if (await hasRoom(operations.syncAll())) this.history = [this.model.digest()];
        return;
      case "fsync":
        if (await hasRoom(operations.sync(ROOT_INODE, caller))) this.history = [this.model.digest()];
        return;
      case "collect":
        if (await hasRoom(this.vault.volume.collect(new AbortController().signal))) {
          this.history = [this.model.digest()];
        }
        return;
      case "begin":
        void hasRoom(operations.syncAll()).catch(() => undefined); // a crash may come before it ends
        return;
      case "beginFsync":
        void hasRoom(operations.sync(ROOT_INODE, caller)).catch(() => undefined);
        return;
      case "full":
        this.vault.disk.fail(operation.action, "TCFS_STORE_FULL", operation.count);
        return;
      case "reopen":
        this.vault.disk.heal();
        await this.vault.reopen();
        this.history = [this.model.digest()];
        expect(await this.digestOfVault()).toBe(this.model.digest());
        return;
      case "crash":
        await this.crash();
        return;
      case "unlink":
      case "rename":
      case "link":
        await this.changeNames(operation);
        break;
      default:
        await this.changeFile(operation);
    }
    this.history.push(this.model.digest());
  }

  async crash(): Promise<void> {
    this.vault.disk.heal();
    await this.vault.crash();
    const digest = await this.digestOfVault();
    const index = this.history.lastIndexOf(digest);
    expect(
      index,
      "the state after the crash is a state the model went through since the last sync",
    ).toBeGreaterThanOrEqual(0);
    this.model = this.model.at(digest);
    this.history = [digest];
  }

  async changeNames(operation: Operation & { kind: "unlink" | "rename" | "link" }): Promise<void> {
    const { operations } = this.vault.volume;
    const file = this.model.files.get(operation.name);
    const flags = { noReplace: false, exchange: false, whiteout: false };
    const place = { parent: ROOT_INODE, name: operation.name };
    if (operation.kind === "unlink") {
      if (file === undefined) {
        expect(() => operations.unlink(ROOT_INODE, operation.name, caller)).toThrow();
        return;
      }
      await operations.unlink(ROOT_INODE, operation.name, caller);
      this.model.unlink(operation.name);
    } else if (operation.kind === "rename") {
      const to = { parent: ROOT_INODE, name: operation.other };
      if (file === undefined) {
        expect(() => operations.rename(place, to, flags, caller)).toThrow();
        return;
      }
      await operations.rename(place, to, flags, caller);
      this.model.rename(operation.name, operation.other);
    } else if (file !== undefined && !this.model.files.has(operation.other)) {
      const attributes = await operations.link(this.inode(operation.name), ROOT_INODE, operation.other, caller);
      operations.forget(attributes.ino, 1);
      this.model.files.set(operation.other, file);
    }
  }

  inode(of: Name): InodeNumber {
    const attributes = this.vault.volume.operations.lookup(ROOT_INODE, of);
    if (attributes === undefined || attributes instanceof Promise) throw new Error("lookup found nothing");
    this.vault.volume.operations.forget(attributes.ino, 1);
    return attributes.ino;
  }

  async changeFile(operation: Operation & { name: Name }): Promise<void> {
    const { operations } = this.vault.volume;
    let file = this.model.files.get(operation.name);
    if (file === undefined) {
      const request = { mode: 0o100644, umask: 0, deviceNumber: 0 };
      const made = await operations.makeNode(ROOT_INODE, operation.name, request, caller);
      operations.forget(made.ino, 1);
      file = { content: Buffer.alloc(0), xattr: undefined };
      this.model.files.set(operation.name, file);
      this.history.push(this.model.digest());
    }
    await this.changeContent(operation, this.inode(operation.name), file);
  }

  async changeContent(operation: Operation, ino: InodeNumber, file: ModelFile): Promise<void> {
    const { operations } = this.vault.volume;
    if (operation.kind === "write") {
      const data = pattern(operation.lengthBytes, operation.seed);
      await operations.write(ino, BigInt(operation.offset), data, { clearSetId: false, sync: false }, caller);
      data.copy((file.content = TreeModel.grown(file.content, operation.offset + data.length)), operation.offset);
    } else if (operation.kind === "stream") {
      await this.stream(operation, ino, file);
    } else if (operation.kind === "truncate") {
      await operations.setAttributes(ino, { lengthBytes: BigInt(operation.offset) }, caller);
      file.content = TreeModel.resized(file.content, operation.offset);
    } else if (operation.kind === "punch" || operation.kind === "zero") {
      const mode = operation.kind === "punch" ? 3 : 0x11;
      await operations.allocate(ino, mode, BigInt(operation.offset), BigInt(operation.lengthBytes), caller);
      const content = Buffer.from(file.content);
      const end = Math.min(operation.offset + operation.lengthBytes, content.length);
      if (operation.offset < end) content.fill(0, operation.offset, end);
      file.content = content;
    } else if (operation.kind === "xattr") {
      const flags = { create: false, replace: false, clearSetGid: false };
      await operations.setXattr(ino, "user.x" as Name, Buffer.from([operation.seed]), flags, caller);
      file.xattr = operation.seed;
    } else if (operation.kind === "copy") {
      const other = this.model.files.get(operation.other);
      if (other === undefined || other === file) return;
      const from = { ino: this.inode(operation.other), offset: BigInt(operation.offset) };
      const to = { ino, offset: BigInt(operation.toOffset) };
      const copying = operations.copyRange(from, to, BigInt(operation.lengthBytes), caller);
      if (!(await hasRoom(copying))) return;
      const copied = Number(await copying);
      const expected = Math.max(0, Math.min(operation.lengthBytes, other.content.length - operation.offset));
      expect(copied).toBe(expected);
      if (copied === 0) return;
      const grown = TreeModel.grown(file.content, operation.toOffset + copied);
      other.content.copy(grown, operation.toOffset, operation.offset, operation.offset + copied);
      file.content = grown;
    }
  }

  /** Sixteen writes of half a page in order, one of them overwritten at once; the state after each is remembered. */
  async stream(operation: { offset: number; seed: number }, ino: InodeNumber, file: ModelFile): Promise<void> {
    const { operations } = this.vault.volume;
    const start = operation.offset - (operation.offset % (512 * KIB));
    for (let index = 0; index < 17; index++) {
      const at = index === 16 ? start + 700 * KIB : start + index * 512 * KIB;
      const data = pattern(512 * KIB, operation.seed + index * 13);
      await operations.write(ino, BigInt(at), data, { clearSetId: false, sync: false }, caller);
      const content = TreeModel.grown(file.content, at + data.length);
      data.copy(content, at);
      file.content = content;
      this.history.push(this.model.digest());
      if (index % 4 === 3) await setTimeout(5); // sealing comes to an end and gives memory back
    }
  }

  /** The vault's tree, read through the operations, in the model's terms. */
  async digestOfVault(): Promise<string> {
    const { operations } = this.vault.volume;
    const seen = new Map<InodeNumber, ModelFile>();
    const model = new TreeModel();
    const entries: { name: Name; ino: InodeNumber }[] = [];
    await operations.readDirectory(ROOT_INODE, 0n, false, (entry) => {
      if (entry.name !== "." && entry.name !== "..") entries.push({ name: entry.name, ino: entry.ino });
      return true;
    });
    for (const { name: entryName, ino } of entries) {
      const known = seen.get(ino);
      if (known !== undefined) {
        model.files.set(entryName, known);
        continue;
      }
      const attributes = await operations.getAttributes(ino);
      const { pieces } = await operations.read(ino, 0n, Number(attributes.lengthBytes), caller);
      const content = Buffer.concat(pieces);
      expect(BigInt(content.length)).toBe(attributes.lengthBytes);
      const names = await operations.listXattrs(ino, caller);
      const xattr = names.length === 0 ? undefined : (await operations.getXattr(ino, "user.x" as Name))?.[0];
      const file = { content, xattr };
      seen.set(ino, file);
      model.files.set(entryName, file);
    }
    return model.digest();
  }
}

describe("Volume", () => {
  it("collects around allocated zeros, which no chunk stands for", async () => {
    await using vault = await TestVault.create();
    const run = new Run(vault);
    await run.apply({ kind: "write", name: "c" as Name, offset: 0, lengthBytes: 1, seed: 0 });
    await run.apply({ kind: "zero", name: "c" as Name, offset: 0, lengthBytes: 1 });
    await run.apply({ kind: "collect" });
    expect(await run.digestOfVault()).toBe(run.model.digest());
  });

  it("agrees with the model over random histories, reopened and crashed", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { minLength: 1, maxLength: 60 }), async (history) => {
        await using vault = await TestVault.create();
        const run = new Run(vault);
        for (const step of history) await run.apply(step);
        expect(await run.digestOfVault()).toBe(run.model.digest());
        await run.apply({ kind: "reopen" });
      }),
      { numRuns: 60, interruptAfterTimeLimit: 60_000 },
    );
  });

  it("commits at unmount, though the commit that was under way found no room", async () => {
    await using vault = await TestVault.create({ canFail: true });
    const run = new Run(vault);
    await run.apply({ kind: "write", name: "a" as Name, offset: 0, lengthBytes: 300 * KIB, seed: 0 });
    vault.disk.fail("create", "TCFS_STORE_FULL", 1);
    vault.disk.before = async (action) => {
      if (action === "create") await setTimeout(50); // the unmount comes meanwhile
    };
    await run.apply({ kind: "begin" });
    await vault.reopen();
    expect(await run.digestOfVault()).toBe(run.model.digest());
  });

  it("agrees with the model where the disk has no room now and then", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(operationOnFullDisk, { minLength: 1, maxLength: 40 }), async (history) => {
        await using vault = await TestVault.create({ canFail: true });
        const run = new Run(vault);
        for (const step of history) await run.apply(step);
        expect(await run.digestOfVault()).toBe(run.model.digest());
        await run.apply({ kind: "reopen" });
      }),
      { numRuns: 25, interruptAfterTimeLimit: 60_000 },
    );
  });
});
