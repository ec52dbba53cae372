/** What the chunk store does when the disk fails, and what is left after a crash. */
import { mkdir, readFile, rename, rmdir, stat, symlink, truncate, unlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { describe, expect, test } from "vitest";

import { FRAME_BYTES } from "../../src/crypto/engine.ts";
import type { TcfsError } from "../../src/errors.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { expectSameBytes, noise } from "../crypto/fixtures.ts";
import { run } from "../support/run.ts";
import { FaultyDisk } from "./faulty-disk.ts";
import { TestVault } from "./test-vault.ts";

describe("a full disk", () => {
  test("fails the call that met it, keeps everything else, and goes on when there is room", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, openPacks: 1 });
    const before = await vault.put(noise("before", 50_000));
    disk.fail("write", "TCFS_STORE_FULL");
    await expect(vault.put(noise("refused", 60_000))).rejects.toMatchObject({ code: "TCFS_STORE_FULL" });
    const after = await vault.put(noise("after", 40_000));
    const again = await vault.put(noise("refused", 60_000));
    expect(again.every(({ isNew }) => isNew)).toBe(true);
    await vault.commit();
    await vault.reopen();
    expectSameBytes(await vault.get(before), noise("before", 50_000));
    expectSameBytes(await vault.get(after), noise("after", 40_000));
    expectSameBytes(await vault.get(again), noise("refused", 60_000));
    expect(await vault.packFiles()).toHaveLength(1);
  });

  test("fails a concurrent call that found the same content on its way", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, openPacks: 1 });
    await vault.put(noise("opens the pack", 100));
    disk.fail("write", "TCFS_STORE_FULL");
    const outcomes = await Promise.allSettled([vault.put(noise("shared", 1000)), vault.put(noise("shared", 1000))]);
    expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect((await vault.put(noise("shared", 1000)))[0]?.isNew).toBe(true);
  });

  test("that has no room for a pack's index leaves a pack that is done with once it is recorded", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, openPacks: 1 });
    const stored = await vault.put(noise("content", 50_000));
    await vault.commit(new Map([[1, stored.map(({ id }) => id)]]));
    disk.fail("write", "TCFS_STORE_FULL");
    await vault.collect();
    await vault.commit();
    expect(vault.store.isDirty).toBe(false);
    expectSameBytes(await vault.get(stored), noise("content", 50_000));
    await vault.commit(new Map([[1, []]]));
    await vault.collect();
    expect(await vault.packFiles()).toEqual([]);
  });

  test("leaves no pack behind when not even its header could be written", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, openPacks: 1 });
    disk.fail("write", "TCFS_STORE_FULL", 3);
    for (let i = 0; i < 3; i++) {
      await expect(vault.put(noise("x", 1000))).rejects.toMatchObject({ code: "TCFS_STORE_FULL" });
    }
    expect(await vault.packFiles()).toEqual([]);
    expectSameBytes(await vault.get(await vault.put(noise("x", 1000))), noise("x", 1000));
  });
});

describe("a process without file descriptors", () => {
  test("makes no pack, and then makes it and its names durable before the batch that names it", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, openPacks: 1 });
    disk.fail("create", "TCFS_TOO_MANY_FILES");
    await expect(vault.put(noise("later", 50_000))).rejects.toMatchObject({ code: "TCFS_TOO_MANY_FILES" });
    const stored = await vault.put(noise("later", 50_000));
    const batch = vault.metadata.freeze();
    const flush = async (): Promise<void> => vault.store.flushInto(batch);
    // The pack's directory, then `packs`, then the vault's: each may be the one that does not open.
    for (const place of [0, 1, 1]) {
      let opened = 0;
      disk.before = (action) => {
        if (action === "syncDirectory" && opened++ === place) disk.fail("syncDirectory", "TCFS_TOO_MANY_FILES");
      };
      await expect(flush()).rejects.toMatchObject({ code: "TCFS_TOO_MANY_FILES" });
    }
    disk.before = () => undefined;
    disk.events.length = 0;
    await flush();
    expect(disk.events).toEqual(["syncDirectory", "syncDirectory"]);
    await batch.commit();
    vault.store.committed();
    await vault.reopen();
    expectSameBytes(await vault.get(stored), noise("later", 50_000));
  });

  test("takes a flush that failed beside it for one that failed", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, openPacks: 1 });
    await vault.put(noise("content", 50_000));
    disk.fail("sync", "TCFS_IO");
    disk.fail("syncDirectory", "TCFS_TOO_MANY_FILES");
    const batch = vault.metadata.freeze();
    const flush = async (): Promise<void> => vault.store.flushInto(batch);
    for (let i = 0; i < 2; i++) await expect(flush()).rejects.toMatchObject({ code: "TCFS_IO" });
  });
});

describe("a failing disk", () => {
  test("retires the pack whose write failed and stores on in another", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, openPacks: 1 });
    const before = await vault.put(noise("before", 50_000));
    disk.fail("write", "TCFS_IO");
    await expect(vault.put(noise("refused", 60_000))).rejects.toMatchObject({ code: "TCFS_IO" });
    const after = await vault.put(noise("after", 40_000));
    await vault.commit();
    expect(await vault.packFiles()).toHaveLength(2);
    await vault.store.ownPacks.retire();
    await vault.commit();
    expect(vault.store.isDirty, "no commit waits for a pack that cannot be finished").toBe(false);
    await vault.reopen();
    expectSameBytes(await vault.get(before), noise("before", 50_000));
    expectSameBytes(await vault.get(after), noise("after", 40_000));
  });

  test("leaves nothing of a pack that took nothing: no file, and nothing that a commit would wait for", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, openPacks: 1 });
    disk.before = (action) => {
      if (action === "write" && disk.events.filter((event) => event === "write").length === 2) {
        disk.fail("write", "TCFS_STORE_FULL"); // of the first chunk: the header was the first write
      }
    };
    await expect(vault.put(noise("refused", 60_000))).rejects.toMatchObject({ code: "TCFS_STORE_FULL" });
    expect(await vault.packFiles()).toHaveLength(1);
    await vault.store.ownPacks.retire();
    expect(await vault.packFiles()).toEqual([]);
    expect(vault.store.isDirty).toBe(false);
    expectSameBytes(await vault.get(await vault.put(noise("after", 40_000))), noise("after", 40_000));
  });

  test.for(["sync", "syncDirectory"] as const)("never forgets a failed %s", async (action) => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, openPacks: 1 });
    const early = await vault.put(noise("early", 1000));
    await vault.commit();
    const content = noise("late", action === "sync" ? 1000 : 20_000_000);
    const late = await vault.put(content);
    disk.fail(action, "TCFS_IO");
    const batch = vault.metadata.freeze();
    const flush = async (): Promise<void> => {
      await vault.store.flushInto(batch);
    };
    await expect(flush()).rejects.toMatchObject({ code: "TCFS_IO" });
    expect(batch.recordCount).toBe(0);
    await expect(flush()).rejects.toMatchObject({ code: "TCFS_IO" });
    await expect(vault.put(noise("more", 1000))).rejects.toMatchObject({ code: "TCFS_IO" });
    expectSameBytes(await vault.get(late), content); // nobody else has it
    expectSameBytes(await vault.get(early), noise("early", 1000));
  });

  test("passes a failed read on, and reads again later", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, openPacks: 1 });
    const chunks = await vault.put(noise("read", 1000));
    await vault.commit();
    await vault.reopen();
    disk.fail("read", "TCFS_IO", 1);
    await expect(vault.get(chunks)).rejects.toMatchObject({ code: "TCFS_IO" });
    expectSameBytes(await vault.get(chunks), noise("read", 1000));
  });
});

describe("flushing", () => {
  test("names chunks in the batch only when their packs and the packs' names are flushed", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, openPacks: 1 });
    const [chunk] = await vault.put(noise("ordered", 1000));
    disk.events.length = 0;
    const batch = vault.metadata.freeze();
    disk.before = () => {
      expect(batch.recordCount).toBe(0);
    };
    await vault.store.flushInto(batch);
    expect(batch.recordCount).toBeGreaterThan(0);
    expect(disk.events.filter((event) => event === "sync")).toHaveLength(1);
    expect(disk.events.filter((event) => event === "syncDirectory")).toHaveLength(3);
    expect(batch.chunks.get(Buffer.from(chunk!.id).toString("hex"))).toMatchObject({ kind: "packed" });
  });

  test("costs no flush of its own for inline data", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, openPacks: 1 });
    await vault.put(noise("inline", 4096), "inline");
    await vault.commit();
    expect(disk.events).toEqual([]);
  });

  test("leaves out a chunk that is still being written, and gives it to the next batch", async () => {
    const disk = new FaultyDisk(new NodeDisk());
    await using vault = await TestVault.open({ disk, openPacks: 1 });
    await vault.put(noise("first", 1000));
    let letGo: () => void = () => undefined;
    const isHeld = new Promise<void>((resolve) => (letGo = resolve));
    disk.before = (action) => (action === "write" ? isHeld : undefined);
    const storing = vault.put(noise("second", 1000));
    await new Promise((resolve) => setTimeout(resolve, 20));
    await vault.commit();
    expect(vault.metadata.durable.chunks.size).toBe(1);
    letGo();
    await storing;
    await vault.commit();
    expect(vault.metadata.durable.chunks.size).toBe(2);
  });

  test("fills a batch again after a failed commit", async () => {
    await using vault = await TestVault.open();
    const chunks = await vault.put(noise("again", 1000));
    const batch = vault.metadata.freeze();
    await vault.store.flushInto(batch);
    vault.metadata.failure = new Error("no room");
    await expect(batch.commit()).rejects.toThrow("no room");
    const more = await vault.put(noise("more", 500));
    await vault.store.flushInto(batch);
    await batch.commit();
    vault.store.committed();
    expect(vault.store.isDirty).toBe(false);
    expect(vault.store.statistics()).toMatchObject({ uniqueBytes: 1500 });
    await vault.reopen();
    expectSameBytes(await vault.get([...chunks, ...more]), Buffer.concat([noise("again", 1000), noise("more", 500)]));
  });
});

describe("a damaged pack", () => {
  test("is refused for the frames concerned, and for no others", async () => {
    await using vault = await TestVault.open({ openPacks: 1 });
    const content = noise("damaged", 6 * FRAME_BYTES);
    const chunks = await vault.put(content);
    expect(chunks).toHaveLength(1);
    const [chunk] = chunks;
    await vault.commit();
    await vault.store.close();
    const [path] = await vault.packFiles();
    const bytes = await readFile(path!);
    const at = 256 + 2 * (FRAME_BYTES + 20) + 1000;
    bytes[at] = bytes[at]! ^ 0x10;
    await writeFile(path!, bytes);
    await vault.reopen();
    for (let frame = 0; frame < 6; frame++) {
      const read = (): Promise<Uint8Array> => vault.read(chunk!.id, frame * FRAME_BYTES, 4096);
      if (frame === 2) await expect(read()).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
      else expectSameBytes(await read(), content.subarray(frame * FRAME_BYTES, frame * FRAME_BYTES + 4096));
    }
    await expect(vault.get(chunks)).rejects.toThrow(/pack [0-9a-f]{32}, frame/);
    vault.store.prefetch(chunk!.id, 0, content.length);
    expectSameBytes(await vault.read(chunk!.id, 3 * FRAME_BYTES, 9), content.subarray(3 * FRAME_BYTES).subarray(0, 9));
  });

  test("is healed by whoever stores the same content again", async () => {
    await using vault = await TestVault.open({ openPacks: 1 });
    const content = noise("healed", 10_000);
    const chunks = await vault.put(content);
    await vault.commit();
    await vault.store.close();
    const [path] = await vault.packFiles();
    const bytes = await readFile(path!);
    bytes[1000] = bytes[1000]! ^ 1;
    await writeFile(path!, bytes);
    await vault.reopen();
    await expect(vault.get(chunks)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    expect((await vault.put(content))[0]?.isNew).toBe(true);
    await vault.commit();
    await vault.reopen();
    expectSameBytes(await vault.get(chunks), content);
    expect(vault.store.statistics().uniqueBytes).toBe(10_000);
  });

  test.for(["missing", "truncated", "header"] as const)(
    "that is %s is named, and not relied on by deduplication",
    async (how) => {
      await using vault = await TestVault.open({ openPacks: 1 });
      const content = noise(how, 10_000);
      const chunks = await vault.put(content);
      await vault.commit();
      await vault.store.close();
      const [path] = await vault.packFiles();
      if (how === "missing") await unlink(path!);
      if (how === "truncated") await truncate(path!, 5000);
      if (how === "header")
        await writeFile(path!, Buffer.concat([Buffer.alloc(256), (await readFile(path!)).subarray(256)]));
      await vault.reopen();
      await expect(vault.get(chunks)).rejects.toThrow(/pack [0-9a-f]{32}/);
      await expect(vault.get(chunks)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
      await vault.reopen(); // so that the failed read has not told
      expect((await vault.put(content)).every(({ isNew }) => isNew)).toBe(true);
      await vault.commit();
      expectSameBytes(await vault.get(chunks), content);
    },
  );

  test("is refused whichever byte of its header is another, but for the zeros at its end", async () => {
    await using vault = await TestVault.open({ openPacks: 1 });
    const chunks = await vault.put(noise("every byte", 1000));
    await vault.commit();
    await vault.store.close();
    const [path = ""] = await vault.packFiles();
    const bytes = await readFile(path);
    for (let at = 0; at < 48 + 76; at++) {
      const flipped = Uint8Array.from(bytes);
      flipped[at] = flipped[at]! ^ (1 << (at & 7));
      await writeFile(path, flipped);
      await vault.reopen();
      await expect(vault.get(chunks), `byte ${at}`).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    }
    await writeFile(path, Buffer.concat([bytes.subarray(0, 48 + 76), Buffer.alloc(132, 1), bytes.subarray(256)]));
    await vault.reopen();
    expectSameBytes(await vault.get(chunks), noise("every byte", 1000));
  });

  test.for(["directory", "symlink", "FIFO", "file in the place of its directory"] as const)(
    "that became a %s is an I/O error of the reader's, and of nothing else",
    async (what) => {
      await using vault = await TestVault.open({ openPacks: 1 });
      const chunks = await vault.put(noise("another kind", 1000));
      await vault.commit();
      await vault.store.close();
      const [path = ""] = await vault.packFiles();
      const moved = join(vault.path, "moved");
      await rename(path, moved);
      if (what === "directory") await mkdir(path);
      if (what === "symlink") await symlink(moved, path);
      if (what === "FIFO") await run("mkfifo", [path]);
      if (what === "file in the place of its directory") {
        await rmdir(dirname(path));
        await writeFile(dirname(path), "");
      }
      await vault.reopen();
      const error: unknown = await vault.get(chunks).catch((reason: unknown) => reason);
      expect(["TCFS_CORRUPT", "TCFS_IO"]).toContain((error as TcfsError).code);
    },
  );

  test("does not open under another pack's name", async () => {
    await using vault = await TestVault.open({ openPacks: 1, packBytes: 10_000 });
    const first = await vault.put(noise("one", 15_000));
    const second = await vault.put(noise("two", 15_000));
    await vault.commit();
    await vault.store.close();
    const [one, two] = await vault.packFiles();
    const [bytesOne, bytesTwo] = [await readFile(one!), await readFile(two!)];
    await writeFile(one!, bytesTwo);
    await writeFile(two!, bytesOne);
    await vault.reopen();
    for (const chunks of [first, second]) {
      await expect(vault.get(chunks)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    }
  });
});

describe("a crash", () => {
  test("between packs and batch leaves bytes that harm nothing, and that collection removes", async () => {
    await using vault = await TestVault.open();
    const kept = await vault.put(noise("kept", 10_000));
    await vault.commit(new Map([[1, kept.map(({ id }) => id)]]));
    await vault.crash();
    await vault.put(noise("lost", 10_000));
    await vault.crash();
    const lost = await vault.put(noise("lost", 10_000));
    expect(lost[0]?.isNew).toBe(true);
    await vault.commit(new Map([[2, lost.map(({ id }) => id)]]));
    await vault.crash();
    await vault.collect();
    expectSameBytes(await vault.get(kept), noise("kept", 10_000));
    expectSameBytes(await vault.get(lost), noise("lost", 10_000));
    await vault.reopen();
    expect(vault.store.statistics().uniqueBytes).toBe(20_000);
    const lengths = await Promise.all((await vault.packFiles()).map(async (path) => (await stat(path)).size));
    expect(lengths.reduce((sum, length) => sum + length, 0)).toBeLessThan(22_000);
  });

  test("with a torn tail leaves what was committed readable", async () => {
    await using vault = await TestVault.open({ openPacks: 1 });
    const kept = await vault.put(noise("kept", 10_000));
    await vault.commit();
    const [path] = await vault.packFiles();
    const { size } = await stat(path!);
    await vault.put(noise("torn", 10_000));
    await vault.crash();
    await truncate(path!, size + 5000);
    expectSameBytes(await vault.get(kept), noise("kept", 10_000));
  });
});
